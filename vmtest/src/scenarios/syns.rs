//! What becomes of a SYN.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};

use super::{
    Row, TIMES, TIMES_USIZE,
    scene::{Scene, Via},
    sockets,
};
use crate::{figures::Count, kernel_counters::KernelCounters, raw::Peer, routes};

pub(super) const ROWS: &[Row] = &[
    Row::everywhere("handshake_v4", HANDSHAKE, |scene| handshake(scene, Via::V4)),
    Row::everywhere("handshake_v6", HANDSHAKE, |scene| handshake(scene, Via::V6)),
    Row::everywhere("handshake_v4_mapped", HANDSHAKE, |scene| handshake(scene, Via::Mapped)),
    Row::everywhere("accepted", &["accepts"], accepted),
    Row::everywhere("syn_received", &["syns_received"], received),
    Row::everywhere("syn_accept_full_v4", OVERFLOW, |scene| accept_full(scene, Via::V4)),
    Row::everywhere("syn_accept_full_v6", OVERFLOW, |scene| accept_full(scene, Via::V6)),
    Row::everywhere("syn_accept_full_v4_mapped", OVERFLOW, |scene| accept_full(scene, Via::Mapped)),
    Row::everywhere("syn_accept_full_no_cookies", OVERFLOW, accept_full_without_cookies),
    Row::everywhere("syn_both_full", OVERFLOW, both_full),
    Row::everywhere("syn_queue_full_v4", DROPS, |scene| queue_full(scene, Via::V4)),
    Row::everywhere("syn_queue_full_v6", DROPS, |scene| queue_full(scene, Via::V6)),
    Row::everywhere("syn_backlog_pressure", DROPS, backlog_pressure),
    Row::everywhere("syn_rejected_v4", DROPS, |scene| rejected(scene, Via::V4)),
    Row::everywhere("syn_rejected_v6", DROPS, |scene| rejected(scene, Via::V6)),
    Row::everywhere("syn_not_unicast_v4", DROPS, broadcast),
    Row::everywhere("syn_not_unicast_v6", DROPS, anycast),
    Row::everywhere("syn_mapped_source", &["syns_received"], mapped_source),
    Row::everywhere("syn_filtered", OVERFLOW, filtered),
    Row::everywhere("syn_duplicate", &["synack_retransmits"], duplicate),
    Row::everywhere("listen_again", OVERFLOW, listen_again),
];

const HANDSHAKE: &[&str] = &["enqueued"];
const OVERFLOW: &[&str] = &["overflow_syn", "listen_drops"];
const DROPS: &[&str] = &["syn_drops", "listen_drops"];

/// What a SYN that meets a full accept queue leaves behind.
pub(super) const OVERFLOWED: KernelCounters =
    KernelCounters { listen_overflows: TIMES, listen_drops: TIMES, ..NOTHING };
const DROPPED: KernelCounters = KernelCounters { listen_drops: TIMES, ..NOTHING };

/// `Default` is no constant.
pub(super) const NOTHING: KernelCounters = KernelCounters {
    listen_overflows: 0,
    listen_drops: 0,
    syn_queue_full_drops: 0,
    syn_queue_full_cookies: 0,
    cookies_sent: 0,
    cookies_received: 0,
    cookies_failed: 0,
    embryonic_resets: 0,
    deferred: 0,
    syn_retransmits: 0,
    icmp_out_of_window: 0,
    fast_opens: 0,
    fast_opens_failed: 0,
    fast_open_overflows: 0,
    migrated: 0,
    not_migrated: 0,
};

fn handshake(scene: &Scene, via: Via) -> Result<()> {
    let door = scene.listen(via, 16)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.connected(&door, TIMES_USIZE)?;
    span.socket_drops(&[0])
        .ours(&[(Count::SynsReceived, TIMES), (Count::EnqueuedHandshake, TIMES)])
        .end()
}

fn accepted(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    scene.connected(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&door.listener])?;
    ensure!(door.listener.accept_all()? == TIMES, "not {TIMES} were accepted");
    span.ours(&[(Count::Accepts, TIMES)]).end()
}

