//! Sockets become groups, and groups outlive their sockets: a counter continues
//! when a process restarts or one member of a reuseport group closes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use tcpq_common::{
    TCP_LISTEN,
    iterator::ListenerRow,
    listener::{End, Listener, ListenerKey, Retired},
    totals::Totals,
};

use crate::{
    engine::derive::{self, Accepts, Memory, Reading, Sources},
    model::{
        counts::Counts,
        group::{GroupView, Queue},
        ids::{GroupKey, NetnsInode, address},
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
}

/// All sockets and groups.
#[derive(Debug)]
pub struct Groups {
    sources: Sources,
    retention: Duration,
    sockets: HashMap<ListenerKey, Socket>,
    by_key: BTreeMap<GroupKey, Group>,
    /// Retired listeners whose figures are in their group already; their entries may
    /// take more than one try to remove.
    taken: HashSet<ListenerKey>,
    /// Listeners that were in no row, and in how many samples by now.
    absent: HashMap<ListenerKey, u32>,
    /// Records suppressed for groups that are gone.
    past_suppressed: u64,
}

#[derive(Debug)]
struct Socket {
    group: GroupKey,
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
    /// `retention`: how long a group stays after its last socket closed.
    pub fn new(sources: Sources, retention: Duration) -> Self {
        Self {
            sources,
            retention,
            sockets: HashMap::new(),
            by_key: BTreeMap::new(),
            taken: HashSet::new(),
            absent: HashMap::new(),
            past_suppressed: 0,
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
        self.taken.retain(|key| retired.contains(key));
        for (key, retired) in &sample.retired {
            if self.taken.insert(*key) {
                self.retire(*key, retired, &sample.totals, now);
            }
            chores.retired.push(*key);
        }
        self.look_for_absent(
            sample,
            |key| seen.contains(key) || retired.contains(key),
            &mut chores,
        );
        self.expire(now);
        chores
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
        let inhabited: HashSet<_> = self.sockets.values().map(|socket| socket.group).collect();
        let Self { by_key, retention, past_suppressed, .. } = self;
        by_key.retain(|key, group| {
            let stays = inhabited.contains(key) || now.duration_since(group.alive) < *retention;
            if !stays {
                *past_suppressed += group.retained.records_suppressed;
            }
            stays
        });
    }

    /// Records suppressed since the start, for groups that are gone, too.
    pub fn records_suppressed(&self) -> u64 {
        let retained = self.by_key.values().map(|group| group.retained.records_suppressed);
        let live = self.sockets.values().map(|socket| socket.counts.records_suppressed);
        self.past_suppressed + retained.chain(live).sum::<u64>()
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
    pub fn views(&mut self, mut name: impl FnMut(NetnsInode) -> String) -> Vec<GroupView> {
        let mut views: BTreeMap<GroupKey, GroupView> = BTreeMap::new();
        for (key, group) in &self.by_key {
            let view = GroupView {
                key: *key,
                netns: group.netns.clone().unwrap_or_default(),
                sockets: 0,
                accept_queue: Queue::default(),
                syn_queue: Queue::default(),
                counts: group.retained,
            };
            views.insert(*key, view);
        }
        for socket in self.sockets.values() {
            if let Some(view) = views.get_mut(&socket.group) {
                view.sockets += 1;
                view.accept_queue = view.accept_queue.plus(socket.accept_queue);
                view.syn_queue = view.syn_queue.plus(socket.syn_queue);
                view.counts = view.counts.plus(socket.counts);
            }
        }
        for (view, group) in views.values_mut().zip(self.by_key.values_mut()) {
            if view.sockets > 0 || group.netns.is_none() {
                view.netns = name(view.key.netns);
                group.netns = Some(view.netns.clone());
            }
        }
        views.into_values().collect()
    }

    fn update(&mut self, row: &ListenerRow, group: GroupKey, sample: &Sample, now: Instant) {
        let key = row.key();
        let totals = totals_of(&sample.totals, key);
        let reading = Reading {
            totals_before: match self.sources.accepts {
                Accepts::FromQueueBalance => totals_of(&sample.totals_before, key),
                Accepts::Counted => totals,
            },
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
            .or_insert(Group { retained: Counts::default(), alive: now, netns: None })
            .alive = now;
        self.sockets.entry(key).or_insert(Socket {
            group,
            memory: Memory::default(),
            counts: Counts::default(),
            accept_queue: Queue::default(),
            syn_queue: Queue::default(),
        })
    }

    fn retire(
        &mut self,
        key: ListenerKey,
        retired: &Retired,
        all_totals: &TotalsByListener,
        now: Instant,
    ) {
        if retired.end == End::Missed as u32 {
            // The socket lives again, and its fields are the new life's.
            self.lose(key);
            return;
        }
        let totals = totals_of(all_totals, key);
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
