//! `tcp_migrate_req`: a member of a group that closes leaves its queues to the others.

use anyhow::Result;

use super::{
    Row, TIMES, TIMES_USIZE,
    reuseport::group,
    scene::{Door, Scene, Via},
    sockets,
    syns::{NOTHING, OVERFLOWED},
};
use crate::{
    bench::{Held, Target},
    figures::Count,
    kernel_counters::KernelCounters,
    raw::Peer,
    sockets::Family,
};

pub(super) const ROWS: &[Row] = &[
    Row::everywhere("migration_queue_v4", ENQUEUED, |scene| queue(scene, Via::V4)).held(SINCE_5_14),
    Row::everywhere("migration_queue_v6", ENQUEUED, |scene| queue(scene, Via::V6)).held(SINCE_5_14),
    Row::everywhere("migration_request_timer", LOST, request_by_timer).held(SINCE_5_14),
    Row::everywhere("migration_request_ack", LOST, request_by_ack).held(SINCE_5_14),
    Row::everywhere("migration_no_target", &["abandoned"], no_target).held(SINCE_5_14),
    Row::everywhere("migration_ack_accept_full", &["overflow_ack", "listen_drops"], accept_full)
        .held(SINCE_5_14),
];

const ENQUEUED: &[&str] = &["enqueued", "abandoned"];
const LOST: &[&str] = &["enqueued", "requests_lost"];

const SINCE_5_14: Held = Held::NotOn(&[Target::V5_10], "tcp_migrate_req came with Linux 5.14");

const MIGRATED: KernelCounters = KernelCounters { migrated: TIMES, ..NOTHING };

/// Those in the accept queue are moved at once, and lost to nobody.
fn queue(scene: &Scene, via: Via) -> Result<()> {
    scene.sysctl("net.ipv4.tcp_migrate_req", "1")?;
    let (door, second) = group(scene, via, [16, 16])?;
    sockets::choose(&door.listener, 0)?;
    scene.connected(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&second])?;
    drop(door);
    span.kernel(MIGRATED)
        .socket_drops(&[0])
        .ours(&[(Count::EnqueuedMigration, TIMES)])
        // All that it sees of the closing listener is how many were in its queue.
        .by_tracepoint(&[(Count::EnqueuedMigration, TIMES), (Count::Abandoned, TIMES)])
        .end()
}

/// Requests are moved when their timer next looks at them.
fn request_by_timer(scene: &Scene) -> Result<()> {
    scene.sysctl("net.ipv4.tcp_migrate_req", "1")?;
    let (door, second) = group(scene, Via::V4, [16, 16])?;
    sockets::choose(&door.listener, 0)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&second])?;
    drop(door);
    // The timer that moves a request also sends its SYN-ACK again.
    span.kernel(MIGRATED).retransmits(TIMES..=u64::MAX).socket_drops(&[0]).end()?;

    let door = Door::to(second, Via::V4);
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(Peer::ack)?;
    scene.wait_queued(&door, TIMES)?;
    span.socket_drops(&[0]).ours(&[(Count::EnqueuedHandshake, TIMES)]).end()
}

/// Or when their final ACK comes, which completes the handshake with the new listener.
fn request_by_ack(scene: &Scene) -> Result<()> {
    scene.sysctl("net.ipv4.tcp_migrate_req", "1")?;
    let (door, second) = group(scene, Via::V4, [16, 16])?;
    sockets::choose(&door.listener, 0)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&second])?;
    drop(door);
    peers.iter().try_for_each(Peer::ack)?;
    span.kernel(MIGRATED).socket_drops(&[0]).ours(&[(Count::EnqueuedHandshake, TIMES)]).end()
}

/// Then it is the new listener whose queue is full.
fn accept_full(scene: &Scene) -> Result<()> {
    scene.sysctl("net.ipv4.tcp_migrate_req", "1")?;
    let (door, second) = group(scene, Via::V4, [16, 0])?;
    sockets::choose(&door.listener, 1)?;
    scene.connected(&door, 1)?;
    sockets::choose(&door.listener, 0)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&second])?;
    drop(door);
    peers.iter().try_for_each(Peer::ack)?;
    span.kernel(KernelCounters { not_migrated: TIMES, ..OVERFLOWED })
        .socket_drops(&[2 * TIMES])
        .ours(&[(Count::OverflowAck, TIMES), (Count::ListenDrops, TIMES)])
        .end()
}

/// A group of one leaves its queue to nobody.
fn no_target(scene: &Scene) -> Result<()> {
    scene.sysctl("net.ipv4.tcp_migrate_req", "1")?;
    let only = sockets::member(&scene.netns, Family::V4.loopback(), 16)?;
    let door = Door::to(only, Via::V4);
    scene.connected(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[])?;
    drop(door);
    span.kernel(KernelCounters { not_migrated: TIMES, ..NOTHING })
        .ours(&[(Count::Abandoned, TIMES)])
        .end()
}
