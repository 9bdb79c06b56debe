//! The whole loop on a made-up kernel: hooks that attach and then do not fire.

use tcpq_common::totals::{AcceptError, RequestLost};

use super::{
    judge::{Observed, Seen, judge},
    scenario::{Family, Forced},
    *,
};
use crate::{
    kernel::{
        facts::KernelFacts,
        plan::{self, BackendChoice, Plan, plan},
        programs::Hook,
    },
    model::{
        counts::{Counts, Enqueued, Overflows},
        group::Queue,
        hooks::{Backend, Exactness, Signal},
    },
};

/// What a plan sees whose hooks all work.
pub(super) fn all_of(forced: &Forced) -> Seen {
    Seen {
        opened: 1,
        accept_queue: Queue { length: forced.queued, limit: 0 },
        syn_queue: Queue::default(),
        counts: Counts {
            syns_received: forced.syns,
            overflows: Overflows {
                syn: forced.overflows_syn,
                ack: forced.overflows_ack,
                cookie: 0,
            },
            listen_drops: forced.overflows_syn + forced.overflows_ack,
            enqueued: Enqueued { handshake: forced.enqueued, ..Enqueued::default() },
            accepts: forced.accepts,
            accept_errors: AcceptError::ALL
                .map(|error| if error == AcceptError::Einval { forced.accept_errors } else { 0 }),
            requests_lost: RequestLost::ALL
                .map(|reason| if reason == RequestLost::Reset { forced.resets } else { 0 }),
            ..Counts::default()
        },
        observed: Observed {
            accept_waits: forced.accepts,
            abandoned_waits: 0,
            handshakes: forced.enqueued,
            accept_fills: forced.enqueued,
            syn_fills: forced.syns - forced.overflows_syn,
        },
    }
}

/// As if a signal's hook had not fired.
pub(super) fn without(mut seen: Seen, signal: Signal) -> Seen {
    let counts = &mut seen.counts;
    match signal {
        Signal::ListenerLifecycle => seen.opened = 0,
        Signal::QueueLengths => seen.accept_queue.length = 0,
        Signal::SynsReceived => counts.syns_received = 0,
        Signal::OverflowSyn => counts.overflows.syn = 0,
        Signal::OverflowAck => counts.overflows.ack = 0,
        Signal::ListenDrops => counts.listen_drops = 0,
        Signal::RequestsLost => counts.requests_lost = [0; RequestLost::ALL.len()],
        Signal::Enqueued => counts.enqueued = Enqueued::default(),
        Signal::Accepts => counts.accepts = 0,
        Signal::AcceptWait => seen.observed.accept_waits = 0,
        Signal::HandshakeTime => seen.observed.handshakes = 0,
        Signal::AcceptQueueFill => seen.observed.accept_fills = 0,
        Signal::SynQueueFill => seen.observed.syn_fills = 0,
        Signal::AcceptErrors => counts.accept_errors = [0; AcceptError::ALL.len()],
        _ => {}
    }
    seen
}

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

struct Kernel {
    facts: KernelFacts,
    /// They attach, and do not fire.
    dead: Vec<(Hook, Backend)>,
    attempts: u32,
}

impl Kernel {
    fn with_dead(dead: &[(Hook, Backend)]) -> Self {
        Self { facts: plan::tests::complete(), dead: dead.to_vec(), attempts: 0 }
    }

    fn plan(&self) -> Plan {
        plan(&self.facts, BackendChoice::Auto)
    }

    fn of(&self, wanted: Signal) -> (&'static str, Exactness, String) {
        let plan = self.plan();
        let found = plan.signals.iter().find(|plan| plan.signal == wanted).unwrap();
        (found.backend_name(), found.exactness, found.reason.clone().unwrap_or_default())
    }

    fn test(&mut self) -> Findings {
        let mut findings = Findings::default();
        until_it_passes(self, &mut findings).unwrap();
        findings
    }
}

impl Subject for Kernel {
    fn attempt(&mut self) -> Result<Vec<Verdict>, Halt> {
        self.attempts += 1;
        assert!(self.attempts < 20, "it does not end");
        let plan = self.plan();
        let seen = FAMILIES.map(|family| {
            let forced = Forced::by_script(family);
            let other = if family == Family::V4 { Hook::ChildV6 } else { Hook::ChildV4 };
            let dead = plan.rests_on.iter().filter(|(_, hook)| {
                hook.hook != other && self.dead.contains(&(hook.hook, hook.backend))
            });
            (forced, dead.fold(all_of(&forced), |seen, (signal, _)| without(seen, *signal)))
        });
        Ok(judge(&plan, &seen))
    }

    fn refuse(&mut self, hook: &PlannedHook, why: String) -> Result<(), KernelError> {
        self.facts.refused.insert((hook.hook, hook.backend), why);
        Ok(())
    }
}

