//! The sockets, and the rows of a walk sorted by socket.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tcpq_common::{iterator::HolderRow, listener::ListenerKey};

use crate::{
    attribution::{process::ProcessId, text},
    model::{group::Holder, owner::SharedOwner},
};

/// Most sockets known at once; those beyond have no owner.
const MAX_SOCKETS: usize = 131_072;

/// Most holders known of one socket: its owner and the first by number.
const MAX_HOLDERS: usize = 64;

/// Most rows kept of a walk for sockets that nobody has told of.
const MAX_UNCLAIMED: usize = 65_536;

/// What a walk found, by the socket's address.
pub(super) type Held = HashMap<u64, Vec<Holder>>;

/// A socket and who has it.
#[derive(Debug)]
pub(super) struct Socket {
    /// Who called `listen()`, if that is known.
    pub(super) opener: Option<ProcessId>,
    /// Who owns it, as long as that runs.
    pub(super) process: Option<ProcessId>,
    /// The same as it is shown; what was last known if nobody owns it.
    pub(super) owner: SharedOwner,
    /// Who holds it.
    pub(super) holders: Arc<[Holder]>,
}

/// All sockets.
#[derive(Debug, Default)]
pub(super) struct Table {
    sockets: HashMap<ListenerKey, Socket>,
    /// Which life of an address is the last.
    current: HashMap<u64, ListenerKey>,
}

impl Table {
    pub(super) fn get(&self, key: ListenerKey) -> Option<&Socket> {
        self.sockets.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: ListenerKey) -> Option<&mut Socket> {
        self.sockets.get_mut(&key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.values()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Socket> {
        self.sockets.values_mut()
    }

    pub(super) fn insert(&mut self, key: ListenerKey, socket: Socket) {
        if self.sockets.len() >= MAX_SOCKETS {
            return;
        }
        self.sockets.insert(key, socket);
        let current = self.current.entry(key.sk).or_insert(key);
        *current = (*current).max(key);
    }

    pub(super) fn remove(&mut self, key: ListenerKey) {
        self.sockets.remove(&key);
        if self.current.get(&key.sk) == Some(&key) {
            self.current.remove(&key.sk);
        }
    }

    /// The last life of each address.
    pub(super) fn current(&self) -> Vec<ListenerKey> {
        self.current.values().copied().collect()
    }

    /// The sockets that these own.
    pub(super) fn owned_by(&self, owners: &HashSet<ProcessId>) -> Vec<(ListenerKey, ProcessId)> {
        let owned = self.sockets.iter().filter_map(|(key, socket)| Some((*key, socket.process?)));
        owned.filter(|(_, process)| owners.contains(process)).collect()
    }
}

/// The rows of a walk, by socket. One per process and descriptor.
pub(super) fn by_socket(rows: &[HolderRow]) -> Held {
    let mut held = Held::new();
    for row in rows {
        let process = text::name(&row.name).unwrap_or_default();
        held.entry(row.sk).or_default().push(Holder { pid: row.pid, process, fd: row.fd });
    }
    for holders in held.values_mut() {
        holders.sort_unstable_by_key(|holder| (holder.pid, holder.fd));
        holders.dedup_by_key(|holder| (holder.pid, holder.fd));
    }
    held
}

/// The names of all holders.
pub(super) fn names(held: &Held) -> HashMap<u32, &str> {
    held.values().flatten().map(|holder| (holder.pid, holder.process.as_str())).collect()
}

/// Leaves no more than is kept.
pub(super) fn bound(held: &mut Held) {
    let mut left = MAX_UNCLAIMED;
    held.retain(|_, holders| {
        let fits = holders.len() <= left;
        left = left.saturating_sub(holders.len());
        fits
    });
}

/// Sorts holders as they are shown.
pub(super) fn sort(holders: &mut [Holder], owner: Option<ProcessId>) {
    let owner = owner.map(|owner| owner.pid);
    holders.sort_by_key(|holder| (Some(holder.pid) != owner, holder.pid, holder.fd));
}

/// Those that are shown.
pub(super) fn shown(holders: &[Holder]) -> &[Holder] {
    holders.get(..MAX_HOLDERS).unwrap_or(holders)
}
