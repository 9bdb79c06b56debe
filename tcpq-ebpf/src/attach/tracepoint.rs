//! BTF tracepoints: lifecycle on every kernel, and what they can tell where no
//! function can be probed.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tcpq_common::{TCP_LISTEN, record::Kind};

use crate::{
    calls::{
        queue::{self, Fill},
        report,
    },
    count::{self, field},
    direct::TypedSock,
    globals::global,
    lifecycle::{self, Pending},
    read::{Request, Skb, Sock},
};

/// `TCP_CLOSE` of include/net/tcp_states.h.
const TCP_CLOSE: u32 = 7;
/// FIN, SYN and RST in the TCP flags byte.
const FIN_SYN_RST: u8 = 0b0111;

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int
/// newstate)`, include/trace/events/sock.h, since Linux 4.16. Raised by
/// `inet_sk_state_store`, so `listen()` raises it too. A child leaves LISTEN for
/// SYN_RECV when it is cloned: not a close.
#[btf_tracepoint]
fn tp_set_state(ctx: BtfTracePointContext) -> i32 {
    let (old, new) = (ctx.arg::<u32>(1), ctx.arg::<u32>(2));
    let listen = u32::from(TCP_LISTEN);
    if new != listen && !(old == listen && new == TCP_CLOSE) {
        return 0;
    }
    let sk = Sock(ctx.arg::<u64>(0));
    if !sk.is_tcp() {
        return 0;
    }
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(&ctx, "listener state {} -> {}", old, new);
    if new == listen {
        lifecycle::opened(sk);
    } else {
        lifecycle::closed(sk);
    }
    0
}

/// `sk_data_ready(const struct sock *sk)`, include/trace/events/sock.h, since
/// Linux 6.3. With a listener as its argument it is raised once per connection
/// that entered the accept queue: by `tcp_child_process`, or for TCP Fast Open by
/// `tcp_conn_request`. Also once more by NFS's listener, which wraps the callback,
/// and for an MPTCP subflow that joins: hence "derived".
#[btf_tracepoint]
fn tp_data_ready(ctx: BtfTracePointContext) -> i32 {
    let state = TypedSock(ctx.arg::<u64>(0)).state();
    // Raised for all that any socket receives: most are connections.
    if state != TCP_LISTEN && u32::from(state) != TCP_CLOSE {
        return 0;
    }
    let sk = Sock(ctx.arg::<u64>(0));
    // What entered the queue before the close may be told after it.
    if (sk.is_tcp_listener() || lifecycle::is_closing(sk))
        && let Some(listener) = count::credit(sk, Pending { drops: 0, queued: 1 })
    {
        queue::entered(listener, Fill::of(sk));
        listener.totals.add(field!(enqueued_unknown), 1);
    }
    0
}

/// `tcp_retransmit_synack(const struct sock *sk, const struct request_sock *req)`,
/// include/trace/events/tcp.h, since Linux 4.16: by the request's timer, or for a SYN
/// that came again. Of Fast Open `sk` is the child.
#[btf_tracepoint]
fn tp_synack_again(ctx: BtfTracePointContext) -> i32 {
    let listener = Request(ctx.arg::<u64>(1)).listener();
    if let Some(listener) = count::credit(listener, Pending::NONE) {
        listener.totals.add(field!(synack_retransmits), 1);
    }
    0
}

/// `tcp_destroy_sock(struct sock *sk)`, include/trace/events/tcp.h, since Linux 4.16.
#[btf_tracepoint]
fn tp_destroy_sock(ctx: BtfTracePointContext) -> i32 {
    lifecycle::destroyed(Sock(ctx.arg::<u64>(0)));
    0
}

/// `kfree_skb(struct sk_buff *skb, void *location, enum skb_drop_reason reason,
/// struct sock *rx_sk)`, include/trace/events/skb.h; `rx_sk` since Linux 6.11.
///
/// A refused final ACK ends here with the listener as `rx_sk`; a refused SYN does
/// not (it is consumed). `sk_drops` counts both, so what is seen here is also
/// what must be left out when refused SYNs are derived from it.
#[btf_tracepoint]
fn tp_kfree_skb(ctx: BtfTracePointContext) -> i32 {
    if global!(kfree_has_rx_sk) == 0 {
        return 0;
    }
    let sk = Sock(ctx.arg::<u64>(3));
    if sk.0 == 0 || !(sk.is_tcp_listener() || lifecycle::is_closing(sk)) {
        return 0;
    }
    let location = ctx.arg::<u64>(1);
    let skb = Skb(ctx.arg::<u64>(0));
    let reason = ctx.arg::<u32>(2);
    let cookie = global!(cookie_functions);
    if is_within(location, cookie[0]) || is_within(location, cookie[1]) {
        // tcp_get_cookie_sock made no child; other reasons raise nothing.
        if reason == global!(reason_no_socket)
            && let Some(listener) = count::credit(sk, Pending { drops: 1, queued: 0 })
        {
            listener.totals.add(field!(overflows_cookie), 1);
            listener.totals.add(field!(listen_drops), 1);
            report(listener, sk, skb, Kind::OverflowCookie);
        }
        return 0;
    }
    // `discard_and_relse` in the receive functions and tcp_drop_reason add to
    // sk_drops; a reset sent for a stray ACK (tcp_v4_do_rcv) does not.
    let functions = global!(dropping_functions);
    if !is_within(location, functions[0])
        && !is_within(location, functions[1])
        && !is_within(location, functions[2])
        && !is_within(location, functions[3])
    {
        return 0;
    }
    let weight = skb.drop_weight().unwrap_or(1);
    let overflow = is_refused_ack(sk, skb, reason);
    // tcp_listendrop added one more for the refused ACK.
    let pending = Pending { drops: weight + u32::from(overflow), queued: 0 };
    let Some(listener) = count::credit(sk, pending) else {
        return 0;
    };
    let totals = listener.totals;
    totals.add(field!(drops_explained), u64::from(weight));
    if overflow {
        totals.add(field!(overflows_ack), 1);
        totals.add(field!(listen_drops), 1);
        report(listener, sk, skb, Kind::OverflowAck);
    }
    0
}

#[inline(always)]
fn is_within(location: u64, function: [u64; 2]) -> bool {
    location >= function[0] && location < function[1]
}

/// The kernel says so since 6.15. Before, a plain ACK for a full accept queue
/// that is not a deferred one: near, but not certain.
#[inline(always)]
fn is_refused_ack(sk: Sock, skb: Skb, reason: u32) -> bool {
    if global!(reason_listen_overflow) != 0 {
        return reason == global!(reason_listen_overflow);
    }
    if reason != global!(reason_not_specified) {
        return false;
    }
    let Some((flags, payload)) = skb.tcp_flags_and_payload() else {
        return false;
    };
    flags & FIN_SYN_RST == 0
        && (payload > 0 || !sk.defers_accept())
        && sk.accept_queue_length() > sk.accept_queue_limit()
}
