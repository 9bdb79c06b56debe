//! fentry and fexit programs. Prototypes are those of Linux 6.12; where the number of
//! arguments differs between kernels and a return value is wanted, there is one program
//! per number, chosen by BTF, because a wrong one would load and read an argument as
//! the return value.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};

use crate::{
    calls::{
        accept,
        ack::{self, Child, Whose},
        cookie::{self, Counted},
        function, icmp, queue, request, syn,
    },
    direct::{TypedRequest, TypedSock},
    lifecycle,
    maps::cpu_state,
    observe::Moment,
    read::{Request, Skb, Sock},
};

#[inline(always)]
fn sock(ctx: &FEntryContext, n: usize) -> Sock {
    Sock(ctx.arg::<u64>(n))
}

#[inline(always)]
fn typed(ctx: &FExitContext, n: usize) -> TypedSock {
    TypedSock(ctx.arg::<u64>(n))
}

#[inline(always)]
fn skb(ctx: &FEntryContext, n: usize) -> Skb {
    Skb(ctx.arg::<u64>(n))
}

/// `int inet_csk_listen_start(struct sock *sk)`, net/ipv4/inet_connection_sock.c; with a second
/// argument, `int backlog`, before Linux 5.17. The socket is about to enter LISTEN; should it not
/// get its port, it leaves it again.
#[fentry]
fn fe_listen_start(ctx: FEntryContext) -> i32 {
    lifecycle::listen_begins(sock(&ctx, 0));
    0
}

#[fexit]
fn fx_listen_start_1(ctx: FExitContext) -> i32 {
    lifecycle::listen_ends(Sock(ctx.arg::<u64>(0)), ctx.arg::<u64>(1) as i32);
    0
}

#[fexit]
fn fx_listen_start_2(ctx: FExitContext) -> i32 {
    lifecycle::listen_ends(Sock(ctx.arg::<u64>(0)), ctx.arg::<u64>(2) as i32);
    0
}

/// `void inet_csk_listen_stop(struct sock *sk)`, net/ipv4/inet_connection_sock.c: whatever ends a
/// listener calls it once the socket has left LISTEN, and before its queue is emptied.
#[fentry]
fn fe_listen_stop(ctx: FEntryContext) -> i32 {
    lifecycle::listener_stops(sock(&ctx, 0));
    0
}

/// The pair for a function that handles a SYN, `int (struct sock *sk, struct sk_buff
/// *skb)`: what `icsk_af_ops->conn_request` points to. All end in `tcp_conn_request`;
/// a drop before that is seen only here.
macro_rules! syn_call {
    ($entry:ident, $exit:ident, $function:expr) => {
        #[fentry]
        fn $entry(ctx: FEntryContext) -> i32 {
            syn::begins($function, sock(&ctx, 0), skb(&ctx, 1));
            0
        }

        #[fexit]
        fn $exit(ctx: FExitContext) -> i32 {
            syn::ends($function, |_| typed(&ctx, 0).syn_queue_limit());
            0
        }
    };
}
syn_call!(fe_syn_v4, fx_syn_v4, function::SYN_V4);
syn_call!(fe_syn_v6, fx_syn_v6, function::SYN_V6);
syn_call!(fe_syn_mptcp_v4, fx_syn_mptcp_v4, function::SYN_MPTCP_V4);
syn_call!(fe_syn_mptcp_v6, fx_syn_mptcp_v6, function::SYN_MPTCP_V6);

/// The pair for `struct sock *tcp_v4_syn_recv_sock(const struct sock *sk, struct sk_buff
/// *skb, struct request_sock *req, struct dst_entry *dst, struct request_sock
/// *req_unhash, bool *own_req)`, net/ipv4/tcp_ipv4.c, and its IPv6 twin; some kernels
/// have a seventh argument.
macro_rules! child_call {
    ($entry:ident, $exit_of_6:ident, $exit_of_7:ident, $function:expr) => {
        #[fentry]
        fn $entry(ctx: FEntryContext) -> i32 {
            let whose = if ctx.arg::<u64>(4) == 0 { Whose::Cookie } else { Whose::Request };
            let (sk, skb, request) = (sock(&ctx, 0), skb(&ctx, 1), ctx.arg::<u64>(2));
            let synack_sent = || TypedRequest(request).synack_sent_us();
            ack::begins($function, sk, skb, Request(request), whose, synack_sent);
            0
        }

        child_exit!($exit_of_6, 6, $function);
        child_exit!($exit_of_7, 7, $function);
    };
}
macro_rules! child_exit {
    ($exit:ident, $arity:literal, $function:expr) => {
        #[fexit]
        fn $exit(ctx: FExitContext) -> i32 {
            ack::ends($function, Child::from(ctx.arg::<u64>($arity)));
            0
        }
    };
}
child_call!(fe_child_v4, fx_child_v4_6, fx_child_v4_7, function::CHILD_V4);
child_call!(fe_child_v6, fx_child_v6_6, fx_child_v6_7, function::CHILD_V6);

