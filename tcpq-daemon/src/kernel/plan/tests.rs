//! The decision as a table: kernels as they are, and what must be chosen there.

use std::collections::BTreeMap;

use tcpq_common::globals::Globals;

use super::*;
use crate::kernel::preemption::Preemption;

/// A kernel with everything: Linux 6.12 or newer, as a distribution builds it.
pub(in crate::kernel) fn complete() -> KernelFacts {
    KernelFacts {
        release: "test".to_owned(),
        functions: BTreeMap::from([
            (Hook::ListenStart, 1),
            (Hook::ListenStop, 1),
            (Hook::SynV4, 2),
            (Hook::SynV6, 2),
            (Hook::SynMptcpV4, 2),
            (Hook::SynMptcpV6, 2),
            (Hook::RequestAlloc, 3),
            (Hook::RequestQueued, 3),
            (Hook::PeerProven, 2),
            (Hook::ChildV4, 6),
            (Hook::ChildV6, 6),
            (Hook::CheckRequest, 5),
            (Hook::CookieV4, 2),
            (Hook::CookieV6, 2),
            (Hook::CookieAckV4, 2),
            (Hook::CookieAckV6, 2),
            (Hook::RequestError, 3),
            (Hook::QueueDrop, 2),
            (Hook::RequestDropped, 3),
            (Hook::Abort, 2),
            (Hook::Hashdance, 4),
            (Hook::QueueAdd, 3),
            (Hook::RequestClone, 2),
            (Hook::ChildForget, 3),
            (Hook::Accept, 2),
            (Hook::AcceptByEither, 2),
            (Hook::SockGraft, 2),
            (Hook::AcceptCall, 4),
            (Hook::UringAccept, 2),
        ]),
        tracepoints: BTreeMap::from([
            (Hook::SetState, 3),
            (Hook::DataReady, 1),
            (Hook::KfreeSkb, 4),
            (Hook::SynackAgain, 2),
        ]),
        cpu_offsets: CpuOffsets::Symbol(0xffff_ffff_8200_0000),
        dropping_functions: Ok(vec![1..2, 3..4]),
        established: Ok(()),
        synack_sent: Ok(()),
        kfree_has_rx_sk: true,
        reason_listen_overflow: Some(40),
        initial_netns: None,
        has_io_uring: true,
        preemption: Preemption::Never,
        possible_cpus: 2,
        globals: Globals::ZERO,
        refused: BTreeMap::new(),
    }
}

fn refuse(facts: &mut KernelFacts, hooks: &[Hook], backend: Backend, why: &str) {
    for hook in hooks {
        facts.refused.insert((*hook, backend), why.to_owned());
    }
}

/// A locked-down microVM: no kprobes, trampolines refused, few symbols.
fn locked_down() -> KernelFacts {
    let mut facts = complete();
    facts.cpu_offsets = CpuOffsets::Program;
    facts.refuse_all(Backend::Fentry, "EPERM");
    facts.refuse_all(Backend::Kprobe, "ENOENT");
    facts
}

fn of(plan: &Plan, signal: Signal) -> (&'static str, Exactness) {
    let plan = plan.signals.iter().find(|plan| plan.signal == signal).expect("a planned signal");
    (plan.backend_name(), plan.exactness)
}

const COUNTED: [Signal; 18] = [
    Signal::SynsReceived,
    Signal::OverflowSyn,
    Signal::OverflowAck,
    Signal::OverflowCookie,
    Signal::ListenDrops,
    Signal::SynDrops,
    Signal::RequestsLost,
    Signal::CookiesSent,
    Signal::CookiesChecked,
    Signal::Enqueued,
    Signal::Abandoned,
    Signal::Accepts,
    Signal::AcceptWait,
    Signal::AbandonedWait,
    Signal::HandshakeTime,
    Signal::AcceptQueueFill,
    Signal::SynQueueFill,
    Signal::AcceptErrors,
];

#[test]
fn a_complete_kernel_gets_fentry_for_all() {
    let plan = plan(&complete(), BackendChoice::Auto);
    for signal in COUNTED {
        assert_eq!(of(&plan, signal), ("fentry", Exactness::Exact), "{signal:?}");
    }
    assert_eq!((plan.drops, plan.accepts), (DropSource::Calls, AcceptSource::Returns));
    assert_eq!(of(&plan, Signal::Audit), ("test_run", Exactness::Exact));
}