fn received(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.answered(&door, TIMES_USIZE)?;
    span.ours(&[(Count::SynsReceived, TIMES)]).end()
}

fn accept_full(scene: &Scene, via: Via) -> Result<()> {
    let door = scene.listen(via, 1)?;
    scene.connected(&door, 2)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.syns(&door, TIMES_USIZE)?;
    span.kernel(OVERFLOWED).socket_drops(&[TIMES]).ours(SYN_OVERFLOWS).end()
}

pub(super) const SYN_OVERFLOWS: &[(Count, u64)] =
    &[(Count::SynsReceived, TIMES), (Count::OverflowSyn, TIMES), (Count::ListenDrops, TIMES)];

/// Without SYN cookies a rise of `sk_drops` may be one of several things, of which the
/// tracepoint backend chooses none.
const UNNAMED_DROPS: &[(Count, u64)] = &[(Count::ListenDrops, TIMES)];

fn accept_full_without_cookies(scene: &Scene) -> Result<()> {
    scene.sysctl("net.ipv4.tcp_syncookies", "0")?;
    let door = scene.listen(Via::V4, 1)?;
    scene.connected(&door, 2)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.syns(&door, TIMES_USIZE)?;
    span.kernel(OVERFLOWED)
        .socket_drops(&[TIMES])
        .ours(SYN_OVERFLOWS)
        .by_tracepoint(UNNAMED_DROPS)
        .end()
}

/// The SYN queue is full first: a cookie would be sent, but for the other queue.
fn both_full(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    scene.answered(&door, 4)?;
    scene.connected(&door, 2)?;
    door.listener.listen_again(1)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.syns(&door, TIMES_USIZE)?;
    span.kernel(KernelCounters { syn_queue_full_cookies: TIMES, ..OVERFLOWED })
        .socket_drops(&[TIMES])
        .ours(SYN_OVERFLOWS)
        .end()
}

fn queue_full(scene: &Scene, via: Via) -> Result<()> {
    scene.sysctl("net.ipv4.tcp_syncookies", "0")?;
    let door = scene.listen(via, 4)?;
    // One of these may be dropped: at backlog 4 a kernel that asks `>=` takes 4.
    scene.syns(&door, 5)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.syns(&door, TIMES_USIZE)?;
    span.kernel(KernelCounters { syn_queue_full_drops: TIMES, ..DROPPED })
        .socket_drops(&[TIMES])
        .ours(&[
            (Count::SynsReceived, TIMES),
            (Count::DropQueueFull, TIMES),
            (Count::ListenDrops, TIMES),
        ])
        .by_tracepoint(UNNAMED_DROPS)
        .end()
}

/// The last quarter of `tcp_max_syn_backlog` is kept for clients that are known.
fn backlog_pressure(scene: &Scene) -> Result<()> {
    scene.sysctl("net.ipv4.tcp_syncookies", "0")?;
    scene.sysctl("net.ipv4.tcp_max_syn_backlog", "16")?;
    let door = scene.listen(Via::V4, 64)?;
    scene.answered(&door, 13)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.syns(&door, TIMES_USIZE)?;
    span.kernel(DROPPED)
        .socket_drops(&[TIMES])
        .ours(&[
            (Count::SynsReceived, TIMES),
            (Count::DropBacklogPressure, TIMES),
            (Count::ListenDrops, TIMES),
        ])
        .by_tracepoint(UNNAMED_DROPS)
        .end()
}

/// There is no way back to the client.
fn rejected(scene: &Scene, via: Via) -> Result<()> {
    let door = scene.listen(via, 16)?;
    let client = via.beyond();
    scene.netns.run(|| routes::no_way_to(client, via.host_prefix()))?;
    let span = scene.watch(&door, &[&door.listener])?;
    for _ in 0..TIMES {
        scene.wire.peer_at(door.to, client).syn()?;
    }
    span.kernel(DROPPED)
        .socket_drops(&[TIMES])
        .ours(&[
            (Count::SynsReceived, TIMES),
            (Count::DropRejected, TIMES),
            (Count::ListenDrops, TIMES),
        ])
        .by_tracepoint(MISTAKEN)
        .end()
}

