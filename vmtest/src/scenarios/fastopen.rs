//! TCP Fast Open: a SYN with data makes a connection at once.

use anyhow::Result;

use super::{
    Row, TIMES, TIMES_USIZE,
    scene::{Door, Scene, Via},
    sockets,
    syns::{NOTHING, OVERFLOWED, SYN_OVERFLOWS},
};
use crate::{figures::Count, kernel_counters::KernelCounters, raw::Peer};

pub(super) const ROWS: &[Row] = &[
    Row::everywhere("fastopen_v4", ENQUEUED, |scene| opened(scene, Via::V4)),
    Row::everywhere("fastopen_v6", ENQUEUED, |scene| opened(scene, Via::V6)),
    Row::everywhere("fastopen_accept_full", &["overflow_syn", "listen_drops"], accept_full),
    Row::everywhere("fastopen_limit", ENQUEUED, limit),
    Row::everywhere("fastopen_retransmit", &["synack_retransmits"], retransmit),
    Row::everywhere("fastopen_close", &["abandoned"], close),
];

const ENQUEUED: &[&str] = &["enqueued"];

/// The option, empty: the client asks for a cookie, which our server does not need.
const OPTION: [u8; 4] = [34, 2, 1, 1];
const DATA: &[u8] = b"hello";

/// Server and client (1, 2), and a server that asks for no cookie (0x200).
const WITHOUT_COOKIES: &str = "515";

fn door(scene: &Scene, via: Via, backlog: i32, limit: i32) -> Result<Door> {
    scene.sysctl("net.ipv4.tcp_fastopen", WITHOUT_COOKIES)?;
    let door = scene.listen(via, backlog)?;
    sockets::fast_open(&door.listener, limit)?;
    Ok(door)
}

fn syns<'a>(scene: &'a Scene, door: &Door) -> Result<Vec<Peer<'a>>> {
    let mut peers = scene.peers(door, TIMES_USIZE);
    peers.iter_mut().try_for_each(|peer| peer.syn_with(&OPTION, DATA))?;
    Ok(peers)
}

const OPENED: KernelCounters = KernelCounters { fast_opens: TIMES, ..NOTHING };

fn opened(scene: &Scene, via: Via) -> Result<()> {
    let door = door(scene, via, 16, 16)?;
    let span = scene.watch(&door, &[&door.listener])?;
    let mut peers = syns(scene, &door)?;
    scene.wait_queued(&door, TIMES)?;
    // In the queue already; the ACK only ends the handshake.
    for peer in &mut peers {
        peer.answered()?;
        peer.ack_after(DATA)?;
    }
    span.kernel(OPENED)
        .socket_drops(&[0])
        .ours(&[(Count::SynsReceived, TIMES), (Count::EnqueuedFastOpen, TIMES)])
        .end()
}

/// A SYN with data is refused like any other.
fn accept_full(scene: &Scene) -> Result<()> {
    let door = door(scene, Via::V4, 16, 16)?;
    scene.shut(&door)?;
    let span = scene.watch(&door, &[&door.listener])?;
    syns(scene, &door)?;
    span.kernel(OVERFLOWED).socket_drops(&[TIMES]).ours(SYN_OVERFLOWS).end()
}

/// Above the limit of fast opens it is a SYN as any other, its data forgotten.
fn limit(scene: &Scene) -> Result<()> {
    let door = door(scene, Via::V4, 16, 1)?;
    let mut first = scene.wire.peer(door.to);
    first.syn_with(&OPTION, DATA)?;
    scene.wait_queued(&door, 1)?;
    let span = scene.watch(&door, &[&door.listener])?;
    let mut peers = syns(scene, &door)?;
    for peer in &mut peers {
        peer.answered()?;
        peer.ack()?;
    }
    scene.wait_queued(&door, 1 + TIMES)?;
    span.kernel(KernelCounters { fast_open_overflows: TIMES, ..NOTHING })
        .socket_drops(&[0])
        .ours(&[(Count::SynsReceived, TIMES), (Count::EnqueuedHandshake, TIMES)])
        .end()
}

/// The SYN-ACK of a fast open is sent again by the new connection, not by the listener.
fn retransmit(scene: &Scene) -> Result<()> {
    let door = door(scene, Via::V4, 16, 16)?;
    let span = scene.watch(&door, &[&door.listener])?;
    syns(scene, &door)?;
    span.kernel(OPENED)
        .retransmits(TIMES..=u64::MAX)
        .socket_drops(&[0])
        .ours(&[(Count::SynsReceived, TIMES), (Count::EnqueuedFastOpen, TIMES)])
        .end()
}

fn close(scene: &Scene) -> Result<()> {
    let door = door(scene, Via::V4, 16, 16)?;
    let mut peers = syns(scene, &door)?;
    for peer in &mut peers {
        peer.answered()?;
        peer.ack_after(DATA)?;
    }
    scene.wait_queued(&door, TIMES)?;
    let span = scene.watch(&door, &[])?;
    drop(door);
    span.ours(&[(Count::Abandoned, TIMES)]).end()
}
