use std::collections::BTreeMap;

use super::*;
use crate::model::{
    group::{NetnsSettings, Queue},
    incident::{
        evidence::{AcceptGap, Clients, Losses, ProcessFigures, Spread, Totals},
        probe::{CgroupReading, Pressure},
    },
};

/// When everything opens. Unit: milliseconds.
const OPENED: u64 = 100_000;

const EXACT: [Signal; 12] = [
    Signal::OverflowSyn,
    Signal::OverflowAck,
    Signal::ListenDrops,
    Signal::SynDrops,
    Signal::SynsReceived,
    Signal::RequestsLost,
    Signal::CookiesSent,
    Signal::CookiesChecked,
    Signal::Enqueued,
    Signal::Accepts,
    Signal::AcceptErrors,
    Signal::AcceptWait,
];

/// What the tracepoint backend does not tell.
const DEGRADED: [Signal; 7] = [
    Signal::SynDrops,
    Signal::SynsReceived,
    Signal::RequestsLost,
    Signal::CookiesSent,
    Signal::CookiesChecked,
    Signal::AcceptErrors,
    Signal::AcceptWait,
];

#[derive(Clone)]
struct Scene {
    evidence: Evidence,
    seconds: Vec<Second>,
    calm: Duration,
}

/// A listener of nginx's that asked for `requested` and has `limit`, quiet: 20 connections a
/// second in the minute before.
fn scene(requested: i32, limit: u64) -> Scene {
    let zero = |names: &[&str]| Some(names.iter().map(|name| ((*name).to_owned(), 0)).collect());
    let evidence = Evidence {
        told: [EXACT.as_slice(), &[Signal::HandshakeTime, Signal::SynackRetransmits]].concat(),
        totals: Totals {
            overflows: BTreeMap::from([("syn".to_owned(), 0), ("ack".to_owned(), 0)]),
            drops: Some(0),
            syn_drops: zero(&["queue_full", "backlog_pressure", "no_memory", "rejected"]),
            requests_lost: zero(&["timeout", "icmp"]),
            syns: Some(0),
            cookies_sent: Some(0),
            cookies_validated: Some(0),
            synack_retransmits: Some(0),
            enqueued: Some(0),
            accepts: Some(0),
            accept_errors: zero(&["EMFILE", "ENFILE"]),
            abandoned: Some(0),
        },
        limit: Some(Limit::new(limit, Some(requested), Some(4096))),
        settings: Some(NetnsSettings {
            netns: "host".to_owned(),
            inode: 1,
            somaxconn: 4096,
            tcp_max_syn_backlog: 1024,
            tcp_syncookies: 1,
            tcp_abort_on_overflow: 0,
            ephemeral_ports: [32_768, 60_999],
        }),
        sockets_open: 1,
        processes: vec![process('S', "ep_poll")],
        ..Evidence::default()
    };
    let seconds = (40..=100)
        .map(|second| Second {
            at: Moment(second * 1000),
            span_ms: 1000,
            accept_queue: Queue { length: 0, limit },
            syn_queue: Queue { length: 0, limit },
            enqueued: 20,
            accepts: 20,
            ..Second::default()
        })
        .collect();
    Scene { evidence, seconds, calm: Duration::from_secs(30) }
}

fn process(state: char, wait: &str) -> ProcessFigures {
    ProcessFigures {
        pid: 77,
        name: "nginx".to_owned(),
        looks: 3,
        stopped: if state == 'T' { 3 } else { 0 },
        threads: 1,
        states: BTreeMap::from([(state, 3)]),
        waits: BTreeMap::from([(wait.to_owned(), 3)]),
        cpu_permille: Some(100),
        files: Some(40),
        files_limit: Some(1024),
    }
}

