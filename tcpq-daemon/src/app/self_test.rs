//! Runs the start-up self-test and leaves no trace of it: what the maps and the ring
//! hold of its listeners is forgotten before anything is discovered or served.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use tcpq_common::{listener::Origin, record::Kind, totals::Loss};
use tracing::{debug, warn};

use crate::{
    app::source::sources,
    engine::{
        attribute::Unknown,
        groups::{Groups, placement::Rules},
    },
    kernel::{
        attach::{Attached, Trial},
        error::KernelError,
        facts::Roots,
        plan::{Plan, PlannedHook},
        readout::{Bracket, Readout},
        records::{self, Ring},
        self_test::{
            Findings, Halt, Subject,
            judge::{self, Observed, Seen, Verdict, judge},
            namespace,
            scenario::{self, Forced, Staged, Unfit},
            until_it_passes,
        },
    },
    model::{
        ids::{NetnsInode, Place},
        sample::Sample,
        self_test::{SelfTest, Wish},
        snapshot::EventTally,
    },
};

/// How long another CPU may take to finish what the scenario has seen begun.
const SETTLED: Duration = Duration::from_millis(100);

/// Between two looks.
const PAUSE: Duration = Duration::from_micros(500);

/// Runs that may be disturbed.
const TRIES: u32 = 3;

/// The kernel side in place, tested as far as it was wanted and possible.
pub(super) struct Proven {
    pub(super) attached: Attached,
    pub(super) readout: Readout,
    pub(super) ring: Ring,
    /// Records of others that came meanwhile.
    pub(super) events: EventTally,
    pub(super) outcome: SelfTest,
}

/// Tests the plan in place, or a later one that passes.
pub(super) fn prove(mut trial: Trial, roots: &Roots, wish: Wish) -> Result<Proven, KernelError> {
    let mut readout = Readout::new(trial.attached())?;
    let mut ring = Ring::new(trial.attached())?;
    // The ends of calls are attached before their beginnings: an end that has been seen
    // without its beginning until now has lost nothing that was to be counted.
    readout.disregard_losses()?;
    let mut events = EventTally::default();
    let outcome = match wish {
        Wish::Skip => SelfTest::skipped(),
        Wish::Run => {
            // The namespace is the thread's, and ends with it.
            let test = || run(&mut trial, &mut readout, &mut ring, &mut events, &roots.procfs);
            thread::scope(|scope| scope.spawn(test).join())
                .unwrap_or_else(|_| Ok(SelfTest::not_run("its thread ended early")))?
        }
    };
    // What was refused is no part of the readout any more.
    readout.follow(trial.attached());
    say(&outcome);
    Ok(Proven { attached: trial.accept(), readout, ring, events, outcome })
}

fn run(
    trial: &mut Trial,
    readout: &mut Readout,
    ring: &mut Ring,
    events: &mut EventTally,
    procfs: &Path,
) -> Result<SelfTest, KernelError> {
    let start = Instant::now();
    let netns = match namespace::enter(procfs) {
        Ok(netns) => netns,
        Err(why) => return Ok(SelfTest::not_run(why)),
    };
    let mut findings = Findings::default();
    let mut subject = KernelSide { trial, readout, ring, events, procfs, netns };
    let result = until_it_passes(&mut subject, &mut findings);
    let seconds = start.elapsed().as_secs_f64();
    let Findings { replaced, wrong } = findings;
    match result {
        Ok(()) if wrong.is_empty() => Ok(SelfTest::Passed { seconds, replaced }),
        Ok(()) => Ok(SelfTest::Failed { seconds, replaced, wrong }),
        Err(Halt::NotRun(why)) => Ok(SelfTest::NotRun { why, replaced }),
        Err(Halt::Broken(error)) => Err(error),
    }
}

/// The programs and maps of this kernel, and the test's namespace.
struct KernelSide<'a> {
    trial: &'a mut Trial,
    readout: &'a mut Readout,
    ring: &'a mut Ring,
    events: &'a mut EventTally,
    procfs: &'a Path,
    netns: NetnsInode,
}

impl Subject for KernelSide<'_> {
    fn attempt(&mut self) -> Result<Vec<Verdict>, Halt> {
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = scenario::run(self.procfs);
            let judged = match &outcome {
                Ok(staged) => self.judge(staged),
                Err(_) => Ok(Vec::new()),
            };
            let ended = outcome.and_then(|staged| {
                let listeners = staged.forced().count();
                staged.finish().map(|()| listeners)
            });
            // Whatever came of it: its listeners are closed now.
            let closed = self.forget()?;
            let verdicts = judged?;
            match ended {
                Ok(listeners) => return Ok(self.conclude(verdicts, listeners, closed)?),
                Err(Unfit::Disturbed { .. }) if tries < TRIES => {}
                Err(unfit) => return Err(Halt::NotRun(unfit.to_string())),
            }
        }
    }

    fn refuse(&mut self, hook: &PlannedHook, why: String) -> Result<(), KernelError> {
        self.trial.refuse(hook.hook, hook.backend, why)
    }
}

