//! An ICMP error that names a request: from the entry to the exit of `tcp_req_err`. The
//! kernel calls it a listen drop, even if the request was gone already.

use tcpq_common::{iterator::DropCounters, record::Kind, totals::Loss};

use crate::{
    audit,
    calls::{CpuState, Ending, NONE, ending, function},
    count::{self, field},
    emit, lifecycle,
    lifecycle::Pending,
    maps::{cpu_state, lose},
    mib::{self, Mib},
    read::{Client, Request, Sock},
};

/// An open call.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Call {
    request: u64,
    sk: u64,
    mib: Mib,
    before: DropCounters,
    pub(super) opened_by: u32,
    /// Functions whose entry has been seen.
    seen: u32,
}

/// Entry of `tcp_req_err(sk, seq, abort)`, whose `sk` is the request.
#[inline(always)]
pub(crate) fn begins(request: Request) {
    let Some(cpu) = cpu_state() else { return };
    cpu.icmp.seen |= function::REQUEST_ERROR;
    let sk = request.listener();
    let Some(mib) = Mib::here(cpu, Mib::base(sk.net())) else {
        lose(Loss::Unreadable);
        return;
    };
    let Some(before) = mib.drops() else {
        lose(Loss::Unreadable);
        return;
    };
    cpu.begun += 1;
    cpu.icmp.request = request.0;
    cpu.icmp.sk = sk.0;
    cpu.icmp.mib = mib;
    cpu.icmp.before = before;
    cpu.icmp.opened_by = function::REQUEST_ERROR;
}

/// Its exit.
#[inline(always)]
pub(crate) fn ends() {
    let Some(cpu) = cpu_state() else { return };
    match ending(cpu.icmp.opened_by, function::REQUEST_ERROR, cpu.icmp.seen) {
        Ending::Own => {
            settle(&cpu.icmp);
            cpu.icmp.opened_by = NONE;
        }
        Ending::Inner | Ending::NotYet => {}
        Ending::Unpaired => lose(Loss::Unpaired),
    }
}

#[inline(always)]
fn settle(call: &Call) {
    let Some(now) = call.mib.drops() else {
        lose(Loss::Unreadable);
        return;
    };
    let raised = mib::raised(call.before, now);
    if mib::is_nothing(raised) {
        return;
    }
    let sk = Sock(call.sk);
    let Some(listener) = count::credit(sk, Pending::NONE) else { return };
    listener.totals.add(field!(listen_drops), raised.drops);
    audit::credit(listener.netns_id(), raised);
    if emit::is_within_limit(listener.totals)
        && let Some(known) = lifecycle::known(sk)
    {
        emit::record(&known, sk, Kind::DropIcmp, Client::NONE);
    }
}

/// Whether an ICMP error about this request is being handled on this CPU.
#[inline(always)]
pub(super) fn names(cpu: &CpuState, request: u64) -> bool {
    cpu.icmp.opened_by != NONE && cpu.icmp.request == request
}
