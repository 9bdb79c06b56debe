//! Which closed listeners a packet may still be at.
//!
//! `tcp_v4_rcv` looks a listener up and works on it in one RCU read-side section. A listener
//! leaves the table of listeners before its close is seen. So once every section that was
//! running then has ended, which is what `synchronize_rcu` waits for and
//! `membarrier(MEMBARRIER_CMD_GLOBAL)` calls, nothing can be on its way to it any more: no
//! time limit says that, least of all on a CPU that a hypervisor has stopped.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use rustix::thread::{MembarrierCommand, membarrier};
use tcpq_common::listener::ListenerKey;
use tracing::{debug, warn};

use crate::kernel::privilege;

/// No grace period can be waited for: nothing is known to be in flight.
const UNKNOWN: u64 = u64::MAX;

/// Waits for grace periods on a thread of its own.
#[derive(Debug)]
pub(super) struct InFlight {
    /// Closed listeners, and the grace period that must have ended.
    awaits: HashMap<ListenerKey, u64>,
    /// The last grace period that was asked for.
    asked: u64,
    /// The last that has ended.
    ended: Arc<AtomicU64>,
    requests: SyncSender<u64>,
}

impl InFlight {
    pub(super) fn new() -> io::Result<Self> {
        Self::with(|| membarrier(MembarrierCommand::Global).map_err(io::Error::from))
    }

    fn with(wait: impl Fn() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (requests, asked) = sync_channel(1);
        let ended = Arc::new(AtomicU64::new(0));
        let tell = Arc::clone(&ended);
        let work = move || {
            // It is started by the thread that attaches, and stays.
            if let Err(error) = privilege::give_up_the_rest() {
                warn!(%error, "the thread that waits keeps its capabilities");
            }
            for period in asked {
                let Err(error) = wait() else {
                    tell.store(period, Ordering::Release);
                    continue;
                };
                // With nohz_full the kernel has no such call; then time must do.
                debug!(%error, "no waiting for packets in flight");
                tell.store(UNKNOWN, Ordering::Release);
                return;
            }
        };
        thread::Builder::new().name("grace".to_owned()).spawn(work)?;
        Ok(Self { awaits: HashMap::new(), asked: 0, ended, requests })
    }

    /// Of these closed listeners, those that a packet may still be at. To be asked before
    /// their totals are read. Never waits.
    pub(super) fn among<'a>(
        &mut self,
        closed: impl Iterator<Item = &'a ListenerKey>,
    ) -> HashSet<ListenerKey> {
        let ended = self.ended.load(Ordering::Acquire);
        let next = self.asked + 1;
        let mut awaits = HashMap::with_capacity(self.awaits.len());
        for key in closed {
            awaits.insert(*key, self.awaits.get(key).copied().unwrap_or(next));
        }
        self.awaits = awaits;
        // A request that finds no room is made again by the next reading.
        let is_wanted = ended != UNKNOWN && self.awaits.values().any(|period| *period == next);
        if is_wanted && self.requests.try_send(next).is_ok() {
            self.asked = next;
        }
        let still = self.awaits.iter().filter(|(_, period)| **period > ended);
        still.map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::Receiver, time::Duration};

    use super::*;

    const ONE: ListenerKey = ListenerKey { sk: 1, born_ns: 1 };
    const TWO: ListenerKey = ListenerKey { sk: 2, born_ns: 2 };

    /// Grace periods that end when the test says so.
    fn by_hand() -> (InFlight, impl Fn()) {
        let (end, ends) = sync_channel::<()>(0);
        let ends: Receiver<()> = ends;
        let wait = move || ends.recv().map_err(io::Error::other);
        (InFlight::with(wait).unwrap(), move || end.send(()).unwrap())
    }

    fn until(mut holds: impl FnMut() -> bool) {
        for _ in 0..1000 {
            if holds() {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        panic!("in vain");
    }

    #[test]
    fn a_listener_waits_for_a_period_that_began_after_its_close_was_seen() {
        let (mut flight, end) = by_hand();
        assert_eq!(flight.among([&ONE].into_iter()), HashSet::from([ONE]));
        // It closes while the first period runs, which says nothing of it.
        assert_eq!(flight.among([&ONE, &TWO].into_iter()), HashSet::from([ONE, TWO]));
        end();
        until(|| flight.among([&ONE, &TWO].into_iter()) == HashSet::from([TWO]));
        end();
        until(|| flight.among([&ONE, &TWO].into_iter()).is_empty());
    }

    #[test]
    fn where_the_kernel_cannot_wait_nothing_does() {
        let mut flight = InFlight::with(|| Err(io::ErrorKind::InvalidInput.into())).unwrap();
        until(|| flight.among([&ONE].into_iter()).is_empty());
    }

    #[test]
    fn this_kernel_waits() {
        let mut flight = InFlight::new().unwrap();
        until(|| flight.among([&ONE].into_iter()).is_empty());
    }
}
