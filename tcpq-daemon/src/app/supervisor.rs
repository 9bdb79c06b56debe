//! What systemd is told, where systemd started the daemon: readiness, reloading, the end, and
//! that it is alive.

use sd_notify::NotifyState;
use tracing::{debug, warn};

use crate::serve::source::SnapshotSource;

/// All is attached and served.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The settings are read again; [`ready`] comes after it.
pub(super) fn reloading() {
    // With Type=notify-reload the time is asked for.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "no clock for systemd"),
    }
}

/// The end has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that the daemon is alive for as long as its readings are fresh, if systemd asks to
/// be told; without end.
pub(super) async fn keep_alive(source: SnapshotSource) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(limit / 2);
    let mut is_told = true;
    loop {
        ticks.tick().await;
        let is_fresh = source.latest().is_some();
        if is_fresh {
            tell(&[NotifyState::Watchdog]);
        } else if is_told {
            warn!("no fresh reading: systemd's watchdog is not told any more");
        }
        is_told = is_fresh;
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "systemd cannot be told");
    }
}