#[test]
fn every_signal_is_planned_once_on_every_kernel() {
    for facts in [complete(), locked_down()] {
        for choice in [BackendChoice::Auto, BackendChoice::Only(Backend::Kprobe)] {
            let plan = plan(&facts, choice);
            let signals: Vec<_> = plan.signals.iter().map(|plan| plan.signal).collect();
            let mut unique = signals.clone();
            unique.dedup();
            assert_eq!((signals.len(), unique.len()), (25, 25));
        }
    }
}

#[test]
fn seven_arguments_without_trampolines_for_them_are_counted_by_the_callers() {
    let mut facts = complete();
    facts.functions.insert(Hook::ChildV4, 7);
    facts.functions.insert(Hook::ChildV6, 7);
    refuse(&mut facts, &[Hook::ChildV4, Hook::ChildV6], Backend::Fentry, "os error 524");
    let plan = plan(&facts, BackendChoice::Auto);
    for signal in COUNTED {
        assert_eq!(of(&plan, signal), ("fentry", Exactness::Exact), "{signal:?}");
    }
    let ack = plan.signals.iter().find(|plan| plan.signal == Signal::OverflowAck).unwrap();
    assert_eq!(ack.hook, "fexit:tcp_check_req");
    assert_eq!(ack.reason.as_deref(), Some("tcp_v4_syn_recv_sock: os error 524"));
    let cookie = plan.signals.iter().find(|plan| plan.signal == Signal::OverflowCookie).unwrap();
    assert_eq!(cookie.hook, "fexit:cookie_v4_check + fexit:cookie_v6_check");
}

#[test]
fn where_the_callers_are_refused_too_the_children_are_probed_by_breakpoint() {
    let mut facts = complete();
    let hooks = [Hook::ChildV4, Hook::ChildV6, Hook::CheckRequest];
    refuse(&mut facts, &hooks, Backend::Fentry, "os error 524");
    let plan = plan(&facts, BackendChoice::Auto);
    assert_eq!(of(&plan, Signal::OverflowAck), ("kprobe", Exactness::Exact));
    assert_eq!(of(&plan, Signal::OverflowSyn), ("fentry", Exactness::Exact));
    let ack = plan.signals.iter().find(|plan| plan.signal == Signal::OverflowAck).unwrap();
    assert_eq!(ack.reason.as_deref(), Some("fentry: os error 524"));
}

#[test]
fn a_kernel_without_mptcp_or_migration_misses_nothing() {
    let mut facts = complete();
    for hook in [Hook::SynMptcpV4, Hook::SynMptcpV6, Hook::RequestClone] {
        facts.functions.remove(&hook);
    }
    facts.functions.remove(&Hook::RequestDropped);
    facts.functions.insert(Hook::RequestUnlinked, 1);
    facts.functions.remove(&Hook::RequestQueued);
    facts.functions.insert(Hook::RequestQueuedVoid, 3);
    let plan = plan(&facts, BackendChoice::Auto);
    for signal in COUNTED {
        assert_eq!(of(&plan, signal), ("fentry", Exactness::Exact), "{signal:?}");
    }
}

#[test]
fn without_the_kernels_counters_nothing_is_counted_by_them() {
    let mut facts = complete();
    facts.cpu_offsets = CpuOffsets::Unknown("hidden".to_owned());
    let plan = plan(&facts, BackendChoice::Auto);
    assert_eq!(plan.drops, DropSource::SocketDrops);
    assert_eq!(of(&plan, Signal::Audit), ("none", Exactness::Absent));
}

