//! Which Kubernetes pod a container is of.
//!
//! Off unless a source is given: a file, or the kubelet of this node. A thread of its own
//! asks the source now and then and keeps a table; looking something up is a look into
//! that table, so that nothing here ever makes a scrape wait. A source that fails, or
//! answers what cannot be true, leaves the table as it was for a while.
//!
//! - `list`: what an answer says
//! - `keeper`: when to ask again, and what to do about failures
//! - `fetch`, `tls`: how to ask
//!
//! Why it is the kubelet that is asked: docs/adr/0007.

mod fetch;
mod keeper;
mod list;
mod tls;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::SyncSender,
    },
};

use hyper::Uri;
use thiserror::Error;

use crate::{
    attribution::pods::{keeper::Timing, list::Table},
    model::owner::{Container, Pod},
};

/// Where pods are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file with a list of pods as the kubelet answers it; read again when it changes.
    File(PathBuf),
    /// The kubelet's own list.
    Kubelet(Kubelet),
}

/// How to ask the kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubelet {
    /// Its list of pods: `https://127.0.0.1:10250/pods`, `http://127.0.0.1:10255/pods`.
    pub url: Uri,
    /// File of a bearer token, read anew each time: tokens of service accounts expire.
    pub token: Option<PathBuf>,
    /// Whose word is taken that it is the kubelet. `https` needs one.
    pub trust: Option<Trust>,
}

/// How the kubelet's certificate is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// By a file of certificates, read anew each time. The certificate must name the host
    /// of the URL, which that of a kubelet seldom does for a loopback address.
    Authority(PathBuf),
    /// Not at all.
    Unverified,
}

/// Why pods cannot be looked up with what was given.
#[derive(Debug, Error)]
pub enum PodsError {
    /// The URL is not one that can be asked.
    #[error("{url} is no URL of the form https://HOST:PORT/pods or http://HOST:PORT/pods")]
    BadUrl {
        /// What was given.
        url: Uri,
    },
    /// Nothing says whom to trust.
    #[error(
        "{url} needs a file of certificate authorities to verify the kubelet by, or the explicit \
         wish not to"
    )]
    NoTrust {
        /// What was given.
        url: Uri,
    },
    /// The token would be sent for everyone to read.
    #[error("a token is sent by https only, or by http to a loopback address; {url} is neither")]
    TokenInClear {
        /// What was given.
        url: Uri,
    },
    /// No thread could be started.
    #[error("cannot start the thread that looks up pods")]
    Thread {
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// The pods of this node, as far as they are known. Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct Pods(Option<Arc<Handle>>);

#[derive(Debug)]
struct Handle {
    board: Arc<Board>,
    /// Its end tells the thread to end.
    _alive: SyncSender<()>,
}

/// Where the thread puts its table.
#[derive(Default)]
struct Board {
    table: Mutex<Arc<Table>>,
    version: AtomicU64,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Board {
    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the table if it is another one.
    fn put(&self, table: Table) {
        if *self.table() == table {
            return;
        }
        let mut new = Arc::new(table);
        std::mem::swap(&mut *self.table.lock().unwrap_or_else(PoisonError::into_inner), &mut new);
        self.version.fetch_add(1, Ordering::Release);
        // The old one is freed here, where nobody waits for it.
        drop(new);
    }
}

impl Pods {
    /// Looks nothing up.
    pub fn off() -> Self {
        Self(None)
    }

    /// Begins to ask a source. What is wrong with the source itself shows later, in the
    /// log: it may come and go while the daemon runs.
    pub fn start(source: Source) -> Result<Self, PodsError> {
        Self::start_with(source, Timing::default())
    }

    fn start_with(source: Source, timing: Timing) -> Result<Self, PodsError> {
        if let Source::Kubelet(kubelet) = &source {
            fetch::check(kubelet)?;
        }
        let board = Arc::new(Board::default());
        let alive = keeper::spawn(source, timing, Arc::clone(&board))
            .map_err(|source| PodsError::Thread { source })?;
        Ok(Self(Some(Arc::new(Handle { board, _alive: alive }))))
    }

    /// A table of the tests' own making, and how to replace it.
    #[cfg(test)]
    pub(super) fn fixed() -> (Self, impl Fn(&str)) {
        let board = Arc::new(Board::default());
        let (alive, _) = std::sync::mpsc::sync_channel(1);
        let handle = Handle { board: Arc::clone(&board), _alive: alive };
        (Self(Some(Arc::new(handle))), move |list: &str| {
            board.put(Table::parse(list.as_bytes()).unwrap());
        })
    }

    /// The pod of a container, by the container's id; where that is not listed, as with a
    /// container inside of a pod's, by the pod's UID, without the container's name. Never
    /// waits.
    pub fn lookup(&self, container: &Container) -> Option<Pod> {
        self.0.as_ref()?.board.table().find(container).cloned()
    }

    /// Another number whenever there is another table.
    pub fn version(&self) -> u64 {
        self.0.as_ref().map_or(0, |handle| handle.board.version.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests;
