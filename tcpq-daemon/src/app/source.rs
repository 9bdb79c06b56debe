//! Joins what siblings must not know of each other: the kernel's readout as the
//! engine's source, the attribution's names as the engine's.

use std::{collections::HashMap, sync::Arc, time::Instant};

use tcpq_common::listener::{Listener, ListenerKey};

use crate::{
    attribution::netns::NetnsNames,
    engine::{
        attribute::Attribute,
        audit::Comparison,
        collect::Source,
        derive::{Abandoned, Accepts, Drops, Requests, Sources},
    },
    kernel::{
        plan::{AbandonedSource, AcceptSource, DropSource, Plan},
        readout::{Bracket, Readout},
    },
    model::{
        group::Holder,
        hooks::Signal,
        ids::NetnsInode,
        owner::{Owner, SharedOwner},
        sample::Sample,
    },
};

/// The kernel side as a source of samples.
pub(super) struct KernelSource {
    pub(super) readout: Readout,
    pub(super) bracket: Bracket,
}

impl Source for KernelSource {
    fn sample(&mut self) -> anyhow::Result<Sample> {
        Ok(self.readout.sample(self.bracket)?)
    }

    fn forget_retired(&mut self, key: ListenerKey) -> anyhow::Result<()> {
        Ok(self.readout.forget_retired(key)?)
    }

    fn forget_stale(&mut self, key: ListenerKey) -> anyhow::Result<()> {
        Ok(self.readout.forget_stale(key)?)
    }

    fn forget_netns(&mut self, id: u64) -> anyhow::Result<()> {
        Ok(self.readout.forget_netns(id)?)
    }

    fn is_listed(&self, key: ListenerKey) -> anyhow::Result<bool> {
        Ok(self.readout.is_listed(key)?)
    }
}

/// Names from `ip netns`, owners from what the kernel side saw.
pub(super) struct Names {
    netns: NetnsNames,
    owners: HashMap<ListenerKey, SharedOwner>,
    nobody: SharedOwner,
}

impl Names {
    pub(super) fn new(netns: NetnsNames) -> Self {
        Self { netns, owners: HashMap::new(), nobody: SharedOwner::default() }
    }
}

impl Attribute for Names {
    fn netns(&mut self, netns: NetnsInode) -> String {
        self.netns.name(netns, Instant::now())
    }

    fn sighted(&mut self, key: ListenerKey, listener: &Listener) -> SharedOwner {
        if listener.opener_name[0] != 0 {
            let owner = Owner {
                process: Some(printable(&listener.opener_name)),
                pid: (listener.opener_pid != 0).then_some(listener.opener_pid),
                ..Owner::default()
            };
            self.owners.insert(key, Arc::new(owner));
        }
        self.owner(key)
    }

    fn owner(&mut self, key: ListenerKey) -> SharedOwner {
        Arc::clone(self.owners.get(&key).unwrap_or(&self.nobody))
    }

    fn holders(&mut self, _: ListenerKey) -> Arc<[Holder]> {
        Arc::default()
    }

    fn forgotten(&mut self, key: ListenerKey) {
        self.owners.remove(&key);
    }
}

/// A process may be called anything.
fn printable(name: &[u8]) -> String {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let name = String::from_utf8_lossy(&name[..end]);
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What the kernel's counters are held against.
pub(super) fn comparison(plan: &Plan) -> Comparison {
    match plan.drops {
        DropSource::Calls => Comparison::PerCpu,
        DropSource::SocketDrops | DropSource::CallsAndTracepoint | DropSource::Nowhere => {
            Comparison::Sums
        }
    }
}

/// How the engine has to read what this plan yields.
pub(super) fn sources(plan: &Plan) -> (Sources, Bracket) {
    let drops = match plan.drops {
        DropSource::SocketDrops => Drops::FromSocketDrops,
        // Where nothing tells, the families are absent and the zeros unseen.
        DropSource::Calls | DropSource::CallsAndTracepoint | DropSource::Nowhere => Drops::Counted,
    };
    let accepts = match plan.accepts {
        AcceptSource::QueueBalance => Accepts::FromQueueBalance,
        AcceptSource::Returns | AcceptSource::Nowhere => Accepts::Counted,
    };
    let bracket = match accepts {
        Accepts::FromQueueBalance => Bracket::Both,
        Accepts::Counted => Bracket::Single,
    };
    let abandoned = match plan.abandoned {
        AbandonedSource::Resets => Abandoned::Counted,
        AbandonedSource::QueueAtClose => Abandoned::QueuedAtClose,
    };
    let requests =
        if plan.tells(Signal::RequestsLost) { Requests::Counted } else { Requests::Unseen };
    (Sources { drops, accepts, abandoned, requests }, bracket)
}
