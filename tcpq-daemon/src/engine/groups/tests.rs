mod continuity;
mod folding;
mod histograms;
mod shown;

use std::sync::Arc;

use tcpq_common::{
    AF_INET,
    iterator::ListenerNow,
    listener::{End, Retired},
    totals::RequestLost,
};

use super::*;
use crate::{
    engine::{
        derive::{Abandoned, Requests},
        groups::closing::GRACE,
    },
    model::{
        group::{GroupView, Holder},
        owner::{Owner, SharedOwner},
    },
};

const SOURCES: Sources = Sources {
    drops: Drops::Counted,
    accepts: Accepts::Counted,
    abandoned: Abandoned::Counted,
    requests: Requests::Counted,
};
const RETENTION: Duration = Duration::from_mins(1);

/// Groups, and what is known beside the kernel's maps.
struct Bench {
    groups: Groups,
    books: Books,
}

/// Names and owners as a test wants them.
#[derive(Default)]
struct Books {
    netns: HashMap<NetnsInode, String>,
    owners: HashMap<ListenerKey, SharedOwner>,
    /// Sighted and not forgotten.
    known: HashSet<ListenerKey>,
    version: u64,
}

impl Attribute for Books {
    fn refresh(&mut self, _: Instant) {}

    fn version(&mut self) -> u64 {
        self.version
    }

    fn spent(&self) -> Duration {
        Duration::ZERO
    }

    fn netns(&mut self, netns: NetnsInode) -> String {
        self.netns.get(&netns).cloned().unwrap_or_else(|| netns.to_string())
    }

    fn sighted(&mut self, key: ListenerKey, _: &Listener) -> SharedOwner {
        assert!(self.known.insert(key), "sighted twice");
        self.owner(key)
    }

    fn owner(&mut self, key: ListenerKey) -> SharedOwner {
        assert!(self.known.contains(&key), "asked for an owner before the sight, or after");
        self.owners.get(&key).cloned().unwrap_or_default()
    }

    fn holders(&mut self, _: ListenerKey) -> Arc<[Holder]> {
        Arc::default()
    }

    fn forgotten(&mut self, key: ListenerKey) {
        assert!(self.known.remove(&key), "forgotten twice");
    }
}

impl Bench {
    /// Every address and port is a group.
    fn new(sources: Sources, retention: Duration, listeners: usize) -> Self {
        let groups = Groups::new(sources, Rules::plain(), retention, listeners);
        Self { groups, books: Books::default() }
    }

    fn with(rules: Rules) -> Self {
        let groups = Groups::new(SOURCES, rules, RETENTION, 4096);
        Self { groups, books: Books::default() }
    }

    fn apply(&mut self, sample: &Sample, now: Instant) -> Chores {
        self.groups.apply(sample, &mut self.books, now)
    }

    fn lose(&mut self, key: ListenerKey) {
        self.groups.lose(key, &mut self.books);
    }

    /// Made anew, they are the same as those that were kept.
    fn views(&mut self) -> Vec<Arc<GroupView>> {
        let kept = self.groups.views(&mut self.books);
        self.groups.shown = Shown::default();
        assert_eq!(kept, self.groups.views(&mut self.books));
        kept.to_vec()
    }

    fn name(&mut self, netns: u32, name: &str) {
        self.books.netns.insert(NetnsInode(netns), name.to_owned());
    }

    fn own(&mut self, key: ListenerKey, process: &str, pid: u32) {
        let owner = Owner { process: Some(process.to_owned()), pid: Some(pid), ..Owner::default() };
        self.books.owners.insert(key, Arc::new(owner));
        self.books.version += 1;
    }
}

fn key(sk: u64, born_ns: u64) -> ListenerKey {
    ListenerKey { sk, born_ns }
}

fn listener(port: u16, born_ns: u64) -> Listener {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[127, 0, 0, 1]);
    Listener { born_ns, address, netns: 7, port, family: AF_INET, ..Listener::ZERO }
}

fn row(sk: u64, born_ns: u64, port: u16) -> ListenerRow {
    let now = ListenerNow {
        accept_queue_length: 2,
        accept_queue_limit: 4,
        syncookies: 1,
        state: TCP_LISTEN.into(),
        ..ListenerNow::ZERO
    };
    ListenerRow { sk, listener: listener(port, born_ns), now }
}

fn accepts(count: u64) -> Totals {
    Totals { accepts: count, ..Totals::ZERO }
}

fn sample(rows: &[ListenerRow], totals: &[(ListenerKey, Totals)]) -> Sample {
    Sample {
        rows: rows.to_vec(),
        totals: Arc::new(totals.iter().copied().collect()),
        ..Sample::default()
    }
}