#[test]
fn a_kernel_whose_hooks_work_passes_at_once() {
    let mut kernel = Kernel::with_dead(&[]);
    assert_eq!(kernel.test(), Findings::default());
    assert_eq!(kernel.attempts, 1);
    assert!(kernel.facts.refused.is_empty());
}

#[test]
fn a_dead_hook_is_replaced_by_the_next_and_says_why() {
    let mut kernel = Kernel::with_dead(&[(Hook::ChildV4, Backend::Fentry)]);
    let findings = kernel.test();
    assert!(findings.wrong.is_empty());
    assert_eq!(kernel.attempts, 2);
    let (backend, exactness, reason) = kernel.of(Signal::OverflowAck);
    // By its caller.
    assert_eq!((backend, exactness), ("fentry", Exactness::Exact));
    let says = "self-test: expected 1 overflows at the ACK over IPv4, saw 0";
    assert!(reason.contains(says), "{reason}");
    // What works stays as it is.
    assert_eq!(kernel.of(Signal::OverflowSyn).0, "fentry");
    assert_eq!(kernel.facts.refused.len(), 1);
}

#[test]
fn a_kernel_without_working_calls_ends_with_the_tracepoints() {
    let dead: Vec<_> = Hook::FUNCTIONS
        .into_iter()
        .flat_map(|hook| [(hook, Backend::Fentry), (hook, Backend::Kprobe)])
        .collect();
    let mut kernel = Kernel::with_dead(&dead);
    let findings = kernel.test();
    assert!(findings.wrong.is_empty());
    assert!(!findings.replaced.is_empty());
    for signal in [Signal::OverflowSyn, Signal::OverflowAck, Signal::Enqueued, Signal::Accepts] {
        let (backend, exactness, _) = kernel.of(signal);
        assert_eq!((backend, exactness), ("tracepoint", Exactness::Derived), "{signal:?}");
    }
    assert_eq!(kernel.of(Signal::SynsReceived).1, Exactness::Absent);
}

#[test]
fn where_nothing_works_it_ends_and_the_signals_are_absent() {
    let dead: Vec<_> = Hook::FUNCTIONS
        .into_iter()
        .flat_map(|hook| [(hook, Backend::Fentry), (hook, Backend::Kprobe)])
        .chain([Hook::KfreeSkb, Hook::DataReady].map(|hook| (hook, Backend::Tracepoint)))
        .collect();
    let mut kernel = Kernel::with_dead(&dead);
    assert!(kernel.test().wrong.is_empty());
    for signal in [Signal::OverflowSyn, Signal::OverflowAck, Signal::Enqueued, Signal::Accepts] {
        assert_eq!(kernel.of(signal).1, Exactness::Absent, "{signal:?}");
    }
}

#[test]
fn a_life_cycle_whose_functions_do_not_fire_is_the_tracepoints() {
    let mut kernel = Kernel::with_dead(&[(Hook::ListenStart, Backend::Fentry)]);
    assert!(kernel.test().wrong.is_empty());
    let (backend, exactness, _) = kernel.of(Signal::ListenerLifecycle);
    assert_eq!((backend, exactness), ("tracepoint", Exactness::Exact));
}

#[test]
fn what_nothing_can_replace_fails_and_stays() {
    let mut kernel = Kernel::with_dead(&[(Hook::SetState, Backend::Tracepoint)]);
    for hook in [Hook::ListenStart, Hook::ListenStop] {
        kernel.facts.functions.remove(&hook);
    }
    let findings = kernel.test();
    assert!(findings.replaced.is_empty());
    let signals: Vec<_> = findings.wrong.iter().map(|finding| finding.signal).collect();
    assert_eq!(signals, [Signal::ListenerLifecycle; 2], "once per family");
    assert!(kernel.facts.refused.is_empty());
}

#[test]
fn what_was_found_before_a_halt_is_told() {
    struct Halting(Kernel);
    impl Subject for Halting {
        fn attempt(&mut self) -> Result<Vec<Verdict>, Halt> {
            if self.0.attempts == 1 {
                return Err(Halt::NotRun("too slow".to_owned()));
            }
            self.0.attempt()
        }

        fn refuse(&mut self, hook: &PlannedHook, why: String) -> Result<(), KernelError> {
            self.0.refuse(hook, why)
        }
    }
    let mut findings = Findings::default();
    let mut kernel = Halting(Kernel::with_dead(&[(Hook::Accept, Backend::Fentry)]));
    let halt = until_it_passes(&mut kernel, &mut findings).unwrap_err();
    assert!(matches!(halt, Halt::NotRun(_)));
    assert!(!findings.replaced.is_empty() && findings.wrong.is_empty());
}
