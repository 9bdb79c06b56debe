//! A listener group as it is shown.

use crate::model::{counts::Counts, ids::GroupKey};

/// Length and limit of one queue. Shape: connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
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
    /// Its namespace's name, `host`, or its inode number.
    pub netns: String,
    /// Sockets in it; 0 while it is kept after its last socket closed.
    pub sockets: u64,
    /// Sum of the accept queues.
    pub accept_queue: Queue,
    /// Sum of the SYN queues.
    pub syn_queue: Queue,
    /// Counters, closed sockets included.
    pub counts: Counts,
}

impl GroupView {
    /// Adds a group that goes by the same name. The one that lives gives the key.
    pub fn absorb(&mut self, other: &Self) {
        if self.sockets == 0 {
            self.key = other.key;
        }
        self.sockets += other.sockets;
        self.accept_queue = self.accept_queue.plus(other.accept_queue);
        self.syn_queue = self.syn_queue.plus(other.syn_queue);
        self.counts = self.counts.plus(other.counts);
    }
}
