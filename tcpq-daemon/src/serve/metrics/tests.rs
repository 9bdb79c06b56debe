mod chunks;
mod exemplars;
mod histograms;
mod hostile;
mod owners;
mod protobuf;
mod read;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tcpq_common::{
    histogram::{FILL_CELLS, Fills, Histograms, TIME_CELLS, Times, time_cell},
    totals::Loss,
};

use super::*;
use crate::model::{
    audit::{NetnsAudit, Unattributed},
    counts::{Cookies, Counts, Enqueued, Overflows},
    group::{Folded, GroupView, NetnsSettings, Queue},
    hooks::{Backend, Exactness, Signal, SignalPlan},
    ids::{GroupKey, NetnsInode, Place},
    incident::{
        id::IncidentId,
        moment::Moment,
        record::ListenerName,
        tally::{Named, Tally},
        verdict::Cause,
    },
    owner::{Container, Owner, Pod, Runtime},
    sample::ProgramRuns,
    self_test::SelfTest,
    snapshot::{EventTally, Snapshot},
};

fn signal(signal: Signal, backend: Option<Backend>, exactness: Exactness) -> SignalPlan {
    SignalPlan { signal, hook: "hook".to_owned(), backend, exactness, reason: None }
}

const SIGNALS: [Signal; 20] = [
    Signal::SynsReceived,
    Signal::OverflowSyn,
    Signal::OverflowAck,
    Signal::OverflowCookie,
    Signal::ListenDrops,
    Signal::SynDrops,
    Signal::RequestsLost,
    Signal::CookiesSent,
    Signal::CookiesChecked,
    Signal::SynackRetransmits,
    Signal::Enqueued,
    Signal::Accepts,
    Signal::AcceptErrors,
    Signal::Abandoned,
    Signal::AcceptWait,
    Signal::AbandonedWait,
    Signal::HandshakeTime,
    Signal::AcceptQueueFill,
    Signal::SynQueueFill,
    Signal::Audit,
];

fn owner(pid: u32) -> Owner {
    Owner {
        process: Some("nginx".to_owned()),
        pid: Some(pid),
        cgroup: Some("/system.slice/nginx.service".to_owned()),
        container: Some(Container {
            id: "4f5e".to_owned(),
            runtime: Runtime::Containerd,
            pod_uid: None,
        }),
        pod: Some(Pod {
            namespace: "shop".to_owned(),
            name: "web-0".to_owned(),
            container: "nginx".to_owned(),
        }),
        ..Owner::default()
    }
}

fn settings(netns: &str, somaxconn: u32) -> NetnsSettings {
    NetnsSettings {
        netns: netns.to_owned(),
        inode: 1,
        somaxconn,
        tcp_max_syn_backlog: 512,
        tcp_syncookies: 1,
        tcp_abort_on_overflow: 0,
        ephemeral_ports: [32768, 60999],
    }
}

fn times(observed: &[u64]) -> Times {
    let mut times = Times { cells: [0; TIME_CELLS], sum_us: observed.iter().sum() };
    for us in observed {
        times.cells[time_cell(*us)] += 1;
    }
    times
}

/// Nothing was abandoned yet.
fn histograms() -> Histograms {
    Histograms {
        accept_wait: times(&[0, 10, 11, 700, 250_000, 61_000_000, 100_000_000]),
        abandoned_wait: times(&[]),
        handshake: times(&[40, 200_000, 200_000]),
        accept_fill: Fills { cells: [1, 0, 2, 0, 0, 0, 1, 1], sum_millionths: 3_250_000 },
        syn_fill: Fills { cells: [0, 5, 0, 0, 0, 0, 0, 0], sum_millionths: 1_250_000 },
    }
}

const NO_FILLS: Fills = Fills { cells: [0; FILL_CELLS], sum_millionths: 0 };

fn snapshot(netns: &str, plan: &[SignalPlan]) -> Arc<Snapshot> {
    let key = GroupKey {
        netns: NetnsInode(1),
        place: Place::Address { address: IpAddr::from([127, 0, 0, 1]), port: 80 },
    };
    Arc::new(Snapshot {
        taken: std::time::Instant::now(),
        groups: Arc::new(vec![Arc::new(GroupView {
            key,
            netns: netns.into(),
            sockets: 1,
            accept_queue: Queue { length: 5, limit: 4 },
            syn_queue: Queue { length: 1, limit: 4 },
            counts: Counts {
                syns_received: 30,
                overflows: Overflows { syn: 25, ack: 3, cookie: 0 },
                listen_drops: 33,
                syn_drops: [1, 2, 0, 0, 0],
                requests_lost: [3, 0, 1, 0, 0],
                cookies: Cookies { sent: 9, validated: 4, failed: 1 },
                synack_retransmits: 6,
                enqueued: Enqueued { handshake: 5, ..Enqueued::default() },
                accepts: 0,
                accept_errors: [3, 0, 0, 0, 0, 0],
                abandoned: 0,
                records_suppressed: 0,
            }
            .into(),
            owners: vec![Arc::new(owner(10))],
            started: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250)),
            backlog_requested: Some(511),
            histograms: Some(Arc::new((&histograms()).into())),
            members: Vec::new(),
        })]),
        plan: Arc::from(plan),
        self_test: Arc::new(SelfTest::skipped()),
        sockets_tracked: 1,
        namespaces: vec![settings(netns, 4096)],
        folded: Folded { ephemeral: 7, other: 8, excluded: 9 },
        audit: vec![NetnsAudit {
            netns: netns.to_owned(),
            listen_overflows: 28,
            listen_drops: 34,
            unattributed: Some(Unattributed { overflows: 0, drops: 1 }),
        }],
        attribution: Duration::ZERO,
        losses: [0; Loss::ALL.len()],
        skipped: 0,
        programs: Vec::new(),
        records_suppressed: 0,
        events: EventTally::default(),
    })
}