impl Scene {
    /// Seconds of trouble: what waits at the end of each, what accept() takes, what is refused.
    fn trouble(mut self, seconds: u64, waiting: u64, accepts: u64, refused: u64) -> Self {
        let limit = self.seconds[0].accept_queue.limit;
        let from = self.seconds.last().unwrap().at.0 / 1000 + 1;
        for second in from..from + seconds {
            self.seconds.push(Second {
                at: Moment(second * 1000),
                span_ms: 1000,
                accept_queue: Queue { length: waiting, limit },
                accept_fill: waiting * 1000 / (limit + 1),
                syn_queue: Queue { length: 0, limit },
                overflows_syn: refused,
                drops: refused,
                enqueued: accepts,
                accepts,
                ..Second::default()
            });
        }
        let totals = &mut self.evidence.totals;
        *totals.overflows.get_mut("syn").unwrap() += seconds * refused;
        *totals.drops.as_mut().unwrap() += seconds * refused;
        *totals.accepts.as_mut().unwrap() += seconds * accepts;
        *totals.enqueued.as_mut().unwrap() += seconds * accepts;
        self.evidence.accept_gap = crate::engine::incidents::shape::accept_gap(&self.seconds);
        self
    }

    /// Seconds with a full SYN queue and no trouble of the accept queue.
    fn requests(mut self, seconds: u64, dropped: u64, enqueued: u64) -> Self {
        let from = self.seconds.last().unwrap().at.0 / 1000 + 1;
        let limit = self.seconds[0].syn_queue.limit;
        for second in from..from + seconds {
            self.seconds.push(Second {
                at: Moment(second * 1000),
                span_ms: 1000,
                accept_queue: Queue { length: 0, limit },
                syn_queue: Queue { length: limit, limit },
                drops: dropped,
                enqueued,
                accepts: enqueued,
                ..Second::default()
            });
        }
        let totals = &mut self.evidence.totals;
        *totals.drops.as_mut().unwrap() += seconds * dropped;
        *totals.enqueued.as_mut().unwrap() += seconds * enqueued;
        *totals.accepts.as_mut().unwrap() += seconds * enqueued;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Evidence)) -> Self {
        change(&mut self.evidence);
        self
    }

    fn waits(self, p50: f64, p99: f64) -> Self {
        self.with(|it| it.accept_wait = Some(Spread { count: 100, mean: p50, p50, p99 }))
    }

    /// As the tracepoint backend would tell it.
    fn degraded(self) -> Self {
        self.with(|it| {
            it.told.retain(|signal| !DEGRADED.contains(signal) && *signal != Signal::HandshakeTime);
            it.accept_wait = None;
            it.handshake = None;
            it.clients = Clients::default();
            let totals = &mut it.totals;
            totals.syn_drops = None;
            totals.requests_lost = None;
            totals.syns = None;
            totals.cookies_sent = None;
            totals.cookies_validated = None;
            totals.accept_errors = None;
        })
    }

    fn judged(&self) -> Verdict {
        let owner = Owner {
            process: Some("nginx".to_owned()),
            pid: Some(77),
            unit: Some("nginx.service".to_owned()),
            cgroup: Some("/system.slice/nginx.service".to_owned()),
            ..Owner::default()
        };
        judge(&Matter {
            evidence: &self.evidence,
            seconds: &self.seconds,
            known: Moment(39_000),
            opened: Moment(OPENED),
            calm: self.calm,
            netns: "host",
            port: Some(80),
            owner: Some(&owner),
            holders: &[],
        })
    }

    fn cause(&self) -> (Cause, Option<Confidence>) {
        let verdict = self.judged();
        (verdict.cause, verdict.confidence)
    }
}

const HIGH: Option<Confidence> = Some(Confidence::High);
const MEDIUM: Option<Confidence> = Some(Confidence::Medium);
const LOW: Option<Confidence> = Some(Confidence::Low);

fn stalled() -> Scene {
    scene(511, 511).trouble(6, 512, 0, 40).with(|it| it.processes = vec![process('T', "signal")])
}

fn slow() -> Scene {
    scene(128, 128).trouble(12, 129, 50, 30).waits(2.4, 2.6)
}

fn burst(requested: i32, limit: u64) -> Scene {
    scene(requested, limit).trouble(1, 0, 60, 300).waits(0.001, 0.02)
}

