//! The accept queue: connections enter it, and leave it.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tcpq_common::totals::RequestLost;

use crate::{
    calls::{CpuState, ack, cookie, syn},
    count::{self, Credit, field},
    direct::TypedSock,
    globals::global,
    lifecycle::{self, Pending},
    maps::{ACCEPTED, ACCEPTED_SLOTS, ACCEPTING, cpu_state},
    observe::{Moment, histogram},
    read::{Request, Sock, or_zero},
};

/// What an event that fills the queue has added to its length already.
const ONE_QUEUED: Pending = Pending { drops: 0, queued: 1 };

/// A queue that something has entered.
#[derive(Clone, Copy)]
pub(crate) struct Fill {
    /// What entered included.
    pub(crate) length: u32,
    pub(crate) limit: u32,
}

impl Fill {
    /// The accept queue as it is now.
    #[inline(always)]
    pub(crate) fn of(sk: Sock) -> Self {
        Self { length: sk.accept_queue_length(), limit: sk.accept_queue_limit() }
    }
}

/// `inet_csk_complete_hashdance(sk, child, req, ..)` returned a child, which is in the queue.
#[inline(always)]
pub(crate) fn handshake_enqueued(cpu: &CpuState, sk: Sock, request: Request, fill: Fill) {
    let made = ack::made(cpu, request);
    let slot = match &made {
        // The call that has made the child has found the listener.
        Some(made) if count::belongs(made.slot, sk) => made.slot,
        _ => lifecycle::slot(sk, ONE_QUEUED),
    };
    if let Some(listener) = Credit::of(slot) {
        entered(listener, fill);
        if global!(tcp_synack_sent) != 0
            && let Some(made) = made
            && let Some(observed) = listener.observed()
        {
            observed.time_since(histogram!(handshake), made.synack_sent);
        }
        listener.totals.add(field!(enqueued_handshake), 1);
    }
}

/// `inet_csk_reqsk_queue_add` returned a child.
///
/// Kernels before 6.1 also call it inside `inet_csk_complete_hashdance`; newer ones
/// inline it there. Either way a handshake is counted by the hashdance.
#[inline(always)]
pub(crate) fn directly_enqueued(cpu: &CpuState, sk: Sock) {
    if syn::is_open(cpu) {
        if let Some(listener) = count::credit(sk, ONE_QUEUED) {
            entered(listener, Fill::of(sk));
            listener.totals.add(field!(enqueued_fastopen), 1);
        }
    } else if cookie::is_open(cpu)
        && let Some(listener) = count::credit(sk, ONE_QUEUED)
    {
        entered(listener, Fill::of(sk));
        listener.totals.add(field!(enqueued_cookie), 1);
    }
}

/// As [`directly_enqueued`], for a program that has no use of the CPU's state.
#[inline(always)]
pub(crate) fn directly_enqueued_here(sk: Sock) {
    if let Some(cpu) = cpu_state() {
        directly_enqueued(cpu, sk);
    }
}

/// `inet_reqsk_clone(req, sk)` returned a request for another listener. Only a request
/// that waits in the accept queue has a child; one in the SYN queue has none yet.
#[inline(always)]
pub(crate) fn migrated(from: Request, to: Sock) {
    if from.child() == 0 {
        return;
    }
    if let Some(listener) = count::credit(from.listener(), Pending::NONE) {
        listener.totals.add(field!(migrated_away), 1);
    }
    if let Some(listener) = count::credit(to, Pending::NONE) {
        // It will be in the queue soon.
        let Fill { length, limit } = Fill::of(to);
        entered(listener, Fill { length: length.wrapping_add(1), limit });
        listener.totals.add(field!(enqueued_migration), 1);
    }
}

/// Observes how full the queue is with the connection that enters it.
#[inline(always)]
pub(crate) fn entered(listener: Credit, fill: Fill) {
    if let Some(observed) = listener.observed() {
        observed.fill(histogram!(accept_fill), fill.length, fill.limit);
    }
}

