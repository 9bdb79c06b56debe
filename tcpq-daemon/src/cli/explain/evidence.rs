//! What is known of a listener: one reading, and what changed since another.

use std::collections::BTreeMap;

use serde::Serialize;
use tcpq_common::totals::AcceptError;

use crate::{
    cli::ask::Source,
    engine::advice::Subject,
    model::{
        group::{Holder, NetnsSettings},
        owner::Owner,
    },
    serve::api::{DistributionDto, ListenerDto, ListenersDto, MemberDto, OverflowsDto, QueueDto},
};

/// All that a diagnosis rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Evidence {
    pub(super) source: Source,
    /// As it was at the last reading.
    pub(super) listener: ListenerDto,
    /// The settings of its namespace, if they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) settings: Option<NetnsSettings>,
    /// What changed between two readings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) window: Option<Window>,
}

/// Between two readings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Window {
    pub(super) seconds: f64,
    /// The accept queue at the first reading.
    pub(super) accept_queue_before: QueueDto,
    /// What was counted meanwhile.
    pub(super) change: Figures,
    /// How long those connections waited for accept() that it took meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) accept_wait: Option<Waited>,
    /// The same of each of the listener's members; `None` for one that was not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) members: Vec<Option<MemberChange>>,
}

/// Connections and how long they waited, on average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Waited {
    pub(super) count: u64,
    /// Unit: seconds.
    pub(super) mean: f64,
}

/// Counters; what this kernel does not tell is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Figures {
    pub(super) overflows: OverflowsDto,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listen_drops: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) syn_drops: Option<BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests_lost: Option<BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cookies_sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cookies_validated: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) enqueued: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) accepts: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) accept_errors: Option<BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) abandoned: Option<u64>,
}

/// One socket between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct MemberChange {
    pub(super) accept_queue_before: QueueDto,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) overflows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) accepts: Option<u64>,
}

/// One socket as a diagnosis looks at it.
#[derive(Clone, Debug)]
pub(super) struct Socket<'a> {
    /// How many sockets are summed up here: more than one only if they are not told apart.
    pub(super) sockets: u64,
    pub(super) accept_queue: QueueDto,
    pub(super) requested: Option<i32>,
    pub(super) owner: Option<&'a Owner>,
    pub(super) holders: &'a [Holder],
    pub(super) accepts: Option<u64>,
    pub(super) overflows: Option<u64>,
    pub(super) change: Option<MemberChange>,
}

impl Evidence {
    /// From one answer, or from two that are `seconds` apart.
    pub(super) fn new(
        source: Source,
        all: &ListenersDto,
        listener: ListenerDto,
        before: Option<(f64, &ListenerDto)>,
    ) -> Self {
        let window = before.and_then(|(seconds, before)| Window::new(seconds, before, &listener));
        let settings = all.namespaces.iter().find(|it| it.netns == listener.netns).cloned();
        Self { source, listener, settings, window }
    }

    /// What was counted since the listener is known; `None` if nothing is.
    pub(super) fn total(&self) -> Option<Figures> {
        (self.source == Source::Daemon).then(|| Figures::of(&self.listener))
    }

    /// Each socket, as far as they are told apart.
    pub(super) fn sockets(&self) -> Vec<Socket<'_>> {
        let listener = &self.listener;
        if listener.members.is_empty() {
            return (listener.sockets > 0).then(|| self.as_one()).into_iter().collect();
        }
        let change = |at: usize| *self.window.as_ref()?.members.get(at)?;
        let sockets = listener.members.iter().enumerate().map(|(at, member)| Socket {
            sockets: 1,
            accept_queue: member.accept_queue,
            requested: member.backlog_requested,
            owner: Some(&member.owner),
            holders: &member.holders,
            accepts: member.accepts,
            overflows: member.overflows.and_then(OverflowsDto::total),
            change: change(at),
        });
        sockets.collect()
    }

    /// Whom advice is for: the socket, or the first of all owners.
    pub(super) fn subject<'a>(&'a self, socket: Option<&'a Socket<'a>>) -> Subject<'a> {
        let owner = socket.and_then(|socket| socket.owner);
        Subject {
            netns: &self.listener.netns,
            port: self.listener.port,
            owner: owner.or_else(|| self.listener.owners.first()),
            holders: socket.map_or(&[], |socket| socket.holders),
        }
    }

    /// The whole group as if it were one socket.
    fn as_one(&self) -> Socket<'_> {
        let Self { listener, window, .. } = self;
        let one = listener.sockets == 1;
        Socket {
            sockets: listener.sockets,
            accept_queue: listener.accept_queue,
            requested: listener
                .backlog_requested
                .filter(|_| one)
                .and_then(|asked| u32::try_from(asked).ok())
                .map(u32::cast_signed),
            owner: listener.owners.first(),
            holders: &[],
            accepts: listener.accepts,
            overflows: listener.overflows.and_then(OverflowsDto::total),
            change: window.as_ref().map(|window| MemberChange {
                accept_queue_before: window.accept_queue_before,
                overflows: window.change.overflows.total(),
                accepts: window.change.accepts,
            }),
        }
    }
}

