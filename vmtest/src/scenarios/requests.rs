//! How a request leaves the SYN queue without becoming a connection.

use anyhow::Result;

use super::{
    Row, TIMES, TIMES_USIZE,
    scene::{Scene, Via},
    syns::NOTHING,
};
use crate::{
    bench::{Held, Target},
    figures::Count,
    kernel_counters::KernelCounters,
    netlink,
    raw::Peer,
};

pub(super) const ROWS: &[Row] = &[
    Row::everywhere("request_reset_v4", LOST, |scene| reset(scene, Via::V4)),
    Row::everywhere("request_reset_v6", LOST, |scene| reset(scene, Via::V6)),
    Row::everywhere("request_bad_syn", LOST, bad_syn),
    Row::everywhere("request_timeout", &["requests_lost", "synack_retransmits"], timeout),
    Row::everywhere("request_icmp_v4", ICMP, |scene| icmp(scene, Via::V4)),
    Row::everywhere("request_icmp_v6", ICMP, |scene| icmp(scene, Via::V6)),
    Row::everywhere("request_icmp_harmless_v4", ICMP, |scene| harmless(scene, Via::V4)),
    Row::everywhere("request_icmp_harmless_v6", ICMP, |scene| harmless(scene, Via::V6)),
    Row::everywhere("request_icmp_out_of_window", ICMP, out_of_window),
    Row::everywhere("request_destroyed", LOST, destroyed).held(HAS_DIAG),
];

/// `ss --kill` is a module in Debian's kernels, and depends on another.
const HAS_DIAG: Held = Held::Only(
    &[Target::Host],
    "guests have no tcp_diag; abort_on_overflow ends requests as `ss --kill` does",
);

const LOST: &[&str] = &["requests_lost"];
const ICMP: &[&str] = &["requests_lost", "listen_drops"];

fn reset(scene: &Scene, via: Via) -> Result<()> {
    ended_by(scene, via, Peer::reset)
}

/// A SYN inside of the window of the first: the client has started anew.
fn bad_syn(scene: &Scene) -> Result<()> {
    ended_by(scene, Via::V4, Peer::second_syn)
}

fn ended_by<'s>(scene: &'s Scene, via: Via, last: fn(&Peer<'s>) -> Result<()>) -> Result<()> {
    let door = scene.listen(via, 16)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(last)?;
    scene.wait_requests(&door, 0)?;
    span.kernel(KernelCounters { embryonic_resets: TIMES, ..NOTHING })
        .socket_drops(&[TIMES])
        .ours(&[(Count::LostReset, TIMES)])
        .end()
}

/// The SYN-ACK is sent once more after a second, and given up after two more.
fn timeout(scene: &Scene) -> Result<()> {
    scene.sysctl("net.ipv4.tcp_synack_retries", "1")?;
    let door = scene.listen(Via::V4, 16)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.answered(&door, TIMES_USIZE)?;
    scene.wait_requests(&door, 0)?;
    span.retransmits(TIMES..=TIMES)
        .socket_drops(&[0])
        .ours(&[(Count::SynsReceived, TIMES), (Count::LostTimeout, TIMES)])
        .end()
}

/// A router has no way to the client, as IPv4 and IPv6 say it so that it is believed.
fn icmp(scene: &Scene, via: Via) -> Result<()> {
    const HOST_UNREACHABLE: (u8, u8) = (3, 1);
    const PORT_UNREACHABLE_V6: (u8, u8) = (1, 4);
    let (kind, code) = match via {
        Via::V6 => PORT_UNREACHABLE_V6,
        Via::V4 | Via::Mapped => HOST_UNREACHABLE,
    };
    let door = scene.listen(via, 16)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(|peer| peer.icmp(kind, code, 0))?;
    scene.wait_requests(&door, 0)?;
    span.kernel(KernelCounters { listen_drops: TIMES, ..NOTHING })
        .socket_drops(&[TIMES])
        .ours(&[(Count::LostIcmp, TIMES), (Count::ListenDrops, TIMES)])
        .by_tracepoint(super::syns::MISTAKEN)
        .end()
}

/// Errors that say less: nothing happens.
fn harmless(scene: &Scene, via: Via) -> Result<()> {
    const PORT_UNREACHABLE: (u8, u8) = (3, 3);
    const NO_ROUTE_V6: (u8, u8) = (1, 0);
    let (kind, code) = match via {
        Via::V6 => NO_ROUTE_V6,
        Via::V4 | Via::Mapped => PORT_UNREACHABLE,
    };
    let door = scene.listen(via, 16)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(|peer| peer.icmp(kind, code, 0))?;
    span.socket_drops(&[0]).end()?;
    scene.wait_requests(&door, TIMES_USIZE)
}

/// By an administrator.
fn destroyed(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.netns.run(|| {
        let clients = peers.iter().map(Peer::address);
        clients.into_iter().try_for_each(|client| netlink::destroy_request(door.to, client))
    })?;
    scene.wait_requests(&door, 0)?;
    span.socket_drops(&[0]).ours(&[(Count::LostAborted, TIMES)]).end()
}

fn out_of_window(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(|peer| peer.icmp(3, 1, 1))?;
    span.kernel(KernelCounters { icmp_out_of_window: TIMES, ..NOTHING })
        .socket_drops(&[0])
        .end()?;
    scene.wait_requests(&door, TIMES_USIZE)
}
