//! What becomes of a handshake's final ACK.

use anyhow::Result;

use super::{
    Row, TIMES, TIMES_USIZE,
    scene::{Scene, Via},
    syns::{MISTAKEN, NOTHING, OVERFLOWED},
};
use crate::{
    bench::Target, figures::Count, kernel_counters::KernelCounters, load::DEFER_SECONDS, raw::Peer,
    routes,
};

pub(super) const ROWS: &[Row] = &[
    Row::everywhere("ack_accept_full_v4", OVERFLOW, |scene| bare(scene, Via::V4)),
    Row::everywhere("ack_accept_full_v6", OVERFLOW, |scene| bare(scene, Via::V6)),
    Row::everywhere("ack_accept_full_v4_mapped", OVERFLOW, |scene| bare(scene, Via::Mapped)),
    Row::everywhere("data_accept_full_v4", OVERFLOW, |scene| data(scene, Via::V4)),
    Row::everywhere("data_accept_full_v6", OVERFLOW, |scene| data(scene, Via::V6)),
    Row::everywhere("ack_accept_full_abort", ABORT, |scene| abort(scene, Peer::ack)),
    Row::everywhere("data_accept_full_abort", ABORT, |scene| abort(scene, Peer::data)),
    Row::everywhere("ack_retried", OVERFLOW, retried),
    Row::everywhere("ack_no_route_v4", OVERFLOW, |scene| no_route(scene, Via::V4)),
    Row::everywhere("ack_no_route_v6", OVERFLOW, |scene| no_route(scene, Via::V6)),
    Row::everywhere("ack_stray", &["overflow_ack", "overflow_cookie"], stray),
    Row::everywhere("ack_deferred", &["overflow_ack", "listen_drops"], deferred),
    Row::everywhere("data_deferred", &["enqueued"], deferred_data),
];

const OVERFLOW: &[&str] = &["overflow_ack", "listen_drops"];
const ABORT: &[&str] = &["overflow_ack", "listen_drops", "requests_lost"];

const ACK_OVERFLOWS: &[(Count, u64)] = &[(Count::OverflowAck, TIMES), (Count::ListenDrops, TIMES)];

fn bare(scene: &Scene, via: Via) -> Result<()> {
    refused(scene, via, Peer::ack)
}

fn data(scene: &Scene, via: Via) -> Result<()> {
    refused(scene, via, Peer::data)
}

fn refused<'s>(scene: &'s Scene, via: Via, last: fn(&Peer<'s>) -> Result<()>) -> Result<()> {
    let door = scene.listen(via, 16)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    scene.shut(&door)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(last)?;
    // Once as a listen drop, once more as a packet that is thrown away.
    span.kernel(OVERFLOWED).socket_drops(&[2 * TIMES]).ours(ACK_OVERFLOWS).end()
}

/// `tcp_abort_on_overflow`: the client is reset, and its request gone.
fn abort<'s>(scene: &'s Scene, last: fn(&Peer<'s>) -> Result<()>) -> Result<()> {
    scene.sysctl("net.ipv4.tcp_abort_on_overflow", "1")?;
    let door = scene.listen(Via::V4, 16)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    scene.shut(&door)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(last)?;
    scene.wait_requests(&door, 0)?;
    span.kernel(KernelCounters { embryonic_resets: TIMES, ..OVERFLOWED })
        .socket_drops(&[2 * TIMES])
        .ours(&[
            (Count::OverflowAck, TIMES),
            (Count::ListenDrops, TIMES),
            (Count::LostAborted, TIMES),
        ])
        .end()
}

/// A refused ACK leaves its request, which gets in once there is room.
fn retried(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    scene.shut(&door)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(Peer::ack)?;
    span.kernel(OVERFLOWED).socket_drops(&[2 * TIMES]).ours(ACK_OVERFLOWS).end()?;

    door.listener.listen_again(16)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(Peer::ack)?;
    scene.wait_queued(&door, 1 + TIMES)?;
    span.ours(&[(Count::EnqueuedHandshake, TIMES)]).end()
}

/// The way back to the client is lost before its ACK comes: refused in the same place as
/// by a full queue, and a listen drop, but no overflow.
fn no_route(scene: &Scene, via: Via) -> Result<()> {
    let door = scene.listen(via, 16)?;
    let client = via.beyond();
    let mut peers: Vec<_> = (0..TIMES).map(|_| scene.wire.peer_at(door.to, client)).collect();
    for peer in &mut peers {
        peer.syn()?;
        peer.answered()?;
    }
    let span = scene.watch(&door, &[&door.listener])?;
    scene.netns.run(|| routes::no_way_to(client, via.host_prefix()))?;
    peers.iter().try_for_each(Peer::ack)?;
    // Since 6.15 the kernel itself calls every refusal at this place an overflow; before,
    // the one that is none is left to be taken for a SYN's.
    let mistaken = match scene.target() {
        Target::V6_12 => MISTAKEN,
        _ => ACK_OVERFLOWS,
    };
    span.kernel(KernelCounters { listen_drops: TIMES, ..NOTHING })
        .socket_drops(&[2 * TIMES])
        .ours(&[(Count::ListenDrops, TIMES)])
        .by_tracepoint(mistaken)
        .end()
}

/// An ACK of nothing: no request, and no cookie.
///
/// With cookies on, the kernel takes it for a bad cookie while it believes that it has sent
/// one lately: also for two minutes after the clock tick counter has wrapped, five minutes
/// after the boot.
fn stray(scene: &Scene) -> Result<()> {
    scene.sysctl("net.ipv4.tcp_syncookies", "0")?;
    let door = scene.listen(Via::V4, 16)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.peers(&door, TIMES_USIZE).iter().try_for_each(Peer::ack)?;
    span.socket_drops(&[0]).end()
}

/// `TCP_DEFER_ACCEPT`: dropped, but neither an overflow nor a listen drop.
fn deferred(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    door.listener.defer_accept(DEFER_SECONDS)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(Peer::ack)?;
    span.kernel(KernelCounters { deferred: TIMES, ..NOTHING }).socket_drops(&[TIMES]).end()
}

fn deferred_data(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    door.listener.defer_accept(DEFER_SECONDS)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(Peer::data)?;
    scene.wait_queued(&door, TIMES)?;
    span.socket_drops(&[0]).ours(&[(Count::EnqueuedHandshake, TIMES)]).end()
}
