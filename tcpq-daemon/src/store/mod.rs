//! Incidents on disk.
//!
//! One thread writes, from a bounded queue. What the file does not take stays in memory, a
//! bounded number of records, and is written when it can be; meanwhile the store is "down".
//! A file that is damaged is put aside under another name, never deleted.

mod database;
mod schema;
mod shelves;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use thiserror::Error;

use crate::{
    model::incident::{
        filter::Filter,
        id::IncidentId,
        moment::Moment,
        record::{IncidentRecord, Summary},
    },
    store::shelves::Shelves,
};

/// Records that may wait for the disk.
const QUEUE: usize = 256;

/// How often a file that is down is tried again, and what is too old is let go.
const CHORES: Duration = Duration::from_secs(10);

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The folder; made if it is not there.
    pub folder: PathBuf,
    /// Incidents older than this are let go.
    pub age: Duration,
    /// The oldest are let go when the file is larger than this. Unit: bytes.
    pub size: u64,
}

/// Why nothing can be told.
#[derive(Debug, Error)]
pub enum StoreError {
    /// SQLite says no.
    #[error("incidents cannot be read: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// What is stored is no record.
    #[error("incident {id} cannot be read: {source}")]
    Record {
        /// Which.
        id: IncidentId,
        /// Why not.
        source: serde_json::Error,
    },
}

/// How the store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether the file takes what is written.
    pub is_up: bool,
    /// Records that were lost: the queue was full, or memory held too many.
    pub lost: u64,
    /// Files that were found damaged and put aside since the start.
    pub quarantined: u64,
}

/// The store. Clones are of the same one.
#[derive(Clone)]
pub struct Store {
    shelves: Arc<Mutex<Shelves>>,
    queue: SyncSender<IncidentRecord>,
    refused: Arc<AtomicU64>,
}

/// The thread that writes; it ends when no [`Store`] is left, after it has written all.
pub struct Writer(JoinHandle<()>);

impl Store {
    /// Opens the file on the writer's thread: incidents that a daemon left open become
    /// "interrupted" before anything new is written.
    pub fn start(settings: Settings) -> std::io::Result<(Self, Writer)> {
        let shelves = Shelves::new(settings).map_err(std::io::Error::other)?;
        let shelves = Arc::new(Mutex::new(shelves));
        let (queue, records) = sync_channel(QUEUE);
        let ours = Arc::clone(&shelves);
        let work = move || write(&ours, &records);
        let writer = thread::Builder::new().name("store".to_owned()).spawn(work)?;
        Ok((Self { shelves, queue, refused: Arc::default() }, Writer(writer)))
    }

    /// Writes a record, new or changed. Waits for nothing.
    pub fn write(&self, record: IncidentRecord) {
        if self.queue.try_send(record).is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The incidents that are meant, the newest first.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Summary>, StoreError> {
        lock(&self.shelves).list(filter)
    }

    /// All of one incident.
    pub fn get(&self, id: IncidentId) -> Result<Option<IncidentRecord>, StoreError> {
        lock(&self.shelves).get(id)
    }

    /// How it is.
    pub fn health(&self) -> Health {
        let mut health = lock(&self.shelves).health();
        health.lost += self.refused.load(Ordering::Relaxed);
        health
    }
}

impl Writer {
    /// Waits until all is written, but no longer than this.
    pub fn finish(self, patience: Duration) {
        let until = Instant::now() + patience;
        while !self.0.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn write(shelves: &Mutex<Shelves>, records: &Receiver<IncidentRecord>) {
    let opened = lock(shelves).opener().open(now());
    lock(shelves).install(opened);
    let mut chores = Instant::now() + CHORES;
    loop {
        match records.recv_timeout(chores.saturating_duration_since(Instant::now())) {
            Ok(record) => lock(shelves).write(&record, now()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if Instant::now() >= chores {
            chores = Instant::now() + CHORES;
            lock(shelves).tidy(now());
        }
    }
}

fn now() -> Moment {
    SystemTime::now().into()
}

fn lock(shelves: &Mutex<Shelves>) -> MutexGuard<'_, Shelves> {
    shelves.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
