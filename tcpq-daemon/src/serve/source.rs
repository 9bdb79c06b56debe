//! Where handlers get a snapshot: a fresh one in bounded time, else the last.

use std::{
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use crate::model::snapshot::{RefreshRequest, Snapshot};

/// How long a request waits for the kernel side before it takes the last snapshot.
const PATIENCE: Duration = Duration::from_millis(800);

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

    /// A snapshot read after this call began, or the last one if that takes too long.
    pub async fn fresh(&self) -> Arc<Snapshot> {
        let (reply, answer) = oneshot::channel();
        // A full queue means that a reading is due anyway.
        if self.requests.try_send(reply).is_ok()
            && let Ok(Ok(snapshot)) = tokio::time::timeout(PATIENCE, answer).await
        {
            return snapshot;
        }
        Arc::clone(&self.latest.borrow())
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
