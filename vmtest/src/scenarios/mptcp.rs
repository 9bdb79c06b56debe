//! MPTCP listeners, whose TCP socket is the kernel's own: nobody has its descriptor, so
//! `sk_drops` cannot be read.

use anyhow::{Result, ensure};

use super::{
    Row, TIMES, TIMES_USIZE,
    scene::{Door, Scene, Via},
    sockets,
    syns::{OVERFLOWED, SYN_OVERFLOWS},
};
use crate::{
    bench::{Held, Target},
    figures::Count,
    raw::Peer,
    sockets::Family,
};

pub(super) const ROWS: &[Row] = &[
    row("mptcp_handshake_v4", HANDSHAKE, |scene| handshake(scene, Via::V4)),
    row("mptcp_handshake_v6", HANDSHAKE, |scene| handshake(scene, Via::V6)),
    row("mptcp_plain_client", &["enqueued"], plain),
    row("mptcp_syn_accept_full_v4", SYN, |scene| at_syn(scene, Via::V4)),
    row("mptcp_syn_accept_full_v6", SYN, |scene| at_syn(scene, Via::V6)),
    row("mptcp_ack_accept_full_v4", ACK, |scene| at_ack(scene, Via::V4)),
    row("mptcp_ack_accept_full_v6", ACK, |scene| at_ack(scene, Via::V6)),
    row("mptcp_close", &["abandoned"], close),
];

const fn row(
    name: &'static str,
    subject: &'static [&'static str],
    play: fn(&Scene) -> Result<()>,
) -> Row {
    const HELD: Held = Held::NotOn(&[Target::V5_10], "Debian built 5.10 without MPTCP");
    Row::everywhere(name, subject, play).held(HELD)
}

const HANDSHAKE: &[&str] = &["enqueued", "accepts"];
const SYN: &[&str] = &["overflow_syn", "listen_drops"];
const ACK: &[&str] = &["overflow_ack", "listen_drops"];

/// MP_CAPABLE of version 1 in a SYN: no key yet, HMAC-SHA256.
const CAPABLE: [u8; 4] = [30, 4, 0x01, 0x01];

fn door(scene: &Scene, via: Via, backlog: i32) -> Result<Door> {
    let bind = match via {
        Via::V6 => Family::V6.loopback(),
        Via::V4 | Via::Mapped => Family::V4.loopback(),
    };
    Ok(Door::to(sockets::multipath(&scene.netns, bind, backlog)?, via))
}

fn syns<'a>(scene: &'a Scene, door: &Door) -> Result<Vec<Peer<'a>>> {
    let mut peers = scene.peers(door, TIMES_USIZE);
    peers.iter_mut().try_for_each(|peer| peer.syn_with(&CAPABLE, &[]))?;
    Ok(peers)
}

/// With the kernel's own client, which speaks MPTCP to the end.
fn handshake(scene: &Scene, via: Via) -> Result<()> {
    let door = door(scene, via, 16)?;
    let span = scene.watch(&door, &[])?;
    let clients = sockets::multipath_clients(&scene.netns, door.to, TIMES_USIZE)?;
    scene.wait_queued(&door, TIMES)?;
    ensure!(door.listener.accept_all()? == TIMES, "not {TIMES} were accepted");
    span.ours(&[
        (Count::SynsReceived, TIMES),
        (Count::EnqueuedHandshake, TIMES),
        (Count::Accepts, TIMES),
    ])
    .end()?;
    drop(clients);
    Ok(())
}

/// A client of plain TCP is served too.
fn plain(scene: &Scene) -> Result<()> {
    let door = door(scene, Via::V4, 16)?;
    let span = scene.watch(&door, &[])?;
    scene.connected(&door, TIMES_USIZE)?;
    span.ours(&[(Count::SynsReceived, TIMES), (Count::EnqueuedHandshake, TIMES)]).end()
}

fn at_syn(scene: &Scene, via: Via) -> Result<()> {
    let door = door(scene, via, 1)?;
    scene.connected(&door, 2)?;
    let span = scene.watch(&door, &[])?;
    syns(scene, &door)?;
    span.kernel(OVERFLOWED).ours(SYN_OVERFLOWS).end()
}

fn at_ack(scene: &Scene, via: Via) -> Result<()> {
    let door = door(scene, via, 16)?;
    let mut peers = syns(scene, &door)?;
    peers.iter_mut().try_for_each(Peer::answered)?;
    scene.shut(&door)?;
    let span = scene.watch(&door, &[])?;
    peers.iter().try_for_each(Peer::ack)?;
    span.kernel(OVERFLOWED).ours(&[(Count::OverflowAck, TIMES), (Count::ListenDrops, TIMES)]).end()
}

fn close(scene: &Scene) -> Result<()> {
    let door = door(scene, Via::V4, 16)?;
    scene.connected(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[])?;
    drop(door);
    span.ours(&[(Count::Abandoned, TIMES)]).end()
}
