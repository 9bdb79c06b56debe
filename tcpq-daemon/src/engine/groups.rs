//! Sockets become groups, and groups outlive their sockets: a counter continues
//! when a process restarts or one member of a reuseport group closes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use tcpq_common::{
    TCP_LISTEN,
    iterator::ListenerRow,
    listener::{Listener, ListenerKey, Retired},
    totals::Totals,
};

use crate::{
    engine::derive::{self, Memory, Reading, Sources},
    model::{
        counts::Counts,
        group::{GroupView, Queue},
        ids::{GroupKey, NetnsInode, address},
        sample::{Sample, TotalsByListener},
    },
};

/// Samples that a socket may be missing from before the map is asked about it.
/// One pass of a map iterator may skip an entry when its neighbour is deleted.
const MISSING: u32 = 3;

/// What the kernel side may forget after a sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chores {
    /// Closed, and their last totals taken.
    pub retired: Vec<ListenerKey>,
    /// Entries whose socket is no listener any more.
    pub stale: Vec<ListenerKey>,
    /// Not seen for some samples: are they still in the map?
    pub missing: Vec<ListenerKey>,
}

/// All sockets and groups.
#[derive(Debug)]
pub struct Groups {
    sources: Sources,
    retention: Duration,
    sockets: HashMap<ListenerKey, Socket>,
    by_key: BTreeMap<GroupKey, Group>,
}

#[derive(Debug)]
struct Socket {
    group: GroupKey,
    memory: Memory,
    counts: Counts,
    accept_queue: Queue,
    syn_queue: Queue,
    missing: u32,
}

#[derive(Debug)]
struct Group {
    /// Of sockets that are gone.
    retained: Counts,
    /// When a socket was last seen in it.
    alive: Instant,
}

impl Groups {
    /// `retention`: how long a group stays after its last socket closed.
    pub fn new(sources: Sources, retention: Duration) -> Self {
        Self { sources, retention, sockets: HashMap::new(), by_key: BTreeMap::new() }
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
        for (key, retired) in &sample.retired {
            self.retire(*key, retired, &sample.totals, now);
            chores.retired.push(*key);
        }
        for (key, socket) in &mut self.sockets {
            socket.missing = if seen.contains(key) { 0 } else { socket.missing + 1 };
            if socket.missing >= MISSING {
                chores.missing.push(*key);
            }
        }
        chores.stale.extend(
            chores.missing.iter().filter(|key| sample.rows.iter().any(|row| row.key() == **key)),
        );
        let Self { by_key, sockets, retention, .. } = self;
        by_key.retain(|key, group| {
            now.duration_since(group.alive) < *retention
                || sockets.values().any(|socket| socket.group == *key)
        });
        chores
    }

    /// A socket is gone without a word: its counters stay in its group.
    pub fn lose(&mut self, key: ListenerKey) {
        if let Some(socket) = self.sockets.remove(&key)
            && let Some(group) = self.by_key.get_mut(&socket.group)
        {
            group.retained = group.retained.plus(socket.counts);
        }
    }

    /// Listening sockets known now.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Every group, ordered; `name` names a namespace.
    pub fn views(&self, mut name: impl FnMut(NetnsInode) -> String) -> Vec<GroupView> {
        let mut views: BTreeMap<GroupKey, GroupView> = self
            .by_key
            .iter()
            .map(|(key, group)| {
                let view = GroupView {
                    key: *key,
                    netns: name(key.netns),
                    sockets: 0,
                    accept_queue: Queue::default(),
                    syn_queue: Queue::default(),
                    counts: group.retained,
                };
                (*key, view)
            })
            .collect();
        for socket in self.sockets.values() {
            if let Some(view) = views.get_mut(&socket.group) {
                view.sockets += 1;
                view.accept_queue = view.accept_queue.plus(socket.accept_queue);
                view.syn_queue = view.syn_queue.plus(socket.syn_queue);
                view.counts = view.counts.plus(socket.counts);
            }
        }
        views.into_values().collect()
    }

    fn update(&mut self, row: &ListenerRow, group: GroupKey, sample: &Sample, now: Instant) {
        let key = row.key();
        let totals = totals(&sample.totals, key);
        let reading = Reading {
            totals_before: sample.totals_before.get(&key).copied().unwrap_or(totals),
            totals,
            sk_drops: row.now.sk_drops,
            drops_base: row.listener.drops_base,
            queued: row.now.accept_queue_length,
            queued_base: row.listener.queued_base,
            abandoned: 0,
            syncookies: row.now.syncookies,
        };
        let sources = self.sources;
        let socket = self.socket(key, group, now);
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
    fn socket(&mut self, key: ListenerKey, group: GroupKey, now: Instant) -> &mut Socket {
        self.by_key
            .entry(group)
            .or_insert(Group { retained: Counts::default(), alive: now })
            .alive = now;
        self.sockets.entry(key).or_insert(Socket {
            group,
            memory: Memory::default(),
            counts: Counts::default(),
            accept_queue: Queue::default(),
            syn_queue: Queue::default(),
            missing: 0,
        })
    }

    fn retire(
        &mut self,
        key: ListenerKey,
        retired: &Retired,
        all_totals: &TotalsByListener,
        now: Instant,
    ) {
        let totals = totals(all_totals, key);
        let reading = Reading {
            totals_before: totals,
            totals,
            sk_drops: retired.sk_drops,
            drops_base: retired.listener.drops_base,
            queued: retired.accept_queue_length,
            queued_base: retired.listener.queued_base,
            abandoned: retired.accept_queue_length,
            syncookies: retired.syncookies,
        };
        let known = self.sockets.contains_key(&key);
        let mut memory = self.sockets.get(&key).map(|socket| socket.memory).unwrap_or_default();
        let counts = derive::counts(self.sources, &reading, &mut memory);
        // A listen() that failed at once (address in use) leaves nothing to tell.
        if !known && (counts == Counts::default() || retired.listener.port == 0) {
            return;
        }
        let group =
            self.sockets.get(&key).map_or_else(|| group_key(&retired.listener), |s| s.group);
        let socket = self.socket(key, group, now);
        socket.counts = counts.at_least(socket.counts);
        self.lose(key);
    }
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
        address: address(listener.family, listener.address),
        port: listener.port,
    }
}

fn totals(all: &TotalsByListener, key: ListenerKey) -> Totals {
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