fn throttled() -> Scene {
    slow().with(|it| {
        it.looked_ms = 8000;
        it.cgroup = Some(CgroupReading {
            path: "/system.slice/nginx.service".to_owned(),
            quota: Some(100),
            file: Some("/sys/fs/cgroup/system.slice/nginx.service/cpu.max".to_owned()),
            periods: 80,
            throttled: 76,
            throttled_us: 7_000_000,
            pressure: Some(Pressure { cpu: Some(6_900_000), ..Pressure::default() }),
        });
    })
}

fn out_of_files() -> Scene {
    scene(511, 511).trouble(5, 512, 0, 40).with(|it| {
        it.processes = vec![ProcessFigures {
            files: Some(1024),
            cpu_permille: Some(1000),
            ..process('R', "0")
        }];
    })
}

fn flood() -> Scene {
    scene(128, 128).requests(30, 0, 1).with(|it| {
        it.totals.cookies_sent = Some(30_000);
        it.totals.cookies_validated = Some(12);
        it.totals.synack_retransmits = Some(600);
        it.defer_accept = Some(0);
    })
}

fn far_clients() -> Scene {
    scene(128, 128).requests(20, 0, 900).with(|it| {
        it.totals.cookies_sent = Some(5000);
        it.totals.cookies_validated = Some(4990);
        it.handshake = Some(Spread { count: 18_000, mean: 0.2, p50: 0.2, p99: 0.25 });
    })
}

fn herd() -> Scene {
    scene(511, 511).trouble(2, 0, 600, 1000).waits(0.01, 0.08).with(|it| {
        it.newest_listen = Some(Moment(OPENED - 3000));
        it.clients = Clients::Yes {
            refusals: 2000,
            addresses: 480,
            connections: 1500,
            retried: 400,
            prefixes: Vec::new(),
            outcome: String::new(),
        };
    })
}

fn socket(accepts: u64, length: u64, overflows: u64) -> SocketFigures {
    SocketFigures {
        process: Some("nginx".to_owned()),
        pid: Some(77),
        fd: Some(6),
        accept_queue: Queue { length, limit: 128 },
        overflows: Some(overflows),
        accepts: Some(accepts),
    }
}

fn one_stuck() -> Scene {
    scene(128, 128).trouble(6, 129, 300, 40).with(|it| {
        it.sockets_open = 4;
        it.sockets =
            vec![socket(0, 129, 240), socket(600, 0, 0), socket(610, 2, 0), socket(590, 0, 0)];
    })
}

fn deferred() -> Scene {
    scene(128, 128).requests(20, 4, 2).with(|it| {
        it.defer_accept = Some(30);
        it.totals.synack_retransmits = Some(250);
    })
}

fn icmp() -> Scene {
    scene(128, 128).requests(0, 0, 0).with(|it| {
        it.totals.drops = Some(40);
        it.totals.requests_lost = Some(BTreeMap::from([("icmp".to_owned(), 40)]));
    })
}

#[test]
fn each_cause_is_known_by_what_proves_it() {
    for (scene, expected) in [
        (stalled(), (Cause::ApplicationStalled, HIGH)),
        (slow(), (Cause::ApplicationTooSlow, HIGH)),
        (throttled(), (Cause::CpuThrottled, HIGH)),
        (
            out_of_files().with(|it| {
                it.totals.accept_errors = Some(BTreeMap::from([("EMFILE".to_owned(), 900)]));
            }),
            (Cause::OutOfFiles, HIGH),
        ),
        (burst(5, 5), (Cause::BacklogTooSmall, HIGH)),
        (burst(511, 16), (Cause::BacklogClipped, HIGH)),
        (flood(), (Cause::SynFlood, HIGH)),
        (far_clients(), (Cause::SynQueueByRoundTrip, HIGH)),
        (herd(), (Cause::ReconnectHerd, HIGH)),
        (one_stuck(), (Cause::MemberStuck, HIGH)),
        (deferred(), (Cause::DeferredAccept, MEDIUM)),
        (icmp(), (Cause::NotTheListener, HIGH)),
    ] {
        let verdict = scene.judged();
        assert_eq!((verdict.cause, verdict.confidence), expected, "{verdict:#?}");
        assert!(!verdict.proofs.is_empty(), "{verdict:#?}");
        let helps = verdict.advice.is_some() || verdict.cause == Cause::NotTheListener;
        assert!(helps, "{verdict:#?}");
    }
}

