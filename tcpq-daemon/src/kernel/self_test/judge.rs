//! Compares what was seen of the scenario with what it forced, and finds the hooks to
//! blame. No I/O: a table, and a rule.

use tcpq_common::totals::RequestLost;

use crate::{
    kernel::{
        attach::essential,
        plan::{Plan, PlannedHook, describe},
        programs::Hook,
        self_test::scenario::{Family, Forced},
    },
    model::{
        counts::Counts,
        group::Queue,
        hooks::{Exactness, Signal},
        observations::Observations,
        self_test::Finding,
    },
};

/// What was seen of one listener of the scenario.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Its `listen()` was seen as such: 1, else 0.
    pub opened: u64,
    /// Its accept queue.
    pub accept_queue: Queue,
    /// Its SYN queue.
    pub syn_queue: Queue,
    /// Everything counted.
    pub counts: Counts,
    /// Everything observed.
    pub observed: Observed,
}

/// How often something was observed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observed {
    /// A wait for accept().
    pub accept_waits: u64,
    /// A wait that the close ended.
    pub abandoned_waits: u64,
    /// The time of a handshake.
    pub handshakes: u64,
    /// The accept queue.
    pub accept_fills: u64,
    /// The SYN queue.
    pub syn_fills: u64,
}

impl From<&Observations> for Observed {
    fn from(observations: &Observations) -> Self {
        Self {
            accept_waits: observations.accept_wait().count(),
            abandoned_waits: observations.abandoned_wait().count(),
            handshakes: observations.handshake().count(),
            accept_fills: observations.accept_fill().count(),
            syn_fills: observations.syn_fill().count(),
        }
    }
}

/// One row: a signal, and what both sides say of it.
struct Check {
    signal: Signal,
    /// In "expected 1 ...".
    what: &'static str,
    forced: fn(&Forced) -> u64,
    seen: fn(&Seen) -> u64,
}

const fn check(
    signal: Signal,
    what: &'static str,
    forced: fn(&Forced) -> u64,
    seen: fn(&Seen) -> u64,
) -> Check {
    Check { signal, what, forced, seen }
}

/// What the scenario proves. A signal that the plan has not is not asked for; one that
/// is not here is not proven (listeners from before the start).
const CHECKS: [Check; 24] = [
    check(Signal::ListenerLifecycle, "listen() calls", |_| 1, |seen| seen.opened),
    check(
        Signal::QueueLengths,
        "queued connections",
        |forced| forced.queued,
        |seen| seen.accept_queue.length,
    ),
    check(Signal::QueueLengths, "pending requests", |_| 0, |seen| seen.syn_queue.length),
    check(Signal::SynsReceived, "SYNs", |forced| forced.syns, |seen| seen.counts.syns_received),
    check(
        Signal::OverflowSyn,
        "overflows at the SYN",
        |forced| forced.overflows_syn,
        |seen| seen.counts.overflows.syn,
    ),
    check(
        Signal::OverflowAck,
        "overflows at the ACK",
        |forced| forced.overflows_ack,
        |seen| seen.counts.overflows.ack,
    ),
    check(
        Signal::OverflowCookie,
        "overflows at a cookie's ACK",
        |_| 0,
        |seen| seen.counts.overflows.cookie,
    ),
    check(
        Signal::ListenDrops,
        "listen drops",
        |forced| forced.overflows_syn + forced.overflows_ack,
        |seen| seen.counts.listen_drops,
    ),
    check(
        Signal::SynDrops,
        "dropped SYNs that are no overflows",
        |_| 0,
        |seen| seen.counts.syn_drops.iter().sum(),
    ),
    check(
        Signal::RequestsLost,
        "requests lost by a reset",
        |forced| forced.resets,
        |seen| seen.counts.requests_lost[RequestLost::Reset as usize],
    ),
    check(
        Signal::RequestsLost,
        "lost requests",
        |forced| forced.resets,
        |seen| seen.counts.requests_lost.iter().sum(),
    ),
    check(Signal::CookiesSent, "SYN cookies", |_| 0, |seen| seen.counts.cookies.sent),
    check(
        Signal::CookiesChecked,
        "SYN cookies that came back",
        |_| 0,
        |seen| seen.counts.cookies.validated + seen.counts.cookies.failed,
    ),
    check(
        Signal::SynackRetransmits,
        "SYN-ACKs sent again",
        |_| 0,
        |seen| seen.counts.synack_retransmits,
    ),
    check(
        Signal::Enqueued,
        "connections into the queue",
        |forced| forced.enqueued,
        |seen| seen.counts.enqueued.total(),
    ),
    check(
        Signal::Enqueued,
        "of them by cookie or Fast Open",
        |_| 0,
        |seen| seen.counts.enqueued.cookie + seen.counts.enqueued.fastopen,
    ),
    check(Signal::Accepts, "accepts", |forced| forced.accepts, |seen| seen.counts.accepts),
    check(
        Signal::AcceptErrors,
        "failures of accept()",
        |forced| forced.accept_errors,
        |seen| seen.counts.accept_errors.iter().sum(),
    ),
    check(Signal::Abandoned, "abandoned connections", |_| 0, |seen| seen.counts.abandoned),
    check(
        Signal::AcceptWait,
        "waits for accept()",
        |forced| forced.accepts,
        |seen| seen.observed.accept_waits,
    ),
    check(
        Signal::AbandonedWait,
        "waits of abandoned connections",
        |_| 0,
        |seen| seen.observed.abandoned_waits,
    ),
    check(
        Signal::HandshakeTime,
        "times of handshakes",
        |forced| forced.enqueued,
        |seen| seen.observed.handshakes,
    ),
    check(
        Signal::AcceptQueueFill,
        "fills of the accept queue",
        |forced| forced.enqueued,
        |seen| seen.observed.accept_fills,
    ),
    check(
        Signal::SynQueueFill,
        "fills of the SYN queue",
        |forced| forced.syns - forced.overflows_syn,
        |seen| seen.observed.syn_fills,
    ),
];

