use super::*;
use crate::{
    cli::list::tests::{is_as_in, listener, owned},
    model::owner::{Container, Owner, Pod, Runtime},
    serve::api::{DistributionDto, FoldedInto, OverflowsDto, QueueDto},
};

fn at(listener: ListenerDto, netns: &str, address: &str) -> ListenerDto {
    ListenerDto { netns: netns.to_owned(), address: address.to_owned(), ..listener }
}

fn figures(
    listener: ListenerDto,
    accept: (u64, u64),
    overflows: [Option<u64>; 3],
    drops: u64,
) -> ListenerDto {
    let [syn, ack, cookie] = overflows;
    ListenerDto {
        accept_queue: QueueDto { length: accept.0, limit: accept.1 },
        syn_queue: QueueDto { length: 0, limit: accept.1 },
        overflows: Some(OverflowsDto { syn, ack, cookie }),
        listen_drops: Some(drops),
        ..listener
    }
}

fn unit(mut listener: ListenerDto, unit: &str) -> ListenerDto {
    for owner in &mut listener.owners {
        owner.unit = Some(unit.to_owned());
    }
    listener
}

fn contained(mut listener: ListenerDto, runtime: Runtime, pod: Option<&Pod>) -> ListenerDto {
    for owner in &mut listener.owners {
        let id = "4f5e6d7c8b9a0123".repeat(4);
        owner.container = Some(Container { id, runtime, pod_uid: None });
        owner.pod = pod.cloned();
    }
    listener
}

/// Twelve listeners of all kinds.
fn mixed() -> Vec<ListenerDto> {
    let none = [Some(0); 3];
    let owner = |listener, name: &str, pid| {
        let mut listener = owned(listener, name);
        listener.owners[0].pid = Some(pid);
        listener
    };
    let mut nginx = unit(owner(listener(443), "nginx", 1201), "nginx.service");
    for pid in 1202..=1204 {
        let process = Some("nginx".to_owned());
        nginx.owners.push(Owner { process, pid: Some(pid), ..Owner::default() });
    }
    nginx.sockets = 4;
    nginx.backlog_requested = Some(2044);
    let pod = Pod {
        namespace: "shop".to_owned(),
        name: "checkout-7d4b9c6f5-x2x4z".to_owned(),
        container: "app".to_owned(),
    };
    let java = contained(owner(listener(8080), "java", 48213), Runtime::Containerd, Some(&pod));
    let python = owner(ListenerDto { port: None, sockets: 212, ..listener(0) }, "python3", 977);
    let other = ListenerDto { port: None, sockets: 40, ..listener(0) };
    let redis = contained(owner(listener(6379), "redis-server", 9120), Runtime::Podman, None);
    let hostile = owner(listener(31337), "a\u{1b}[2J\u{202e}b\n\"x", 666);
    vec![
        figures(
            at(java, "4026532781", "0.0.0.0"),
            (101, 100),
            [Some(81_234), Some(12), Some(0)],
            81_250,
        ),
        ListenerDto {
            backlog_requested: Some(511),
            ..figures(
                at(owner(listener(3000), "node", 3321), "web1", "::"),
                (0, 128),
                [Some(90), Some(0), Some(0)],
                90,
            )
        },
        figures(nginx, (3, 2044), [Some(0), Some(0), None], 0),
        figures(unit(owner(listener(22), "sshd", 812), "ssh.service"), (0, 128), none, 0),
        figures(
            at(unit(owner(listener(22), "sshd", 812), "ssh.service"), "host", "::"),
            (0, 128),
            none,
            0,
        ),
        figures(
            at(
                unit(owner(listener(5432), "postgres", 1544), "postgresql@15-main.service"),
                "host",
                "127.0.0.1",
            ),
            (0, 244),
            none,
            0,
        ),
        figures(
            at(redis, "netns-7b1f24f0-b5b4-8a3f-9ddc-d32e7b1f24f0", "10.88.0.5"),
            (0, 511),
            none,
            0,
        ),
        figures(
            at(
                owner(listener(9100), "prometheus-node", 700),
                "host",
                "2001:db8:85a3:8d3:1319:8a2e:370:7348",
            ),
            (0, 4096),
            none,
            0,
        ),
        ListenerDto {
            folded: Some(FoldedInto::Ephemeral),
            ..figures(at(python, "host", "~python3"), (0, 27_136), none, 0)
        },
        ListenerDto {
            folded: Some(FoldedInto::Other),
            ..figures(at(other, "~other", "~other"), (0, 163_840), none, 0)
        },
        figures(hostile, (0, 5), none, 0),
        ListenerDto {
            sockets: 0,
            ..figures(at(listener(8443), "host", "127.0.0.1"), (0, 0), none, 7)
        },
    ]
}

