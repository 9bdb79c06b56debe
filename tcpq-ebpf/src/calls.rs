//! What the hooked calls did, judged from inside them.
//!
//! Per CPU there are two open calls at most, one in the other:
//! `tcp_conn_request` (a SYN) may run `tcp_v4_syn_recv_sock` inside it (TCP Fast
//! Open), and `tcp_v6_syn_recv_sock` runs the v4 one for a v4-mapped client. The
//! outermost call owns what happens in it. Softirq TCP does not nest on a CPU,
//! so one slot per kind is enough.

use tcpq_common::{record::Kind, totals::Loss};

use crate::{
    count::{self, field},
    emit,
    lifecycle::{self, Pending},
    maps::{cpu_state, lose},
    mib::Mib,
    read::{Client, Skb, Sock},
};

/// What this CPU is in the middle of.
#[repr(C)]
pub(crate) struct CpuState {
    /// `__per_cpu_offset[cpu]`; 0 = not read yet.
    pub(crate) per_cpu_offset: u64,
    /// The SYN inside `tcp_conn_request`.
    syn: Call,
    /// The final ACK inside `tcp_v4/v6_syn_recv_sock`.
    ack: Call,
    /// The request that last created a child here, and how it came.
    last_request: u64,
    last_path: u32,
    _pad: u32,
    /// Arguments that a kprobe's return probe cannot see.
    pub(crate) hashdance_sk: u64,
    pub(crate) queue_add_sk: u64,
    pub(crate) queue_add_path: u32,
    _pad2: u32,
}

/// One open call.
#[derive(Clone, Copy)]
#[repr(C)]
struct Call {
    sk: u64,
    skb: u64,
    /// The request, for an ACK.
    request: u64,
    before: Mib,
    /// Which function opened it: [`NONE`] = no call is open.
    opened_by: u32,
    _pad: u32,
}

/// `Call::opened_by`: nothing, or the function.
const NONE: u32 = 0;
/// `tcp_conn_request`.
const CONN_REQUEST: u32 = 1;
/// `tcp_v4_syn_recv_sock`.
pub(crate) const V4: u32 = 4;
/// `tcp_v6_syn_recv_sock`.
pub(crate) const V6: u32 = 6;

/// How a connection gets into the accept queue.
#[derive(Clone, Copy, PartialEq)]
#[repr(u32)]
pub(crate) enum Path {
    Unknown = 0,
    Handshake = 1,
    Cookie = 2,
    FastOpen = 3,
}

/// Entry of `tcp_conn_request(rsk_ops, af_ops, sk, skb)`.
#[inline(always)]
pub(crate) fn syn_begins(sk: Sock, skb: Skb) {
    let Some(cpu) = cpu_state() else { return };
    if cpu.syn.opened_by != NONE {
        // Its exit program was skipped.
        lose(Loss::Unpaired);
        cpu.syn.opened_by = NONE;
    }
    let Some(before) = Mib::read(cpu, sk) else {
        lose(Loss::Unreadable);
        return;
    };
    cpu.syn = Call { sk: sk.0, skb: skb.0, request: 0, before, opened_by: CONN_REQUEST, _pad: 0 };
}

/// Exit of `tcp_conn_request`.
#[inline(always)]
pub(crate) fn syn_ends() {
    let Some(cpu) = cpu_state() else { return };
    let call = cpu.syn;
    if call.opened_by == NONE {
        lose(Loss::Unpaired);
        return;
    }
    cpu.syn.opened_by = NONE;
    let sk = Sock(call.sk);
    let Some(totals) = count::totals(sk, Pending::NONE) else {
        return;
    };
    totals.add(field!(syns_received), 1);
    let Some(raised) = call.before.raised_since() else {
        lose(Loss::Unreadable);
        return;
    };
    if raised.nothing() {
        return;
    }
    totals.add(field!(listen_drops), raised.drops);
    totals.add(field!(overflows_syn), raised.overflows);
    let kind = if raised.overflows == 0 { Kind::DropSyn } else { Kind::OverflowSyn };
    report(sk, Skb(call.skb), kind);
}

