//! The accept queue: connections enter it, and leave it.

use crate::{
    calls::{CpuState, cookie, syn},
    count::{self, field},
    lifecycle::Pending,
    maps::cpu_state,
    read::{Request, Sock},
};

/// What an event that fills the queue has added to its length already.
const ONE_QUEUED: Pending = Pending { drops: 0, queued: 1 };

/// `inet_csk_complete_hashdance` returned a child.
#[inline(always)]
pub(crate) fn handshake_enqueued(sk: Sock) {
    if let Some(listener) = count::credit(sk, ONE_QUEUED) {
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
            listener.totals.add(field!(enqueued_fastopen), 1);
        }
    } else if cookie::is_open(cpu)
        && let Some(listener) = count::credit(sk, ONE_QUEUED)
    {
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
        listener.totals.add(field!(enqueued_migration), 1);
    }
}

/// `inet_csk_accept` returned a connection.
#[inline(always)]
pub(crate) fn accepted(sk: Sock) {
    if let Some(listener) = count::credit(sk, Pending::NONE) {
        listener.totals.add(field!(accepts), 1);
    }
}

/// `inet_child_forget(sk, req, child)`: the listener has closed, the child is reset.
#[inline(always)]
pub(crate) fn abandoned(sk: Sock) {
    if let Some(listener) = count::credit(sk, Pending::NONE) {
        listener.totals.add(field!(abandoned), 1);
    }
}
