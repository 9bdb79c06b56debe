//! kprobe and kretprobe programs: the same calls as in `fentry`.
//!
//! A return probe does not see the arguments; what it needs is left in the CPU's
//! slot. That is sound in softirq context, where these functions run and cannot
//! sleep. `inet_csk_accept` sleeps and has no program here: accepts are derived.

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::{
    calls::{self, Path},
    maps::cpu_state,
    read::{Skb, Sock},
};

#[inline(always)]
fn arg(ctx: &ProbeContext, n: usize) -> u64 {
    ctx.arg::<u64>(n).unwrap_or(0)
}

#[kprobe]
fn kp_conn_request(ctx: ProbeContext) -> u32 {
    calls::syn_begins(Sock(arg(&ctx, 2)), Skb(arg(&ctx, 3)));
    0
}

#[kretprobe]
fn kr_conn_request(_ctx: RetProbeContext) -> u32 {
    calls::syn_ends();
    0
}

#[kprobe]
fn kp_syn_recv_v4(ctx: ProbeContext) -> u32 {
    child_begins(&ctx, calls::V4);
    0
}

#[kretprobe]
fn kr_syn_recv_v4(_ctx: RetProbeContext) -> u32 {
    calls::child_ends(calls::V4);
    0
}

#[kprobe]
fn kp_syn_recv_v6(ctx: ProbeContext) -> u32 {
    child_begins(&ctx, calls::V6);
    0
}

#[kretprobe]
fn kr_syn_recv_v6(_ctx: RetProbeContext) -> u32 {
    calls::child_ends(calls::V6);
    0
}

#[inline(always)]
fn child_begins(ctx: &ProbeContext, function: u32) {
    calls::child_begins(function, Sock(arg(ctx, 0)), Skb(arg(ctx, 1)), arg(ctx, 2), arg(ctx, 4));
}

#[kprobe]
fn kp_hashdance(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = cpu_state() {
        cpu.hashdance_sk = arg(&ctx, 0);
    }
    0
}

#[kretprobe]
fn kr_hashdance(ctx: RetProbeContext) -> u32 {
    let Some(cpu) = cpu_state() else { return 0 };
    let sk = core::mem::take(&mut cpu.hashdance_sk);
    if ctx.ret::<u64>() != 0 && sk != 0 {
        calls::handshake_enqueued(Sock(sk));
    }
    0
}

#[kprobe]
fn kp_queue_add(ctx: ProbeContext) -> u32 {
    let path = calls::enqueue_path(arg(&ctx, 1));
    if let Some(cpu) = cpu_state() {
        cpu.queue_add_sk = arg(&ctx, 0);
        cpu.queue_add_path = path as u32;
    }
    0
}

#[kretprobe]
fn kr_queue_add(ctx: RetProbeContext) -> u32 {
    let Some(cpu) = cpu_state() else { return 0 };
    let sk = core::mem::take(&mut cpu.queue_add_sk);
    let path = match cpu.queue_add_path {
        1 => Path::Handshake,
        2 => Path::Cookie,
        3 => Path::FastOpen,
        _ => Path::Unknown,
    };
    if ctx.ret::<u64>() != 0 && sk != 0 {
        calls::directly_enqueued(Sock(sk), path);
    }
    0
}