#[test]
fn with_less_evidence_it_is_less_sure_or_unknown_but_not_wrong() {
    for (scene, expected) in [
        (stalled(), (Cause::ApplicationStalled, HIGH)),
        (slow(), (Cause::ApplicationTooSlow, HIGH)),
        (throttled(), (Cause::CpuThrottled, HIGH)),
        (out_of_files(), (Cause::OutOfFiles, MEDIUM)),
        (burst(5, 5), (Cause::BacklogTooSmall, MEDIUM)),
        (burst(511, 16), (Cause::BacklogClipped, MEDIUM)),
        (flood(), (Cause::SynFlood, MEDIUM)),
        (flood().with(|it| it.defer_accept = None), (Cause::Unknown, None)),
        (far_clients(), (Cause::Unknown, None)),
        (one_stuck(), (Cause::MemberStuck, HIGH)),
        (deferred(), (Cause::DeferredAccept, MEDIUM)),
        (icmp(), (Cause::Unknown, None)),
    ] {
        let verdict = scene.clone().degraded().judged();
        assert_eq!((verdict.cause, verdict.confidence), expected, "{verdict:#?}");
    }
}

#[test]
fn what_is_not_known_is_not_guessed() {
    // Nothing tells whether anything was accepted.
    let blind = stalled().degraded().with(|it| {
        it.told.retain(|signal| *signal != Signal::Accepts);
        it.totals.accepts = None;
        it.accept_gap = None;
    });
    assert_eq!(blind.cause(), (Cause::Unknown, None));
    let said = blind.judged().proofs.join("\n");
    assert!(said.contains("not told on this kernel: accepts"), "{said}");
    // A pause of less than readings are apart looks like a burst, but for the waits.
    let pause = scene(128, 128).trouble(1, 0, 60, 30).waits(0.3, 0.7);
    assert_eq!(pause.cause(), (Cause::Unknown, None));
    // A burst whose limit may have been set by anything.
    let unknown = burst(5, 5).with(|it| it.limit = Some(Limit::new(5, None, Some(4096))));
    assert_eq!(unknown.cause(), (Cause::BacklogTooSmall, LOW));
    // No more came than before, and how long it waited is not told.
    let usual = scene(128, 128).trouble(1, 0, 20, 3).degraded();
    assert_eq!(usual.cause(), (Cause::Unknown, None));
}

#[test]
fn healthy_but_busy_is_no_trouble() {
    let full = scene(128, 128).trouble(20, 120, 3000, 0).waits(0.03, 0.04);
    assert_eq!(full.cause(), (Cause::Unknown, None));
    let throttled_elsewhere = scene(128, 128).trouble(20, 10, 3000, 0).with(|it| {
        it.cgroup = throttled().evidence.cgroup;
        it.looked_ms = 8000;
    });
    assert_eq!(throttled_elsewhere.cause(), (Cause::Unknown, None));
    // Errors of accept() where none waits hurt nobody.
    let errors = scene(128, 128).trouble(5, 0, 300, 0).with(|it| {
        it.totals.accept_errors = Some(BTreeMap::from([("EMFILE".to_owned(), 3)]));
    });
    assert_eq!(errors.cause(), (Cause::Unknown, None));
}