/// `inet_csk_accept` returned a connection that was established at that moment.
#[inline(always)]
pub(crate) fn accepted(sk: Sock, established: Moment) {
    if let Some(listener) = count::credit(sk, Pending::NONE) {
        if global!(tcp_established) != 0
            && let Some(observed) = listener.observed()
        {
            observed.time_since(histogram!(accept_wait), established);
        }
        listener.totals.add(field!(accepts), 1);
    }
}

/// Whether this connection is not counted yet. Asked by two programs at the same exit.
///
/// accept() runs in process context. Where the kernel preempts that, a thread may be stopped
/// inside a program, and another thread that comes by on the same CPU finds the program busy:
/// the kernel skips it. Then the other of the two runs. Whichever comes first leaves its mark
/// and counts; whoever finds the mark takes it away. A mark that stays, because the second one
/// was skipped, is taken by the first one of a later connection at the same address, and the
/// second one counts that.
#[inline(always)]
pub(crate) fn is_first(child: TypedSock) -> bool {
    let Some(mark) = ACCEPTED.get_ptr_mut(child.hash() % ACCEPTED_SLOTS) else { return false };
    // SAFETY: a whole integer of a map value. Two connections share one if their hashes do, and
    // are mistaken for each other only if both are between the two programs.
    unsafe {
        if core::ptr::read_volatile(mark) == child.0 {
            core::ptr::write_volatile(mark, 0);
            return false;
        }
        core::ptr::write_volatile(mark, child.0);
    }
    true
}

/// `inet_child_forget(sk, req, child)`: the listener has closed, the child is reset. One that
/// completes at that moment never was in the queue, and its request is what is lost; unless
/// that never was in a queue either.
#[inline(always)]
pub(crate) fn abandoned(sk: Sock, request: Request, child: Sock) {
    if request.child() == 0 {
        if let Some(cpu) = cpu_state()
            && !syn::is_open(cpu)
            && !cookie::is_open(cpu)
            && let Some(listener) = count::credit(sk, Pending::NONE)
        {
            let closed = RequestLost::ListenerClosed as usize;
            listener.totals.add(field!(requests_lost[closed]), 1);
        }
        return;
    }
    if let Some(listener) = count::credit(sk, Pending::NONE) {
        if global!(tcp_established) != 0
            && let Some(observed) = listener.observed()
        {
            observed.time_since(histogram!(abandoned_wait), Moment(child.established_us()));
        }
        listener.totals.add(field!(abandoned), 1);
    }
}

/// Entry of `inet_csk_accept(sk, ..)`, which may sleep and return on another CPU: what it is
/// at is remembered for its thread.
#[inline(always)]
pub(crate) fn accept_begins(sk: Sock) {
    let thread = bpf_get_current_pid_tgid();
    if let Some(listener) = ACCEPTING.get_ptr_mut(thread) {
        // SAFETY: an integer of a map value, which only this thread writes: an entry that was
        // found just now is not the one to be evicted.
        unsafe { *listener = sk.0 };
        return;
    }
    // A thread that cannot be remembered is missing from the accepts.
    let _ = ACCEPTING.insert(thread, sk.0, 0);
}

/// Entry of `security_sock_graft(sk, parent)`: what `inet_csk_accept` returned gets the socket
/// that the program will know it by. Each connection that is accepted passes here, in the
/// same thread, whoever called; those of other protocols, too.
#[inline(always)]
pub(crate) fn grafted(sk: Sock) {
    let child = if sk.is_tcp() {
        sk
    } else if global!(mptcp_first) != 0 && sk.is_mptcp() {
        Sock(or_zero(sk.0, global!(mptcp_first)))
    } else {
        return;
    };
    // None: it was in the call before there was a hook.
    let Some(entry) = ACCEPTING.get_ptr_mut(bpf_get_current_pid_tgid()) else { return };
    // SAFETY: as in `accept_begins`. The entry stays: the thread will come again.
    let listener = Sock(unsafe { core::ptr::replace(entry, 0) });
    if listener.0 == 0 {
        return;
    }
    let established = if global!(tcp_established) == 0 { 0 } else { child.established_us() };
    accepted(listener, Moment(established));
}