fn closing(keys: &[ListenerKey], port: u16, totals: &[(ListenerKey, Totals)]) -> Sample {
    let retired = |key: &ListenerKey| {
        let listener = listener(port, key.born_ns);
        (*key, Retired { listener, end: End::Seen as u32, ..Retired::ZERO })
    };
    Sample { retired: keys.iter().map(retired).collect(), ..sample(&[], totals) }
}

/// Closes them, and waits until nothing more is expected.
fn close(
    groups: &mut Bench,
    keys: &[ListenerKey],
    totals: &[(ListenerKey, Totals)],
    now: Instant,
) -> Chores {
    groups.apply(&closing(keys, 80, totals), now);
    groups.apply(&closing(keys, 80, totals), now + GRACE)
}

fn only(groups: &mut Bench) -> Arc<GroupView> {
    let mut views = groups.views();
    assert_eq!(views.len(), 1);
    views.remove(0)
}

#[test]
fn members_of_a_reuseport_group_are_summed() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let rows = [row(1, 1, 80), row(2, 2, 80)];
    let totals = [(key(1, 1), accepts(3)), (key(2, 2), accepts(4))];
    groups.apply(&sample(&rows, &totals), Instant::now());
    let group = only(&mut groups);
    assert_eq!((group.sockets, group.counts.accepts), (2, 7));
    assert_eq!(group.accept_queue, Queue { length: 4, limit: 8 });
}

#[test]
fn a_restart_continues_the_counter_and_a_reused_address_is_another_socket() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    groups.apply(&sample(&[row(1, 1, 80)], &[(key(1, 1), accepts(10))]), now);
    let chores = close(&mut groups, &[key(1, 1)], &[(key(1, 1), accepts(12))], now);
    assert_eq!(chores.retired, [key(1, 1)]);
    assert_eq!((only(&mut groups).sockets, only(&mut groups).counts.accepts), (0, 12));
    // The same address of the socket, another life.
    groups.apply(&sample(&[row(1, 9, 80)], &[(key(1, 9), accepts(1))]), now);
    assert_eq!((only(&mut groups).sockets, only(&mut groups).counts.accepts), (1, 13));
}

#[test]
fn a_life_between_two_samples_is_counted() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    groups.apply(&closing(&[key(5, 5)], 80, &[(key(5, 5), accepts(2))]), Instant::now());
    assert_eq!(only(&mut groups).counts.accepts, 2);
}

#[test]
fn a_listen_that_failed_leaves_nothing() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let chores = close(&mut groups, &[key(5, 5)], &[], Instant::now());
    assert!(groups.views().is_empty());
    assert_eq!(chores.retired, [key(5, 5)]);
}

#[test]
fn a_group_without_sockets_goes_after_its_time() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let start = Instant::now();
    groups.apply(&sample(&[row(1, 1, 80)], &[]), start);
    close(&mut groups, &[key(1, 1)], &[], start);
    groups.apply(&Sample::default(), start + RETENTION / 2);
    assert_eq!(only(&mut groups).sockets, 0);
    groups.apply(&Sample::default(), start + RETENTION * 2);
    assert!(groups.views().is_empty());
}

#[test]
fn what_has_ended_keeps_the_name_of_its_namespace() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    groups.apply(&sample(&[row(1, 1, 80)], &[]), now);
    groups.name(7, "old");
    assert_eq!(&*groups.views()[0].netns, "old");
    groups.apply(&closing(&[key(1, 1)], 80, &[]), now);
    // The number is another namespace's by now.
    groups.name(7, "new");
    assert_eq!(&*groups.views()[0].netns, "old");
}

#[test]
fn a_skipped_row_loses_nothing_and_a_long_absence_is_looked_into() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    groups.apply(&sample(&[row(1, 1, 80)], &[(key(1, 1), accepts(5))]), now);
    for _ in 1..ABSENT {
        assert_eq!(groups.apply(&Sample::default(), now), Chores::default());
        assert_eq!(groups.groups.sockets(), 1);
    }
    assert_eq!(groups.apply(&Sample::default(), now), Chores::default(), "not for long yet");
    let chores = groups.apply(&Sample::default(), now + ABSENT_FOR);
    assert_eq!(chores.missing, [key(1, 1)]);
    groups.lose(key(1, 1));
    assert_eq!((only(&mut groups).sockets, only(&mut groups).counts.accepts), (0, 5));
}

#[test]
fn a_skipped_row_does_not_hold_up_what_is_counted() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    groups.apply(&sample(&[row(1, 1, 80)], &[(key(1, 1), accepts(5))]), now);
    groups.apply(&sample(&[], &[(key(1, 1), accepts(9))]), now);
    assert_eq!((only(&mut groups).sockets, only(&mut groups).counts.accepts), (1, 9));
}

