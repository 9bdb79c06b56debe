//! Who owns each listening socket.
//!
//! A new socket gets the process that called `listen()` at once, by a few small reads.
//! Who else holds it, and who holds those that were there before, is what a walk over all
//! open files tells. The caller walks, elsewhere, when [`Owners::wants_walk`] says so; so
//! nothing here waits for one:
//!
//! ```text
//! each tick: exited(); for new sockets: opened(); owner(), holders(); for gone ones: forget()
//!            wants_walk()? -> walk_began() ... walk on another thread ... walked()
//! ```
//!
//! Who of several is the owner: `choose`. When to walk: `schedule`.

mod choose;
mod clock;
mod processes;
mod schedule;
mod table;

use std::{
    collections::HashSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tcpq_common::{iterator::HolderRow, listener::ListenerKey};

use crate::{
    attribution::{
        exits::Exits,
        owners::{
            choose::Candidate,
            processes::Processes,
            schedule::Schedule,
            table::{Held, Socket, Table},
        },
        pods::Pods,
        process::{self, ProcessId},
        text,
    },
    model::{
        group::Holder,
        owner::{Owner, SharedOwner},
    },
};

/// The owners of all sockets.
#[derive(Debug)]
pub struct Owners {
    processes: Processes,
    exits: Exits,
    schedule: Schedule,
    table: Table,
    /// What the last walk found of sockets that nobody has told of yet.
    unclaimed: Unclaimed,
    /// The owner of those that have none.
    nobody: SharedOwner,
    none: Arc<[Holder]>,
    /// A socket has gone or changed hands: some process may be needed no more.
    is_untidy: bool,
    /// How often owners or holders may have changed.
    version: u64,
}

#[derive(Debug, Default)]
struct Unclaimed {
    held: Held,
    /// When that walk began.
    began_ns: u64,
}

impl Owners {
    /// `procfs` is where procfs is, usually `/proc`: that of the daemon's own pid
    /// namespace, whose numbers the kernel side tells.
    pub fn new(procfs: &Path, pods: Pods) -> Self {
        Self::with_exits(procfs, pods, Exits::new())
    }

    fn with_exits(procfs: &Path, pods: Pods, exits: Exits) -> Self {
        Self {
            processes: Processes::new(procfs, pods),
            exits,
            schedule: Schedule::new(),
            table: Table::default(),
            unclaimed: Unclaimed::default(),
            nobody: SharedOwner::default(),
            none: Arc::from([]),
            is_untidy: false,
            version: 0,
        }
    }

    /// A socket is seen for the first time; who called `listen()` is as the kernel side
    /// tells it: number 0 if it does not.
    pub fn opened(
        &mut self,
        key: ListenerKey,
        opener_pid: u32,
        opener_name: [u8; 16],
        now: Instant,
    ) -> SharedOwner {
        if let Some(socket) = self.table.get(key) {
            return Arc::clone(&socket.owner);
        }
        let (opener, owner) = self.opener(key, opener_pid, &opener_name, now);
        let holders = Arc::clone(&self.none);
        self.version += 1;
        self.table.insert(key, Socket { opener, process: opener, owner, holders });
        if let Some(id) = opener {
            self.exits.watch(self.processes.procfs(), id);
        }
        self.schedule.appeared(now);
        let held = self.unclaimed.held.remove(&key.sk);
        if let Some(held) = held.filter(|_| key.born_ns <= self.unclaimed.began_ns) {
            self.settle(key, held, now);
        }
        self.owner(key)
    }

    fn opener(
        &mut self,
        key: ListenerKey,
        pid: u32,
        name: &[u8],
        now: Instant,
    ) -> (Option<ProcessId>, SharedOwner) {
        // Up to a reading may lie between the call and now: the number may have been given
        // to a process that was not there then.
        let opener = self.process(pid, now);
        match opener.filter(|(id, _)| clock::was_there(*id, key.born_ns)) {
            Some((id, owner)) => (Some(id), owner),
            None => (None, self.named(text::name(name))),
        }
    }

    /// An owner of which no more is known.
    fn named(&self, process: Option<String>) -> SharedOwner {
        if process.is_none() {
            return Arc::clone(&self.nobody);
        }
        Arc::new(Owner { process, ..Owner::default() })
    }

    /// Who answers for a socket.
    pub fn owner(&self, key: ListenerKey) -> SharedOwner {
        Arc::clone(self.table.get(key).map_or(&self.nobody, |socket| &socket.owner))
    }

    /// Another number than before if any [`Self::owner`] or [`Self::holders`] may differ.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Who has a socket open: its owner first, then by number. Empty until a walk has
    /// seen it.
    pub fn holders(&self, key: ListenerKey) -> Arc<[Holder]> {
        Arc::clone(self.table.get(key).map_or(&self.none, |socket| &socket.holders))
    }

    /// A socket is gone.
    pub fn forget(&mut self, key: ListenerKey) {
        self.table.remove(key);
        self.is_untidy = true;
    }

    /// Looks which owners have ended, and gives their sockets to who else holds them. How
    /// many have ended. Costs no reading while nothing ends.
    pub fn exited(&mut self, now: Instant) -> usize {
        let ended: HashSet<ProcessId> =
            self.exits.ended(self.processes.procfs()).into_iter().collect();
        if !ended.is_empty() {
            self.bury(&ended, now);
        }
        if self.processes.refresh_pods() {
            self.version += 1;
            for socket in self.table.values_mut() {
                let owner = socket.process.and_then(|id| self.processes.remembered(id));
                if let Some(owner) = owner {
                    socket.owner = Arc::clone(owner);
                }
            }
        }
        if self.is_untidy {
            self.tidy();
        }
        ended.len()
    }

    fn bury(&mut self, ended: &HashSet<ProcessId>, now: Instant) {
        for id in ended {
            self.processes.forget(*id);
        }
        let orphans = self.table.owned_by(ended);
        if !orphans.is_empty() {
            self.schedule.ended(now);
        }
        for (key, id) in orphans {
            let left: Vec<Holder> =
                self.holders(key).iter().filter(|holder| holder.pid != id.pid).cloned().collect();
            self.settle(key, left, now);
        }
    }

    /// Whether all open files should be walked through now.
    pub fn wants_walk(&self, now: Instant) -> bool {
        self.schedule.is_due(now)
    }

    /// A walk begins. No other is wanted until [`Self::walked`] or [`Self::walk_failed`].
    pub fn walk_began(&mut self, now: Instant) {
        self.schedule.began(now);
    }

    /// A walk has failed, or was not complete.
    pub fn walk_failed(&mut self, now: Instant) {
        self.schedule.failed(now);
    }

    /// Takes all that a whole walk found. `began_ns`: when it began, by `CLOCK_MONOTONIC`
    /// in nanoseconds: a socket whose life began later may have been missed by it, or have
    /// the address of one that was found, so nothing is concluded for it. `took`: what the
    /// walk cost.
    pub fn walked(&mut self, rows: &[HolderRow], began_ns: u64, took: Duration, now: Instant) {
        let settling = Instant::now();
        let mut held = table::by_socket(rows);
        // One that ended during the walk is not the same any more.
        self.exited(now);
        self.processes.walk(&table::names(&held), &self.exits);
        for key in self.table.current() {
            let found = held.remove(&key.sk);
            if key.born_ns <= began_ns {
                self.settle(key, found.unwrap_or_default(), now);
            }
        }
        self.processes.walked();
        table::bound(&mut held);
        self.unclaimed = Unclaimed { held, began_ns };
        self.tidy();
        self.schedule.walked(took + settling.elapsed(), now);
    }

    /// Decides who owns a socket that these hold.
    fn settle(&mut self, key: ListenerKey, mut held: Vec<Holder>, now: Instant) {
        let Some(socket) = self.table.get(key) else { return };
        let (opener, before) = (socket.opener, socket.process);
        let last_known = Arc::clone(&socket.owner);
        self.version += 1;
        table::sort(&mut held, before);
        let is_unchanged = *socket.holders == *table::shown(&held);
        // Where the same processes hold it and its owner still is who it was, there is
        // nothing to elect.
        let same = before.filter(|_| is_unchanged).and_then(|id| self.processes.vouched(id));
        if let Some(owner) = same.cloned() {
            if let Some(socket) = self.table.get_mut(key) {
                socket.owner = owner;
            }
            return;
        }
        let (process, owner) = match self.elect(&held, opener, now) {
            Elected::Process(id, owner) => (Some(id), owner),
            Elected::Gone(name) if name == last_known.process => (None, without_pid(&last_known)),
            Elected::Gone(name) => (None, self.named(name)),
            Elected::Nobody => self.remains(before, &last_known, now),
        };
        if let Some(id) = process {
            self.exits.watch(self.processes.procfs(), id);
        }
        table::sort(&mut held, process);
        if let Some(socket) = self.table.get_mut(key) {
            self.is_untidy |= socket.process != process;
            socket.process = process;
            socket.owner = owner;
            if *socket.holders != *table::shown(&held) {
                socket.holders = Arc::from(table::shown(&held));
            }
        }
    }

    fn elect(&mut self, held: &[Holder], opener: Option<ProcessId>, now: Instant) -> Elected {
        let mut gone = None;
        let mut candidates = self.candidates(held, opener, now);
        while let Some(chosen) = choose::choose(&candidates) {
            if let Some((id, owner)) = self.process(chosen.pid, now) {
                return Elected::Process(id, owner);
            }
            candidates.retain(|candidate| candidate.pid != chosen.pid);
            gone = gone.or(Some(chosen.pid));
        }
        let gone = gone.and_then(|pid| held.iter().find(|holder| holder.pid == pid));
        gone.map_or(Elected::Nobody, |holder| {
            Elected::Gone(Some(holder.process.clone()).filter(|name| !name.is_empty()))
        })
    }

    /// One per process.
    fn candidates(
        &mut self,
        held: &[Holder],
        opener: Option<ProcessId>,
        now: Instant,
    ) -> Vec<Candidate> {
        let mut holders: Vec<&Holder> = held.iter().collect();
        holders.sort_by_key(|holder| holder.pid);
        holders.dedup_by_key(|holder| holder.pid);
        let is_contested = holders.len() > 1;
        let mut candidate = |holder: &Holder| {
            // Of a sole holder there is nothing to compare. That one of several is gone is
            // remembered for a while: a server that ends takes all its workers' numbers
            // with it, for each of its sockets.
            let start = if is_contested { self.start(holder.pid, now) } else { None };
            if is_contested && start.is_none() {
                return None;
            }
            let is_opener =
                || opener.is_some_and(|o| o.pid == holder.pid && start == Some(o.start));
            let role = choose::role(holder.pid, &holder.process, is_opener);
            Some(Candidate { pid: holder.pid, start, role })
        };
        holders.into_iter().filter_map(&mut candidate).collect()
    }

    /// A process by its number in the daemon's pid namespace: 0 is none.
    fn process(&mut self, pid: u32, now: Instant) -> Option<(ProcessId, SharedOwner)> {
        (pid != 0).then(|| self.processes.owner(pid, now)).flatten()
    }

    fn start(&mut self, pid: u32, now: Instant) -> Option<u64> {
        (pid != 0).then(|| self.processes.start(pid, now)).flatten()
    }

    /// What was last known of a socket that nobody holds: it is on its way between
    /// processes, or the kernel has it. A process that still runs is still shown.
    fn remains(
        &mut self,
        process: Option<ProcessId>,
        owner: &SharedOwner,
        now: Instant,
    ) -> (Option<ProcessId>, SharedOwner) {
        let same = process.filter(|id| process::is_running(self.processes.procfs(), *id));
        match same.and_then(|id| self.process(id.pid, now).filter(|(now, _)| *now == id)) {
            Some((id, owner)) => (Some(id), owner),
            None => (None, without_pid(owner)),
        }
    }

    /// Lets go of processes that own nothing any more.
    fn tidy(&mut self) {
        let needed = self.table.values().filter_map(|socket| socket.process).collect();
        self.exits.retain(&needed);
        self.processes.retain(&needed);
        self.is_untidy = false;
    }
}

/// Who is to be the owner.
enum Elected {
    /// A process that runs.
    Process(ProcessId, SharedOwner),
    /// One that a walk has seen and that cannot be read: all there is is its name.
    Gone(Option<String>),
    /// Nobody holds the socket.
    Nobody,
}

/// The same owner, when its process has ended.
fn without_pid(owner: &SharedOwner) -> SharedOwner {
    if owner.pid.is_none() {
        return Arc::clone(owner);
    }
    Arc::new(Owner { pid: None, ..(**owner).clone() })
}

#[cfg(test)]
mod tests;
