//! The thread that keeps the table: when to ask, and what to do about failures.

use std::{
    error::Error as _,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};
use tracing::{info, warn};

use crate::attribution::pods::{
    Board, Source,
    fetch::{self, FetchError},
    list::Table,
};

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// From one good answer to the next question.
    pub(super) period: Duration,
    /// From one look at a file to the next.
    pub(super) file_period: Duration,
    /// Longest time between questions, when they fail.
    pub(super) longest: Duration,
    /// How long an answer may take.
    pub(super) patience: Duration,
    /// How long the last good answer holds.
    pub(super) holds: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(30),
            file_period: Duration::from_secs(2),
            longest: Duration::from_mins(5),
            patience: Duration::from_secs(5),
            holds: Duration::from_mins(10),
        }
    }
}

/// Starts the thread. It ends when the sender is dropped, after what it is asking then.
pub(super) fn spawn(
    source: Source,
    timing: Timing,
    board: Arc<Board>,
) -> io::Result<SyncSender<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (alive, ended) = sync_channel(1);
    thread::Builder::new().name("pods".to_owned()).spawn(move || {
        let mut record = Record::new(&source, timing);
        let mut asker = Asker { source, timing, runtime, seen: None };
        loop {
            let answer = asker.ask();
            let now = Instant::now();
            take(&mut record, answer, &board, now);
            match ended.recv_timeout(record.wait(now)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // A name that is being resolved must not keep the thread.
        asker.runtime.shutdown_background();
    })?;
    Ok(alive)
}

/// Puts an answer on the board, or logs why not.
fn take(record: &mut Record, answer: Asked, board: &Board, now: Instant) {
    match answer {
        Asked::Unchanged => record.unchanged(now),
        Asked::Answer(Ok(table)) => {
            board.put(table);
            if record.succeeded(now) {
                info!("pods are looked up again");
            }
        }
        Asked::Answer(Err(error)) => {
            if record.failed() {
                warn!(error = chain(&error), "cannot look up pods; known ones hold for a while");
            }
        }
    }
    if record.is_void(now) {
        board.put(Table::default());
    }
}

/// An error with its causes.
fn chain(error: &FetchError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    crate::attribution::text::path(text.as_bytes()).unwrap_or_default()
}

/// Asks a source.
struct Asker {
    source: Source,
    timing: Timing,
    runtime: Runtime,
    /// The file that was read last, good or bad.
    seen: Option<Version>,
}

/// What tells a file from what it was.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

enum Asked {
    /// The same as last time, good or bad.
    Unchanged,
    Answer(Result<Table, FetchError>),
}

impl Asker {
    fn ask(&mut self) -> Asked {
        match &self.source {
            Source::Kubelet(kubelet) => {
                Asked::Answer(self.runtime.block_on(fetch::kubelet(kubelet, self.timing.patience)))
            }
            Source::File(path) => {
                // Before it is read: what is written meanwhile is read next time.
                let version = version(path);
                if version.is_some() && version == self.seen {
                    return Asked::Unchanged;
                }
                self.seen = version;
                Asked::Answer(fetch::file(path))
            }
        }
    }
}

fn version(path: &Path) -> Option<Version> {
    let meta = fs::metadata(path).ok()?;
    let modified = (meta.mtime(), meta.mtime_nsec());
    Some(Version { inode: meta.ino(), bytes: meta.size(), modified })
}

/// How it went.
struct Record {
    period: Duration,
    longest: Duration,
    holds: Duration,
    /// How often it has failed since it last did not.
    failures: u32,
    /// When it last did not.
    good: Option<Instant>,
}

impl Record {
    fn new(source: &Source, timing: Timing) -> Self {
        let (period, longest) = match source {
            // To look whether there is another one costs nothing.
            Source::File(_) => (timing.file_period, timing.file_period),
            Source::Kubelet(_) => (timing.period, timing.longest),
        };
        Self { period, longest, holds: timing.holds, failures: 0, good: None }
    }

    /// True: it failed before.
    fn succeeded(&mut self, now: Instant) -> bool {
        self.good = Some(now);
        std::mem::take(&mut self.failures) > 0
    }

    /// True: it did not fail before.
    fn failed(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }

    fn unchanged(&mut self, now: Instant) {
        if self.failures == 0 {
            self.good = Some(now);
        }
    }

    /// Whether what was last known holds no more.
    fn is_void(&self, now: Instant) -> bool {
        self.failures > 0 && self.left(now).is_zero()
    }

    fn left(&self, now: Instant) -> Duration {
        let age = |good| now.saturating_duration_since(good);
        self.good.map_or(Duration::ZERO, |good| self.holds.saturating_sub(age(good)))
    }

    /// How long to wait: longer with each failure, but not beyond the moment when what is
    /// known ends to hold.
    fn wait(&self, now: Instant) -> Duration {
        let Some(again) = self.failures.checked_sub(1) else { return self.period };
        let wait = self.period.saturating_mul(1 << again.min(16)).min(self.longest);
        match self.left(now) {
            Duration::ZERO => wait,
            left => wait.min(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn kubelet() -> Record {
        let url = "http://127.0.0.1:10255/pods".parse().unwrap();
        let kubelet = crate::attribution::pods::Kubelet { url, token: None, trust: None };
        Record::new(&Source::Kubelet(kubelet), Timing::default())
    }

    fn file() -> Record {
        Record::new(&Source::File("/pods.json".into()), Timing::default())
    }

    #[test]
    fn failures_make_it_wait_longer_up_to_a_limit_and_one_answer_ends_that() {
        let mut record = kubelet();
        let now = Instant::now();
        assert_eq!(record.wait(now), SECOND * 30);
        assert!(record.failed(), "worth a line");
        assert!(record.is_void(now));
        let mut waits = vec![record.wait(now).as_secs()];
        for _ in 0..40 {
            assert!(!record.failed());
            waits.push(record.wait(now).as_secs());
        }
        assert_eq!(waits[..6], [30, 60, 120, 240, 300, 300]);
        assert_eq!(waits[40], 300);
        assert!(record.succeeded(now), "worth a line");
        assert!(!record.succeeded(now));
        assert_eq!(record.wait(now), SECOND * 30);
    }

    #[test]
    fn what_is_known_holds_for_ten_minutes_and_ends_on_time() {
        let mut record = kubelet();
        let start = Instant::now();
        record.succeeded(start);
        let mut now = start + SECOND * 30;
        while {
            record.failed();
            !record.is_void(now)
        } {
            now += record.wait(now);
        }
        assert_eq!(now, start + SECOND * 600);
        assert_eq!(record.wait(now), SECOND * 300);
    }

    #[test]
    fn a_file_that_stays_as_it_is_is_as_good_as_new_and_a_bad_one_no_better() {
        let mut record = file();
        let start = Instant::now();
        record.succeeded(start);
        record.unchanged(start + SECOND * 3600);
        record.failed();
        assert!(!record.is_void(start + SECOND * 4100));
        record.unchanged(start + SECOND * 4190);
        assert!(record.is_void(start + SECOND * 4200));
        assert_eq!(record.wait(start + SECOND * 4200), Timing::default().file_period);
    }
}
