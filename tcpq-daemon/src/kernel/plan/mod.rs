//! The decision: which hook on which backend, and what each signal is then worth.
//! A pure function of [`KernelFacts`]; tested as a table.

use crate::{
    kernel::{
        facts::{CpuOffsets, KernelFacts},
        programs::{Hook, Program},
    },
    model::hooks::{Backend, Exactness, Signal, SignalPlan},
};

mod drops;
mod errors;
mod pick;
mod queue;
mod signals;
mod waits;

pub use signals::describe;

/// Which backends may be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// The best per hook.
    #[default]
    Auto,
    /// Only this one; what it cannot tell is absent. (The life cycle is always seen by
    /// tracepoint, and listeners are found by iterators and read by programs that the daemon runs.)
    Only(Backend),
}

/// One hook to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedHook {
    /// Which.
    pub hook: Hook,
    /// How.
    pub backend: Backend,
    /// Its programs.
    pub programs: &'static [Program],
}

/// Where the overflows and drops come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropSource {
    /// Counted inside the calls that drop.
    Calls,
    /// SYNs derived from `sk_drops`, ACKs from `kfree_skb`.
    SocketDrops,
    /// SYNs counted inside the call, ACKs from `kfree_skb`.
    CallsAndTracepoint,
    /// Nothing can tell.
    Nowhere,
}

/// Where the connections abandoned at a close come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbandonedSource {
    /// Counted one by one.
    Resets,
    /// The queue's length when the listener closed.
    QueueAtClose,
}

/// Where the accepts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptSource {
    /// Counted one by one, as accept() returns them.
    Returns,
    /// Connections enqueued, less those queued now, less those abandoned.
    QueueBalance,
    /// Nothing can tell.
    Nowhere,
}

/// What to attach, and what it yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order to attach.
    pub hooks: Vec<PlannedHook>,
    /// See [`DropSource`].
    pub drops: DropSource,
    /// See [`AcceptSource`].
    pub accepts: AcceptSource,
    /// See [`AbandonedSource`].
    pub abandoned: AbandonedSource,
    /// Every signal, in display order.
    pub signals: Vec<SignalPlan>,
    /// Which hooks each signal rests on: whom to blame for a wrong one.
    pub rests_on: Vec<(Signal, PlannedHook)>,
}

impl Plan {
    /// Whether a signal is there at all.
    pub fn tells(&self, signal: Signal) -> bool {
        self.signals.iter().any(|plan| plan.signal == signal && plan.exactness != Exactness::Absent)
    }
}

/// Decides.
pub fn plan(facts: &KernelFacts, choice: BackendChoice) -> Plan {
    Planner { facts, choice, hooks: Vec::new(), signals: Vec::new(), rests_on: Vec::new() }.run()
}

/// A hook that was chosen, or why none was.
type Choice = Result<PlannedHook, String>;

/// What a function can be hooked by, best first.
const CALLS: &[Backend] = &[Backend::Fentry, Backend::Kprobe];

struct Planner<'a> {
    facts: &'a KernelFacts,
    choice: BackendChoice,
    hooks: Vec<PlannedHook>,
    signals: Vec<SignalPlan>,
    rests_on: Vec<(Signal, PlannedHook)>,
}

