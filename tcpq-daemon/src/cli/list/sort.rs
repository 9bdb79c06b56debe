//! In which order listeners are shown.

use std::{cmp::Ordering, net::IpAddr};

use crate::{
    cli::list::args::Order,
    serve::api::{ListenerDto, OverflowsDto, QueueDto},
};

/// Sorts; what is equal goes by namespace, address and port, forwards.
pub(super) fn sort(listeners: &mut [ListenerDto], order: Order, turned: Turned) {
    listeners.sort_by(|a, b| {
        let first = match order {
            Order::Trouble => trouble(b)
                .cmp(&trouble(a))
                .then_with(|| fill(b).total_cmp(&fill(a)))
                .then_with(|| (a.sockets == 0).cmp(&(b.sockets == 0))),
            Order::Address => place(a).cmp(&place(b)),
            Order::Process => process(a).cmp(&process(b)),
            Order::Netns => a.netns.cmp(&b.netns),
            Order::Queue => fill(b).total_cmp(&fill(a)),
            Order::Overflows => overflows(b).cmp(&overflows(a)),
        };
        let first = match turned {
            Turned::Forwards => first,
            Turned::Round => first.reverse(),
        };
        first.then_with(|| by_name(a, b))
    });
}

/// Whether the order is turned round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    Forwards,
    Round,
}

fn by_name(a: &ListenerDto, b: &ListenerDto) -> Ordering {
    a.netns.cmp(&b.netns).then_with(|| place(a).cmp(&place(b)))
}

/// Folded groups come last: they have neither address nor port.
fn place(listener: &ListenerDto) -> (bool, Option<IpAddr>, &str, Option<u16>) {
    let address = listener.address.parse().ok();
    (listener.port.is_none(), address, &listener.address, listener.port)
}

/// Owners that are not known come last.
fn process(listener: &ListenerDto) -> (bool, Option<&str>) {
    let name = listener.owners.iter().find_map(|owner| owner.process.as_deref());
    (name.is_none(), name)
}

/// Overflows of all stages that are told.
pub(super) fn overflows(listener: &ListenerDto) -> u64 {
    let OverflowsDto { syn, ack, cookie } = listener.overflows.unwrap_or_default();
    [syn, ack, cookie].into_iter().flatten().sum()
}

fn trouble(listener: &ListenerDto) -> u64 {
    overflows(listener) + listener.listen_drops.unwrap_or(0)
}

/// How full the fullest accept queue is: each socket overflows alone.
fn fill(listener: &ListenerDto) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "queues are far smaller than 2^52")]
    let of = |queue: QueueDto, sockets: u64| queue.length as f64 / (queue.limit + sockets) as f64;
    let group = of(listener.accept_queue, listener.sockets.max(1));
    listener.members.iter().map(|member| of(member.accept_queue, 1)).fold(group, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::list::tests::{listener, owned};

    fn ports(mut listeners: Vec<ListenerDto>, order: Order, turned: Turned) -> Vec<u16> {
        sort(&mut listeners, order, turned);
        listeners.iter().map(|listener| listener.port.unwrap_or(0)).collect()
    }

    fn with(port: u16, overflows: u64, length: u64) -> ListenerDto {
        ListenerDto {
            overflows: Some(OverflowsDto { syn: Some(overflows), ack: None, cookie: None }),
            listen_drops: Some(overflows),
            accept_queue: QueueDto { length, limit: 4 },
            ..listener(port)
        }
    }

    #[test]
    fn trouble_is_what_overflowed_then_what_is_full_then_by_address() {
        let all = vec![with(4, 0, 0), with(3, 0, 3), with(2, 7, 0), with(1, 0, 0)];
        assert_eq!(ports(all.clone(), Order::Trouble, Turned::Forwards), [2, 3, 1, 4]);
        assert_eq!(ports(all.clone(), Order::Trouble, Turned::Round), [1, 4, 3, 2]);
        assert_eq!(ports(all.clone(), Order::Queue, Turned::Forwards), [3, 1, 2, 4]);
        assert_eq!(ports(all, Order::Overflows, Turned::Forwards), [2, 1, 3, 4]);
    }

    #[test]
    fn of_equals_the_closed_one_comes_last() {
        let closed = ListenerDto { sockets: 0, ..with(1, 0, 0) };
        assert_eq!(ports(vec![closed, with(2, 0, 0)], Order::Trouble, Turned::Forwards), [2, 1]);
    }

    #[test]
    fn addresses_go_by_number_and_groups_of_many_come_last() {
        let at =
            |address: &str, port| ListenerDto { address: address.to_owned(), ..listener(port) };
        let folded = ListenerDto { port: None, ..at("~python3", 0) };
        let all =
            vec![folded, at("::", 1), at("127.0.0.1", 3), at("9.0.0.1", 2), at("9.0.0.1", 10)];
        assert_eq!(ports(all, Order::Address, Turned::Forwards), [2, 10, 3, 1, 0]);
    }

    #[test]
    fn who_is_not_known_comes_last() {
        let all = vec![listener(1), owned(listener(2), "b"), owned(listener(3), "a")];
        assert_eq!(ports(all, Order::Process, Turned::Forwards), [3, 2, 1]);
    }

    #[test]
    fn one_full_socket_among_empty_ones_counts() {
        let mut group = ListenerDto { sockets: 4, ..with(2, 0, 5) };
        group.accept_queue.limit = 16;
        let member = |length| crate::cli::list::tests::member(QueueDto { length, limit: 4 });
        group.members = vec![member(5), member(0), member(0), member(0)];
        assert_eq!(ports(vec![with(1, 0, 3), group], Order::Queue, Turned::Forwards), [2, 1]);
    }
}
