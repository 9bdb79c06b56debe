//! A look without a daemon: who listens now, and what this kernel offers.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::{
    app::{
        attribution::Attribution,
        self_test::prove,
        source::{KernelSource, comparison, sources},
    },
    attribution::{netns::NetnsNames, owners::Owners, pods::Pods},
    engine::{
        audit::Audits,
        collect::Collector,
        groups::{Groups, placement::Rules},
    },
    kernel::{
        attach::{Limits, Scope, attach},
        discover::{Discovery, discover},
        error::KernelError,
        facts::{KernelFacts, Roots},
        plan::{BackendChoice, Plan},
        readout::{Bracket, Readout},
    },
    model::{
        self_test::{SelfTest, Wish},
        snapshot::{EventTally, Snapshot},
    },
};

/// The listeners of this host now, counters excluded: nothing was counted before.
pub fn listeners(roots: &Roots, limits: Limits) -> anyhow::Result<(Snapshot, Discovery)> {
    let mut attached = attach(roots, BackendChoice::Auto, limits, Scope::Look)?.accept();
    let readout = Readout::new(&mut attached)?;
    let discovery = discover(&mut attached, roots);
    let (sources, _) = sources(&attached.plan);
    let mut collector = Collector {
        source: KernelSource { readout, bracket: Bracket::Single },
        attribution: Attribution::new(
            NetnsNames::new(&roots.procfs, &roots.netns, attached.facts.initial_netns),
            Owners::new(&roots.procfs, Pods::off()),
            &discovery,
        ),
        groups: Groups::new(sources, Rules::plain(), Duration::ZERO, limits.listeners as usize),
        audits: Audits::new(comparison(&attached.plan)),
        plan: Arc::from([]),
        self_test: Arc::new(SelfTest::not_run("nothing is counted")),
        events: Arc::new(Mutex::new(EventTally::default())),
    };
    Ok((collector.read(Instant::now())?, discovery))
}

/// What the kernel is and what the plan makes of it, proven by attaching all of
/// it for a moment and, if wanted, by a self-test.
pub fn plan(
    roots: &Roots,
    choice: BackendChoice,
    limits: Limits,
    self_test: Wish,
) -> Result<(KernelFacts, Plan, SelfTest), KernelError> {
    let proven = prove(attach(roots, choice, limits, Scope::Watch)?, roots, self_test)?;
    Ok((proven.attached.facts.clone(), proven.attached.plan.clone(), proven.outcome))
}
