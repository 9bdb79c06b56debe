//! An ACK without a request, which may be a SYN cookie's: from the entry to the exit of
//! `cookie_v4/v6_check`. The kernel raises SyncookiesRecv or SyncookiesFailed inside, or
//! neither if no cookie was sent of late.

use tcpq_common::{iterator::DropCounters, totals::Loss};

use crate::{
    calls::{
        CpuState, Ending, NONE,
        ack::{self, Whose},
        ending,
    },
    count::{self, field},
    lifecycle::{self, Pending},
    maps::{cpu_state, lose},
    mib::{self, Mib},
    read::{Skb, Sock},
};

/// An open call.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Call {
    sk: u64,
    skb: u64,
    mib: Mib,
    checked_before: [u64; 2],
    drops_before: DropCounters,
    pub(super) opened_by: u32,
    /// Functions whose entry has been seen.
    seen: u32,
}

/// What is counted by this call.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Counted {
    /// Only the cookies: a refused child is counted by the function that makes it.
    Cookies,
    /// The refused children, too.
    CookiesAndDrops,
}

/// Entry of `cookie_v4/v6_check(sk, skb)`.
#[inline(always)]
pub(crate) fn begins(function: u32, sk: Sock, skb: Skb) {
    let Some(cpu) = cpu_state() else { return };
    cpu.cookie.seen |= function;
    if cpu.cookie.opened_by != NONE {
        lose(Loss::Unpaired);
        cpu.cookie.opened_by = NONE;
    }
    let Some(mib) = Mib::here(cpu, Mib::base(sk.net())) else {
        lose(Loss::Unreadable);
        return;
    };
    let (Some(checked), Some(drops)) = (mib.cookies_checked(), mib.drops()) else {
        lose(Loss::Unreadable);
        return;
    };
    cpu.begun += 1;
    cpu.cookie.sk = sk.0;
    cpu.cookie.skb = skb.0;
    cpu.cookie.mib = mib;
    cpu.cookie.checked_before = checked;
    cpu.cookie.drops_before = drops;
    cpu.cookie.opened_by = function;
}

/// Its exit.
#[inline(always)]
pub(crate) fn ends(function: u32, counted: Counted) {
    let Some(cpu) = cpu_state() else { return };
    match ending(cpu.cookie.opened_by, function, cpu.cookie.seen) {
        Ending::Own => {
            settle(&cpu.cookie, counted);
            cpu.cookie.opened_by = NONE;
        }
        Ending::Inner | Ending::NotYet => {}
        Ending::Unpaired => lose(Loss::Unpaired),
    }
}

#[inline(always)]
fn settle(call: &Call, counted: Counted) {
    let (Some([valid, invalid]), Some(drops)) = (call.mib.cookies_checked(), call.mib.drops())
    else {
        lose(Loss::Unreadable);
        return;
    };
    let sk = Sock(call.sk);
    let [valid_before, invalid_before] = call.checked_before;
    if (valid ^ valid_before) | (invalid ^ invalid_before) != 0
        && let Some(listener) = count::credit(sk, Pending::NONE)
    {
        listener.totals.add(field!(cookies_validated), valid.wrapping_sub(valid_before));
        listener.totals.add(field!(cookies_failed), invalid.wrapping_sub(invalid_before));
    }
    let raised = mib::raised(call.drops_before, drops);
    if counted == Counted::CookiesAndDrops && !mib::is_nothing(raised) {
        let slot = lifecycle::slot(sk, Pending::NONE);
        ack::settle(slot, sk, Skb(call.skb), raised, Whose::Cookie);
    }
}

/// Whether an ACK is being checked for a cookie on this CPU.
#[inline(always)]
pub(super) fn is_open(cpu: &CpuState) -> bool {
    cpu.cookie.opened_by != NONE
}