#[test]
fn a_locked_down_kernel_gets_tracepoints_and_says_what_is_missing() {
    let plan = plan(&locked_down(), BackendChoice::Auto);
    let expected = [
        (Signal::SynsReceived, "none", Exactness::Absent),
        (Signal::OverflowSyn, "tracepoint", Exactness::Derived),
        (Signal::OverflowAck, "tracepoint", Exactness::Derived),
        (Signal::OverflowCookie, "tracepoint", Exactness::Derived),
        (Signal::ListenDrops, "tracepoint", Exactness::Derived),
        (Signal::SynDrops, "none", Exactness::Absent),
        (Signal::RequestsLost, "none", Exactness::Absent),
        (Signal::CookiesSent, "none", Exactness::Absent),
        (Signal::SynackRetransmits, "tracepoint", Exactness::Exact),
        (Signal::Abandoned, "tracepoint", Exactness::Derived),
        (Signal::Audit, "test_run", Exactness::Derived),
        (Signal::Enqueued, "tracepoint", Exactness::Derived),
        (Signal::Accepts, "tracepoint", Exactness::Derived),
        (Signal::AcceptWait, "none", Exactness::Absent),
        (Signal::AbandonedWait, "none", Exactness::Absent),
        (Signal::HandshakeTime, "none", Exactness::Absent),
        (Signal::AcceptQueueFill, "tracepoint", Exactness::Derived),
        (Signal::SynQueueFill, "none", Exactness::Absent),
    ];
    for (signal, backend, exactness) in expected {
        assert_eq!(of(&plan, signal), (backend, exactness), "{signal:?}");
    }
    for plan in plan.signals.iter().filter(|plan| plan.exactness != Exactness::Exact) {
        assert!(plan.reason.is_some(), "{:?} gives no reason", plan.signal);
    }
}

#[test]
fn without_a_socket_in_kfree_skb_drops_are_absent_rather_than_guessed() {
    let mut facts = locked_down();
    facts.kfree_has_rx_sk = false;
    let plan = plan(&facts, BackendChoice::Auto);
    for signal in [Signal::OverflowSyn, Signal::OverflowAck, Signal::ListenDrops] {
        assert_eq!(of(&plan, signal), ("none", Exactness::Absent), "{signal:?}");
    }
    assert_eq!(plan.drops, DropSource::Nowhere);
}

#[test]
fn one_family_that_cannot_be_hooked_takes_both_to_the_tracepoint() {
    let mut facts = complete();
    for backend in [Backend::Fentry, Backend::Kprobe] {
        refuse(&mut facts, &[Hook::ChildV6, Hook::CheckRequest], backend, "EBUSY");
    }
    let plan = plan(&facts, BackendChoice::Auto);
    assert_eq!(plan.drops, DropSource::CallsAndTracepoint);
    assert_eq!(of(&plan, Signal::OverflowAck), ("tracepoint", Exactness::Derived));
    assert_eq!(of(&plan, Signal::OverflowSyn), ("fentry", Exactness::Exact));
    // Both counting the same refused ACK would count it twice.
    assert!(!plan.hooks.iter().any(|hook| hook.hook == Hook::ChildV4));
}

#[test]
fn hidden_counters_never_count_a_handshake_twice() {
    let mut facts = complete();
    facts.cpu_offsets = CpuOffsets::Unknown("hidden".to_owned());
    let plan = plan(&facts, BackendChoice::Auto);
    assert_eq!(of(&plan, Signal::Enqueued), ("tracepoint", Exactness::Derived));
    assert!(!plan.hooks.iter().any(|hook| hook.hook == Hook::QueueAdd));
}

#[test]
fn an_arity_that_is_not_known_is_not_read() {
    let mut facts = complete();
    facts.functions.insert(Hook::Accept, 3);
    let plan = plan(&facts, BackendChoice::Auto);
    assert_eq!(of(&plan, Signal::Accepts), ("fentry", Exactness::Derived));
    assert_eq!(plan.accepts, AcceptSource::QueueBalance);
}

#[test]
fn a_forced_backend_that_is_refused_leaves_signals_absent() {
    let plan = plan(&locked_down(), BackendChoice::Only(Backend::Fentry));
    // The life cycle, which every choice has, tells what is abandoned at a close.
    for signal in COUNTED.into_iter().filter(|signal| *signal != Signal::Abandoned) {
        assert_eq!(of(&plan, signal), ("none", Exactness::Absent), "{signal:?}");
    }
    assert_eq!(of(&plan, Signal::QueueLengths), ("test_run", Exactness::Exact));
}

