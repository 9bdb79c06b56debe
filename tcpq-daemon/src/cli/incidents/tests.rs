use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::*;
use crate::model::{
    advice::Advice,
    group::Queue,
    incident::{
        evidence::{Clients, Evidence, Losses, PrefixCount, ProcessFigures, Spread, Totals},
        id::IncidentId,
        moment::Moment,
        record::{ListenerName, State, Trigger, VERSION},
        timeline::{Second, Timeline},
        verdict::{Cause, Confidence, Verdict},
    },
    limit::Limit,
    owner::Owner,
};

/// 2026-11-18 11:06:40 UTC.
const OPENED: Moment = Moment(1_795_000_000_000);

/// A stalled server, with all that there can be.
fn stalled() -> IncidentRecord {
    let second = |at: u64| {
        let during = (60..68).contains(&at);
        Second {
            at: Moment(OPENED.0 - 60_000 + at * 1000),
            span_ms: 1000,
            accept_queue: Queue { length: if during { 512 } else { at % 3 }, limit: 511 },
            accept_fill: if during { 1000 } else { 3 },
            syn_queue: Queue { length: u64::from(during), limit: 511 },
            overflows_syn: if during { 40 + at } else { 0 },
            drops: if during { 40 + at } else { 0 },
            enqueued: if during { 0 } else { 90 },
            accepts: if during { 0 } else { 90 },
            waits: if during { 0 } else { 90 },
            waited_us: if during { 0 } else { 180_000 },
            wait_p99_cell: 18,
            ..Second::default()
        }
    };
    IncidentRecord {
        version: VERSION,
        id: IncidentId::new(OPENED, "host 0.0.0.0 80"),
        state: State::Closed,
        listener: ListenerName {
            netns: "web1".to_owned(),
            address: "0.0.0.0".to_owned(),
            port: "80".to_owned(),
        },
        owner: Some(Owner {
            process: Some("nginx".to_owned()),
            pid: Some(77),
            unit: Some("nginx.service".to_owned()),
            ..Owner::default()
        }),
        opened: OPENED,
        began: OPENED,
        last: Moment(OPENED.0 + 7500),
        updated: Moment(OPENED.0 + 38_000),
        trigger: Trigger::Refusal,
        bouts: 2,
        verdict: Verdict {
            cause: Cause::ApplicationStalled,
            confidence: Some(Confidence::High),
            proofs: vec![
                "accept() took nothing for 8.0 s while 512 connections waited".to_owned(),
                "pid 77 (nginx\u{1b}[31m) was stopped: 1 thread, state T".to_owned(),
            ],
            against: vec!["3 records were lost meanwhile, of all listeners".to_owned()],
            advice: Some(Advice {
                change: "let pid 77 (nginx) go on: its threads are stopped by a signal or a \
                         debugger; if nobody did it on purpose, find out who"
                    .to_owned(),
                commands: vec!["kill -CONT 77".to_owned()],
            }),
        },
        evidence: Evidence {
            totals: Totals {
                overflows: BTreeMap::from([("syn".to_owned(), 800), ("ack".to_owned(), 28)]),
                drops: Some(830),
                enqueued: Some(90),
                accepts: Some(0),
                ..Totals::default()
            },
            accept_wait: Some(Spread { count: 90, mean: 0.002, p50: 0.0018, p99: 0.0045 }),
            limit: Some(Limit::new(511, Some(511), Some(4096))),
            clients: Clients::Yes {
                refusals: 828,
                addresses: 31,
                connections: 210,
                retried: 190,
                prefixes: vec![
                    PrefixCount { prefix: "192.0.2.0/24".to_owned(), refusals: 700, error: 0 },
                    PrefixCount {
                        prefix: "2001:db8:1:2300::/56".to_owned(),
                        refusals: 9,
                        error: 4,
                    },
                ],
                outcome: "who got in at a later try is not known".to_owned(),
            },
            processes: vec![ProcessFigures {
                pid: 77,
                name: "nginx".to_owned(),
                looks: 4,
                stopped: 4,
                threads: 1,
                states: BTreeMap::from([('T', 4)]),
                waits: BTreeMap::from([("do_signal_stop".to_owned(), 4)]),
                cpu_permille: Some(0),
                files: Some(523),
                files_limit: Some(1024),
            }],
            losses: Losses { records: 3, suppressed: 120 },
            not_seen: vec!["pid 78: No such process (os error 3)".to_owned()],
            ..Evidence::default()
        },
        timeline: Timeline { seconds: (1..100).map(second).collect() },
    }
}

/// One about which nothing is known, in the worst place.
fn unknown() -> IncidentRecord {
    IncidentRecord {
        state: State::Interrupted,
        listener: ListenerName {
            netns: "host".to_owned(),
            address: "~other".to_owned(),
            port: "~other".to_owned(),
        },
        owner: None,
        trigger: Trigger::Fill,
        bouts: 1,
        last: OPENED,
        verdict: Verdict::unknown(vec!["3 overflows in 1 second of 1.0 s".to_owned()]),
        evidence: Evidence::default(),
        timeline: Timeline::default(),
        ..stalled()
    }
}

fn is_as_in(golden: &str, text: &str) {
    let path = format!("{}/src/cli/incidents/{golden}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("TCPQ_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{golden}");
}

#[test]
fn one_incident_is_one_screen() {
    let zone = TimeZone::UTC;
    let text = show::render(&stalled(), Some(80), &zone);
    is_as_in("stalled-80.txt", &text);
    assert!(text.lines().count() <= 40, "{} lines", text.lines().count());
    assert!(!text.contains('\u{1b}'));
    is_as_in("stalled-120.txt", &show::render(&stalled(), Some(120), &zone));
    is_as_in("unknown-80.txt", &show::render(&unknown(), Some(80), &zone));
}

#[test]
fn the_list_has_a_line_for_each() {
    let open = IncidentRecord { state: State::Open, ..stalled() };
    let all = [unknown().summary(), open.summary(), stalled().summary()];
    is_as_in("list.txt", &list::table(&all, &TimeZone::UTC));
    assert_eq!(list::table(&[], &TimeZone::UTC), "no incidents\n");
}

#[test]
fn a_record_is_read_as_it_was_written() {
    for record in [stalled(), unknown()] {
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<IncidentRecord>(&text).unwrap(), record);
    }
}

#[test]
fn filters_become_a_query() {
    let filter = Filter {
        since: Some(Moment(5)),
        netns: Some("a b&c".to_owned()),
        verdict: Some(Cause::SynFlood),
        state: Some(State::Open),
        limit: Some(3),
        ..Filter::default()
    };
    assert_eq!(
        serde_urlencoded::to_string(&filter).unwrap(),
        "since=5&netns=a+b%26c&verdict=syn_flood&state=open&limit=3"
    );
}