#[test]
fn mixed_cases_name_the_first_cause_and_what_else_there_was() {
    let against = |scene: &Scene| scene.judged().against.join("\n");
    // Too slow, and the queue is clipped besides.
    let slow = slow().with(|it| it.limit = Some(Limit::new(128, Some(511), Some(128))));
    assert_eq!(slow.cause().0, Cause::ApplicationTooSlow);
    assert!(against(&slow).contains("clipped"), "{}", against(&slow));
    // Stalled, with some throttling that does not explain it.
    let stalled = stalled().with(|it| {
        it.cgroup = Some(CgroupReading { periods: 60, throttled: 6, ..CgroupReading::default() });
        it.processes = vec![process('D', "nfs_wait")];
    });
    assert_eq!(stalled.cause(), (Cause::ApplicationStalled, HIGH));
    assert!(against(&stalled).contains("throttled in 10 %"), "{}", against(&stalled));
    // A stopped process in a group that others have used up.
    let stopped = throttled().with(|it| it.processes = vec![process('T', "signal")]);
    assert_ne!(stopped.cause().0, Cause::CpuThrottled);
    // Overflows and cookies: the accept queue comes first.
    let both = scene(5, 5).trouble(8, 6, 0, 50).with(|it| it.totals.cookies_sent = Some(900));
    assert_eq!(both.cause().0, Cause::ApplicationStalled);
    assert!(against(&both).contains("900 SYN cookies"), "{}", against(&both));
    // Lost records are said.
    let lost = burst(5, 5).with(|it| it.losses = Losses { records: 4, suppressed: 0 });
    assert!(against(&lost).contains("4 records were lost"));
}

/// Those who were refused come again, a few at a time and for long.
#[test]
fn a_burst_with_a_long_tail_of_retries_is_a_burst() {
    let tail = burst(5, 5).trouble(9, 0, 6, 3);
    assert_eq!(tail.cause(), (Cause::BacklogTooSmall, HIGH));
    // The queue does not get empty.
    let full = burst(5, 5).trouble(9, 6, 6, 3);
    assert_ne!(full.cause().0, Cause::BacklogTooSmall);
    // The same where waits are not told, if no reading found the queue full.
    let untold = burst(5, 5).trouble(9, 0, 6, 3).degraded();
    assert_eq!(untold.cause(), (Cause::BacklogTooSmall, Some(Confidence::Medium)));
    let untold = burst(5, 5).trouble(8, 0, 6, 3).trouble(1, 6, 6, 3).degraded();
    assert_ne!(untold.cause().0, Cause::BacklogTooSmall);
    // Most of what came were SYNs that nobody followed up.
    let flooded = burst(5, 5).trouble(9, 0, 6, 3).with(|it| it.totals.cookies_sent = Some(9000));
    assert_ne!(flooded.cause().0, Cause::BacklogTooSmall);
    // The SYN queue was full of clients far away, who overflowed the other one, too.
    let far = burst(5, 5).trouble(9, 0, 300, 3).with(|it| it.totals.cookies_sent = Some(2000));
    assert_ne!(far.cause().0, Cause::BacklogTooSmall);
}

#[test]
fn a_member_that_closed_with_connections_in_it_is_named() {
    let closed = scene(128, 128).trouble(1, 0, 50, 0).with(|it| {
        it.sockets_open = 3;
        it.sockets_closed = 1;
        it.totals.abandoned = Some(17);
        it.totals.drops = Some(3);
    });
    assert_eq!(closed.cause(), (Cause::MemberStuck, HIGH));
    assert!(closed.judged().advice.unwrap().change.contains("tcp_migrate_req"));
    // Half of the group does not accept: that is no single member.
    let half = one_stuck().with(|it| it.sockets[1..3].fill(socket(0, 129, 0)));
    assert_ne!(half.cause().0, Cause::MemberStuck);
}

#[test]
fn the_advice_fits_the_cause() {
    let change = |scene: Scene| scene.judged().advice.unwrap();
    assert_eq!(change(stalled()).commands[1], "kill -CONT 77");
    assert!(change(throttled()).commands[0].contains("CPUQuota="));
    assert!(change(burst(511, 16)).change.contains("somaxconn"));
    let off = flood().with(|it| {
        it.settings.as_mut().unwrap().tcp_syncookies = 0;
        it.totals.cookies_sent = Some(0);
        it.totals.syns = Some(30_000);
        it.totals.syn_drops = Some(BTreeMap::from([("queue_full".to_owned(), 29_000)]));
        it.totals.drops = Some(29_000);
    });
    assert_eq!(off.cause(), (Cause::SynFlood, MEDIUM));
    assert!(change(off).change.contains("SYN cookies on"));
}