/// `struct sock *tcp_check_req(struct sock *sk, struct sk_buff *skb, struct request_sock
/// *req, bool fastopen, bool *req_stolen)`, net/ipv4/tcp_minisocks.c. With `fastopen`
/// the socket is a Fast Open child and not a listener.
#[fentry]
fn fe_check_request(ctx: FEntryContext) -> i32 {
    if ctx.arg::<u64>(3) & 0xff == 0 {
        let (sk, skb, request) = (sock(&ctx, 0), skb(&ctx, 1), ctx.arg::<u64>(2));
        let synack_sent = || TypedRequest(request).synack_sent_us();
        let (function, whose) = (function::CHECK_REQUEST, Whose::Request);
        ack::begins(function, sk, skb, Request(request), whose, synack_sent);
    }
    0
}

#[fexit]
fn fx_check_request(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(3) & 0xff == 0 {
        ack::ends(function::CHECK_REQUEST, Child::NotKnown);
    }
    0
}

/// The pair for `struct sock *cookie_v4_check(struct sock *sk, struct sk_buff *skb)`,
/// net/ipv4/syncookies.c, and its IPv6 twin.
macro_rules! cookie_call {
    ($entry:ident, $exit:ident, $function:expr, $counted:expr) => {
        #[fentry]
        fn $entry(ctx: FEntryContext) -> i32 {
            cookie::begins($function, sock(&ctx, 0), skb(&ctx, 1));
            0
        }

        #[fexit]
        fn $exit(_ctx: FExitContext) -> i32 {
            cookie::ends($function, $counted);
            0
        }
    };
}
cookie_call!(fe_cookie_v4, fx_cookie_v4, function::COOKIE_V4, Counted::Cookies);
cookie_call!(fe_cookie_v6, fx_cookie_v6, function::COOKIE_V6, Counted::Cookies);
cookie_call!(fe_cookie_ack_v4, fx_cookie_ack_v4, function::COOKIE_V4, Counted::CookiesAndDrops);
cookie_call!(fe_cookie_ack_v6, fx_cookie_ack_v6, function::COOKIE_V6, Counted::CookiesAndDrops);

/// `void tcp_req_err(struct sock *sk, u32 seq, bool abort)`, net/ipv4/tcp_ipv4.c, whose
/// `sk` is a request.
#[fentry]
fn fe_request_error(ctx: FEntryContext) -> i32 {
    icmp::begins(Request(ctx.arg::<u64>(0)));
    0
}

#[fexit]
fn fx_request_error(_ctx: FExitContext) -> i32 {
    icmp::ends();
    0
}

/// `struct request_sock *inet_reqsk_alloc(const struct request_sock_ops *ops, struct
/// sock *sk_listener, bool attach_listener)`, net/ipv4/tcp_input.c.
#[fexit]
fn fx_request_alloc(ctx: FExitContext) -> i32 {
    syn::request_allocated(ctx.arg::<u64>(3));
    0
}

/// `bool tcp_peer_is_proven(struct request_sock *req, struct dst_entry *dst)`,
/// net/ipv4/tcp_metrics.c.
#[fexit]
fn fx_peer_proven(ctx: FExitContext) -> i32 {
    syn::peer_proven(ctx.arg::<u64>(2));
    0
}

/// `void inet_csk_reqsk_queue_hash_add(struct sock *sk, struct request_sock *req, unsigned
/// long timeout)`, net/ipv4/inet_connection_sock.c; newer kernels return whether there was no
/// such request yet (a bool), and the newest have no third argument.
#[fexit]
fn fx_request_queued(ctx: FExitContext) -> i32 {
    syn::request_queued(|_| typed(&ctx, 0).syn_queue_length());
    0
}

#[fexit]
fn fx_request_queued_2(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(2) & 0xff != 0 {
        syn::request_queued(|_| typed(&ctx, 0).syn_queue_length());
    }
    0
}

#[fexit]
fn fx_request_queued_3(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(3) & 0xff != 0 {
        syn::request_queued(|_| typed(&ctx, 0).syn_queue_length());
    }
    0
}

/// `bool inet_csk_reqsk_queue_drop(struct sock *sk, struct request_sock *req)`,
/// net/ipv4/inet_connection_sock.c.
#[fentry]
fn fe_queue_drop(ctx: FEntryContext) -> i32 {
    request::drop_begins(Request(ctx.arg::<u64>(1)));
    0
}