fn incident() -> IncidentId {
    IncidentId::new(Moment(1_700_000_000_000), "host 127.0.0.1 80")
}

/// One incident is open, two have ended.
fn tally() -> Tally {
    let mut tally = Tally {
        active: vec![ListenerName {
            netns: "host".to_owned(),
            address: "127.0.0.1".to_owned(),
            port: "80".to_owned(),
        }],
        named: BTreeMap::from([(
            ListenerName {
                netns: "host".to_owned(),
                address: "127.0.0.1".to_owned(),
                port: "80".to_owned(),
            },
            Named { id: incident(), last: Moment(1_700_000_123_456) },
        )]),
        recorder_bytes: 12_345,
        is_stored: true,
        ..Tally::default()
    };
    tally.ended(Cause::SynFlood);
    tally.ended(Cause::SynFlood);
    tally
}

fn exact() -> Vec<SignalPlan> {
    SIGNALS.map(|name| signal(name, Some(Backend::Fentry), Exactness::Exact)).to_vec()
}

/// The only group.
fn group(snapshot: &mut Snapshot) -> &mut GroupView {
    Arc::make_mut(&mut Arc::make_mut(&mut snapshot.groups)[0])
}

/// The whole exposition.
fn render(snapshot: &Arc<Snapshot>, format: Format) -> Vec<u8> {
    let mut exposition = Exposition::new(Arc::clone(snapshot), tally(), Duration::ZERO, format);
    let chunks = std::iter::from_fn(|| exposition.chunk().unwrap());
    chunks.flatten().collect()
}

fn text(snapshot: &Arc<Snapshot>, format: Format) -> String {
    String::from_utf8(render(snapshot, format)).unwrap()
}

/// The exposition without what differs from run to run.
fn stable(text: &str) -> String {
    text.lines()
        .filter(|line| {
            !line.contains("process_")
                && !line.starts_with("tcpq_scrape_duration_seconds ")
                && !line.starts_with("tcpq_snapshot_age_seconds ")
        })
        .fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_classic_exposition_is_the_golden_one() {
    let text = text(&snapshot("host", &exact()), Format::Classic);
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/metrics.txt");
    if std::env::var_os("TCPQ_BLESS").is_some() {
        std::fs::write(golden, stable(&text)).unwrap();
    }
    assert_eq!(stable(&text), std::fs::read_to_string(golden).unwrap());
}

#[test]
fn runs_of_programs_are_told_if_they_are_counted() {
    let mut snapshot = Snapshot::clone(&snapshot("host", &exact()));
    let text_of = |snapshot: &Snapshot| text(&Arc::new(snapshot.clone()), Format::Classic);
    assert!(!text_of(&snapshot).contains("tcpq_bpf_program"));
    let time = Duration::from_micros(1500);
    snapshot.programs = vec![ProgramRuns { program: "fx_accept", count: 7, time }];
    let text = text_of(&snapshot);
    assert!(text.contains("\ntcpq_bpf_program_run_seconds_total{program=\"fx_accept\"} 0.0015\n"));
    assert!(text.contains("\ntcpq_bpf_program_runs_total{program=\"fx_accept\"} 7\n"));
}

#[test]
fn what_this_kernel_cannot_tell_has_no_series() {
    let mut plan = exact();
    for signal in &mut plan {
        if matches!(signal.signal, Signal::SynsReceived | Signal::OverflowCookie) {
            (signal.backend, signal.exactness) = (None, Exactness::Absent);
        }
    }
    let text = text(&snapshot("host", &plan), Format::Classic);
    assert!(!text.contains("tcpq_syns_received_total"));
    assert!(!text.contains("stage=\"cookie\""));
    assert!(text.contains("stage=\"ack\"} 3"));
}

#[test]
fn a_tracepoint_does_not_pretend_to_know_the_way_in() {
    let plan = [signal(Signal::Enqueued, Some(Backend::Tracepoint), Exactness::Exact)];
    let text = text(&snapshot("host", &plan), Format::Classic);
    assert!(text.contains("path=\"unknown\""));
    assert!(!text.contains("path=\"handshake\""));
}

#[test]
fn openmetrics_ends_with_its_mark() {
    let text = text(&snapshot("host", &exact()), Format::OpenMetrics);
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("# TYPE tcpq_listen_drops counter\n"));
}

#[test]
fn openmetrics_is_for_those_who_ask() {
    let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1";
    assert_eq!(Format::negotiate(prometheus), Format::OpenMetrics);
    for accept in ["", "*/*", "text/plain", "application/openmetrics-text;q=0"] {
        assert_eq!(Format::negotiate(accept), Format::Classic, "{accept}");
    }
}

#[test]
fn errors_of_accept_appear_as_they_happen_but_for_two() {
    let text = text(&snapshot("host", &exact()), Format::Classic);
    assert!(text.contains("errno=\"EMFILE\"} 3"));
    assert!(text.contains("errno=\"ENFILE\"} 0"));
    assert!(!text.contains("errno=\"ENOMEM\""));
}
