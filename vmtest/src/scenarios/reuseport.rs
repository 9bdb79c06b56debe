//! Several listeners on one port, of which one is full: tcpq lists them as one, the
//! kernel counts for each.

use anyhow::Result;

use super::{
    Row, TIMES, TIMES_USIZE,
    scene::{Door, Scene, Via},
    sockets,
    syns::{OVERFLOWED, SYN_OVERFLOWS},
};
use crate::{
    figures::Count,
    raw::Peer,
    sockets::{Family, Listener},
};

pub(super) const ROWS: &[Row] = &[
    Row::everywhere("reuseport_syn_one_full_v4", SYN, |scene| at_syn(scene, Via::V4)),
    Row::everywhere("reuseport_syn_one_full_v6", SYN, |scene| at_syn(scene, Via::V6)),
    Row::everywhere("reuseport_ack_one_full", &["overflow_ack", "listen_drops"], at_ack),
    Row::everywhere("reuseport_close_one", &["abandoned"], close_one),
    Row::everywhere("reuseport_close_requests", &["requests_lost"], close_requests),
];

const SYN: &[&str] = &["overflow_syn", "listen_drops"];

/// The group: its first member is the door, the second stands beside.
pub(super) fn group(scene: &Scene, via: Via, backlogs: [i32; 2]) -> Result<(Door, Listener)> {
    let bind = match via {
        Via::V6 => Family::V6.loopback(),
        Via::V4 | Via::Mapped => Family::V4.loopback(),
    };
    let first = sockets::member(&scene.netns, bind, backlogs[0])?;
    let second = sockets::member(&scene.netns, first.address(), backlogs[1])?;
    Ok((Door::to(first, via), second))
}

fn at_syn(scene: &Scene, via: Via) -> Result<()> {
    let (door, second) = group(scene, via, [0, 16])?;
    sockets::choose(&door.listener, 0)?;
    scene.connected(&door, 1)?;
    let span = scene.watch(&door, &[&door.listener, &second])?;
    scene.syns(&door, TIMES_USIZE)?;
    span.kernel(OVERFLOWED).socket_drops(&[TIMES, 0]).ours(SYN_OVERFLOWS).end()?;

    // The other has room.
    sockets::choose(&door.listener, 1)?;
    let span = scene.watch(&door, &[&door.listener, &second])?;
    scene.connected(&door, TIMES_USIZE)?;
    span.socket_drops(&[0, 0])
        .ours(&[(Count::SynsReceived, TIMES), (Count::EnqueuedHandshake, TIMES)])
        .end()
}

/// A request belongs to one member, whoever would be chosen for its ACK.
fn at_ack(scene: &Scene) -> Result<()> {
    let (door, second) = group(scene, Via::V4, [16, 16])?;
    sockets::choose(&door.listener, 0)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    scene.shut(&door)?;
    sockets::choose(&door.listener, 1)?;
    let span = scene.watch(&door, &[&door.listener, &second])?;
    peers.iter().try_for_each(Peer::ack)?;
    span.kernel(OVERFLOWED)
        .socket_drops(&[2 * TIMES, 0])
        .ours(&[(Count::OverflowAck, TIMES), (Count::ListenDrops, TIMES)])
        .end()
}

/// One closes, the other stays: what the first had in its queue is lost.
fn close_one(scene: &Scene) -> Result<()> {
    let (door, second) = group(scene, Via::V4, [16, 16])?;
    sockets::choose(&door.listener, 0)?;
    scene.connected(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&second])?;
    drop(door);
    // Nor is it counted as a migration that failed, for nobody asked for one.
    span.socket_drops(&[0]).ours(&[(Count::Abandoned, TIMES)]).end()
}

/// Without migration requests end with their own member, too.
fn close_requests(scene: &Scene) -> Result<()> {
    let (door, second) = group(scene, Via::V4, [16, 16])?;
    sockets::choose(&door.listener, 0)?;
    scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&second])?;
    let Door { listener, to } = door;
    drop(listener);
    scene.wait_no_requests_at(to)?;
    span.socket_drops(&[0]).ours(&[(Count::LostListenerClosed, TIMES)]).end()
}
