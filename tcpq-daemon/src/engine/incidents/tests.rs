use std::time::Instant;

use super::*;
use tcpq_common::listener::ListenerKey;

use crate::{
    engine::incidents::episode::Rules,
    model::{
        counts::{Counts, Enqueued, Overflows},
        group::{Folded, Holder, Member, Queue},
        hooks::{Exactness, Signal, SignalPlan},
        ids::{GroupKey, NetnsInode},
        incident::{evidence::Clients, probe::ProcessReading, verdict::Cause},
        owner::Owner,
        self_test::SelfTest,
        snapshot::EventTally,
    },
};

const SETTINGS: Settings = Settings {
    rules: Rules {
        quiet: Duration::from_secs(30),
        pause: Duration::from_secs(3),
        fill: 800,
        sustain: Duration::from_secs(10),
    },
    checkpoint: Duration::from_mins(1),
    recorder: 1 << 20,
};

/// 2026-11-18.
const START: u64 = 1_795_000_000_000;

/// A listener on port 80 that a test plays with.
struct Play {
    incidents: Incidents,
    started: Instant,
    second: u64,
    counts: Counts,
    queue: u64,
    /// A second socket on the same port: what it counted, and its queue.
    sibling: Option<(Counts, u64)>,
    is_there: bool,
    /// Whether open files have been walked.
    is_held: bool,
}

impl Play {
    fn new() -> Self {
        let mut play = Self {
            incidents: Incidents::new(SETTINGS),
            started: Instant::now(),
            second: 0,
            counts: Counts::default(),
            queue: 0,
            sibling: None,
            is_there: true,
            is_held: true,
        };
        assert_eq!(play.tick(), []);
        play
    }

    fn now(&self) -> Moment {
        Moment(START + self.second * 1000)
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let queue = Queue { length: self.queue, limit: 4 };
        let owner =
            Arc::new(Owner { process: Some("web".to_owned()), pid: Some(7), ..Owner::default() });
        let member = Member {
            key: ListenerKey { sk: 1, born_ns: 1 },
            netns: "host".into(),
            address: IpAddr::from([0, 0, 0, 0]),
            port: 80,
            started: None,
            owner: Arc::clone(&owner),
            holders: if self.is_held {
                Arc::from([Holder { pid: 7, process: "web".to_owned(), fd: 3 }])
            } else {
                Arc::from([])
            },
            accept_queue: queue,
            syn_queue: Queue { length: 0, limit: 4 },
            backlog_requested: Some(4),
            defer_accept: 0,
            counts: self.counts.into(),
        };
        let sibling = self.sibling.map(|(counts, length)| Member {
            key: ListenerKey { sk: 2, born_ns: 1 },
            accept_queue: Queue { length, limit: 4 },
            counts: counts.into(),
            ..member.clone()
        });
        let counts = self.counts.plus(self.sibling.map(|(it, _)| it).unwrap_or_default());
        let members: Vec<_> = [member].into_iter().chain(sibling).collect();
        let group = GroupView {
            key: GroupKey {
                netns: NetnsInode(1),
                place: Place::Address { address: IpAddr::from([0, 0, 0, 0]), port: 80 },
            },
            netns: "host".into(),
            sockets: members.len() as u64,
            accept_queue: queue,
            syn_queue: Queue { length: 0, limit: 4 },
            counts: counts.into(),
            histograms: None,
            owners: vec![owner],
            started: None,
            backlog_requested: Some(4),
            members,
        };
        let signals = [Signal::OverflowSyn, Signal::ListenDrops, Signal::Enqueued, Signal::Accepts];
        let plan = signals.map(|signal| SignalPlan {
            signal,
            hook: String::new(),
            backend: None,
            exactness: Exactness::Exact,
            reason: None,
        });
        Arc::new(Snapshot {
            taken: self.started + Duration::from_secs(self.second),
            groups: Arc::new(self.is_there.then(|| Arc::new(group)).into_iter().collect()),
            plan: Arc::from(plan),
            self_test: Arc::new(SelfTest::skipped()),
            sockets_tracked: 1,
            audit: Vec::new(),
            namespaces: Vec::new(),
            folded: Folded::default(),
            attribution: Duration::ZERO,
            losses: [0; Loss::ALL.len()],
            skipped: 0,
            programs: Vec::new(),
            records_suppressed: 0,
            events: EventTally::default(),
        })
    }

    fn tick(&mut self) -> Vec<Order> {
        self.second += 1;
        let snapshot = self.snapshot();
        self.incidents.tick(self.now(), &snapshot)
    }

    /// A second in which so many come, are accepted, and are refused.
    fn pass(&mut self, came: u64, accepted: u64, refused: u64) -> Vec<Order> {
        self.counts = self.counts.plus(Counts {
            overflows: Overflows { syn: refused, ..Overflows::default() },
            listen_drops: refused,
            enqueued: Enqueued { handshake: came, ..Enqueued::default() },
            accepts: accepted,
            ..Counts::default()
        });
        self.queue = (self.queue + came).saturating_sub(accepted);
        self.tick()
    }

