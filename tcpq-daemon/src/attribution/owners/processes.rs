//! What is known of the processes that own sockets.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    attribution::{
        cgroup,
        exits::Exits,
        pods::Pods,
        process::{self, Facts, ProcessId},
    },
    model::owner::{Owner, Pod, SharedOwner},
};

/// How long what was read is taken for true: one process may open thousands of sockets
/// between two readings.
const HOLDS: Duration = Duration::from_millis(250);

/// How many processes that seem unchanged are read again with one walk. Reading one takes
/// some 100 us, and whoever waits for the owners waits for that.
const AGAIN: usize = 128;

/// Most processes known at once; where there are more, each is read when it is asked for.
const MAX_KNOWN: usize = 65_536;

/// A bounded cache, keyed by number; what it has of a number is of one process.
#[derive(Debug)]
pub(super) struct Processes {
    procfs: PathBuf,
    pods: Pods,
    pods_version: u64,
    known: HashMap<u32, Known>,
    /// The number of the walk that is being taken in.
    walk: u64,
    /// When processes started that are no owners, read at that moment.
    starts: HashMap<u32, (Instant, Option<u64>)>,
}

#[derive(Debug)]
struct Known {
    id: ProcessId,
    owner: SharedOwner,
    read: Instant,
    /// How often it was read.
    reads: u32,
    /// Which walk it need not be read for.
    vouched: u64,
}

impl Processes {
    pub(super) fn new(procfs: &Path, pods: Pods) -> Self {
        Self {
            procfs: procfs.to_owned(),
            pods,
            pods_version: 0,
            known: HashMap::new(),
            walk: 1,
            starts: HashMap::new(),
        }
    }

    pub(super) fn procfs(&self) -> &Path {
        &self.procfs
    }

    /// The process that has this number, as an owner. `None`: there is none.
    pub(super) fn owner(&mut self, pid: u32, now: Instant) -> Option<(ProcessId, SharedOwner)> {
        if let Some(known) = self.fresh(pid, now) {
            return Some((known.id, Arc::clone(&known.owner)));
        }
        let before = self.known.remove(&pid);
        let reads = before.as_ref().map_or(1, |known| known.reads.saturating_add(1));
        let facts = process::read(&self.procfs, pid)?;
        let id = facts.id;
        let before = before.filter(|known| known.id == id).map(|known| known.owner);
        let new = self.describe(facts, before.as_deref());
        // One that has not changed stays the same object.
        let owner = before.filter(|before| **before == new).unwrap_or_else(|| Arc::new(new));
        if self.known.len() < MAX_KNOWN {
            let owner = Arc::clone(&owner);
            self.known.insert(pid, Known { id, owner, read: now, reads, vouched: 0 });
        }
        Some((id, owner))
    }

    /// What is known of the process with this number and need not be read again now.
    fn fresh(&self, pid: u32, now: Instant) -> Option<&Known> {
        let is_fresh = |known: &&Known| {
            known.vouched == self.walk || now.saturating_duration_since(known.read) < HOLDS
        };
        self.known.get(&pid).filter(is_fresh)
    }

    /// Whether this process need not be read again now, and how it is shown.
    pub(super) fn vouched(&self, id: ProcessId) -> Option<&SharedOwner> {
        let known = self.known.get(&id.pid)?;
        (known.id == id && known.vouched == self.walk).then_some(&known.owner)
    }

    /// A walk is taken in; `names` are those it saw. A process that is watched and has not
    /// ended is still the same one, and one that executes another program usually gets
    /// another name: so of those with their old name not all are read again, but some in
    /// turn, those first that were read but once.
    pub(super) fn walk(&mut self, names: &HashMap<u32, &str>, exits: &Exits) {
        let mut unchanged: Vec<_> = self
            .known
            .values_mut()
            .filter(|known| {
                let name = names.get(&known.id.pid).copied();
                name.is_some() && name == known.owner.process.as_deref() && exits.watches(known.id)
            })
            .collect();
        unchanged.sort_unstable_by_key(|known| (known.reads > 1, known.read, known.id));
        for known in unchanged.into_iter().skip(AGAIN) {
            known.vouched = self.walk;
        }
    }