#[test]
fn a_gap_among_others_is_slowness() {
    // One request takes three seconds: accept() comes every third second.
    let mut slow = scene(5, 5);
    for _ in 0..6 {
        slow = slow.trouble(1, 6, 1, 9).trouble(2, 6, 0, 9);
    }
    assert_eq!(slow.cause().0, Cause::ApplicationTooSlow);
    assert_eq!(slow.evidence.accept_gap.map(|gap: AcceptGap| gap.ms), Some(2000));
}

#[test]
fn sums_over_a_group_do_not_judge_one_slow_member() {
    // It takes some, so it is not stuck; the group as a whole takes a lot.
    let slow = one_stuck().with(|it| it.sockets[0] = socket(12, 129, 240));
    assert_eq!(slow.cause(), (Cause::Unknown, None));
    // One is stuck, and bursts overflow at the others besides.
    let both = one_stuck().with(|it| {
        it.sockets =
            vec![socket(0, 129, 120), socket(600, 0, 40), socket(610, 2, 50), socket(590, 0, 30)];
    });
    assert_eq!(both.cause(), (Cause::MemberStuck, MEDIUM));
    // Of a folded group not all sockets are told: not the one that overflows, perhaps.
    let folded = one_stuck().with(|it| it.sockets.fill(socket(0, 0, 0)));
    assert_eq!(folded.cause(), (Cause::Unknown, None));
    // Where all overflow alike, sums do.
    let all = one_stuck().with(|it| it.sockets.fill(socket(450, 129, 60)));
    assert_eq!(all.cause().0, Cause::ApplicationTooSlow);
}

#[test]
fn what_goes_on_is_no_burst_yet() {
    for scene in [burst(5, 5), herd()] {
        let on = Scene { calm: Duration::from_secs(1), ..scene.clone() };
        assert_eq!(on.cause(), (Cause::Unknown, None));
        assert_ne!(scene.cause().0, Cause::Unknown);
    }
}

#[test]
fn a_queue_that_nobody_found_nearly_full_did_not_overflow() {
    let fill = |most| burst(64, 64).degraded().with(|it| it.entered_at_most = Some(most));
    assert_eq!(fill(100).cause().0, Cause::BacklogTooSmall);
    assert_eq!(fill(25).cause(), (Cause::Unknown, None));
    assert!(fill(25).judged().proofs.concat().contains("drops of another kind"));
    // Nobody entered: it had been full before.
    assert_eq!(stalled().with(|it| it.entered_at_most = None).cause().0, Cause::ApplicationStalled);
    // Of two places one is half of it.
    let short = burst(2, 2).with(|it| it.entered_at_most = Some(25));
    assert_eq!(short.cause().0, Cause::BacklogTooSmall);
}

#[test]
fn a_listener_may_be_newer_than_the_reading_before_its_herd() {
    let opened_at = |ms| herd().degraded().with(|it| it.newest_listen = Some(Moment(ms)));
    assert_eq!(opened_at(OPENED + 80).cause().0, Cause::ReconnectHerd);
    // It was opened anew amidst the trouble: that is no reason of it.
    assert_ne!(opened_at(OPENED + 3000).cause().0, Cause::ReconnectHerd);
}

#[test]
fn a_program_that_starts_anew_may_take_a_moment_to_get_ready() {
    assert_eq!(herd().waits(0.2, 0.5).cause().0, Cause::ReconnectHerd);
    assert_ne!(herd().waits(0.2, 1.5).cause().0, Cause::ReconnectHerd);
    let running = herd().waits(0.2, 0.5).with(|it| it.newest_listen = None);
    assert_ne!(running.cause().0, Cause::ReconnectHerd);
}