    fn refuse(&mut self, what: Refused, client: [u8; 4], port: u16) -> Vec<Order> {
        let refusal = Refusal {
            netns: 1,
            address: IpAddr::from([0, 0, 0, 0]),
            port: 80,
            client: Some((IpAddr::from(client), port)),
            what,
        };
        self.incidents.refused(self.now(), &refusal)
    }
}

fn written(orders: &[Order]) -> Vec<&IncidentRecord> {
    let records = orders.iter().map(|order| match order {
        Order::Write(record) => Some(&**record),
        Order::Look(_) => None,
    });
    records.flatten().collect()
}

fn looks(orders: &[Order]) -> usize {
    orders.iter().filter(|order| matches!(order, Order::Look(_))).count()
}

/// A program that stops accepting for some seconds, from the first record to the closing.
fn stall(play: &mut Play) -> IncidentRecord {
    for _ in 0..20 {
        assert_eq!(play.pass(10, 10, 0), []);
    }
    play.pass(5, 0, 0);
    let begun = play.refuse(Refused::ByOverflow, [192, 0, 2, 1], 4000);
    let [opened] = written(&begun).try_into().unwrap();
    assert_eq!((opened.state, opened.opened, opened.bouts), (State::Open, play.now(), 1));
    assert_eq!(looks(&begun), 1);
    let id = opened.id;
    for second in 0..5 {
        play.refuse(Refused::ByOverflow, [192, 0, 2, 1], 4000 + second);
        let orders = play.pass(0, 0, 9);
        assert!(written(&orders).iter().all(|it| it.id == id && it.state == State::Open));
        let states = BTreeMap::from([('T', 1)]);
        let process = ProcessReading {
            pid: 7,
            name: "web".to_owned(),
            states,
            threads: 1,
            ..Default::default()
        };
        let report = Report { at: play.now(), processes: vec![process], ..Report::default() };
        play.incidents.looked(id, report);
    }
    play.pass(0, 5, 0);
    let mut closed = Vec::new();
    for _ in 0..40 {
        closed.extend(play.pass(10, 10, 0));
    }
    let last = written(&closed);
    let ended: Vec<_> = last.iter().filter(|it| it.state == State::Closed).collect();
    assert_eq!(ended.len(), 1);
    (**ended[0]).clone()
}

#[test]
fn an_episode_becomes_a_record_with_what_was_before_it() {
    let mut play = Play::new();
    let record = stall(&mut play);
    assert_eq!(record.verdict.cause, Cause::ApplicationStalled);
    assert_eq!(record.evidence.totals.overflows(), 45);
    assert_eq!((record.bouts, record.owner.clone().unwrap().pid), (1, Some(7)));
    assert_eq!(record.last.since(record.opened), Duration::from_secs(5));
    let before = record.timeline.seconds.iter().filter(|it| it.at < record.opened).count();
    assert!(before >= 20, "{before} seconds before");
    let Clients::Yes { refusals, connections, retried, .. } = record.evidence.clients else {
        panic!("{:?}", record.evidence.clients)
    };
    assert_eq!((refusals, connections, retried), (6, 5, 1));
    assert_eq!(play.incidents.standing().active, []);
}

#[test]
fn a_recording_played_again_gives_the_same_record() {
    assert_eq!(stall(&mut Play::new()), stall(&mut Play::new()));
}

#[test]
fn without_records_a_reading_opens_it() {
    let mut play = Play::new();
    play.pass(10, 10, 0);
    let before = play.now();
    let orders = play.pass(5, 0, 3);
    let [opened] = written(&orders).try_into().unwrap();
    assert_eq!(opened.opened, before);
    assert_eq!(opened.evidence.totals.overflows(), 3);
    assert_eq!(play.incidents.standing().active.len(), 1);
}

#[test]
fn a_drop_that_may_be_harmless_opens_nothing_by_its_record() {
    let mut play = Play::new();
    assert_eq!(play.refuse(Refused::Otherwise, [192, 0, 2, 1], 1), []);
    assert_eq!(play.pass(1, 1, 0), []);
}

#[test]
fn long_ones_are_written_again_and_again_with_one_name() {
    let mut play = Play::new();
    let mut records = Vec::new();
    for _ in 0..300 {
        let orders = play.pass(5, 5, 9);
        records.extend(written(&orders).into_iter().cloned());
    }
    assert!(records.iter().all(|it| it.id == records[0].id && it.state == State::Open));
    // Of no known cause it is written every 10 seconds.
    assert!((30..=32).contains(&records.len()), "{} writings", records.len());
    let interrupted = play.incidents.interrupted(play.now());
    assert_eq!((interrupted.len(), interrupted[0].state), (1, State::Interrupted));
}

