//! A request leaves the SYN queue without completing, and why.

use tcpq_common::totals::RequestLost;

use crate::{
    calls::{CpuState, ack, icmp},
    count::{self, field},
    lifecycle::Pending,
    maps::{ABORTING, cpu_state},
    read::{Request, Sock},
};

/// Entry and exit of `inet_csk_reqsk_queue_drop(sk, req)`: the packet or the ICMP error
/// in hand, or `ss --kill`, ends the request. A timer, and a packet for a listener that
/// has closed, do not come this way (they call its inner function).
#[inline(always)]
pub(crate) fn drop_begins(request: Request) {
    if let Some(cpu) = cpu_state() {
        cpu.dropping = request.0;
    }
}

#[inline(always)]
pub(crate) fn drop_ends() {
    if let Some(cpu) = cpu_state() {
        cpu.dropping = 0;
    }
}

/// Entry of `tcp_abort(sk, err)` with a request. In process context, from where the
/// rest may run on another CPU: hence a map.
#[inline(always)]
pub(crate) fn abort_begins(request: Request) {
    if request.is_in_handshake() {
        // What cannot be remembered is called a reset.
        let _ = ABORTING.insert(request.0, 1, 0);
    }
}

/// `__inet_csk_reqsk_queue_drop` (since Linux 6.1) or `reqsk_queue_unlink` returned true.
/// For a request that completed they return false.
#[inline(always)]
pub(crate) fn lost(sk: Sock, request: Request) {
    let Some(cpu) = cpu_state() else { return };
    let listener = count::credit(sk, Pending::NONE);
    let Some(listener) = listener else { return };
    let totals = listener.totals;
    if cpu.dropping != request.0 {
        if sk.is_tcp_listener() {
            totals.add(field!(requests_lost[RequestLost::Timeout as usize]), 1);
        } else {
            totals.add(field!(requests_lost[RequestLost::ListenerClosed as usize]), 1);
        }
        return;
    }
    if icmp::names(cpu, request.0) {
        totals.add(field!(requests_lost[RequestLost::Icmp as usize]), 1);
    } else if is_abort(cpu, sk, request) {
        totals.add(field!(requests_lost[RequestLost::Aborted as usize]), 1);
    } else {
        totals.add(field!(requests_lost[RequestLost::Reset as usize]), 1);
    }
}

#[inline(always)]
fn is_abort(cpu: &mut CpuState, sk: Sock, request: Request) -> bool {
    if ABORTING.remove(request.0).is_ok() {
        return true;
    }
    // With the setting off a refused request stays, and a later reset is one.
    let refused = ack::refuses(cpu, request.0) && sk.net().aborts_on_overflow();
    if refused {
        cpu.refused = 0;
    }
    refused
}