#[fexit]
fn fx_queue_drop(_ctx: FExitContext) -> i32 {
    request::drop_ends();
    0
}

/// `static bool __inet_csk_reqsk_queue_drop(struct sock *sk, struct request_sock *req,
/// bool from_timer)`, net/ipv4/inet_connection_sock.c, since Linux 6.1.
#[fexit]
fn fx_request_dropped(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(3) & 0xff != 0 {
        request::lost(Sock(ctx.arg::<u64>(0)), Request(ctx.arg::<u64>(1)));
    }
    0
}

/// `static bool reqsk_queue_unlink(struct request_sock *req)`,
/// net/ipv4/inet_connection_sock.c, before.
#[fexit]
fn fx_request_unlinked(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(1) & 0xff != 0 {
        let request = Request(ctx.arg::<u64>(0));
        request::lost(request.listener(), request);
    }
    0
}

/// `int tcp_abort(struct sock *sk, int err)`, net/ipv4/tcp.c.
#[fentry]
fn fe_abort(ctx: FEntryContext) -> i32 {
    request::abort_begins(Request(ctx.arg::<u64>(0)));
    0
}

/// `struct sock *inet_csk_complete_hashdance(struct sock *sk, struct sock *child,
/// struct request_sock *req, bool own_req)`, net/ipv4/inet_connection_sock.c.
#[fexit]
fn fx_hashdance(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(4) != 0
        && let Some(cpu) = cpu_state()
    {
        let (sk, request) = (Sock(ctx.arg::<u64>(0)), Request(ctx.arg::<u64>(2)));
        queue::handshake_enqueued(cpu, sk, request, typed(&ctx, 0).accept_queue());
    }
    0
}

/// `struct sock *inet_csk_reqsk_queue_add(struct sock *sk, struct request_sock
/// *req, struct sock *child)`, net/ipv4/inet_connection_sock.c.
#[fexit]
fn fx_queue_add(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(3) != 0 {
        queue::directly_enqueued_here(Sock(ctx.arg::<u64>(0)));
    }
    0
}

/// `static struct request_sock *inet_reqsk_clone(struct request_sock *req, struct sock
/// *sk)`, net/ipv4/inet_connection_sock.c, since Linux 5.14.
#[fexit]
fn fx_request_clone(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(2) != 0 {
        queue::migrated(Request(ctx.arg::<u64>(0)), Sock(ctx.arg::<u64>(1)));
    }
    0
}

/// `static void inet_child_forget(struct sock *sk, struct request_sock *req, struct sock
/// *child)`, net/ipv4/inet_connection_sock.c.
#[fentry]
fn fe_child_forget(ctx: FEntryContext) -> i32 {
    queue::abandoned(sock(&ctx, 0), Request(ctx.arg::<u64>(1)), sock(&ctx, 2));
    0
}

/// Programs at the exit of accept(), by the number of its arguments: `struct sock
/// *inet_csk_accept(struct sock *sk, struct proto_accept_arg *arg)`,
/// net/ipv4/inet_connection_sock.c, since Linux 6.10; `(struct sock *sk, int flags, int *err,
/// bool kern)` before.
macro_rules! accept_exit {
    ($name:ident, $arity:literal, $is_mine:expr) => {
        #[fexit]
        fn $name(ctx: FExitContext) -> i32 {
            let child = typed(&ctx, $arity);
            if child.0 != 0 && $is_mine(child) {
                queue::accepted(Sock(ctx.arg::<u64>(0)), Moment(child.established_us()));
            }
            0
        }
    };
}
#[inline(always)]
fn always(_child: TypedSock) -> bool {
    true
}
accept_exit!(fx_accept_2, 2, always);
accept_exit!(fx_accept_4, 4, always);
accept_exit!(fx_accept_first_2, 2, queue::is_first);
accept_exit!(fx_accept_second_2, 2, queue::is_first);
accept_exit!(fx_accept_first_4, 4, queue::is_first);
accept_exit!(fx_accept_second_4, 4, queue::is_first);

/// `int __sys_accept4(int fd, struct sockaddr __user *upeer_sockaddr, int __user
/// *upeer_addrlen, int flags)`, net/socket.c: what accept() and accept4() are.
#[fexit]
fn fx_accept_call(ctx: FExitContext) -> i32 {
    accept::returned(ctx.arg::<u32>(0), ctx.arg::<u64>(4) as i32);
    0
}

/// `int io_accept(struct io_kiocb *req, unsigned int issue_flags)`, io_uring/net.c, since
/// Linux 6.0; before, it was static and inlined.
#[fexit]
fn fx_uring_accept(ctx: FExitContext) -> i32 {
    accept::uring_returned(ctx.arg::<u64>(0), ctx.arg::<u64>(2) as i32);
    0
}