#[test]
fn a_listener_that_goes_ends_its_episode() {
    let mut play = Play::new();
    play.pass(5, 0, 3);
    play.is_there = false;
    let orders = play.tick();
    let [closed] = written(&orders).try_into().unwrap();
    assert_eq!((closed.state, closed.evidence.totals.overflows()), (State::Closed, 3));
    assert_eq!(play.incidents.standing().active, []);
    assert_eq!(play.tick(), []);
}

#[test]
fn a_queue_that_stays_full_is_an_incident_without_a_refusal() {
    let mut play = Play::new();
    play.pass(5, 0, 0);
    let mut records = Vec::new();
    for _ in 0..15 {
        records.extend(written(&play.pass(0, 0, 0)).into_iter().cloned());
    }
    assert_eq!(records[0].trigger, Trigger::Fill);
    assert_eq!(records[0].evidence.totals.overflows(), 0);
}

/// A stuck socket is known as such although it is accepted from, and another is full, by the
/// last reading with trouble.
#[test]
fn a_socket_that_comes_loose_in_the_end_was_stuck() {
    let mut play = Play::new();
    play.sibling = Some((Counts::default(), 0));
    for _ in 0..5 {
        play.pass(10, 10, 0);
    }
    let sibling = |overflows, accepts| Counts {
        overflows: Overflows { syn: overflows, ..Overflows::default() },
        listen_drops: overflows,
        enqueued: Enqueued { handshake: 5, ..Enqueued::default() },
        accepts,
        ..Counts::default()
    };
    for second in 1..=6 {
        play.sibling = Some((sibling(second * 10, 0), 5));
        play.pass(10, 10, 0);
    }
    play.sibling = Some((sibling(70, 5), 0));
    let mut orders = play.pass(15, 10, 3);
    orders.extend(play.pass(10, 15, 0));
    for _ in 0..40 {
        orders.extend(play.pass(10, 10, 0));
    }
    let closed: Vec<_> =
        written(&orders).into_iter().filter(|it| it.state == State::Closed).collect();
    let [record] = closed.try_into().unwrap();
    assert_eq!(record.verdict.cause, Cause::MemberStuck, "{:#?}", record.evidence.sockets);
    assert_eq!(record.evidence.totals.overflows(), 73);
}

#[test]
fn who_called_listen_is_looked_at_before_holders_are_known() {
    for is_held in [true, false] {
        let mut play = Play::new();
        play.is_held = is_held;
        let orders = play.pass(5, 0, 3);
        let looks = orders.iter().filter_map(|order| match order {
            Order::Look(wish) => Some(wish.holders.clone()),
            Order::Write(_) => None,
        });
        assert_eq!(looks.collect::<Vec<_>>(), [[7]]);
    }
}

#[test]
fn a_refusal_finds_its_group_among_those_that_are_untouched_and_after_one_has_gone() {
    let mut play = Play::new();
    let group = Arc::clone(&play.snapshot().groups[0]);
    let mut first = GroupView::clone(&group);
    first.key.place = Place::Address { address: IpAddr::from([0, 0, 0, 0]), port: 22 };
    let all = vec![Arc::new(first), group];
    for groups in [all.clone(), all.clone(), all[1..].to_vec()] {
        play.second += 1;
        let snapshot = Snapshot { groups: groups.into(), ..Snapshot::clone(&play.snapshot()) };
        assert_eq!(play.incidents.tick(play.now(), &Arc::new(snapshot)), []);
    }
    let begun = play.refuse(Refused::ByOverflow, [192, 0, 2, 1], 4000);
    let [opened] = written(&begun).try_into().unwrap();
    assert_eq!(opened.listener.port, "80");
}

/// Handed on as one they are not even looked at, as long as nothing waits in their queues.
#[test]
fn groups_that_stand_still_are_passed_over_and_those_that_wait_are_not() {
    let mut play = Play::new();
    let twenty_of = |play: &mut Play| {
        let groups = Arc::clone(&play.snapshot().groups);
        let before = play.incidents.standing().recorder_bytes;
        for _ in 0..20 {
            play.second += 1;
            let groups = Arc::clone(&groups);
            let snapshot = Snapshot { groups, ..Snapshot::clone(&play.snapshot()) };
            assert_eq!(play.incidents.tick(play.now(), &Arc::new(snapshot)), []);
        }
        play.incidents.standing().recorder_bytes - before
    };
    assert_eq!(twenty_of(&mut play), 0);
    play.queue = 1;
    assert!(twenty_of(&mut play) > 0);
    play.queue = 0;
    twenty_of(&mut play);
    assert_eq!(twenty_of(&mut play), 0);
    let begun = play.refuse(Refused::ByOverflow, [192, 0, 2, 1], 4000);
    assert_eq!(written(&begun).len(), 1);
}
