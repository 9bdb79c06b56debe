//! Notices when processes end, without asking for each.

use std::{
    collections::{HashMap, HashSet},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    process::{Pid, PidfdFlags, Resource, getrlimit, pidfd_open},
};
use tracing::debug;

use crate::attribution::process::{self, ProcessId};

/// Most descriptors held; processes beyond are looked at with each walk only.
const MAX_WATCHED: u64 = 4096;

/// What part of the descriptors that the daemon may have.
const SHARE: u64 = 4;

/// How many ends are taken at once.
const BATCH: usize = 64;

/// A pidfd per process, in one epoll set: what it costs grows with ends, not with
/// processes.
#[derive(Debug)]
pub(super) struct Exits {
    epoll: Option<OwnedFd>,
    limit: usize,
    watched: HashMap<u32, Watched>,
    /// Ended before they could be watched.
    missed: Vec<ProcessId>,
}

#[derive(Debug)]
struct Watched {
    id: ProcessId,
    /// Readable once the process has ended. Closing it takes it out of the set.
    _pidfd: OwnedFd,
}

impl Exits {
    /// Where the kernel refuses, nothing is noticed, which is what [`Self::blind`] makes.
    pub(super) fn new() -> Self {
        match epoll::create(epoll::CreateFlags::CLOEXEC) {
            Ok(epoll) => Self { epoll: Some(epoll), limit: limit(), ..Self::blind() },
            Err(error) => {
                debug!(%error, "ends of processes are found by walks only");
                Self::blind()
            }
        }
    }

    /// Notices nothing.
    pub(super) fn blind() -> Self {
        Self { epoll: None, limit: 0, watched: HashMap::new(), missed: Vec::new() }
    }

    /// Watches a process. Without effect if it is watched, or the kernel or the limit
    /// does not let it be.
    pub(super) fn watch(&mut self, procfs: &Path, id: ProcessId) {
        let Some(epoll) = &self.epoll else { return };
        if self.watches(id) || self.watched.len() >= self.limit {
            return;
        }
        let Some(pid) = id.pid.try_into().ok().and_then(Pid::from_raw) else { return };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return self.missed.push(id),
            Err(error) => return debug!(%error, pid = id.pid, "cannot watch a process"),
        };
        // By now the number may be another's.
        if process::start_of(procfs, id.pid) != Some(id.start) {
            return self.missed.push(id);
        }
        let data = epoll::EventData::new_u64(id.pid.into());
        match epoll::add(epoll, &pidfd, data, epoll::EventFlags::IN) {
            Ok(()) => drop(self.watched.insert(id.pid, Watched { id, _pidfd: pidfd })),
            Err(error) => debug!(%error, pid = id.pid, "cannot watch a process"),
        }
    }

    /// Whether the end of this process would be told, and has not been.
    pub(super) fn watches(&self, id: ProcessId) -> bool {
        self.watched.get(&id.pid).is_some_and(|watched| watched.id == id)
    }

    /// Lets go of all others.
    pub(super) fn retain(&mut self, needed: &HashSet<ProcessId>) {
        self.watched.retain(|_, watched| needed.contains(&watched.id));
    }

    /// The watched processes that have ended since. Each is told once.
    pub(super) fn ended(&mut self, procfs: &Path) -> Vec<ProcessId> {
        let mut ended = std::mem::take(&mut self.missed);
        let Some(epoll) = &self.epoll else { return ended };
        let mut events = Vec::with_capacity(BATCH);
        loop {
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            match epoll::wait(epoll, spare_capacity(&mut events), Some(&at_once)) {
                Ok(0) | Err(_) => return ended,
                Ok(_) => {}
            }
            for event in events.drain(..) {
                let Ok(pid) = u32::try_from(event.data.u64()) else { continue };
                let Some(watched) = self.watched.remove(&pid) else { continue };
                // Some kernels tell the same of a process whose first thread ends because
                // another one executes a program. The next walk watches it again.
                if !process::is_running(procfs, watched.id) {
                    ended.push(watched.id);
                }
            }
        }
    }
}

/// Descriptors are for listeners of the daemon's own first.
fn limit() -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from((allowed / SHARE).min(MAX_WATCHED)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command},
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    fn proc() -> &'static Path {
        Path::new("/proc")
    }

    fn child() -> (Child, ProcessId) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        (child, ProcessId { start: process::start_of(proc(), pid).unwrap(), pid })
    }

    fn end(child: &mut Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn wait(exits: &mut Exits) -> Vec<ProcessId> {
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            let ended = exits.ended(proc());
            if !ended.is_empty() || Instant::now() > patience {
                return ended;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn an_end_is_told_once() {
        let mut exits = Exits::new();
        let (mut child, id) = child();
        exits.watch(proc(), id);
        exits.watch(proc(), id);
        assert_eq!(exits.ended(proc()), []);
        end(&mut child);
        assert_eq!(wait(&mut exits), [id]);
        assert_eq!(exits.ended(proc()), []);
        assert!(exits.watched.is_empty());
    }

    #[test]
    fn one_that_waits_for_its_parent_has_ended() {
        let mut exits = Exits::new();
        let (mut child, id) = child();
        exits.watch(proc(), id);
        child.kill().unwrap();
        assert_eq!(wait(&mut exits), [id]);
        child.wait().unwrap();
    }

    #[test]
    fn what_has_ended_before_is_told_too() {
        let mut exits = Exits::new();
        let (mut child, id) = child();
        end(&mut child);
        exits.watch(proc(), id);
        assert_eq!(exits.ended(proc()), [id]);
        // Another one with the number of one that is gone.
        let own = std::process::id();
        let other = ProcessId { start: 1, pid: own };
        exits.watch(proc(), other);
        assert_eq!(exits.ended(proc()), [other]);
    }

    #[test]
    fn more_ends_than_are_taken_at_once() {
        let mut exits = Exits::new();
        let mut children: Vec<_> = (0..BATCH + 3).map(|_| child()).collect();
        for (_, id) in &children {
            exits.watch(proc(), *id);
        }
        for (child, _) in &mut children {
            end(child);
        }
        let mut ended = exits.ended(proc());
        ended.sort();
        let mut all: Vec<_> = children.iter().map(|(_, id)| *id).collect();
        all.sort();
        assert_eq!(ended, all);
    }

    #[test]
    fn no_more_are_watched_than_the_limit_and_none_that_nobody_needs() {
        let mut exits = Exits { limit: 1, ..Exits::new() };
        let (mut first, one) = child();
        let (mut second, two) = child();
        exits.watch(proc(), one);
        exits.watch(proc(), two);
        assert_eq!(exits.watched.len(), 1);
        exits.retain(&HashSet::from([two]));
        assert!(exits.watched.is_empty());
        end(&mut first);
        assert_eq!(exits.ended(proc()), []);
        exits.watch(proc(), two);
        end(&mut second);
        assert_eq!(wait(&mut exits), [two]);
    }

    #[test]
    fn a_kernel_that_refuses_is_lived_with() {
        let mut exits = Exits::blind();
        exits.watch(proc(), ProcessId { start: 1, pid: 1 });
        assert_eq!(exits.ended(proc()), []);
    }
}