/// Entry of `tcp_v4/v6_syn_recv_sock(sk, skb, req, dst, req_unhash, ..)`.
///
/// `req_unhash` is NULL for a cookie's request, which was never hashed
/// (`tcp_get_cookie_sock`), and inside a SYN (`tcp_fastopen_create_child`).
#[inline(always)]
pub(crate) fn child_begins(function: u32, sk: Sock, skb: Skb, request: u64, req_unhash: u64) {
    let Some(cpu) = cpu_state() else { return };
    if cpu.syn.opened_by != NONE {
        if cpu.syn.skb == skb.0 {
            return;
        }
        // Another packet: the SYN's exit program was skipped.
        lose(Loss::Unpaired);
        cpu.syn.opened_by = NONE;
    }
    if cpu.ack.opened_by == V6 && cpu.ack.request == request {
        return;
    }
    if cpu.ack.opened_by != NONE {
        lose(Loss::Unpaired);
        cpu.ack.opened_by = NONE;
    }
    cpu.last_request = request;
    cpu.last_path = if req_unhash == 0 { Path::Cookie } else { Path::Handshake } as u32;
    let Some(before) = Mib::read(cpu, sk) else {
        lose(Loss::Unreadable);
        return;
    };
    cpu.ack = Call { sk: sk.0, skb: skb.0, request, before, opened_by: function, _pad: 0 };
}

/// Exit of `tcp_v4/v6_syn_recv_sock`.
#[inline(always)]
pub(crate) fn child_ends(function: u32) {
    let Some(cpu) = cpu_state() else { return };
    let call = cpu.ack;
    if cpu.syn.opened_by != NONE || (call.opened_by == V6 && function == V4) {
        return;
    }
    if call.opened_by != function {
        lose(Loss::Unpaired);
        return;
    }
    cpu.ack.opened_by = NONE;
    let Some(raised) = call.before.raised_since() else {
        lose(Loss::Unreadable);
        return;
    };
    if raised.nothing() {
        return;
    }
    let by_cookie = cpu.last_path == Path::Cookie as u32;
    let sk = Sock(call.sk);
    let Some(totals) = count::totals(sk, Pending::NONE) else {
        return;
    };
    totals.add(field!(listen_drops), raised.drops);
    let kind = if raised.overflows == 0 {
        Kind::DropAck
    } else if by_cookie {
        totals.add(field!(overflows_cookie), raised.overflows);
        Kind::OverflowCookie
    } else {
        totals.add(field!(overflows_ack), raised.overflows);
        Kind::OverflowAck
    };
    report(sk, Skb(call.skb), kind);
}

#[inline(always)]
pub(crate) fn report(sk: Sock, skb: Skb, kind: Kind) {
    let client = skb.client().unwrap_or(Client::NONE);
    let Some(listener) = lifecycle::known(sk) else { return };
    if let Some(totals) = count::of_listener(sk, &listener) {
        emit::limited(totals, &listener, sk, kind, client);
    }
}

/// `inet_csk_complete_hashdance` returned a child.
#[inline(always)]
pub(crate) fn handshake_enqueued(sk: Sock) {
    if let Some(totals) = count::totals(sk, Pending { drops: 0, queued: 1 }) {
        totals.add(field!(enqueued_handshake), 1);
    }
}

/// How the request that `inet_csk_reqsk_queue_add` is called for came to be.
///
/// Kernels before 6.1 also call it inside `inet_csk_complete_hashdance`; newer
/// ones inline it there. Either way a handshake is counted by the hashdance.
#[inline(always)]
pub(crate) fn enqueue_path(request: u64) -> Path {
    let Some(cpu) = cpu_state() else {
        return Path::Unknown;
    };
    if cpu.syn.opened_by != NONE {
        Path::FastOpen
    } else if cpu.last_request == request {
        if cpu.last_path == Path::Cookie as u32 { Path::Cookie } else { Path::Handshake }
    } else {
        Path::Unknown
    }
}

/// `inet_csk_reqsk_queue_add` returned a child.
#[inline(always)]
pub(crate) fn directly_enqueued(sk: Sock, path: Path) {
    if path == Path::Handshake {
        return;
    }
    if let Some(totals) = count::totals(sk, Pending { drops: 0, queued: 1 }) {
        match path {
            Path::Cookie => totals.add(field!(enqueued_cookie), 1),
            Path::FastOpen => totals.add(field!(enqueued_fastopen), 1),
            Path::Unknown | Path::Handshake => totals.add(field!(enqueued_unknown), 1),
        }
    }
}

/// `inet_csk_accept` returned a connection.
#[inline(always)]
pub(crate) fn accepted(sk: Sock) {
    if let Some(totals) = count::totals(sk, Pending::NONE) {
        totals.add(field!(accepts), 1);
    }
}
