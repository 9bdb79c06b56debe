//! Sockets become groups, and groups outlive their sockets: a counter continues
//! when a process restarts or one member of a reuseport group closes.

mod closing;
mod views;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use tcpq_common::{
    TCP_LISTEN,
    iterator::{DropCounters, ListenerRow},
    listener::{Listener, ListenerKey},
    totals::Totals,
};

use crate::{
    engine::derive::{self, Accepts, Drops, Life, Memory, Reading, Sources},
    model::{
        counts::Counts,
        group::Queue,
        ids::{GroupKey, NetnsInode, Place, address},
        sample::{Sample, TotalsByListener},
    },
};

/// Samples that a listener may be absent from before anything is concluded. One pass
/// of a map iterator may skip an entry when its neighbour is deleted.
const ABSENT: u32 = 3;

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
    by_key: BTreeMap<GroupKey, Group>,
    /// Closed listeners that are kept for what may still come, and since when.
    closing: HashMap<ListenerKey, Instant>,
    /// Closed listeners that are done with; their entries may take more than one try to
    /// remove.
    done: HashSet<ListenerKey>,
    /// Closed listeners that may be kept at once: there is room for so many more.
    closing_limit: usize,
    /// Listeners that were in no row, and in how many samples by now.
    absent: HashMap<ListenerKey, u32>,
    /// Records suppressed for groups that are gone.
    past_suppressed: u64,
    /// Overflows and drops of sockets that are gone, by namespace.
    past_drops: HashMap<u64, DropCounters>,
    /// When each namespace last had a socket.
    netns_seen: HashMap<u64, Instant>,
}

#[derive(Debug)]
struct Socket {
    group: GroupKey,
    netns_id: u64,
    life: Life,
    memory: Memory,
    counts: Counts,
    accept_queue: Queue,
    syn_queue: Queue,
}

#[derive(Debug)]
struct Group {
    /// Of sockets that are gone.
    retained: Counts,
    /// When a socket was last seen in it.
    alive: Instant,
    /// Its namespace's name when it last had a socket. The kernel gives a namespace's
    /// number to the next one; what has ended keeps its name.
    netns: Option<String>,
}

impl Groups {
    /// `retention`: how long a group stays after its last socket closed. `listeners`:
    /// how many the kernel side has room for.
    pub fn new(sources: Sources, retention: Duration, listeners: usize) -> Self {
        Self {
            sources,
            retention,
            sockets: HashMap::new(),
            by_key: BTreeMap::new(),
            closing: HashMap::new(),
            done: HashSet::new(),
            closing_limit: listeners / 4,
            absent: HashMap::new(),
            past_suppressed: 0,
            past_drops: HashMap::new(),
            netns_seen: HashMap::new(),
        }
    }

    /// Takes in a sample.
    pub fn apply(&mut self, sample: &Sample, now: Instant) -> Chores {
        let mut chores = Chores::default();
        let mut seen = HashSet::with_capacity(sample.rows.len());
        for row in &sample.rows {
            let is_listening = row.now.state == u32::from(TCP_LISTEN);
            // A socket that listens but has no port yet is inside listen().
            if let Some(group) = group_of_row(row).filter(|_| is_listening) {
                seen.insert(row.key());
                self.update(row, group, sample, now);
            }
        }
        let retired: HashSet<_> = sample.retired.iter().map(|(key, _)| *key).collect();
        self.done.retain(|key| retired.contains(key));
        self.closing.retain(|key, _| retired.contains(key));
        for (key, retired) in &sample.retired {
            if !self.done.contains(key) && !self.retire(*key, retired, sample, now) {
                continue;
            }
            self.done.insert(*key);
            self.closing.remove(key);
            chores.retired.push(*key);
        }
        chores.retired.extend(self.make_room());
        self.follow_totals(sample, |key| seen.contains(key) || retired.contains(key));
        self.look_for_absent(
            sample,
            |key| seen.contains(key) || retired.contains(key),
            &mut chores,
        );
        self.expire(now);
        chores.netns = self.expire_netns(now);
        chores
    }

    /// A listener that a pass of the iterator has skipped goes on counting. What is derived
    /// needs the row, and waits for the next one.
    fn follow_totals(&mut self, sample: &Sample, is_current: impl Fn(&ListenerKey) -> bool) {
        if self.sources.drops != Drops::Counted || self.sources.accepts != Accepts::Counted {
            return;
        }
        for (key, socket) in self.sockets.iter_mut().filter(|(key, _)| !is_current(key)) {
            if let Some(totals) = sample.totals.get(key) {
                socket.counts = derive::counted(totals).at_least(socket.counts);
            }
        }
    }

