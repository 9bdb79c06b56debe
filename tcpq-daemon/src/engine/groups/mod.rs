//! Sockets become groups, and groups outlive their sockets: a counter continues
//! when a process restarts or one member of a reuseport group closes.

mod clock;
mod closing;
mod namespaces;
pub mod placement;
mod series;
mod views;

use std::{
    collections::hash_map::Entry,
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use rustc_hash::{FxBuildHasher, FxHashMap as HashMap, FxHashSet as HashSet};

use tcpq_common::{
    TCP_LISTEN,
    iterator::ListenerRow,
    listener::{Listener, ListenerKey, Origin},
    totals::Totals,
};

use crate::{
    engine::{
        attribute::Attribute,
        derive::{self, Accepts, Drops, Life, Memory, Reading, Sources},
        groups::{
            clock::Clock,
            namespaces::Namespaces,
            placement::{Rules, Sighting},
            series::{GroupId, Series},
            views::Shown,
        },
    },
    model::{
        counts::Counts,
        group::Queue,
        ids::{NetnsInode, address},
        observations::Observations,
        sample::{Sample, TotalsByListener},
    },
};

/// Samples that a listener may be absent from before anything is concluded: of one that closes
/// or opens meanwhile, what is read belongs to different moments.
const ABSENT: u32 = 3;

/// And for how long: samples come as fast as scrapes ask for them, and a thread may be stopped
/// between making its socket known and making it listen.
const ABSENT_FOR: Duration = Duration::from_secs(1);

/// Of every listener that nothing has happened to yet.
static NOTHING: LazyLock<Arc<Counts>> = LazyLock::new(Arc::default);

/// What is to be done on the kernel side after a sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chores {
    /// Closed, and their last totals taken: forget them.
    pub retired: Vec<ListenerKey>,
    /// Entries whose socket is no listener any more: forget them.
    pub stale: Vec<ListenerKey>,
    /// Not seen for some samples: forget them unless they are still in the map.
    pub missing: Vec<ListenerKey>,
    /// Network namespaces without a listener for a while: forget what was kept for them.
    pub netns: Vec<u64>,
}

/// All sockets and groups.
#[derive(Debug)]
pub struct Groups {
    sources: Sources,
    retention: Duration,
    sockets: HashMap<ListenerKey, Socket>,
    shown: Shown,
    series: Series,
    namespaces: Namespaces,
    clock: Clock,
    /// Closed listeners that are kept for what may still come, and since when.
    closing: HashMap<ListenerKey, Instant>,
    /// Closed listeners that are done with; their entries may take more than one try to
    /// remove.
    done: HashSet<ListenerKey>,
    /// Closed listeners that may be kept at once: there is room for so many more.
    closing_limit: usize,
    /// Listeners that were in no row, since when, and in how many samples by now.
    absent: HashMap<ListenerKey, (Instant, u32)>,
    /// Records suppressed for sockets that are gone.
    past_suppressed: u64,
}

#[derive(Debug)]
struct Socket {
    /// `None`: excluded by a filter. It is followed for the audit, and not shown.
    group: Option<GroupId>,
    netns_id: u64,
    address: IpAddr,
    port: u16,
    /// When its `listen()` was, by `CLOCK_MONOTONIC`, if that was seen.
    opened_ns: Option<u64>,
    life: Life,
    memory: Memory,
    counts: Arc<Counts>,
    histograms: Option<Arc<Observations>>,
    /// The last one: as long as nothing counts and the row stays the same, so does all else.
    row: Option<ListenerRow>,
    accept_queue: Queue,
    syn_queue: Queue,
    /// What `listen()` was asked for, as long as that is known.
    requested: Option<i32>,
}

impl Socket {
    /// Takes its histograms, if the sample has any: what is missing stays as it was.
    fn observe(&mut self, sample: &Sample, key: ListenerKey) {
        if let Some(histograms) = sample.histograms.get(&key) {
            self.histograms = Some(Arc::clone(histograms));
        }
    }

    /// Takes its counters: none of them goes back.
    fn count(&mut self, counts: &Counts) {
        let counts = counts.at_least(*self.counts);
        if counts != *self.counts {
            self.counts = Arc::new(counts);
        }
    }

    fn is_listening(&self) -> bool {
        self.life == Life::Listening
    }
}

impl Groups {
    /// `rules`: how sockets are placed. `retention`: how long a group stays after its last
    /// socket closed. `listeners`: how many the kernel side has room for.
    pub fn new(sources: Sources, rules: Rules, retention: Duration, listeners: usize) -> Self {
        Self {
            sources,
            retention,
            sockets: HashMap::default(),
            shown: Shown::default(),
            series: Series::new(rules, retention),
            namespaces: Namespaces::default(),
            clock: Clock::default(),
            closing: HashMap::default(),
            done: HashSet::default(),
            closing_limit: listeners / 4,
            absent: HashMap::default(),
            past_suppressed: 0,
        }
    }

