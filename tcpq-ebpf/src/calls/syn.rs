//! A SYN: from the entry to the exit of the function that handles it.

use tcpq_common::{
    iterator::DropCounters,
    record::Kind,
    totals::{Loss, SynDrop},
};

use crate::{
    audit,
    calls::{CpuState, Ending, NONE, ending, report},
    count::{self, Credit, field},
    lifecycle::{self, Pending},
    maps::{cpu_state, lose},
    mib::{self, Mib},
    observe::histogram,
    read::{Skb, Sock},
};

/// An open call.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Call {
    sk: u64,
    pub(super) skb: u64,
    /// The listener's.
    slot: u32,
    /// A marker: what `inet_reqsk_alloc` returned.
    allocation: u32,
    mib: Mib,
    drops_before: DropCounters,
    queue_full_before: u64,
    cookies_before: u64,
    pub(super) opened_by: u32,
    /// Functions whose entry has been seen.
    seen: u32,
    /// A marker: what `tcp_peer_is_proven` returned.
    peer: u32,
    /// The SYN queue's length when the request had entered it; 0: it has not.
    queued: u32,
}

/// A marker: what an inner call returned.
const NOT_CALLED: u32 = 0;
const RETURNED_NOTHING: u32 = 1;
const RETURNED_SOMETHING: u32 = 2;

/// Entry of `tcp_v4_conn_request(sk, skb)` and its like.
#[inline(always)]
pub(crate) fn begins(function: u32, sk: Sock, skb: Skb) {
    let Some(cpu) = cpu_state() else { return };
    cpu.syn.seen |= function;
    if cpu.syn.opened_by != NONE {
        if cpu.syn.skb == skb.0 {
            return;
        }
        // Another packet: the exit program of that call was skipped.
        lose(Loss::Unpaired);
        cpu.syn.opened_by = NONE;
    }
    let slot = lifecycle::slot(sk, Pending::NONE);
    // What happens to a listener that cannot be known has been told to be lost.
    if let Some(tenant) = count::tenant(slot) {
        let Some(mib) = Mib::here(cpu, tenant.counters) else {
            lose(Loss::Unreadable);
            return;
        };
        let (Some(drops), Some(queue_full), Some(cookies)) =
            (mib.drops(), mib.queue_full_drops(), mib.cookies_sent())
        else {
            lose(Loss::Unreadable);
            return;
        };
        cpu.syn.mib = mib;
        cpu.syn.drops_before = drops;
        cpu.syn.queue_full_before = queue_full;
        cpu.syn.cookies_before = cookies;
    }
    cpu.begun += 1;
    cpu.syn.sk = sk.0;
    cpu.syn.skb = skb.0;
    cpu.syn.slot = slot;
    cpu.syn.allocation = NOT_CALLED;
    cpu.syn.peer = NOT_CALLED;
    cpu.syn.queued = 0;
    cpu.syn.opened_by = function;
}

/// Its exit. `limit`: asks for the SYN queue's.
#[inline(always)]
pub(crate) fn ends(function: u32, limit: impl FnOnce(Sock) -> u32) {
    let Some(cpu) = cpu_state() else { return };
    match ending(cpu.syn.opened_by, function, cpu.syn.seen) {
        Ending::Own => {
            settle(&cpu.syn, limit);
            // Last: until here the audit must not take the counters.
            cpu.syn.opened_by = NONE;
        }
        Ending::Inner | Ending::NotYet => {}
        Ending::Unpaired => lose(Loss::Unpaired),
    }
}

#[inline(always)]
fn settle(call: &Call, limit: impl FnOnce(Sock) -> u32) {
    let sk = Sock(call.sk);
    let Some(listener) = Credit::of(call.slot) else { return };
    let totals = listener.totals;
    if call.queued != 0
        && let Some(observed) = listener.observed()
    {
        observed.fill(histogram!(syn_fill), call.queued, limit(sk));
    }
    totals.add(field!(syns_received), 1);
    if call.queued != 0 {
        // `tcp_conn_request` drops nothing after that.
        return;
    }
    let Some(drops) = call.mib.drops() else {
        lose(Loss::Unreadable);
        return;
    };
    let raised = mib::raised(call.drops_before, drops);
    // What is not in the queue is refused, or answered by a cookie.
    if raised.overflows == 0 {
        let Some(cookies) = call.mib.cookies_sent() else {
            lose(Loss::Unreadable);
            return;
        };
        totals.add(field!(cookies_sent), cookies.wrapping_sub(call.cookies_before));
    }
    if mib::is_nothing(raised) {
        return;
    }
    totals.add(field!(listen_drops), raised.drops);
    totals.add(field!(overflows_syn), raised.overflows);
    audit::credit(listener.netns_id(), raised);
    // A Fast Open child may be refused and its SYN be dropped after that.
    let others = raised.drops.wrapping_sub(raised.overflows);
    if others != 0 {
        let Some(queue_full) = call.mib.queue_full_drops() else {
            lose(Loss::Unreadable);
            return;
        };
        if queue_full != call.queue_full_before {
            totals.add(field!(syn_drops[SynDrop::QueueFull as usize]), others);
        } else if call.allocation == NOT_CALLED {
            totals.add(field!(syn_drops[SynDrop::NotUnicast as usize]), others);
        } else if call.allocation == RETURNED_NOTHING {
            totals.add(field!(syn_drops[SynDrop::NoMemory as usize]), others);
        } else if call.peer == RETURNED_NOTHING {
            totals.add(field!(syn_drops[SynDrop::BacklogPressure as usize]), others);
        } else {
            totals.add(field!(syn_drops[SynDrop::Rejected as usize]), others);
        }
    }
    let kind = if raised.overflows == 0 { Kind::DropSyn } else { Kind::OverflowSyn };
    report(listener, sk, Skb(call.skb), kind);
}

/// Exit of `inet_reqsk_alloc`, which a cookie's ACK calls, too.
#[inline(always)]
pub(crate) fn request_allocated(request: u64) {
    let Some(cpu) = cpu_state() else { return };
    if is_open(cpu) {
        cpu.syn.allocation = if request == 0 { RETURNED_NOTHING } else { RETURNED_SOMETHING };
    }
}

/// Exit of `inet_csk_reqsk_queue_hash_add`: the request is in the SYN queue. `length`: asks for
/// that of the queue.
#[inline(always)]
pub(crate) fn request_queued(length: impl FnOnce(Sock) -> u32) {
    let Some(cpu) = cpu_state() else { return };
    if is_open(cpu) {
        // Another CPU may have taken requests out by now, this one included.
        let length = length(Sock(cpu.syn.sk));
        cpu.syn.queued = if length == 0 { 1 } else { length };
    }
}

/// Exit of `tcp_peer_is_proven`: asked only if the SYN is dropped unless it is.
#[inline(always)]
pub(crate) fn peer_proven(answer: u64) {
    let Some(cpu) = cpu_state() else { return };
    if is_open(cpu) {
        // A bool is the lowest byte; the rest of the register is not defined.
        cpu.syn.peer = if answer & 0xff == 0 { RETURNED_NOTHING } else { RETURNED_SOMETHING };
    }
}

/// Whether a SYN is being handled on this CPU.
#[inline(always)]
pub(super) fn is_open(cpu: &CpuState) -> bool {
    cpu.syn.opened_by != NONE
}
