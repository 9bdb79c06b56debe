//! What is remembered of network namespaces: their settings, and what was dropped there at
//! sockets that are gone.

use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use tcpq_common::iterator::{DropCounters, ListenerNow, ListenerRow};

use crate::{
    engine::groups::{Socket, placement::DEFAULT_EPHEMERAL_PORTS},
    model::{group::NetnsSettings, ids::NetnsInode},
};

/// All namespaces, by `tcpq_common::listener::Tenant::netns_id`.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    by_id: HashMap<u64, Netns>,
}

#[derive(Debug)]
struct Netns {
    /// When it last had a socket.
    seen: Instant,
    /// Overflows and drops of sockets that are gone.
    past_drops: DropCounters,
    /// Its number and, in a row of one of its listeners, its settings.
    last: Option<(NetnsInode, ListenerNow)>,
}

impl Namespaces {
    /// It has a socket.
    pub(super) fn saw(&mut self, id: u64, now: Instant) {
        self.entry(id, now).seen = now;
    }

    /// Takes the settings from a row.
    pub(super) fn read(&mut self, row: &ListenerRow, now: Instant) {
        let last = (NetnsInode(row.listener.netns), row.now);
        self.entry(row.listener.netns_id, now).last = Some(last);
    }

    /// A socket is gone: what was dropped at it stays. Its namespace is known as long as
    /// it has sockets.
    pub(super) fn leave(&mut self, socket: &Socket) {
        if let Some(netns) = self.by_id.get_mut(&socket.netns_id) {
            add(&mut netns.past_drops, socket);
        }
    }

    fn entry(&mut self, id: u64, now: Instant) -> &mut Netns {
        self.by_id.entry(id).or_insert(Netns {
            seen: now,
            past_drops: DropCounters::ZERO,
            last: None,
        })
    }

    /// Its ephemeral ports, as last read. A namespace of which nothing was ever read, or
    /// on a kernel that does not tell, has those of a new one.
    pub(super) fn ephemeral_ports(&self, id: u64) -> [u16; 2] {
        let last = self.by_id.get(&id).and_then(|netns| netns.last);
        last.map(|(_, now)| now.ephemeral_ports)
            .filter(|ports| *ports != [0, 0])
            .unwrap_or(DEFAULT_EPHEMERAL_PORTS)
    }

    /// Overflows and drops of all sockets, gone ones included.
    pub(super) fn drops<'a>(
        &self,
        sockets: impl Iterator<Item = &'a Socket>,
    ) -> HashMap<u64, DropCounters> {
        let mut sums: HashMap<_, _> =
            self.by_id.iter().map(|(id, netns)| (*id, netns.past_drops)).collect();
        for socket in sockets {
            add(sums.entry(socket.netns_id).or_insert(DropCounters::ZERO), socket);
        }
        sums
    }

    /// Forgets those that have had no socket for their time. Those that have one were
    /// seen `now`.
    pub(super) fn expire(&mut self, now: Instant, retention: Duration) -> Vec<u64> {
        let is_gone =
            |netns: &Netns| netns.seen != now && now.duration_since(netns.seen) >= retention;
        self.by_id.extract_if(|_, netns| is_gone(netns)).map(|(id, _)| id).collect()
    }

    /// The settings of some, ordered by name and number.
    pub(super) fn settings(
        &self,
        ids: &HashSet<u64>,
        mut name: impl FnMut(NetnsInode) -> String,
    ) -> Vec<NetnsSettings> {
        let of = |(inode, now): (NetnsInode, ListenerNow)| NetnsSettings {
            netns: name(inode),
            inode: inode.0,
            somaxconn: now.somaxconn,
            tcp_max_syn_backlog: now.max_syn_backlog,
            tcp_syncookies: now.syncookies,
            tcp_abort_on_overflow: now.abort_on_overflow,
            ephemeral_ports: now.ephemeral_ports,
        };
        let netns = ids.iter().filter_map(|id| self.by_id.get(id)?.last);
        let mut settings: Vec<_> = netns.map(of).collect();
        settings.sort_by(|a, b| (&a.netns, a.inode).cmp(&(&b.netns, b.inode)));
        settings
    }
}

fn add(sum: &mut DropCounters, socket: &Socket) {
    sum.overflows += socket.counts.overflows.total();
    sum.drops += socket.counts.listen_drops;
}