    /// Takes in a sample.
    pub fn apply(
        &mut self,
        sample: &Sample,
        attribution: &mut dyn Attribute,
        now: Instant,
    ) -> Chores {
        let mut chores = Chores::default();
        let mut seen = HashSet::with_capacity_and_hasher(sample.rows.len(), FxBuildHasher);
        self.clock.follow(sample.monotonic_zero);
        for row in &sample.rows {
            let is_listening = row.now.state == u32::from(TCP_LISTEN);
            // A socket that listens but has no port yet is inside listen().
            if let Some(listener) = bound(row).filter(|_| is_listening) {
                seen.insert(row.key());
                self.update(row, &listener, sample, attribution, now);
            }
        }
        let retired: HashSet<_> = sample.retired.iter().map(|(key, _)| *key).collect();
        self.done.retain(|key| retired.contains(key));
        self.closing.retain(|key, _| retired.contains(key));
        for (key, retired) in &sample.retired {
            if !self.done.contains(key) && !self.retire(*key, retired, sample, attribution, now) {
                continue;
            }
            self.done.insert(*key);
            self.closing.remove(key);
            chores.retired.push(*key);
        }
        chores.retired.extend(self.make_room(attribution));
        if !sample.moved.is_none() {
            self.follow_totals(sample, |key| seen.contains(key) || retired.contains(key));
        }
        self.look_for_absent(sample, &seen, &retired, now, &mut chores);
        self.shown.touch_all(self.series.expire(now));
        chores.netns = self.expire_netns(now);
        chores
    }

    /// A listener that a reading has no row of goes on counting. What is derived
    /// needs the row, and waits for the next one.
    fn follow_totals(&mut self, sample: &Sample, is_current: impl Fn(&ListenerKey) -> bool) {
        let moved = |key: &ListenerKey| sample.moved.has(*key);
        let absent = |(key, _): &(&ListenerKey, &mut Socket)| !is_current(key) && moved(key);
        for (key, socket) in self.sockets.iter_mut().filter(absent) {
            socket.observe(sample, *key);
            socket.row = None;
            self.shown.touch(socket.group);
        }
        if self.sources.drops != Drops::Counted || self.sources.accepts != Accepts::Counted {
            return;
        }
        for (key, socket) in self.sockets.iter_mut().filter(absent) {
            if let Some(totals) = sample.totals.get(key) {
                socket.count(&derive::counted(totals));
            }
        }
    }

    /// Listeners that should be in a row and are not. They leave traces elsewhere: in
    /// the sockets known here, in the totals, or in a row of a socket that does not
    /// listen (its close was missed, or overtaken by an event on another CPU).
    fn look_for_absent(
        &mut self,
        sample: &Sample,
        seen: &HashSet<ListenerKey>,
        retired: &HashSet<ListenerKey>,
        now: Instant,
        chores: &mut Chores,
    ) {
        let rows = || sample.rows.iter().map(ListenerRow::key);
        // Each that was seen has a row, and is a socket unless it has closed: where there are no
        // more, these are all.
        let is_more = self.sockets.len() > seen.len() || !retired.is_empty();
        let sockets = Some(&self.sockets).filter(|_| is_more);
        let rowed = Some(rows()).filter(|_| sample.rows.len() > seen.len());
        let known = sockets.into_iter().flat_map(HashMap::keys).chain(sample.totals.keys());
        let absent = known
            .copied()
            .chain(rowed.into_iter().flatten())
            .filter(|key| !seen.contains(key) && !retired.contains(key))
            .map(|key| {
                let (since, samples) = self.absent.get(&key).copied().unwrap_or((now, 0));
                (key, (since, samples + 1))
            })
            .collect();
        self.absent = absent;
        if self.absent.is_empty() {
            return;
        }
        let listed: HashSet<_> = rows().collect();
        let is_over = |since: Instant, samples| {
            samples >= ABSENT && now.saturating_duration_since(since) >= ABSENT_FOR
        };
        let over = self.absent.iter().filter(|(_, (since, samples))| is_over(*since, *samples));
        for (key, _) in over {
            if listed.contains(key) { &mut chores.stale } else { &mut chores.missing }.push(*key);
        }
    }

    /// Forgets namespaces that have had no socket for their time.
    fn expire_netns(&mut self, now: Instant) -> Vec<u64> {
        for socket in self.sockets.values() {
            self.namespaces.saw(socket.netns_id, now);
        }
        self.namespaces.expire(now, self.retention)
    }

    /// Records suppressed since the start, for sockets that are gone, too.
    pub fn records_suppressed(&self) -> u64 {
        let live = self.sockets.values().map(|socket| socket.counts.records_suppressed);
        self.past_suppressed + live.sum::<u64>()
    }

