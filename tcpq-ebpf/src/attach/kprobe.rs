//! kprobe and kretprobe programs: the same calls as in `fentry`, where the prototypes
//! are.
//!
//! A return probe does not see the arguments; what it needs is left in the CPU's
//! slot. That is sound where these functions run: in softirq context or with it held
//! off, and without sleeping. `inet_csk_accept` sleeps: a return probe has a fixed number of
//! slots, which threads that wait would use up. What it returned is seen at the entry of a
//! function that its callers call next. `__sys_accept4` sleeps too: its descriptor is in the
//! caller's registers, but of many who sleep some returns are lost.

use core::mem::take;

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::{
    calls::{
        accept,
        ack::{self, Child, Whose},
        cookie::{self, Counted},
        function, icmp,
        queue::{self, Fill},
        request, syn,
    },
    maps::cpu_state,
    read::{Request, Skb, Sock},
};

#[inline(always)]
fn arg(ctx: &ProbeContext, n: usize) -> u64 {
    ctx.arg::<u64>(n).unwrap_or(0)
}

#[inline(always)]
fn is_true(ctx: &RetProbeContext) -> bool {
    ctx.ret::<u64>() & 0xff != 0
}

macro_rules! syn_call {
    ($entry:ident, $exit:ident, $function:expr) => {
        #[kprobe]
        fn $entry(ctx: ProbeContext) -> u32 {
            syn::begins($function, Sock(arg(&ctx, 0)), Skb(arg(&ctx, 1)));
            0
        }

        #[kretprobe]
        fn $exit(_ctx: RetProbeContext) -> u32 {
            syn::ends($function, Sock::syn_queue_limit);
            0
        }
    };
}
syn_call!(kp_syn_v4, kr_syn_v4, function::SYN_V4);
syn_call!(kp_syn_v6, kr_syn_v6, function::SYN_V6);
syn_call!(kp_syn_mptcp_v4, kr_syn_mptcp_v4, function::SYN_MPTCP_V4);
syn_call!(kp_syn_mptcp_v6, kr_syn_mptcp_v6, function::SYN_MPTCP_V6);

macro_rules! child_call {
    ($entry:ident, $exit:ident, $function:expr) => {
        #[kprobe]
        fn $entry(ctx: ProbeContext) -> u32 {
            let whose = if arg(&ctx, 4) == 0 { Whose::Cookie } else { Whose::Request };
            let (sk, skb) = (Sock(arg(&ctx, 0)), Skb(arg(&ctx, 1)));
            let request = Request(arg(&ctx, 2));
            ack::begins($function, sk, skb, request, whose, || request.synack_sent_us());
            0
        }

        #[kretprobe]
        fn $exit(ctx: RetProbeContext) -> u32 {
            ack::ends($function, Child::from(ctx.ret::<u64>()));
            0
        }
    };
}
child_call!(kp_child_v4, kr_child_v4, function::CHILD_V4);
child_call!(kp_child_v6, kr_child_v6, function::CHILD_V6);

macro_rules! cookie_call {
    ($entry:ident, $exit:ident, $function:expr) => {
        #[kprobe]
        fn $entry(ctx: ProbeContext) -> u32 {
            cookie::begins($function, Sock(arg(&ctx, 0)), Skb(arg(&ctx, 1)));
            0
        }

        #[kretprobe]
        fn $exit(_ctx: RetProbeContext) -> u32 {
            cookie::ends($function, Counted::Cookies);
            0
        }
    };
}
cookie_call!(kp_cookie_v4, kr_cookie_v4, function::COOKIE_V4);
cookie_call!(kp_cookie_v6, kr_cookie_v6, function::COOKIE_V6);

#[kprobe]
fn kp_request_error(ctx: ProbeContext) -> u32 {
    icmp::begins(Request(arg(&ctx, 0)));
    0
}

#[kretprobe]
fn kr_request_error(_ctx: RetProbeContext) -> u32 {
    icmp::ends();
    0
}

#[kretprobe]
fn kr_request_alloc(ctx: RetProbeContext) -> u32 {
    syn::request_allocated(ctx.ret::<u64>());
    0
}

#[kretprobe]
fn kr_peer_proven(ctx: RetProbeContext) -> u32 {
    syn::peer_proven(ctx.ret::<u64>());
    0
}

#[kretprobe]
fn kr_request_queued(_ctx: RetProbeContext) -> u32 {
    syn::request_queued(Sock::syn_queue_length);
    0
}