    /// It is taken in: nothing holds for longer.
    pub(super) fn walked(&mut self) {
        self.walk += 1;
    }

    /// When the process that has this number started. `None`: there is none.
    pub(super) fn start(&mut self, pid: u32, now: Instant) -> Option<u64> {
        let holds = |read: Instant| now.saturating_duration_since(read) < HOLDS;
        if let Some(known) = self.fresh(pid, now) {
            return Some(known.id.start);
        }
        if let Some((_, start)) = self.starts.get(&pid).filter(|(read, _)| holds(*read)) {
            return *start;
        }
        let start = process::start_of(&self.procfs, pid);
        if self.starts.len() < MAX_KNOWN {
            self.starts.insert(pid, (now, start));
        }
        start
    }

    /// An owner made of facts. What cannot be read any more, of a process that still goes
    /// by the same name, is as it was: a process that ends loses its facts one by one.
    fn describe(&self, facts: Facts, before: Option<&Owner>) -> Owner {
        let before = before.filter(|before| before.process == facts.name);
        let membership = match (&facts.cgroup, before) {
            (Some(text), _) => cgroup::membership(text),
            (None, Some(before)) => cgroup::Membership {
                path: before.cgroup.clone(),
                unit: before.unit.clone(),
                container: before.container.clone(),
            },
            (None, None) => cgroup::Membership::default(),
        };
        let executable =
            facts.executable.or_else(|| before.and_then(|before| before.executable.clone()));
        let owner = Owner {
            process: facts.name,
            pid: Some(facts.id.pid),
            executable,
            cgroup: membership.path,
            unit: membership.unit,
            container: membership.container,
            pod: None,
        };
        let pod = self.pod(&owner, before);
        Owner { pod, ..owner }
    }

    /// A container's pod never changes; so one that was found once is kept when it cannot
    /// be looked up any more.
    fn pod(&self, owner: &Owner, before: Option<&Owner>) -> Option<Pod> {
        let container = owner.container.as_ref()?;
        let found = self.pods.lookup(container);
        let is_whole = found.as_ref().is_some_and(|pod| !pod.container.is_empty());
        let kept = before
            .filter(|before| before.container.as_ref() == Some(container))
            .and_then(|before| before.pod.clone());
        if is_whole { found } else { kept.or(found) }
    }

    /// Looks pods up again if there are other ones. True: some owner has changed.
    pub(super) fn refresh_pods(&mut self) -> bool {
        let version = self.pods.version();
        if version == self.pods_version {
            return false;
        }
        self.pods_version = version;
        let mut known = std::mem::take(&mut self.known);
        let mut changed = false;
        for known in known.values_mut() {
            let pod = self.pod(&known.owner, Some(&known.owner));
            if pod != known.owner.pod {
                known.owner = Arc::new(Owner { pod, ..(*known.owner).clone() });
                changed = true;
            }
        }
        self.known = known;
        changed
    }

    /// A process as it was last read, without reading it again.
    pub(super) fn remembered(&self, id: ProcessId) -> Option<&SharedOwner> {
        self.known.get(&id.pid).filter(|known| known.id == id).map(|known| &known.owner)
    }

    /// Forgets a process.
    pub(super) fn forget(&mut self, id: ProcessId) {
        self.starts.remove(&id.pid);
        if self.known.get(&id.pid).is_some_and(|known| known.id == id) {
            self.known.remove(&id.pid);
        }
    }

    /// Forgets all others.
    pub(super) fn retain(&mut self, needed: &HashSet<ProcessId>) {
        self.known.retain(|_, known| needed.contains(&known.id));
        self.starts.clear();
    }
}