/// With SYN cookies the tracepoint backend takes every unexplained rise of `sk_drops`
/// for an overflow; this is one that is not.
pub(super) const MISTAKEN: &[(Count, u64)] =
    &[(Count::OverflowSyn, TIMES), (Count::ListenDrops, TIMES)];

/// To everybody on the link, in a frame for this machine only: nothing else lets a
/// broadcast pass as far as TCP.
fn broadcast(scene: &Scene) -> Result<()> {
    let mut door = scene.listen(Via::Mapped, 16)?;
    door.to.set_ip(Ipv4Addr::BROADCAST.into());
    let span = scene.watch(&door, &[&door.listener])?;
    scene.peers(&door, TIMES_USIZE).iter_mut().try_for_each(Peer::syn_injected)?;
    span.kernel(DROPPED)
        .socket_drops(&[TIMES])
        .ours(&[
            (Count::SynsReceived, TIMES),
            (Count::DropNotUnicast, TIMES),
            (Count::ListenDrops, TIMES),
        ])
        .by_tracepoint(MISTAKEN)
        .end()
}

/// To any of several machines, of which this is one.
fn anycast(scene: &Scene) -> Result<()> {
    let address = "fd00::cafe".parse()?;
    // A router may have such an address without another one beside it.
    scene.sysctl("net.ipv6.conf.lo.forwarding", "1")?;
    let _member = sockets::join_anycast(&scene.netns, address)?;
    let mut door = scene.listen(Via::Mapped, 16)?;
    door.to.set_ip(address.into());
    let span = scene.watch(&door, &[&door.listener])?;
    scene.syns(&door, TIMES_USIZE)?;
    span.kernel(DROPPED)
        .socket_drops(&[TIMES])
        .ours(&[
            (Count::SynsReceived, TIMES),
            (Count::DropNotUnicast, TIMES),
            (Count::ListenDrops, TIMES),
        ])
        .by_tracepoint(MISTAKEN)
        .end()
}

/// An IPv6 packet that claims an IPv4 client is thrown away and not counted.
fn mapped_source(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V6, 16)?;
    let client = "::ffff:10.0.0.1".parse()?;
    let span = scene.watch(&door, &[&door.listener])?;
    for _ in 0..TIMES {
        scene.wire.peer_at(door.to, client).syn()?;
    }
    span.socket_drops(&[0]).ours(&[(Count::SynsReceived, TIMES)]).end()
}

/// Thrown away by the socket's own filter: `sk_drops` rises, and nothing is refused.
fn filtered(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    sockets::drop_everything(&door.listener)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.syns(&door, TIMES_USIZE)?;
    span.socket_drops(&[TIMES]).end()
}

/// The same SYN again: its SYN-ACK is repeated, and the SYN dropped without any count.
fn duplicate(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    let mut peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter_mut().try_for_each(Peer::syn)?;
    span.retransmits(TIMES..=u64::MAX).socket_drops(&[TIMES]).end()
}

/// `listen()` again moves the limit at once, both ways, and keeps every count.
fn listen_again(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 1)?;
    scene.connected(&door, 2)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.syns(&door, TIMES_USIZE)?;
    span.kernel(OVERFLOWED).socket_drops(&[TIMES]).ours(SYN_OVERFLOWS).end()?;

    door.listener.listen_again(8)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.connected(&door, TIMES_USIZE)?;
    span.ours(&[(Count::SynsReceived, TIMES), (Count::EnqueuedHandshake, TIMES)]).end()?;

    door.listener.listen_again(3)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.syns(&door, TIMES_USIZE)?;
    span.kernel(OVERFLOWED).socket_drops(&[TIMES]).ours(SYN_OVERFLOWS).end()
}