#[test]
fn a_forced_backend_never_mixes_with_the_other() {
    let kprobe = plan(&complete(), BackendChoice::Only(Backend::Kprobe));
    assert!(!kprobe.hooks.iter().any(|hook| hook.backend == Backend::Fentry));
    assert_eq!(of(&kprobe, Signal::OverflowAck), ("kprobe", Exactness::Exact));
    // A return probe on a function that sleeps would lose returns: there is none.
    for signal in [Signal::Accepts, Signal::AcceptWait] {
        assert_eq!(of(&kprobe, signal), ("kprobe", Exactness::Exact));
        let plan = kprobe.signals.iter().find(|plan| plan.signal == signal).unwrap();
        assert_eq!(plan.hook, "kprobe:inet_csk_accept + kprobe:security_sock_graft");
    }
    let tracepoint = plan(&complete(), BackendChoice::Only(Backend::Tracepoint));
    assert!(tracepoint.hooks.iter().all(|hook| {
        matches!(hook.backend, Backend::Tracepoint | Backend::Iterator | Backend::TestRun)
    }));
    assert_eq!(of(&tracepoint, Signal::SynsReceived), ("none", Exactness::Absent));
}

#[test]
fn without_the_field_a_time_is_absent_and_nothing_else_is() {
    let mut facts = complete();
    facts.established = Err("tcp_sock has no such member".to_owned());
    let plan_without = plan(&facts, BackendChoice::Auto);
    for signal in [Signal::AcceptWait, Signal::AbandonedWait] {
        assert_eq!(of(&plan_without, signal), ("none", Exactness::Absent), "{signal:?}");
        let said = plan_without.signals.iter().find(|plan| plan.signal == signal).unwrap();
        assert_eq!(said.reason.as_deref(), Some("tcp_sock has no such member"));
    }
    assert_eq!(of(&plan_without, Signal::Accepts), ("fentry", Exactness::Exact));
    assert_eq!(of(&plan_without, Signal::HandshakeTime), ("fentry", Exactness::Exact));
    let mut facts = complete();
    facts.synack_sent = Err("no such member".to_owned());
    let plan_without = plan(&facts, BackendChoice::Auto);
    assert_eq!(of(&plan_without, Signal::HandshakeTime), ("none", Exactness::Absent));
    assert_eq!(of(&plan_without, Signal::AcceptWait), ("fentry", Exactness::Exact));
}

#[test]
fn without_the_graft_a_breakpoint_tells_no_wait() {
    let mut facts = complete();
    facts.functions.remove(&Hook::SockGraft);
    let plan = plan(&facts, BackendChoice::Only(Backend::Kprobe));
    assert_eq!(of(&plan, Signal::AcceptWait), ("none", Exactness::Absent));
    assert_eq!(of(&plan, Signal::Accepts), ("kprobe", Exactness::Derived));
    assert_eq!(plan.accepts, AcceptSource::QueueBalance);
    assert!(!plan.hooks.iter().any(|hook| hook.hook == Hook::Accept), "half of a pair");
}

#[test]
fn where_a_program_may_be_skipped_two_see_accept_return() {
    let programs = |facts: &KernelFacts| {
        let plan = plan(facts, BackendChoice::Auto);
        assert_eq!(of(&plan, Signal::Accepts), ("fentry", Exactness::Exact));
        let hooks = plan.hooks.iter().filter(|hook| hook.hook.target() == "inet_csk_accept");
        let programs = hooks.flat_map(|hook| hook.programs).map(|program| program.name);
        programs.collect::<Vec<_>>()
    };
    let mut facts = complete();
    assert_eq!(programs(&facts), ["fx_accept_2"]);
    facts.preemption = Preemption::Possible;
    assert_eq!(programs(&facts), ["fx_accept_first_2", "fx_accept_second_2"]);
    facts.functions.insert(Hook::AcceptByEither, 4);
    assert_eq!(programs(&facts), ["fx_accept_first_4", "fx_accept_second_4"]);
}

#[test]
fn a_request_that_cannot_be_seen_to_enter_leaves_only_that_absent() {
    let mut facts = complete();
    facts.functions.remove(&Hook::RequestQueued);
    let plan = plan(&facts, BackendChoice::Auto);
    assert_eq!(of(&plan, Signal::SynQueueFill), ("none", Exactness::Absent));
    assert_eq!(of(&plan, Signal::SynsReceived), ("fentry", Exactness::Exact));
    let said = plan.signals.iter().find(|plan| plan.signal == Signal::SynQueueFill).unwrap();
    assert!(said.reason.as_deref().unwrap().contains("inet_csk_reqsk_queue_hash_add"));
}