#[test]
fn an_entry_that_is_no_listener_any_more_is_given_up() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    groups.apply(&sample(&[row(1, 1, 80)], &[]), now);
    let mut dead = row(1, 1, 80);
    dead.now.state = 7;
    for _ in 0..ABSENT {
        assert_eq!(groups.apply(&sample(&[dead], &[]), now).stale, []);
    }
    assert_eq!(groups.apply(&sample(&[dead], &[]), now + ABSENT_FOR).stale, [key(1, 1)]);
}

#[test]
fn an_entry_that_is_hard_to_remove_is_taken_once() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let sample = closing(&[key(5, 5)], 80, &[(key(5, 5), accepts(2))]);
    let now = Instant::now();
    groups.apply(&sample, now);
    for _ in 0..3 {
        assert_eq!(groups.apply(&sample, now + GRACE).retired, [key(5, 5)]);
    }
    assert_eq!(only(&mut groups).counts.accepts, 2);
}

#[test]
fn totals_that_belong_to_nobody_are_looked_into() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    let nobodys = sample(&[], &[(key(8, 8), accepts(1))]);
    for _ in 0..ABSENT {
        assert_eq!(groups.apply(&nobodys, now).missing, []);
    }
    assert_eq!(groups.apply(&nobodys, now + ABSENT_FOR).missing, [key(8, 8)]);
}

#[test]
fn an_end_that_was_missed_keeps_what_was_known() {
    let sources = Sources { drops: Drops::FromSocketDrops, ..SOURCES };
    let mut groups = Bench::new(sources, RETENTION, 4096);
    let now = Instant::now();
    let mut listening = row(1, 1, 80);
    listening.now.sk_drops = 5;
    groups.apply(&sample(&[listening], &[]), now);
    let retired = Retired {
        listener: Listener { drops_base: 100, ..listener(80, 1) },
        end: End::Missed as u32,
        ..Retired::ZERO
    };
    let sample = Sample { retired: vec![(key(1, 1), retired)], ..Sample::default() };
    groups.apply(&sample, now);
    assert_eq!(only(&mut groups).counts.listen_drops, 5);
}

#[test]
fn what_was_suppressed_stays_when_its_group_goes() {
    let mut groups = Bench::new(SOURCES, Duration::ZERO, 4096);
    let totals = Totals { records_suppressed: 9, ..accepts(1) };
    close(&mut groups, &[key(5, 5)], &[(key(5, 5), totals)], Instant::now());
    assert!(groups.views().is_empty());
    assert_eq!(groups.groups.records_suppressed(), 9);
}

#[test]
fn what_happens_during_a_close_is_still_counted() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    groups.apply(&sample(&[row(1, 1, 80)], &[]), now);
    let abandoned = |count| [(key(1, 1), Totals { abandoned: count, ..Totals::ZERO })];
    groups.apply(&closing(&[key(1, 1)], 80, &abandoned(1)), now);
    assert_eq!((only(&mut groups).sockets, only(&mut groups).counts.abandoned), (0, 1));
    let chores = groups.apply(&closing(&[key(1, 1)], 80, &abandoned(3)), now + GRACE);
    assert_eq!((chores.retired, only(&mut groups).counts.abandoned), (vec![key(1, 1)], 3));
}

#[test]
fn a_closed_listener_waits_for_its_requests() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    let sample = |lost| {
        let mut totals = Totals::ZERO;
        totals.requests_lost[RequestLost::ListenerClosed as usize] = lost;
        let mut sample = closing(&[key(1, 1)], 80, &[(key(1, 1), totals)]);
        sample.retired[0].1.syn_queue_length = 2;
        sample
    };
    groups.apply(&sample(0), now);
    assert!(groups.apply(&sample(1), now + GRACE * 10).retired.is_empty());
    assert_eq!(groups.apply(&sample(2), now + GRACE * 20).retired, [key(1, 1)]);
    assert_eq!(only(&mut groups).counts.requests_lost.iter().sum::<u64>(), 2);
}

#[test]
fn a_request_that_completes_during_the_close_is_not_waited_for() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    let sample = |abandoned| {
        let totals = Totals { abandoned, ..Totals::ZERO };
        let mut sample = closing(&[key(1, 1)], 80, &[(key(1, 1), totals)]);
        sample.retired[0].1.accept_queue_length = 3;
        sample.retired[0].1.syn_queue_length = 1;
        sample
    };
    groups.apply(&sample(0), now);
    assert!(groups.apply(&sample(3), now + GRACE * 10).retired.is_empty());
    assert_eq!(groups.apply(&sample(4), now + GRACE * 20).retired, [key(1, 1)]);
}

