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
    shelves: Arc<Held>,
    queue: SyncSender<Task>,
    refused: Arc<AtomicU64>,
}

/// The thread that writes.
pub struct Writer(JoinHandle<()>);

/// What it is to do.
enum Task {
    Write(Box<IncidentRecord>),
    End,
}

impl Store {
    /// Opens the file on the writer's thread: incidents that a daemon left open become
    /// "interrupted" before anything new is written.
    pub fn start(settings: Settings) -> std::io::Result<(Self, Writer)> {
        let shelves = Shelves::new(settings).map_err(std::io::Error::other)?;
        let health = Mutex::new(shelves.health());
        let shelves = Arc::new(Held { shelves: Mutex::new(shelves), health });
        let (queue, tasks) = sync_channel(QUEUE);
        let ours = Arc::clone(&shelves);
        let work = move || write(&ours, &tasks);
        let writer = thread::Builder::new().name("store".to_owned()).spawn(work)?;
        Ok((Self { shelves, queue, refused: Arc::default() }, Writer(writer)))
    }

    /// Writes a record, new or changed. Waits for nothing.
    pub fn write(&self, record: IncidentRecord) {
        if self.queue.try_send(Task::Write(Box::new(record))).is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes nothing that comes from now on.
    pub fn end(&self) {
        // The writer takes one after the other: there is room soon. One that has ended needs
        // no telling.
        drop(self.queue.send(Task::End));
    }

    /// The incidents that are meant, the newest first.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Summary>, StoreError> {
        self.shelves.hold(|shelves| shelves.list(filter))
    }

    /// All of one incident.
    pub fn get(&self, id: IncidentId) -> Result<Option<IncidentRecord>, StoreError> {
        self.shelves.hold(|shelves| shelves.get(id))
    }

    /// How it was after what was done last: waits for nothing that is being done.
    pub fn health(&self) -> Health {
        let mut health = *lock(&self.shelves.health);
        health.lost += self.refused.load(Ordering::Relaxed);
        health
    }
}

impl Writer {
    /// Waits until all is written that was before [`Store::end`], but no longer than this.
    pub fn finish(self, patience: Duration) {
        let until = Instant::now() + patience;
        while !self.0.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The shelves, and how they were when nobody held them last.
struct Held {
    shelves: Mutex<Shelves>,
    health: Mutex<Health>,
}

impl Held {
    fn hold<T>(&self, work: impl FnOnce(&mut Shelves) -> T) -> T {
        let mut shelves = lock(&self.shelves);
        let result = work(&mut shelves);
        *lock(&self.health) = shelves.health();
        result
    }
}

fn write(shelves: &Held, tasks: &Receiver<Task>) {
    // To check a large file takes its time, for which nobody has to wait.
    let opened = shelves.hold(|shelves| shelves.opener()).open(now());
    shelves.hold(|shelves| shelves.install(opened));
    let mut chores = Instant::now() + CHORES;
    loop {
        match tasks.recv_timeout(chores.saturating_duration_since(Instant::now())) {
            Ok(Task::Write(record)) => shelves.hold(|shelves| shelves.write(&record, now())),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Task::End) | Err(RecvTimeoutError::Disconnected) => return,
        }
        if Instant::now() >= chores {
            chores = Instant::now() + CHORES;
            shelves.hold(|shelves| shelves.tidy(now()));
        }
    }
}

fn now() -> Moment {
    SystemTime::now().into()
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
