//! SYN cookies: sent, returned, returned to a full accept queue, and forged.

use anyhow::Result;

use super::{
    Row, TIMES, TIMES_USIZE,
    scene::{Door, Scene, Via},
    syns::{NOTHING, OVERFLOWED},
};
use crate::{figures::Count, kernel_counters::KernelCounters, raw::Peer, routes};

pub(super) const ROWS: &[Row] = &[
    Row::everywhere("cookie_sent_v4", &["cookies_sent"], |scene| sent(scene, Via::V4)),
    Row::everywhere("cookie_sent_v6", &["cookies_sent"], |scene| sent(scene, Via::V6)),
    Row::everywhere("cookie_sent_queue_full", &["cookies_sent"], sent_as_needed),
    Row::everywhere("cookie_validated_v4", CHECKED, |scene| validated(scene, Via::V4)),
    Row::everywhere("cookie_validated_v6", CHECKED, |scene| validated(scene, Via::V6)),
    Row::everywhere("cookie_validated_v4_mapped", CHECKED, |scene| validated(scene, Via::Mapped)),
    Row::everywhere("cookie_accept_full_v4", OVERFLOW, |scene| overflow(scene, Via::V4)),
    Row::everywhere("cookie_accept_full_v6", OVERFLOW, |scene| overflow(scene, Via::V6)),
    Row::everywhere("cookie_accept_full_v4_mapped", OVERFLOW, |scene| overflow(scene, Via::Mapped)),
    Row::everywhere("cookie_syn_accept_full", &["overflow_syn", "listen_drops"], at_syn),
    Row::everywhere("cookie_no_route", &["overflow_cookie", "cookies_checked"], no_route),
    Row::everywhere("cookie_bad_v4", &["cookies_checked"], |scene| bad(scene, Via::V4)),
    Row::everywhere("cookie_bad_v6", &["cookies_checked"], |scene| bad(scene, Via::V6)),
];

const CHECKED: &[&str] = &["cookies_checked", "enqueued"];
const OVERFLOW: &[&str] = &["overflow_cookie", "listen_drops"];

/// Every SYN is answered by a cookie; the SYN queue stays empty.
fn door(scene: &Scene, via: Via) -> Result<Door> {
    scene.sysctl("net.ipv4.tcp_syncookies", "2")?;
    scene.listen(via, 16)
}

const SENT: KernelCounters =
    KernelCounters { syn_queue_full_cookies: TIMES, cookies_sent: TIMES, ..NOTHING };

fn sent(scene: &Scene, via: Via) -> Result<()> {
    let door = door(scene, via)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.answered(&door, TIMES_USIZE)?;
    span.kernel(SENT).ours(&[(Count::SynsReceived, TIMES), (Count::CookiesSent, TIMES)]).end()
}

/// `tcp_syncookies` = 1: only when the SYN queue is full.
fn sent_as_needed(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    scene.answered(&door, 4)?;
    door.listener.listen_again(1)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.answered(&door, TIMES_USIZE)?;
    span.kernel(SENT).ours(&[(Count::SynsReceived, TIMES), (Count::CookiesSent, TIMES)]).end()
}

fn validated(scene: &Scene, via: Via) -> Result<()> {
    let door = door(scene, via)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(Peer::ack)?;
    scene.wait_queued(&door, TIMES)?;
    span.kernel(KernelCounters { cookies_received: TIMES, ..NOTHING })
        .ours(&[(Count::CookiesValidated, TIMES), (Count::EnqueuedCookie, TIMES)])
        .end()
}

fn overflow(scene: &Scene, via: Via) -> Result<()> {
    let door = door(scene, via)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    scene.shut(&door)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(Peer::ack)?;
    span.kernel(KernelCounters { cookies_received: TIMES, ..OVERFLOWED })
        .socket_drops(&[TIMES])
        .ours(&[
            (Count::CookiesValidated, TIMES),
            (Count::OverflowCookie, TIMES),
            (Count::ListenDrops, TIMES),
        ])
        .end()
}

/// A full accept queue comes before the cookie.
fn at_syn(scene: &Scene) -> Result<()> {
    let door = door(scene, Via::V4)?;
    scene.shut(&door)?;
    let span = scene.watch(&door, &[&door.listener])?;
    scene.syns(&door, TIMES_USIZE)?;
    span.kernel(KernelCounters { syn_queue_full_cookies: TIMES, ..OVERFLOWED })
        .socket_drops(&[TIMES])
        .ours(super::syns::SYN_OVERFLOWS)
        .end()
}

/// A valid cookie of a client to whom there is no way any more: no listen drop.
fn no_route(scene: &Scene) -> Result<()> {
    let door = door(scene, Via::V4)?;
    let client = Via::V4.beyond();
    let mut peers: Vec<_> = (0..TIMES).map(|_| scene.wire.peer_at(door.to, client)).collect();
    for peer in &mut peers {
        peer.syn()?;
        peer.answered()?;
    }
    let span = scene.watch(&door, &[&door.listener])?;
    scene.netns.run(|| routes::no_way_to(client, Via::V4.host_prefix()))?;
    peers.iter().try_for_each(Peer::ack)?;
    span.kernel(KernelCounters { cookies_received: TIMES, ..NOTHING })
        .socket_drops(&[0])
        .ours(&[(Count::CookiesValidated, TIMES)])
        .end()
}

fn bad(scene: &Scene, via: Via) -> Result<()> {
    let door = door(scene, via)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[&door.listener])?;
    peers.iter().try_for_each(Peer::wrong_ack)?;
    span.kernel(KernelCounters { cookies_failed: TIMES, ..NOTHING })
        .socket_drops(&[0])
        .ours(&[(Count::CookiesFailed, TIMES)])
        .end()
}