    /// Listeners that should be in a row and are not. They leave traces elsewhere: in
    /// the sockets known here, in the totals, or in a row of a socket that does not
    /// listen (its close was missed, or overtaken by an event on another CPU).
    fn look_for_absent(
        &mut self,
        sample: &Sample,
        is_accounted_for: impl Fn(&ListenerKey) -> bool,
        chores: &mut Chores,
    ) {
        let listed: HashSet<_> = sample.rows.iter().map(ListenerRow::key).collect();
        let known = self.sockets.keys().chain(sample.totals.keys()).chain(&listed);
        let absent = known
            .filter(|key| !is_accounted_for(key))
            .map(|key| (*key, self.absent.get(key).map_or(1, |samples| samples + 1)))
            .collect();
        self.absent = absent;
        for (key, _) in self.absent.iter().filter(|(_, samples)| **samples >= ABSENT) {
            if listed.contains(key) { &mut chores.stale } else { &mut chores.missing }.push(*key);
        }
    }

    /// Drops groups that have had no socket for their time.
    fn expire(&mut self, now: Instant) {
        let inhabited: HashSet<_> = self.listening().map(|socket| socket.group.clone()).collect();
        let Self { by_key, retention, past_suppressed, .. } = self;
        by_key.retain(|key, group| {
            let stays = inhabited.contains(key) || now.duration_since(group.alive) < *retention;
            if !stays {
                *past_suppressed += group.retained.records_suppressed;
            }
            stays
        });
    }

    /// Forgets namespaces that have had no socket for their time.
    fn expire_netns(&mut self, now: Instant) -> Vec<u64> {
        for socket in self.sockets.values() {
            self.netns_seen.insert(socket.netns_id, now);
        }
        let is_gone = |seen: &Instant| now.duration_since(*seen) >= self.retention;
        let gone: Vec<_> =
            self.netns_seen.iter().filter(|(_, seen)| is_gone(seen)).map(|(id, _)| *id).collect();
        for id in &gone {
            self.netns_seen.remove(id);
            self.past_drops.remove(id);
        }
        gone
    }

    /// Records suppressed since the start, for groups that are gone, too.
    pub fn records_suppressed(&self) -> u64 {
        let retained = self.by_key.values().map(|group| group.retained.records_suppressed);
        let live = self.sockets.values().map(|socket| socket.counts.records_suppressed);
        self.past_suppressed + retained.chain(live).sum::<u64>()
    }

    /// A socket is gone: its counters stay in its group.
    pub fn lose(&mut self, key: ListenerKey) {
        let Some(socket) = self.sockets.remove(&key) else { return };
        add(self.past_drops.entry(socket.netns_id).or_insert(DropCounters::ZERO), &socket);
        if let Some(group) = self.by_key.get_mut(&socket.group) {
            group.retained = group.retained.plus(socket.counts);
        }
    }

    fn listening(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.values().filter(|socket| socket.life == Life::Listening)
    }

    /// Listening sockets known now.
    pub fn sockets(&self) -> usize {
        self.listening().count()
    }

    fn update(&mut self, row: &ListenerRow, group: GroupKey, sample: &Sample, now: Instant) {
        let key = row.key();
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
        let sources = self.sources;
        let socket = self.socket(key, group, row.listener.netns_id, now);
        socket.counts =
            derive::counts(sources, &reading, &mut socket.memory).at_least(socket.counts);
        socket.accept_queue = Queue {
            length: row.now.accept_queue_length.into(),
            limit: row.now.accept_queue_limit.into(),
        };
        socket.syn_queue =
            Queue { length: row.now.syn_queue_length.into(), limit: syn_queue_limit(row) };
    }

    /// The socket's entry, made if it is new.
    fn socket(
        &mut self,
        key: ListenerKey,
        group: GroupKey,
        netns_id: u64,
        now: Instant,
    ) -> &mut Socket {
        self.by_key
            .entry(group.clone())
            .or_insert(Group { retained: Counts::default(), alive: now, netns: None })
            .alive = now;
        self.sockets.entry(key).or_insert(Socket {
            group,
            netns_id,
            life: Life::Listening,
            memory: Memory::default(),
            counts: Counts::default(),
            accept_queue: Queue::default(),
            syn_queue: Queue::default(),
        })
    }
}

fn add(sum: &mut DropCounters, socket: &Socket) {
    sum.overflows += socket.counts.overflows.total();
    sum.drops += socket.counts.listen_drops;
}

/// `None`: it has no port yet.
fn group_of_row(row: &ListenerRow) -> Option<GroupKey> {
    let mut listener = row.listener;
    if listener.port == 0 {
        listener.port = u16::try_from(row.now.port).unwrap_or(0);
    }
    (listener.port != 0).then(|| group_key(&listener))
}

fn group_key(listener: &Listener) -> GroupKey {
    GroupKey {
        netns: NetnsInode(listener.netns),
        place: Place::Address {
            address: address(listener.family, listener.address),
            port: listener.port,
        },
    }
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
