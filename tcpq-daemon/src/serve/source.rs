//! Where handlers get a snapshot: a fresh one in bounded time, else the last, unless
//! that is too old to be told as the truth.

use std::{
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use crate::model::snapshot::{RefreshRequest, Snapshot};

/// How long a request waits for the kernel side before it takes the last snapshot.
const PATIENCE: Duration = Duration::from_millis(800);

/// How old a snapshot may be. The collector reads every second.
const STALE: Duration = Duration::from_secs(10);

/// Snapshots, fresh on request.
#[derive(Clone, Debug)]
pub struct SnapshotSource {
    latest: watch::Receiver<Arc<Snapshot>>,
    requests: SyncSender<RefreshRequest>,
}

impl SnapshotSource {
    /// The collector's two ends.
    pub fn new(
        latest: watch::Receiver<Arc<Snapshot>>,
        requests: SyncSender<RefreshRequest>,
    ) -> Self {
        Self { latest, requests }
    }

    /// A snapshot read after this call began, or the last one if that takes too long;
    /// nothing if there has been none for a while.
    pub async fn fresh(&self) -> Option<Arc<Snapshot>> {
        let (reply, answer) = oneshot::channel();
        // A full queue means that a reading is due anyway.
        if self.requests.try_send(reply).is_ok()
            && let Ok(Ok(snapshot)) = tokio::time::timeout(PATIENCE, answer).await
        {
            return Some(snapshot);
        }
        self.latest()
    }

    /// The last snapshot, unless it is too old.
    pub fn latest(&self) -> Option<Arc<Snapshot>> {
        let latest = Arc::clone(&self.latest.borrow());
        (latest.taken.elapsed() < STALE).then_some(latest)
    }

    /// Waits until the collector has ended, which it does not do by itself.
    pub async fn ended(mut self) {
        while self.latest.changed().await.is_ok() {}
    }
}

/// Whether the daemon is ready, and with what: nothing before hooks are attached
/// and listeners are discovered.
#[derive(Clone, Debug)]
pub struct Readiness {
    source: watch::Receiver<Option<SnapshotSource>>,
}

impl Readiness {
    /// Not ready until the sender says with what.
    pub fn new(source: watch::Receiver<Option<SnapshotSource>>) -> Self {
        Self { source }
    }

    /// The source, once there is one.
    pub fn source(&self) -> Option<SnapshotSource> {
        self.source.borrow().clone()
    }
}