#[test]
fn a_request_that_never_goes_does_not_hold_a_closed_listener_for_ever() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let mut sample = closing(&[key(1, 1)], 80, &[]);
    sample.retired[0].1.syn_queue_length = 1;
    let now = Instant::now();
    groups.apply(&sample, now);
    let late = now + Duration::from_mins(3);
    assert_eq!(groups.apply(&sample, late).retired, [key(1, 1)]);
}

#[test]
fn many_closed_listeners_do_not_wait() {
    let mut groups = Bench::new(SOURCES, RETENTION, 16);
    let keys: Vec<_> = (1..=10).map(|n| key(n, n)).collect();
    let chores = groups.apply(&closing(&keys, 80, &[]), Instant::now());
    assert_eq!(chores.retired.len(), 6);
}

#[test]
fn a_listener_that_a_packet_may_be_at_is_kept() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    let mut sample = closing(&[key(1, 1)], 80, &[]);
    sample.in_flight.insert(key(1, 1));
    groups.apply(&sample, now);
    assert_eq!(groups.apply(&sample, now + GRACE * 9).retired, []);
    sample.in_flight.clear();
    assert_eq!(groups.apply(&sample, now + GRACE * 10).retired, [key(1, 1)]);
}

#[test]
fn where_room_is_short_the_longest_closed_goes_first() {
    let mut groups = Bench::new(SOURCES, RETENTION, 16);
    let now = Instant::now();
    let old: Vec<_> = (1..=4).map(|n| key(n, n)).collect();
    assert_eq!(groups.apply(&closing(&old, 80, &[]), now).retired, []);
    let all: Vec<_> = (1..=6).map(|n| key(n, n)).collect();
    let chores = groups.apply(&closing(&all, 80, &[]), now + GRACE / 2);
    assert_eq!(chores.retired, [key(1, 1), key(2, 2)]);
}

#[test]
fn a_namespace_made_again_under_its_name_continues_its_series() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    groups.name(7, "web");
    groups.name(8, "web");
    let now = Instant::now();
    groups.apply(&sample(&[row(1, 1, 80)], &[(key(1, 1), accepts(5))]), now);
    groups.views();
    close(&mut groups, &[key(1, 1)], &[(key(1, 1), accepts(5))], now);
    let mut next = row(2, 2, 80);
    next.listener.netns = 8;
    groups.apply(&sample(&[next], &[(key(2, 2), accepts(2))]), now);
    let views = groups.views();
    assert_eq!(views.len(), 1);
    assert_eq!((views[0].sockets, views[0].counts.accepts), (1, 7));
}

#[test]
fn a_namespace_without_listeners_is_forgotten_in_time() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let start = Instant::now();
    groups.apply(&sample(&[row(1, 1, 80)], &[]), start);
    close(&mut groups, &[key(1, 1)], &[], start);
    let early = groups.apply(&Sample::default(), start + RETENTION / 2);
    assert!(early.netns.is_empty());
    let late = groups.apply(&Sample::default(), start + GRACE + RETENTION);
    assert_eq!(late.netns, [0]);
}

#[test]
fn a_listen_that_failed_leaves_its_namespace_to_be_forgotten() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let start = Instant::now();
    close(&mut groups, &[key(5, 5)], &[], start);
    assert_eq!(groups.apply(&Sample::default(), start + GRACE + RETENTION).netns, [0]);
}

#[test]
fn drops_are_summed_by_namespace_over_the_gone_and_the_living() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    let drops = |count| Totals { overflows_syn: count, listen_drops: count, ..Totals::ZERO };
    groups.apply(&sample(&[row(1, 1, 80)], &[(key(1, 1), drops(5))]), now);
    close(&mut groups, &[key(1, 1)], &[(key(1, 1), drops(6))], now);
    groups.apply(&sample(&[row(2, 2, 80)], &[(key(2, 2), drops(2))]), now);
    let sum = groups.groups.drops_by_netns()[&0];
    assert_eq!((sum.overflows, sum.drops), (8, 8));
}

#[test]
fn a_listener_without_a_port_is_not_shown_yet() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    groups.apply(&sample(&[row(1, 1, 0)], &[]), Instant::now());
    assert!(groups.views().is_empty());
}

#[test]
fn a_port_that_came_later_is_taken_from_the_socket() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let mut row = row(1, 1, 0);
    row.now.port = 4242;
    groups.apply(&sample(&[row], &[]), Instant::now());
    assert_eq!(only(&mut groups).key.place.port(), "4242");
}

#[test]
fn without_cookies_the_syn_queue_keeps_a_quarter_free() {
    let mut row = row(1, 1, 80);
    (row.now.accept_queue_limit, row.now.max_syn_backlog) = (128, 16);
    assert_eq!(syn_queue_limit(&row), 128);
    row.now.syncookies = 0;
    assert_eq!(syn_queue_limit(&row), 12);
}
