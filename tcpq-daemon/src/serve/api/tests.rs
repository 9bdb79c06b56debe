use std::{net::IpAddr, sync::Arc, time::Duration, time::SystemTime};

use tcpq_common::{
    histogram::{Histograms, TIME_CELLS, time_cell},
    listener::ListenerKey,
    totals::Loss,
};

use super::*;
use crate::model::{
    counts::Enqueued,
    group::Folded,
    hooks::Backend,
    ids::{GroupKey, NetnsInode},
    self_test::SelfTest,
    snapshot::EventTally,
};

fn at(milliseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
}

fn member(port: u16, started: Option<SystemTime>, holders: u32) -> Member {
    let holder = |pid| Holder { pid, process: "node".to_owned(), fd: 3 };
    Member {
        key: ListenerKey::ZERO,
        netns: "host".into(),
        address: IpAddr::from([0, 0, 0, 0]),
        port,
        started,
        owner: Arc::new(Owner { process: Some("node".to_owned()), ..Owner::default() }),
        holders: (1..=holders).map(holder).collect(),
        accept_queue: Queue { length: 1, limit: 4 },
        syn_queue: Queue::default(),
        backlog_requested: started.map(|_| -1),
        defer_accept: 0,
        counts: Counts {
            overflows: Overflows { syn: 1, ack: 2, cookie: 3 },
            enqueued: Enqueued { handshake: 4, cookie: 1, ..Enqueued::default() },
            accepts: 5,
            ..Counts::default()
        }
        .into(),
    }
}

fn group(netns: &str, place: Place, members: Vec<Member>) -> GroupView {
    GroupView {
        key: GroupKey { netns: NetnsInode(7), place },
        netns: netns.into(),
        sockets: members.len() as u64,
        accept_queue: Queue::default(),
        syn_queue: Queue::default(),
        counts: Arc::default(),
        owners: members.iter().map(|member| Arc::clone(&member.owner)).take(1).collect(),
        started: members.iter().map(|member| member.started).min().flatten(),
        backlog_requested: None,
        histograms: None,
        members,
    }
}

/// Of 4 connections one waited for a quarter of a second, and one found the queue full.
fn histograms() -> Histograms {
    let none = Times { cells: [0; TIME_CELLS], sum_us: 0 };
    let mut accept_wait = none;
    for us in [0, 30, 30, 250_000] {
        accept_wait.cells[time_cell(us)] += 1;
        accept_wait.sum_us += us;
    }
    Histograms {
        accept_wait,
        abandoned_wait: none,
        handshake: accept_wait,
        accept_fill: Fills { cells: [3, 0, 0, 0, 0, 0, 0, 1], sum_millionths: 1_325_000 },
        syn_fill: Fills { cells: [4, 0, 0, 0, 0, 0, 0, 0], sum_millionths: 20_000 },
    }
}

fn snapshot() -> Snapshot {
    let signal = |signal, exactness| SignalPlan {
        signal,
        hook: String::new(),
        backend: Some(Backend::Fentry),
        exactness,
        reason: None,
    };
    let place = Place::Address { address: IpAddr::from([0, 0, 0, 0]), port: 80 };
    let sockets = vec![member(80, Some(at(1_500)), 20), member(80, Some(at(2_000)), 0)];
    let mut web = group("host", place, sockets);
    web.histograms = Some(Arc::new((&histograms()).into()));
    Snapshot {
        taken: std::time::Instant::now(),
        groups: [
            web,
            group(
                "host",
                Place::Ephemeral { process: "node".into() },
                vec![member(40000, None, 1)],
            ),
            group("~other", Place::Other, Vec::new()),
        ]
        .map(Arc::new)
        .to_vec()
        .into(),
        plan: Arc::from([
            signal(Signal::OverflowAck, Exactness::Exact),
            signal(Signal::OverflowSyn, Exactness::Absent),
            signal(Signal::Enqueued, Exactness::Derived),
            signal(Signal::AcceptWait, Exactness::Exact),
            signal(Signal::HandshakeTime, Exactness::Absent),
            signal(Signal::AcceptQueueFill, Exactness::Derived),
        ]),
        self_test: Arc::new(SelfTest::skipped()),
        sockets_tracked: 3,
        audit: Vec::new(),
        namespaces: vec![NetnsSettings {
            netns: "host".to_owned(),
            inode: 7,
            somaxconn: 4096,
            tcp_max_syn_backlog: 512,
            tcp_syncookies: 1,
            tcp_abort_on_overflow: 0,
            ephemeral_ports: [32768, 60999],
        }],
        folded: Folded::default(),
        attribution: Duration::ZERO,
        losses: [0; Loss::ALL.len()],
        skipped: 0,
        programs: Vec::new(),
        records_suppressed: 0,
        events: EventTally::default(),
    }
}

#[test]
fn the_json_is_the_golden_one() {
    let json = serde_json::to_string_pretty(&ListenersDto::of_daemon(&snapshot())).unwrap() + "\n";
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/listeners.json");
    if std::env::var_os("TCPQ_BLESS").is_some() {
        std::fs::write(golden, &json).unwrap();
    }
    let expected = std::fs::read_to_string(golden).unwrap();
    assert_eq!(json, expected);
    let read: ListenersDto = serde_json::from_str(&expected).unwrap();
    assert_eq!(read, ListenersDto::of_daemon(&snapshot()));
}

#[test]
fn a_look_has_members_and_settings_but_no_counters() {
    let dto = ListenersDto::of_a_look(&snapshot());
    let member = &dto.listeners[0].members[0];
    assert_eq!((member.overflows, member.enqueued, member.accepts), (None, None, None));
    assert_eq!((member.started, member.backlog_requested), (Some(1.5), Some(-1)));
    assert_eq!(dto.namespaces.len(), 1);
    assert_eq!(dto.listeners[0].overflows, None);
}

#[test]
fn of_many_holders_sixteen_are_told() {
    let dto = ListenersDto::of_daemon(&snapshot());
    assert_eq!(dto.listeners[0].members[0].holders.len(), 16);
}