/// Made by a program that counts: its hook is to blame only if no count proves it. A count
/// is not given up for an observation.
const fn is_observation(signal: Signal) -> bool {
    matches!(
        signal,
        Signal::AcceptWait
            | Signal::AbandonedWait
            | Signal::HandshakeTime
            | Signal::AcceptQueueFill
            | Signal::SynQueueFill
    )
}

/// A signal that is wrong, and the hooks to do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For people.
    pub finding: Finding,
    /// Empty where no other plan would help.
    pub suspects: Vec<PlannedHook>,
}

/// Nothing to say is a pass.
pub fn judge(plan: &Plan, listeners: &[(Forced, Seen)]) -> Vec<Verdict> {
    let mut proven: Vec<&PlannedHook> = Vec::new();
    let mut wrong = Vec::new();
    for (forced, seen) in listeners {
        for signal in plan.signals.iter().filter(|plan| plan.exactness != Exactness::Absent) {
            let checks = || CHECKS.iter().filter(|check| check.signal == signal.signal);
            let failed = checks().find(|check| (check.forced)(forced) != (check.seen)(seen));
            let hooks = hooks_of(plan, signal.signal, forced.family);
            match failed {
                Some(check) => wrong.push((check, forced, seen, hooks)),
                // A hook that does not fire counts nothing right, too; and one that counts
                // wrong may observe right.
                None if !is_observation(signal.signal)
                    && checks().any(|check| (check.forced)(forced) > 0) =>
                {
                    proven.extend(hooks);
                }
                None => {}
            }
        }
    }
    wrong
        .into_iter()
        .map(|(check, forced, seen, hooks)| {
            // A hook that another signal has proven is not to blame, unless that
            // leaves none.
            let suspects: Vec<_> =
                hooks.iter().copied().filter(|hook| !proven.contains(hook)).collect();
            let keeps_all = suspects.is_empty() && !is_observation(check.signal);
            let suspects = if keeps_all { hooks } else { suspects };
            let says = format!(
                "expected {} {} over {}, saw {}",
                (check.forced)(forced),
                check.what,
                forced.family,
                (check.seen)(seen),
            );
            let hooks = suspects.iter().map(|hook| describe(hook)).collect();
            let suspects = suspects.into_iter().filter(|hook| essential(hook.hook).is_none());
            Verdict {
                finding: Finding { signal: check.signal, hooks, says },
                suspects: suspects.cloned().collect(),
            }
        })
        .collect()
}

/// Fewer listeners were seen to close than have closed.
pub fn closes(plan: &Plan, listeners: usize, closed: usize) -> Verdict {
    let signal = Signal::ListenerLifecycle;
    let hooks = plan.rests_on.iter().filter(|(on, _)| *on == signal).map(|(_, hook)| hook);
    let says = format!("expected {listeners} listeners to close, saw {closed}");
    Verdict {
        finding: Finding { signal, hooks: hooks.clone().map(describe).collect(), says },
        suspects: hooks.filter(|hook| essential(hook.hook).is_none()).cloned().collect(),
    }
}

/// The hooks that a signal rests on and that the scenario makes fire.
fn hooks_of(plan: &Plan, signal: Signal, family: Family) -> Vec<&PlannedHook> {
    plan.rests_on
        .iter()
        .filter(|(on, hook)| *on == signal && fires(hook.hook, family))
        .map(|(_, hook)| hook)
        .collect()
}

/// Whether the scenario comes by a hook. One that it does not come by is neither
/// proven nor to blame.
const fn fires(hook: Hook, family: Family) -> bool {
    match hook {
        Hook::SynV4 | Hook::ChildV4 => matches!(family, Family::V4),
        Hook::SynV6 | Hook::ChildV6 => matches!(family, Family::V6),
        // MPTCP, cookies, backlog pressure, ICMP, an operator, a close, io_uring: not staged.
        // `QueueAdd` sees handshakes on kernels before 6.1 only.
        Hook::SynMptcpV4
        | Hook::SynMptcpV6
        | Hook::PeerProven
        | Hook::CookieV4
        | Hook::CookieV6
        | Hook::CookieAckV4
        | Hook::CookieAckV6
        | Hook::RequestError
        | Hook::Abort
        | Hook::QueueAdd
        | Hook::RequestClone
        | Hook::ChildForget
        | Hook::UringAccept => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