    /// A socket is gone: its counters stay in its group.
    pub fn lose(&mut self, key: ListenerKey, attribution: &mut dyn Attribute) {
        let Some(socket) = self.sockets.remove(&key) else { return };
        self.shown.touch(socket.group);
        attribution.forgotten(key);
        self.namespaces.leave(&socket);
        self.past_suppressed += socket.counts.records_suppressed;
        if let Some(group) = socket.group {
            self.series.leave(group, &socket.counts, socket.histograms.as_ref());
        }
    }

    fn listening(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.values().filter(|socket| socket.is_listening())
    }

    /// Listening sockets known now, excluded ones included.
    pub fn sockets(&self) -> usize {
        self.listening().count()
    }

    fn update(
        &mut self,
        row: &ListenerRow,
        listener: &Listener,
        sample: &Sample,
        attribution: &mut dyn Attribute,
        now: Instant,
    ) {
        let key = row.key();
        let known = self.sockets.get(&key).and_then(|socket| socket.row.as_ref());
        if known == Some(row) && !sample.moved.has(key) {
            return;
        }
        let totals = totals_of(&sample.totals, key);
        let reading = Reading {
            totals_before: sample.totals_before.as_ref().map(|all| totals_of(all, key)),
            totals,
            sk_drops: row.now.sk_drops,
            drops_base: row.listener.drops_base,
            queued: row.now.accept_queue_length,
            queued_base: row.listener.queued_base,
            life: Life::Listening,
            syncookies: row.now.syncookies,
        };
        self.namespaces.read(row, now);
        let sources = self.sources;
        let socket = self.socket(key, listener, attribution, now);
        let counts = derive::counts(sources, &reading, &mut socket.memory);
        socket.count(&counts);
        socket.observe(sample, key);
        socket.row = Some(*row);
        socket.accept_queue = Queue {
            length: row.now.accept_queue_length.into(),
            limit: row.now.accept_queue_limit.into(),
        };
        socket.syn_queue =
            Queue { length: row.now.syn_queue_length.into(), limit: syn_queue_limit(row) };
        socket.requested = requested(row);
        let group = socket.group;
        self.shown.touch(group);
    }

    /// The socket's entry. A new one is placed, for its life.
    fn socket(
        &mut self,
        key: ListenerKey,
        listener: &Listener,
        attribution: &mut dyn Attribute,
        now: Instant,
    ) -> &mut Socket {
        let Self { sockets, series, namespaces, .. } = self;
        match sockets.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let netns = NetnsInode(listener.netns);
                let owner = attribution.sighted(key, listener);
                let address = address(listener.family, listener.address);
                let sighting = Sighting {
                    netns,
                    netns_name: &attribution.netns(netns),
                    address,
                    port: listener.port,
                    ephemeral_ports: namespaces.ephemeral_ports(listener.netns_id),
                    owner: &owner,
                };
                let is_opened = listener.origin == Origin::Opened as u32;
                entry.insert(Socket {
                    group: series.place(&sighting, now),
                    netns_id: listener.netns_id,
                    address,
                    port: listener.port,
                    opened_ns: is_opened.then_some(key.born_ns),
                    life: Life::Listening,
                    memory: Memory::default(),
                    counts: Arc::clone(&NOTHING),
                    histograms: None,
                    row: None,
                    accept_queue: Queue::default(),
                    syn_queue: Queue::default(),
                    requested: None,
                })
            }
        }
    }
}

/// The listener of a row, with its port; `None`: it has none yet.
fn bound(row: &ListenerRow) -> Option<Listener> {
    let mut listener = row.listener;
    if listener.port == 0 {
        listener.port = u16::try_from(row.now.port).unwrap_or(0);
    }
    (listener.port != 0).then_some(listener)
}

/// What `listen()` was asked for. A later `listen()` is not seen, but for a limit that is
/// another one.
fn requested(row: &ListenerRow) -> Option<i32> {
    let is_known = row.listener.is_requested_known == 1
        && row.now.accept_queue_limit == row.listener.limit_base;
    is_known.then_some(row.listener.requested)
}

fn totals_of(all: &TotalsByListener, key: ListenerKey) -> Totals {
    all.get(&key).copied().unwrap_or(Totals::ZERO)
}

/// `inet_csk_reqsk_queue_is_full` compares with the accept queue's limit; with SYN
/// cookies off `tcp_conn_request` also keeps the last quarter of
/// `tcp_max_syn_backlog` for proven peers.
fn syn_queue_limit(row: &ListenerRow) -> u64 {
    let limit = row.now.accept_queue_limit;
    if row.now.syncookies != 0 {
        return limit.into();
    }
    limit.min(row.now.max_syn_backlog - (row.now.max_syn_backlog >> 2)).into()
}

#[cfg(test)]
mod tests;
