//! What a listener that closes takes with it.

use anyhow::Result;

use super::{
    Row, TIMES, TIMES_USIZE,
    scene::{Scene, Via},
};
use crate::{figures::Count, raw::Peer};

pub(super) const ROWS: &[Row] = &[
    Row::everywhere("close_queue_v4", &["abandoned"], |scene| queue(scene, Via::V4)),
    Row::everywhere("close_queue_v6", &["abandoned"], |scene| queue(scene, Via::V6)),
    Row::everywhere("close_queue_full", &["abandoned"], full),
    Row::everywhere("close_requests_timer", &["requests_lost"], requests_by_timer),
    Row::everywhere("close_requests_packet", &["requests_lost"], requests_by_packet),
    Row::everywhere("close_both", &["abandoned", "requests_lost"], both),
];

fn queue(scene: &Scene, via: Via) -> Result<()> {
    let door = scene.listen(via, 16)?;
    scene.connected(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[])?;
    drop(door);
    span.ours(&[(Count::Abandoned, TIMES)]).end()
}

/// One more than the backlog says fits, and one more than that does not.
fn full(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, i32::try_from(TIMES)? - 1)?;
    scene.connected(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[])?;
    drop(door);
    span.ours(&[(Count::Abandoned, TIMES)]).end()
}

/// Requests outlive `close()` until their timer, or a packet, finds them.
fn requests_by_timer(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[])?;
    let to = door.to;
    drop(door);
    scene.wait_no_requests_at(to)?;
    span.ours(&[(Count::LostListenerClosed, TIMES)]).end()
}

fn requests_by_packet(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    let peers = scene.answered(&door, TIMES_USIZE)?;
    let span = scene.watch(&door, &[])?;
    let to = door.to;
    drop(door);
    peers.iter().try_for_each(Peer::ack)?;
    scene.wait_no_requests_at(to)?;
    span.ours(&[(Count::LostListenerClosed, TIMES)]).end()
}

fn both(scene: &Scene) -> Result<()> {
    let door = scene.listen(Via::V4, 16)?;
    scene.answered(&door, TIMES_USIZE)?;
    scene.connected(&door, 3)?;
    let span = scene.watch(&door, &[])?;
    let to = door.to;
    drop(door);
    scene.wait_no_requests_at(to)?;
    span.ours(&[(Count::Abandoned, 3), (Count::LostListenerClosed, TIMES)]).end()
}