impl KernelSide<'_> {
    /// Judges until there is nothing to say, or nothing more will come.
    fn judge(&mut self, staged: &Staged) -> Result<Vec<Verdict>, Halt> {
        let start = Instant::now();
        loop {
            let (_, bracket) = sources(self.trial.plan());
            let sample = self.sample(bracket)?;
            let full = [Loss::ListenersFull, Loss::HistogramsFull];
            if full.iter().any(|loss| sample.losses[*loss as usize] > 0) {
                // No hook is to blame for a listener that there is no room for.
                return Err(Halt::NotRun("more listeners than --listener.max".to_owned()));
            }
            let plan = self.trial.plan();
            let verdicts = judge(plan, &seen(plan, &sample, staged));
            if verdicts.is_empty() || start.elapsed() > SETTLED {
                return Ok(verdicts);
            }
            thread::sleep(PAUSE);
        }
    }

    fn conclude(
        &mut self,
        mut verdicts: Vec<Verdict>,
        listeners: usize,
        closed: usize,
    ) -> Result<Vec<Verdict>, KernelError> {
        if closed != listeners {
            verdicts.push(judge::closes(self.trial.plan(), listeners, closed));
        }
        if !verdicts.is_empty() {
            // What a hook that does not work loses is no loss of the plan that follows.
            self.readout.disregard_losses()?;
        }
        Ok(verdicts)
    }

    /// What the maps hold of the test.
    fn sample(&mut self, bracket: Bracket) -> Result<Sample, KernelError> {
        let mut sample = self.readout.sample(bracket)?;
        sample.rows.retain(|row| row.listener.netns == self.netns.0);
        sample.retired.retain(|(_, retired)| retired.listener.netns == self.netns.0);
        Ok(sample)
    }

    /// Removes what the maps and the ring hold of the test; how many listeners were
    /// seen to close.
    fn forget(&mut self) -> Result<usize, KernelError> {
        let start = Instant::now();
        let mut closed = 0;
        let mut netns_id = None;
        loop {
            let sample = self.sample(Bracket::Single)?;
            let retired = sample.retired.iter().map(|(_, retired)| retired.listener.netns_id);
            netns_id = retired.max().or(netns_id);
            for (key, _) in &sample.retired {
                self.readout.forget_retired(*key)?;
            }
            closed += sample.retired.len();
            if sample.rows.is_empty() {
                break;
            }
            if start.elapsed() > SETTLED {
                for row in &sample.rows {
                    self.readout.forget_stale(row.key())?;
                }
                break;
            }
            thread::sleep(PAUSE);
        }
        if let Some(id) = netns_id {
            self.readout.forget_netns(id)?;
        }
        self.drain(closed);
        Ok(closed)
    }

    /// Empties the ring up to the last record of the test; those of others count.
    fn drain(&mut self, closed: usize) {
        let Self { ring, events, netns, .. } = self;
        let start = Instant::now();
        let mut ends = 0;
        loop {
            ring.drain(|bytes| match records::decode(bytes) {
                Some((kind, record)) if record.netns == netns.0 => {
                    ends += usize::from(kind == Kind::ListenerClosed);
                }
                _ => drop(records::count(bytes, events)),
            });
            // Another CPU may be writing one, and the last ones are behind it.
            if ends >= closed || start.elapsed() > SETTLED {
                return;
            }
            thread::sleep(PAUSE);
        }
    }
}

/// What the engine makes of a sample, for each listener of the test.
fn seen(plan: &Plan, sample: &Sample, staged: &Staged) -> Vec<(Forced, Seen)> {
    let (sources, _) = sources(plan);
    let mut groups = Groups::new(sources, Rules::plain(), Duration::ZERO, sample.rows.len());
    let mut attribution = Unknown::default();
    groups.apply(sample, &mut attribution, Instant::now());
    let views = groups.views(&mut attribution);
    let of = |(forced, address): (Forced, std::net::SocketAddr)| {
        let place = Place::Address { address: address.ip(), port: address.port() };
        let view = views.iter().find(|view| view.key.place == place);
        let opened = sample.rows.iter().filter(|row| {
            row.listener.port == address.port() && row.listener.origin == Origin::Opened as u32
        });
        let seen = view.map_or_else(Seen::default, |view| Seen {
            opened: opened.count() as u64,
            accept_queue: view.accept_queue,
            syn_queue: view.syn_queue,
            counts: *view.counts,
            observed: view.histograms.as_deref().map(Observed::from).unwrap_or_default(),
        });
        (forced, seen)
    };
    staged.forced().map(of).collect()
}

fn say(outcome: &SelfTest) {
    match outcome {
        SelfTest::Passed { .. } => debug!("self-test {outcome}"),
        SelfTest::Failed { .. } => warn!("self-test {outcome}"),
        SelfTest::NotRun { .. } if *outcome == SelfTest::skipped() => debug!("self-test {outcome}"),
        SelfTest::NotRun { .. } => warn!("self-test {outcome}"),
    }
    for finding in outcome.replaced() {
        warn!("self-test: {finding}; the plan was made again without that");
    }
    for finding in outcome.wrong() {
        warn!("self-test: {finding}; there is no other hook for it");
    }
}