impl Socket<'_> {
    /// The kernel lets limit + 1 in.
    pub(super) fn room(&self) -> u64 {
        self.accept_queue.limit + self.sockets
    }

    pub(super) fn is_full(&self) -> bool {
        self.accept_queue.length >= self.room()
    }

    pub(super) fn was_full(&self) -> bool {
        self.change.is_some_and(|it| it.accept_queue_before.length >= self.room())
    }

    /// Full, or four fifths where that is a figure to speak of.
    pub(super) fn is_nearly_full(&self) -> bool {
        let speaks = self.accept_queue.limit >= 4;
        self.is_full() || speaks && self.accept_queue.length * 5 >= self.room() * 4
    }
}

impl OverflowsDto {
    /// All stages that are told; `None` if none is.
    pub(in crate::cli) fn total(self) -> Option<u64> {
        let Self { syn, ack, cookie } = self;
        [syn, ack, cookie].into_iter().flatten().reduce(|sum, more| sum + more)
    }
}

impl Window {
    /// `None` if a counter went back: the daemon was started anew meanwhile.
    fn new(seconds: f64, before: &ListenerDto, now: &ListenerDto) -> Option<Self> {
        Some(Self {
            seconds,
            accept_queue_before: before.accept_queue,
            change: Figures::of(now).since(&Figures::of(before))?,
            accept_wait: Waited::between(before.accept_wait, now.accept_wait),
            members: member_changes(&before.members, &now.members),
        })
    }

    /// Per second.
    pub(super) fn rate(&self, count: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
        let count = count as f64;
        count / self.seconds
    }
}

impl Waited {
    /// `None` if it is not told, or if there was none.
    fn between(before: Option<DistributionDto>, now: Option<DistributionDto>) -> Option<Self> {
        let (before, now) = before.zip(now)?;
        let count = now.count.checked_sub(before.count).filter(|count| *count > 0)?;
        #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
        let mean = (now.sum - before.sum) / count as f64;
        Some(Self { count, mean })
    }
}

impl Figures {
    pub(super) fn of(listener: &ListenerDto) -> Self {
        Self {
            overflows: listener.overflows.unwrap_or_default(),
            listen_drops: listener.listen_drops,
            syn_drops: listener.syn_drops.clone(),
            requests_lost: listener.requests_lost.clone(),
            cookies_sent: listener.cookies_sent,
            cookies_validated: listener.cookies_validated,
            enqueued: listener.enqueued,
            accepts: listener.accepts,
            accept_errors: listener.accept_errors.clone(),
            abandoned: listener.abandoned,
        }
    }

    fn since(&self, before: &Self) -> Option<Self> {
        let OverflowsDto { syn, ack, cookie } = self.overflows;
        Some(Self {
            overflows: OverflowsDto {
                syn: less(syn, before.overflows.syn)?,
                ack: less(ack, before.overflows.ack)?,
                cookie: less(cookie, before.overflows.cookie)?,
            },
            listen_drops: less(self.listen_drops, before.listen_drops)?,
            syn_drops: less_each(self.syn_drops.as_ref(), before.syn_drops.as_ref())?,
            requests_lost: less_each(self.requests_lost.as_ref(), before.requests_lost.as_ref())?,
            cookies_sent: less(self.cookies_sent, before.cookies_sent)?,
            cookies_validated: less(self.cookies_validated, before.cookies_validated)?,
            enqueued: less(self.enqueued, before.enqueued)?,
            accepts: less(self.accepts, before.accepts)?,
            accept_errors: less_each(self.accept_errors.as_ref(), before.accept_errors.as_ref())?,
            abandoned: less(self.abandoned, before.abandoned)?,
        })
    }

    /// SYNs dropped for a reason.
    pub(super) fn syn_drops(&self, reason: &str) -> u64 {
        self.syn_drops.as_ref().and_then(|it| it.get(reason)).copied().unwrap_or(0)
    }

    /// Calls of accept() that failed with an error.
    pub(super) fn accept_errors(&self, error: AcceptError) -> u64 {
        self.accept_errors.as_ref().and_then(|it| it.get(error.label())).copied().unwrap_or(0)
    }
}

/// The outer `None`: it went back. The inner: it is not told.
#[expect(clippy::option_option, reason = "said above")]
fn less(now: Option<u64>, before: Option<u64>) -> Option<Option<u64>> {
    match (now, before) {
        (Some(now), Some(before)) => now.checked_sub(before).map(Some),
        _ => Some(None),
    }
}