#[kretprobe]
fn kr_request_queued_if(ctx: RetProbeContext) -> u32 {
    if is_true(&ctx) {
        syn::request_queued(Sock::syn_queue_length);
    }
    0
}

#[kprobe]
fn kp_queue_drop(ctx: ProbeContext) -> u32 {
    request::drop_begins(Request(arg(&ctx, 1)));
    0
}

#[kretprobe]
fn kr_queue_drop(_ctx: RetProbeContext) -> u32 {
    request::drop_ends();
    0
}

#[kprobe]
fn kp_request_dropped(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = cpu_state() {
        cpu.stash.dropped_sk = arg(&ctx, 0);
        cpu.stash.dropped_request = arg(&ctx, 1);
    }
    0
}

#[kretprobe]
fn kr_request_dropped(ctx: RetProbeContext) -> u32 {
    let Some(cpu) = cpu_state() else { return 0 };
    let (sk, request) = (take(&mut cpu.stash.dropped_sk), take(&mut cpu.stash.dropped_request));
    if is_true(&ctx) && sk != 0 {
        request::lost(Sock(sk), Request(request));
    }
    0
}

#[kprobe]
fn kp_request_unlinked(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = cpu_state() {
        cpu.stash.dropped_request = arg(&ctx, 0);
    }
    0
}

#[kretprobe]
fn kr_request_unlinked(ctx: RetProbeContext) -> u32 {
    let Some(cpu) = cpu_state() else { return 0 };
    let request = Request(take(&mut cpu.stash.dropped_request));
    if is_true(&ctx) && request.0 != 0 {
        request::lost(request.listener(), request);
    }
    0
}

#[kprobe]
fn kp_abort(ctx: ProbeContext) -> u32 {
    request::abort_begins(Request(arg(&ctx, 0)));
    0
}

#[kprobe]
fn kp_hashdance(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = cpu_state() {
        cpu.stash.hashdance_sk = arg(&ctx, 0);
        cpu.stash.hashdance_request = arg(&ctx, 2);
    }
    0
}

#[kretprobe]
fn kr_hashdance(ctx: RetProbeContext) -> u32 {
    let Some(cpu) = cpu_state() else { return 0 };
    let sk = take(&mut cpu.stash.hashdance_sk);
    if ctx.ret::<u64>() != 0 && sk != 0 {
        let (sk, request) = (Sock(sk), Request(cpu.stash.hashdance_request));
        queue::handshake_enqueued(cpu, sk, request, Fill::of(sk));
    }
    0
}

#[kprobe]
fn kp_queue_add(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = cpu_state() {
        cpu.stash.queue_add_sk = arg(&ctx, 0);
    }
    0
}

#[kretprobe]
fn kr_queue_add(ctx: RetProbeContext) -> u32 {
    let Some(cpu) = cpu_state() else { return 0 };
    let sk = take(&mut cpu.stash.queue_add_sk);
    if ctx.ret::<u64>() != 0 && sk != 0 {
        queue::directly_enqueued(cpu, Sock(sk));
    }
    0
}

#[kprobe]
fn kp_request_clone(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = cpu_state() {
        cpu.stash.cloned_request = arg(&ctx, 0);
        cpu.stash.clone_listener = arg(&ctx, 1);
    }
    0
}

#[kretprobe]
fn kr_request_clone(ctx: RetProbeContext) -> u32 {
    let Some(cpu) = cpu_state() else { return 0 };
    let (from, to) = (take(&mut cpu.stash.cloned_request), take(&mut cpu.stash.clone_listener));
    if ctx.ret::<u64>() != 0 && from != 0 {
        queue::migrated(Request(from), Sock(to));
    }
    0
}

#[kprobe]
fn kp_child_forget(ctx: ProbeContext) -> u32 {
    queue::abandoned(Sock(arg(&ctx, 0)), Request(arg(&ctx, 1)), Sock(arg(&ctx, 2)));
    0
}

#[kprobe]
fn kp_accept(ctx: ProbeContext) -> u32 {
    queue::accept_begins(Sock(arg(&ctx, 0)));
    0
}

/// `void security_sock_graft(struct sock *sk, struct socket *parent)`, security/security.c.
#[kprobe]
fn kp_sock_graft(ctx: ProbeContext) -> u32 {
    queue::grafted(Sock(arg(&ctx, 0)));
    0
}

#[kretprobe]
fn kr_accept_call(ctx: RetProbeContext) -> u32 {
    accept::returned_unseen(ctx.ret::<u64>() as i32);
    0
}
