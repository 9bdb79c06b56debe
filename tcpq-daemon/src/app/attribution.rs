//! Names and owners for the engine. The walk over all open files that tells who holds
//! which listener is made on a thread of its own: no reading waits for it.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tcpq_common::{
    iterator::HolderRow,
    listener::{Listener, ListenerKey},
};
use tracing::warn;

use crate::{
    attribution::{netns::NetnsNames, owners::Owners},
    engine::attribute::Attribute,
    kernel::{clock, discover::Discovery, error::KernelError, walk::FileWalk},
    model::{group::Holder, ids::NetnsInode, owner::SharedOwner},
};

/// What the engine asks for names and owners.
pub(super) struct Attribution {
    netns: NetnsNames,
    owners: Owners,
    /// `None`: this kernel has no such iterator, or the look is over after one reading.
    walker: Option<Walker>,
    /// CPU time that all of this has taken on the collector's thread and the walker's, but
    /// for looking up what is known.
    spent: Duration,
}

/// The thread that walks.
struct Walker {
    wishes: SyncSender<()>,
    walks: Receiver<Walked>,
}

/// One walk.
struct Walked {
    rows: Result<Vec<HolderRow>, KernelError>,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    began_ns: u64,
    /// CPU time.
    took: Duration,
}

impl Attribution {
    /// Knows at once what discovery has found; further walks need [`Self::keep_walking`].
    pub(super) fn new(netns: NetnsNames, mut owners: Owners, discovery: &Discovery) -> Self {
        let now = Instant::now();
        let before = clock::thread_cpu();
        if discovery.walk.is_some() {
            owners.walk_began(now);
            owners.walked(&discovery.holders, discovery.walk_began_ns, discovery.walk_took, now);
        }
        let settling = clock::thread_cpu().saturating_sub(before);
        Self { netns, owners, walker: None, spent: discovery.walk_took + settling }
    }

    /// Walks on a thread of its own from now on.
    pub(super) fn keep_walking(&mut self, walk: FileWalk) -> io::Result<()> {
        let (wishes, orders) = sync_channel(1);
        let (done, walks) = sync_channel(1);
        let work = move || {
            for () in orders {
                if done.send(make(&walk)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("walker".to_owned()).spawn(work)?;
        self.walker = Some(Walker { wishes, walks });
        Ok(())
    }

    /// Takes in the walk that has ended, and wishes for the next one.
    fn follow_walks(&mut self, now: Instant) {
        let Some(walker) = &self.walker else { return };
        match walker.walks.try_recv() {
            Ok(Walked { rows: Ok(rows), began_ns, took }) => {
                self.owners.walked(&rows, began_ns, took, now);
                self.spent += took;
            }
            Ok(Walked { rows: Err(error), took, .. }) => {
                warn!(error = format!("{error:#}"), "open files cannot be walked through");
                self.owners.walk_failed(now);
                self.spent += took;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                warn!("the thread that walks through open files has ended; owners may be stale");
                self.walker = None;
                return;
            }
        }
        if self.owners.wants_walk(now) && walker.wishes.try_send(()).is_ok() {
            self.owners.walk_began(now);
        }
    }

    /// Adds what `work` takes of this thread's CPU time.
    fn metered<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = clock::thread_cpu();
        let result = work(self);
        self.spent += clock::thread_cpu().saturating_sub(before);
        result
    }
}

impl Attribute for Attribution {
    fn refresh(&mut self, now: Instant) {
        self.metered(|this| {
            this.owners.exited(now);
            this.follow_walks(now);
        });
    }

    fn version(&mut self) -> u64 {
        self.owners.version()
    }

    fn spent(&self) -> Duration {
        self.spent
    }

    fn netns(&mut self, netns: NetnsInode) -> String {
        self.metered(|this| this.netns.name(netns, Instant::now()))
    }

    fn sighted(&mut self, key: ListenerKey, listener: &Listener) -> SharedOwner {
        self.metered(|this| {
            let Listener { opener_pid, opener_name, .. } = *listener;
            this.owners.opened(key, opener_pid, opener_name, Instant::now())
        })
    }

    fn owner(&mut self, key: ListenerKey) -> SharedOwner {
        self.owners.owner(key)
    }

    fn holders(&mut self, key: ListenerKey) -> Arc<[Holder]> {
        self.owners.holders(key)
    }

    fn forgotten(&mut self, key: ListenerKey) {
        self.owners.forget(key);
    }
}

fn make(walk: &FileWalk) -> Walked {
    let began_ns = clock::monotonic_ns();
    let before = clock::thread_cpu();
    let rows = walk.walk();
    Walked { rows, began_ns, took: clock::thread_cpu().saturating_sub(before) }
}
