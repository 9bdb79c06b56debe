//! A listener group as it is shown.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use tcpq_common::listener::ListenerKey;

use crate::model::{
    counts::Counts,
    ids::{GroupKey, Place},
    observations::Observations,
    owner::SharedOwner,
};

/// Members and owners that are told of a folded group, which may have thousands.
const MOST_MEMBERS: usize = 64;

/// Length and limit of one queue. Shape: connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Queue {
    /// Connections in it now.
    pub length: u64,
    /// The kernel's limit for it.
    pub limit: u64,
}

impl Queue {
    /// The sum of two sockets' queues.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { length: self.length + other.length, limit: self.limit + other.limit }
    }
}

/// One listener group now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Which group.
    pub key: GroupKey,
    /// Its namespace's name, `host`, or its inode number; `~other` for [`Place::Other`].
    pub netns: Arc<str>,
    /// Sockets in it; 0 while it is kept after its last socket closed.
    pub sockets: u64,
    /// Sum of the accept queues.
    pub accept_queue: Queue,
    /// Sum of the SYN queues.
    pub syn_queue: Queue,
    /// Counters, closed sockets included: of one socket alone the same allocation as its own.
    pub counts: Arc<Counts>,
    /// What was observed, closed sockets included; `None`: nothing yet.
    pub histograms: Option<Arc<Observations>>,
    /// The known owners of its sockets, distinct, ordered; of a folded group 64 at most.
    /// When all sockets have closed, those whom they last had, without their pids.
    pub owners: Vec<SharedOwner>,
    /// When the oldest socket's `listen()` was; `None` unless that of all was seen.
    pub started: Option<SystemTime>,
    /// Sum of the backlogs that were asked for, 2^31 - 1 for one below 0; `None` unless all
    /// are known.
    pub backlog_requested: Option<u64>,
    /// Its live sockets, in the order in which they were first seen; of a folded group the
    /// first 64.
    pub members: Vec<Member>,
}

/// One live socket of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which socket.
    pub key: ListenerKey,
    /// Its namespace's name, `host`, or its inode number: in a group of [`Place::Other`]
    /// each has its own.
    pub netns: Arc<str>,
    /// On which address; unspecified for a wildcard.
    pub address: IpAddr,
    /// On which port.
    pub port: u16,
    /// When its `listen()` was; `None` unless it was seen.
    pub started: Option<SystemTime>,
    /// Who answers for it.
    pub owner: SharedOwner,
    /// Who has it open.
    pub holders: Arc<[Holder]>,
    /// Its accept queue.
    pub accept_queue: Queue,
    /// Its SYN queue.
    pub syn_queue: Queue,
    /// The backlog that was asked for, if that was seen and still holds. Below 0 and
    /// above `net.core.somaxconn` it means the latter.
    pub backlog_requested: Option<i32>,
    /// `TCP_DEFER_ACCEPT`: how long a request waits for data; 0: it does not. Unit: seconds.
    pub defer_accept: u32,
    /// Its own counters.
    pub counts: Arc<Counts>,
}

/// A process that has a listening socket open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Holder {
    /// Its number in the daemon's pid namespace.
    pub pid: u32,
    /// Its name.
    pub process: String,
    /// The file descriptor.
    pub fd: u32,
}

/// The settings of one network namespace that bear on listeners.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NetnsSettings {
    /// The namespace's name, `host`, or its inode number.
    pub netns: String,
    /// Its inode number.
    pub inode: u32,
    /// `net.core.somaxconn`: above it no backlog is granted.
    pub somaxconn: u32,
    /// `net.ipv4.tcp_max_syn_backlog`.
    pub tcp_max_syn_backlog: u32,
    /// `net.ipv4.tcp_syncookies`: 0 off, 1 when a queue is full, 2 always.
    pub tcp_syncookies: u32,
    /// `net.ipv4.tcp_abort_on_overflow`: 0 drop, 1 reset.
    pub tcp_abort_on_overflow: u32,
    /// `net.ipv4.ip_local_port_range`: first and last.
    pub ephemeral_ports: [u16; 2],
}

/// Sockets that have no series of their own, counted when they were first seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// On ephemeral ports: one group per namespace and process.
    pub ephemeral: u64,
    /// Beyond the limit of groups.
    pub other: u64,
    /// Excluded by a filter: not shown at all.
    pub excluded: u64,
}

impl GroupView {
    /// Members that are told at most, and owners.
    pub fn most_members(&self) -> usize {
        match self.key.place {
            Place::Address { .. } => usize::MAX,
            Place::Ephemeral { .. } | Place::Other => MOST_MEMBERS,
        }
    }

    /// Adds a group that goes by the same name. Of one without sockets only the counters
    /// mean something, beside one that has some.
    pub fn absorb(&mut self, other: &Self) {
        Arc::make_mut(&mut self.counts).add(&other.counts);
        if let Some(more) = &other.histograms {
            match &mut self.histograms {
                Some(ours) => Arc::make_mut(ours).add(more),
                none => *none = Some(Arc::clone(more)),
            }
        }
        if other.sockets == 0 && self.sockets > 0 {
            return;
        }
        if self.sockets == 0 && other.sockets > 0 {
            let (counts, histograms) = (Arc::clone(&self.counts), self.histograms.take());
            *self = Self { counts, histograms, ..other.clone() };
            return;
        }
        let most = self.most_members();
        self.sockets += other.sockets;
        self.accept_queue = self.accept_queue.plus(other.accept_queue);
        self.syn_queue = self.syn_queue.plus(other.syn_queue);
        self.owners.extend(other.owners.iter().cloned());
        self.owners.sort();
        self.owners.dedup();
        self.owners.truncate(most);
        // `None` is less than any time.
        self.started = self.started.min(other.started);
        self.backlog_requested =
            self.backlog_requested.zip(other.backlog_requested).map(|(ours, more)| ours + more);
        self.members.extend(other.members.iter().cloned());
        self.members.sort_by_key(|member| member.started);
        self.members.truncate(most);
    }
}

/// Seconds since 1970.
pub fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
