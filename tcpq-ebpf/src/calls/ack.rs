//! The final ACK of a handshake: from the entry to the exit of the function that makes
//! the child, or, where that one cannot be hooked, of the one that checks the request.

use tcpq_common::{iterator::DropCounters, record::Kind, totals::Loss};

use crate::{
    audit,
    calls::{CpuState, Ending, NONE, ending, function, report, syn},
    count::{self, Credit, field},
    globals::global,
    lifecycle::{self, NO_SLOT, Pending},
    maps::{cpu_state, lose},
    mib::{self, Mib},
    observe::Moment,
    read::{Request, Skb, Sock},
};

/// An open call.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Call {
    sk: u64,
    skb: u64,
    request: u64,
    mib: Mib,
    before: DropCounters,
    /// When the request's first SYN-ACK was sent: read while the request is ours alone.
    synack_sent: Moment,
    pub(super) opened_by: u32,
    /// Functions whose entry has been seen.
    seen: u32,
    /// A [`Whose`].
    whose: u32,
    /// The listener's.
    slot: u32,
}

/// What the ACK belongs to.
#[derive(Clone, Copy, PartialEq)]
#[repr(u32)]
pub(crate) enum Whose {
    /// A request in the SYN queue.
    Request = 1,
    /// A SYN cookie.
    Cookie = 2,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Child {
    /// A connection: `tcp_v4/v6_syn_recv_sock` raises no drop on the way to it.
    Made,
    /// None was made.
    Refused,
    /// The function's result does not tell.
    NotKnown,
}

impl From<u64> for Child {
    /// Of what the function returned.
    #[inline(always)]
    fn from(child: u64) -> Self {
        if child == 0 { Self::Refused } else { Self::Made }
    }
}

/// Entry of `tcp_v4/v6_syn_recv_sock(sk, skb, req, dst, req_unhash, ..)` or of
/// `tcp_check_req(sk, skb, req, ..)`.
///
/// Of the former, `req_unhash` is NULL for a cookie's request, which was never hashed
/// (`tcp_get_cookie_sock`), and inside a SYN (`tcp_fastopen_create_child`).
///
/// `synack_sent`: asks for the request's [`Request::synack_sent_us`].
#[inline(always)]
pub(crate) fn begins(
    function: u32,
    sk: Sock,
    skb: Skb,
    request: Request,
    whose: Whose,
    synack_sent: impl FnOnce() -> u64,
) {
    let Some(cpu) = cpu_state() else { return };
    cpu.ack.seen |= function;
    if syn::is_open(cpu) {
        if cpu.syn.skb == skb.0 {
            return;
        }
        // Another packet: the SYN's exit program was skipped.
        lose(Loss::Unpaired);
        cpu.syn.opened_by = NONE;
    }
    if cpu.ack.opened_by != NONE {
        if cpu.ack.opened_by == function::CHILD_V6 && cpu.ack.request == request.0 {
            return;
        }
        lose(Loss::Unpaired);
        cpu.ack.opened_by = NONE;
    }
    let slot = lifecycle::slot(sk, Pending::NONE);
    // As for a SYN.
    if let Some(tenant) = count::tenant(slot) {
        let Some(mib) = Mib::here(cpu, tenant.counters) else {
            lose(Loss::Unreadable);
            return;
        };
        let Some(before) = mib.drops() else {
            lose(Loss::Unreadable);
            return;
        };
        cpu.ack.mib = mib;
        cpu.ack.before = before;
    }
    cpu.begun += 1;
    cpu.ack.sk = sk.0;
    cpu.ack.skb = skb.0;
    cpu.ack.request = request.0;
    cpu.ack.slot = slot;
    cpu.ack.whose = whose as u32;
    if global!(tcp_synack_sent) != 0 {
        cpu.ack.synack_sent = Moment(synack_sent());
    }
    cpu.ack.opened_by = function;
}

/// Its exit.
#[inline(always)]
pub(crate) fn ends(function: u32, child: Child) {
    let Some(cpu) = cpu_state() else { return };
    match ending(cpu.ack.opened_by, function, cpu.ack.seen) {
        Ending::Own => {
            if child != Child::Made
                && let Some(raised) = raised(&cpu.ack)
            {
                cpu.refused = cpu.ack.request;
                let whose = if cpu.ack.whose == Whose::Cookie as u32 {
                    Whose::Cookie
                } else {
                    Whose::Request
                };
                settle(cpu.ack.slot, Sock(cpu.ack.sk), Skb(cpu.ack.skb), raised, whose);
            }
            cpu.ack.opened_by = NONE;
        }
        Ending::Inner | Ending::NotYet => {}
        // Inside a SYN no call was opened, on purpose.
        Ending::Unpaired if syn::is_open(cpu) => {}
        Ending::Unpaired => lose(Loss::Unpaired),
    }
}

/// What the open call has raised so far, if anything.
#[inline(always)]
fn raised(call: &Call) -> Option<DropCounters> {
    if call.slot == NO_SLOT {
        return None;
    }
    let Some(now) = call.mib.drops() else {
        lose(Loss::Unreadable);
        return None;
    };
    let raised = mib::raised(call.before, now);
    if mib::is_nothing(raised) { None } else { Some(raised) }
}

/// Adds what a refused ACK raised.
#[inline(always)]
pub(super) fn settle(slot: u32, sk: Sock, skb: Skb, raised: DropCounters, whose: Whose) {
    let Some(listener) = Credit::of(slot) else { return };
    let totals = listener.totals;
    totals.add(field!(listen_drops), raised.drops);
    audit::credit(listener.netns_id(), raised);
    let kind = if raised.overflows == 0 {
        Kind::DropAck
    } else if whose == Whose::Cookie {
        totals.add(field!(overflows_cookie), raised.overflows);
        Kind::OverflowCookie
    } else {
        totals.add(field!(overflows_ack), raised.overflows);
        Kind::OverflowAck
    };
    report(listener, sk, skb, kind);
}

/// Whether the child of this request was refused by the packet in hand.
#[inline(always)]
pub(super) fn refuses(cpu: &CpuState, request: u64) -> bool {
    cpu.refused == request
        || cpu.ack.opened_by != NONE && cpu.ack.request == request && raised(&cpu.ack).is_some()
}

/// The handshake whose child has just been made on this CPU.
pub(super) struct Made {
    /// The listener's.
    pub(super) slot: u32,
    /// When the request's first SYN-ACK was sent. Another CPU may have accepted the child by now
    /// and freed the request: it is not read again.
    pub(super) synack_sent: Moment,
}

/// That of a request, if it is the one.
#[inline(always)]
pub(super) fn made(cpu: &CpuState, request: Request) -> Option<Made> {
    let is_it = cpu.ack.request == request.0;
    is_it.then_some(Made { slot: cpu.ack.slot, synack_sent: cpu.ack.synack_sent })
}
