//! fentry and fexit programs. Prototypes are those of Linux 6.12; an arity that
//! differs between kernels has one program each, chosen by BTF, because a wrong
//! one would load and read an argument as the return value.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};

use crate::{
    calls,
    read::{Skb, Sock},
};

/// `int tcp_conn_request(struct request_sock_ops *rsk_ops, const struct
/// tcp_request_sock_ops *af_ops, struct sock *sk, struct sk_buff *skb)`,
/// net/ipv4/tcp_input.c. Always returns 0.
#[fentry]
fn fe_conn_request(ctx: FEntryContext) -> i32 {
    calls::syn_begins(Sock(ctx.arg::<u64>(2)), Skb(ctx.arg::<u64>(3)));
    0
}

#[fexit]
fn fx_conn_request(_ctx: FExitContext) -> i32 {
    calls::syn_ends();
    0
}

/// `struct sock *tcp_v4_syn_recv_sock(const struct sock *sk, struct sk_buff *skb,
/// struct request_sock *req, struct dst_entry *dst, struct request_sock
/// *req_unhash, bool *own_req)`, net/ipv4/tcp_ipv4.c; some kernels have a seventh
/// argument, which changes nothing here.
#[fentry]
fn fe_syn_recv_v4(ctx: FEntryContext) -> i32 {
    child_begins(&ctx, calls::V4);
    0
}

#[fexit]
fn fx_syn_recv_v4(_ctx: FExitContext) -> i32 {
    calls::child_ends(calls::V4);
    0
}

/// As `tcp_v4_syn_recv_sock`, net/ipv6/tcp_ipv6.c.
#[fentry]
fn fe_syn_recv_v6(ctx: FEntryContext) -> i32 {
    child_begins(&ctx, calls::V6);
    0
}

#[fexit]
fn fx_syn_recv_v6(_ctx: FExitContext) -> i32 {
    calls::child_ends(calls::V6);
    0
}

#[inline(always)]
fn child_begins(ctx: &FEntryContext, function: u32) {
    let (sk, skb) = (Sock(ctx.arg::<u64>(0)), Skb(ctx.arg::<u64>(1)));
    calls::child_begins(function, sk, skb, ctx.arg::<u64>(2), ctx.arg::<u64>(4));
}

/// `struct sock *inet_csk_complete_hashdance(struct sock *sk, struct sock *child,
/// struct request_sock *req, bool own_req)`, net/ipv4/inet_connection_sock.c.
#[fexit]
fn fx_hashdance(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(4) != 0 {
        calls::handshake_enqueued(Sock(ctx.arg::<u64>(0)));
    }
    0
}

/// `struct sock *inet_csk_reqsk_queue_add(struct sock *sk, struct request_sock
/// *req, struct sock *child)`, net/ipv4/inet_connection_sock.c.
#[fexit]
fn fx_queue_add(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(3) != 0 {
        let path = calls::enqueue_path(ctx.arg::<u64>(1));
        calls::directly_enqueued(Sock(ctx.arg::<u64>(0)), path);
    }
    0
}

/// `struct sock *inet_csk_accept(struct sock *sk, struct proto_accept_arg *arg)`,
/// net/ipv4/inet_connection_sock.c, since Linux 6.10.
#[fexit]
fn fx_accept_2(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(2) != 0 {
        calls::accepted(Sock(ctx.arg::<u64>(0)));
    }
    0
}

/// `struct sock *inet_csk_accept(struct sock *sk, int flags, int *err, bool
/// kern)`, before Linux 6.10.
#[fexit]
fn fx_accept_4(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(4) != 0 {
        calls::accepted(Sock(ctx.arg::<u64>(0)));
    }
    0
}
