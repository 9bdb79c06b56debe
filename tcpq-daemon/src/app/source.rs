//! Joins what siblings must not know of each other: the kernel's readout as the
//! engine's source.

use tcpq_common::listener::ListenerKey;

use crate::{
    engine::{
        audit::Comparison,
        collect::Source,
        derive::{Abandoned, Accepts, Drops, Requests, Sources},
    },
    kernel::{
        plan::{AbandonedSource, AcceptSource, DropSource, Plan},
        readout::{Bracket, Readout},
    },
    model::{hooks::Signal, sample::Sample},
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