/// As [`mixed`], where the kernel tells how long connections waited.
fn waited() -> Vec<ListenerDto> {
    let waits = [Some(95.0), Some(0.0025), Some(0.000_02), None];
    let mut listeners = mixed();
    for (listener, p99) in listeners.iter_mut().zip(waits.into_iter().cycle()) {
        let count = p99.map_or(0, |_| 100);
        listener.accept_wait = Some(DistributionDto { count, p99, ..DistributionDto::default() });
    }
    listeners
}

fn widest(text: &str) -> usize {
    text.lines().map(width).max().unwrap_or(0)
}

#[test]
fn eighty_columns() {
    let text = render(&waited(), Some(80));
    assert!(widest(&text) <= 80);
    is_as_in("list/fit/80.txt", &text);
}

#[test]
fn two_hundred_columns() {
    let text = render(&waited(), Some(200));
    assert!(widest(&text) <= 200);
    is_as_in("list/fit/200.txt", &text);
}

#[test]
fn without_a_limit_nothing_is_cut() {
    let text = render(&mixed(), None);
    assert!(!text.contains('…'), "{text}");
    assert!(text.contains("netns-7b1f24f0-b5b4-8a3f-9ddc-d32e7b1f24f0"));
    assert_eq!(text.lines().count(), 13);
}

#[test]
fn numbers_and_addresses_are_never_cut() {
    for most in [10, 40, 60, 72, 80, 99, 120, 160] {
        let text = render(&mixed(), Some(most));
        for whole in [
            "[2001:db8:85a3:8d3:1319:8a2e:370:7348]:9100",
            "127.0.0.1:5432",
            "4026532781",
            "0/163840",
            "81246",
        ] {
            let stages = whole == "81246" && text.contains("OVERFLOWS SYN");
            assert!(stages || text.contains(whole), "{whole} at {most}:\n{text}");
        }
    }
}

#[test]
fn many_long_addresses_get_room() {
    let long = |port| at(listener(port), "host", "2001:db8:85a3:8d3:1319:8a2e:370:7348");
    let text = render(&[long(1), long(2), listener(3)], Some(80));
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn columns_go_in_the_stated_order() {
    let heads = |most| {
        let text = render(&waited(), Some(most));
        text.lines().next().unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let order = ["BACKLOG", "WAIT", "COOKIE", "UNIT/CONTAINER", "SYN-Q", "PID", "DROPS"];
    let widths =
        order.map(|head| (20..260).find(|most| heads(*most).contains(&head.to_owned())).unwrap());
    assert!(widths.is_sorted_by(|wider, narrower| wider > narrower), "{widths:?}");
}

#[test]
fn hostile_names_reach_no_terminal() {
    for most in [None, Some(80)] {
        let text = render(&mixed(), most);
        let bad = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(bad, None, "{text}");
    }
}

#[test]
fn without_a_daemon_there_are_no_counters() {
    assert_eq!(
        render(&[owned(listener(80), "nginx")], Some(80)),
        "NETNS  ADDRESS:PORT  PROCESS  PID   UNIT/CONTAINER  ACCEPT-Q  SYN-Q  BACKLOG\n\
         host   0.0.0.0:80    nginx    1234  -                    5/4    0/4        -\n"
    );
}

#[test]
fn what_the_kernel_does_not_tell_is_a_dash() {
    let told = figures(listener(8080), (5, 4), [Some(26), Some(0), None], 26);
    let text = render(&[told], None);
    let row: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        row,
        ["host", "0.0.0.0:8080", "-", "-", "-", "5/4", "0/4", "26", "0", "-", "26", "-"]
    );
}

#[test]
fn a_closed_listener_looks_closed() {
    let text = render(&[ListenerDto { sockets: 0, ..listener(80) }], None);
    let row: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["host", "0.0.0.0:80", "-", "-", "-", "closed", "-", "-"]);
}