#[expect(clippy::option_option, reason = "as in `less`")]
fn less_each(
    now: Option<&BTreeMap<String, u64>>,
    before: Option<&BTreeMap<String, u64>>,
) -> Option<Option<BTreeMap<String, u64>>> {
    let (Some(now), Some(before)) = (now, before) else { return Some(None) };
    let each = now.iter().map(|(reason, count)| {
        let before = before.get(reason).copied().unwrap_or(0);
        Some((reason.clone(), count.checked_sub(before)?))
    });
    Some(Some(each.collect::<Option<_>>()?))
}

/// Sockets have no number of their own here: they are the same if namespace, address, port,
/// owner and file descriptor are, and of equal ones those that come in the same order.
fn member_changes(before: &[MemberDto], now: &[MemberDto]) -> Vec<Option<MemberChange>> {
    let mut left: Vec<_> = before.iter().map(Some).collect();
    let mut take = |member: &MemberDto| {
        left.iter_mut()
            .find(|it| it.is_some_and(|it| identity(it) == identity(member)))
            .and_then(Option::take)
    };
    now.iter()
        .map(|member| {
            let before = take(member)?;
            let overflows = |it: &MemberDto| it.overflows.and_then(OverflowsDto::total);
            Some(MemberChange {
                accept_queue_before: before.accept_queue,
                overflows: less(overflows(member), overflows(before))?,
                accepts: less(member.accepts, before.accepts)?,
            })
        })
        .collect()
}

/// What tells a socket of a group from the others.
#[derive(PartialEq)]
struct Identity<'a> {
    netns: &'a str,
    address: &'a str,
    port: u16,
    pid: Option<u32>,
    fd: Option<u32>,
}

fn identity(member: &MemberDto) -> Identity<'_> {
    Identity {
        netns: &member.netns,
        address: &member.address,
        port: member.port,
        pid: member.owner.pid,
        fd: member.holders.first().map(|holder| holder.fd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::list::tests::{listener, member};

    fn told(enqueued: u64) -> ListenerDto {
        ListenerDto { enqueued: Some(enqueued), listen_drops: None, ..listener(80) }
    }

    #[test]
    fn what_changed_is_told_and_what_is_absent_stays_absent() {
        let window = Window::new(2.0, &told(3), &told(10)).unwrap();
        assert_eq!((window.change.enqueued, window.change.listen_drops), (Some(7), None));
        assert!((window.rate(7) - 3.5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_counter_that_went_back_ends_the_window() {
        assert_eq!(Window::new(2.0, &told(10), &told(3)), None);
        let drops = |count| ListenerDto {
            syn_drops: Some(BTreeMap::from([("queue_full".to_owned(), count)])),
            ..listener(80)
        };
        assert_eq!(Window::new(2.0, &drops(2), &drops(1)), None);
    }

    #[test]
    fn waits_are_told_of_the_time_between_two_looks() {
        let waits = |count, sum| {
            let waits = DistributionDto { count, sum, ..DistributionDto::default() };
            ListenerDto { accept_wait: Some(waits), ..listener(80) }
        };
        let between = |before: &ListenerDto, now: &ListenerDto| {
            Window::new(2.0, before, now).and_then(|window| window.accept_wait)
        };
        let mean = Waited { count: 4, mean: 0.5 };
        assert_eq!(between(&waits(100, 7.0), &waits(104, 9.0)), Some(mean));
        assert_eq!(between(&waits(100, 7.0), &waits(100, 7.0)), None);
        assert_eq!(between(&listener(80), &waits(104, 9.0)), None);
    }

    #[test]
    fn sockets_are_known_again_by_who_has_them() {
        let socket = |pid, accepts| {
            let mut member = member(QueueDto { length: 0, limit: 4 });
            member.owner.pid = Some(pid);
            member.accepts = Some(accepts);
            member
        };
        let before = [socket(1, 10), socket(2, 20), socket(2, 30)];
        let now = [socket(2, 25), socket(2, 36), socket(3, 1), socket(1, 9)];
        let accepts: Vec<_> = member_changes(&before, &now)
            .into_iter()
            .map(|change| change.and_then(|change| change.accepts))
            .collect();
        assert_eq!(accepts, [Some(5), Some(6), None, None]);
    }

    #[test]
    fn a_queue_is_full_when_it_holds_one_more_than_its_limit() {
        let full = |length, sockets| {
            let listener = ListenerDto {
                sockets,
                accept_queue: QueueDto { length, limit: 4 * sockets },
                ..listener(80)
            };
            let none = ListenersDto { listeners: vec![], audit: vec![], namespaces: vec![] };
            Evidence::new(Source::Look, &none, listener, None).sockets()[0].is_full()
        };
        assert!(!full(4, 1) && full(5, 1));
        assert!(!full(9, 2) && full(10, 2));
    }
}