impl Planner<'_> {
    fn run(mut self) -> Plan {
        let lifecycle = self.lifecycle();
        self.discovery(&lifecycle);
        self.requests_seen(&lifecycle);
        self.readout();
        let cpus = self.cpus();
        let drops = self.drops(cpus.as_ref());
        let abandoned = self.abandoned(&lifecycle);
        let accepts = self.accept_queue(drops);
        self.waits(drops);
        self.accept_errors();
        self.audit(&cpus, drops);
        let again = self.pick(Hook::SynackAgain, &[Backend::Tracepoint]);
        let again = self.take(again);
        self.signal(Signal::SynackRetransmits, &[&again], Exactness::Exact);
        self.signals.sort_by_key(|plan| plan.signal);
        let Self { hooks, signals, rests_on, .. } = self;
        Plan { hooks, drops, accepts, abandoned, signals, rests_on }
    }

    /// By the functions that begin and end a listener: the tracepoint is raised several times
    /// for each connection, at both of its ends.
    fn lifecycle(&mut self) -> Vec<Choice> {
        let functions = self.pick_all(&[Hook::ListenStart, Hook::ListenStop], &[Backend::Fentry]);
        let hooks = functions.or_else(|_| self.pick_all(&[Hook::SetState], &[Backend::Tracepoint]));
        let hooks = self.take_all(hooks);
        self.signal(Signal::ListenerLifecycle, &all(&hooks), Exactness::Exact);
        hooks
    }

    fn discovery(&mut self, lifecycle: &[Choice]) {
        let tcp = self.pick(Hook::IterTcp, &[Backend::Iterator]);
        let tcp = self.take(tcp);
        let files = self.pick(Hook::IterTaskFile, &[Backend::Iterator]);
        let files = self.take(files);
        match (&tcp, &files) {
            (Err(_), Ok(_)) => {
                self.signal(Signal::ListenersAtStart, &[&files], Exactness::Derived);
                self.explain(Signal::ListenersAtStart, "only listeners of visible processes");
            }
            (Ok(_), Err(_)) => {
                self.signal(Signal::ListenersAtStart, &[&tcp], Exactness::Derived);
                self.explain(Signal::ListenersAtStart, "only namespaces of visible processes");
            }
            _ => self.signal(Signal::ListenersAtStart, &[&tcp, &files], Exactness::Exact),
        }
        if files.is_ok() {
            let hooks: Vec<_> = lifecycle.iter().chain([&files]).collect();
            self.signal(Signal::Owners, &hooks, Exactness::Exact);
        } else {
            self.signal(Signal::Owners, &all(lifecycle), Exactness::Derived);
            self.explain(Signal::Owners, "only who called listen(), while tcpq ran");
        }
    }

    /// What listen() was asked for is in the registers of the call.
    fn requests_seen(&mut self, lifecycle: &[Choice]) {
        if self.facts.globals.registers_call == 0 {
            self.absent(Signal::BacklogRequested, "no type of the saved registers");
        } else {
            self.signal(Signal::BacklogRequested, &all(lifecycle), Exactness::Exact);
        }
    }

    fn readout(&mut self) {
        let rows = self.pick(Hook::ReadListeners, &[Backend::TestRun]);
        let rows = self.take(rows);
        self.signal(Signal::QueueLengths, &[&rows], Exactness::Exact);
    }

    /// Where the kernel's counters of each CPU are, before anything counts by them.
    fn cpus(&mut self) -> Result<(), String> {
        match &self.facts.cpu_offsets {
            CpuOffsets::Symbol(_) => Ok(()),
            CpuOffsets::Program => {
                let cpus = self.pick(Hook::LocateCpus, &[Backend::TestRun]);
                self.take(cpus).map(drop)
            }
            CpuOffsets::Unknown(why) => Err(why.clone()),
        }
        .map_err(|why| format!("the kernel's per-CPU counters cannot be read: {why}"))
    }

    /// The kernel's counters beside ours.
    fn audit(&mut self, cpus: &Result<(), String>, drops: DropSource) {
        let audit = match (cpus, drops) {
            (Err(why), _) => Err(why.clone()),
            (Ok(()), DropSource::Nowhere) => Err("there is nothing to compare".to_owned()),
            (Ok(()), _) => self.pick(Hook::ReadAudit, &[Backend::TestRun]),
        };
        let audit = self.take(audit);
        if drops == DropSource::Calls {
            self.signal(Signal::Audit, &[&audit], Exactness::Exact);
        } else {
            self.signal(Signal::Audit, &[&audit], Exactness::Derived);
            self.explain(Signal::Audit, "taken when no drop happens during the reading");
        }
    }
}

fn all(choices: &[Choice]) -> Vec<&Choice> {
    choices.iter().collect()
}

#[cfg(test)]
pub(super) mod tests;
