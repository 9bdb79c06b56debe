//! The kernel's counters beside ours, per network namespace: 0 is the promise.
//!
//! A difference of two moving figures means something only if both are of one moment.
//! Where the hooked calls count, each CPU's part is read so (see the eBPF side's
//! `audit`). Where figures are derived, a reading counts only if the kernel's counters
//! were the same before and after it.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry, hash_map},
    hash::BuildHasher,
};

use tcpq_common::iterator::{AuditRow, AuditState, DropCounters};

use crate::model::{
    audit::{NetnsAudit, Unattributed},
    ids::NetnsInode,
    sample::NetnsReading,
};

/// What the kernel's counters are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// What each CPU credited to listeners.
    PerCpu,
    /// The sums of the listeners' derived counters.
    Sums,
}

/// The audits of all namespaces.
#[derive(Debug)]
pub struct Audits {
    comparison: Comparison,
    by_id: HashMap<u64, Netns>,
    /// What namespaces that are forgotten leave to others of their name: a counter must
    /// not go back.
    inherited: HashMap<String, NetnsAudit>,
}

#[derive(Debug)]
struct Netns {
    inode: NetnsInode,
    /// What it was called when it was last read. Its inode number may be another's since.
    name: Option<String>,
    is_read: bool,
    /// The kernel's counters when last read.
    kernel: DropCounters,
    /// Each CPU's difference when it was last read at one moment.
    cpus: HashMap<u32, Unattributed>,
    /// The whole difference when it was last read at one moment.
    difference: Option<Unattributed>,
    /// The difference when it was first read: what the kernel had counted before tcpq.
    base: Option<Unattributed>,
}

impl Audits {
    /// Nothing is known yet.
    pub fn new(comparison: Comparison) -> Self {
        Self { comparison, by_id: HashMap::new(), inherited: HashMap::new() }
    }

    /// Takes in what was read. `ours`: the sums of the listeners' counters at that
    /// moment.
    pub fn apply<S: BuildHasher>(
        &mut self,
        readings: &[NetnsReading],
        ours: &HashMap<u64, DropCounters, S>,
    ) {
        for netns in self.by_id.values_mut() {
            netns.is_read = false;
        }
        for reading in readings {
            let ours = ours.get(&reading.id).copied().unwrap_or(DropCounters::ZERO);
            self.take(reading, ours);
        }
    }

    /// Forgets a namespace that is gone.
    pub fn forget(&mut self, id: u64) {
        let Some(gone) = self.by_id.remove(&id) else { return };
        let Some(view) = gone.view() else { return };
        let is_name = |netns: &Netns| netns.name.as_ref() == Some(&view.netns);
        if !self.by_id.values().any(is_name) {
            self.inherited.remove(&view.netns);
            return;
        }
        match self.inherited.entry(view.netns.clone()) {
            hash_map::Entry::Vacant(entry) => {
                entry.insert(view);
            }
            hash_map::Entry::Occupied(mut entry) => entry.get_mut().absorb(&view),
        }
    }

    fn take(&mut self, reading: &NetnsReading, ours: DropCounters) {
        let usable = |row: &AuditRow| {
            row.state == AuditState::Consistent as u32 || row.state == AuditState::Busy as u32
        };
        if !reading.cpus.iter().all(usable) {
            return;
        }
        let kernel = sum(reading.cpus.iter().map(|row| row.kernel));
        // Before Linux 5.12 a namespace's identity is no more than improbable to come again.
        if self
            .by_id
            .get(&reading.id)
            .is_some_and(|known| known.inode != reading.inode || kernel.drops < known.kernel.drops)
        {
            self.by_id.remove(&reading.id);
        }
        let netns = self.by_id.entry(reading.id).or_insert_with(|| Netns {
            inode: reading.inode,
            name: None,
            is_read: true,
            kernel,
            cpus: HashMap::new(),
            difference: None,
            base: reading
                .base
                .filter(|base| base.is_known == 1)
                .map(|base| difference(base.kernel, base.credited)),
        });
        netns.kernel = kernel;
        netns.is_read = true;
        let fresh = match self.comparison {
            Comparison::PerCpu => netns.take_cpus(&reading.cpus),
            Comparison::Sums => (reading.before == Some(kernel)).then(|| difference(kernel, ours)),
        };
        if let Some(fresh) = fresh {
            netns.difference = Some(fresh);
            netns.base.get_or_insert(fresh);
        }
    }

    /// Every namespace that has a base, ordered by name. One that was made again under
    /// the name of one that is gone continues its figures, as its listeners do.
    pub fn views(&mut self, mut name: impl FnMut(NetnsInode) -> String) -> Vec<NetnsAudit> {
        let mut views: BTreeMap<String, NetnsAudit> = BTreeMap::new();
        for netns in self.by_id.values_mut() {
            if netns.is_read || netns.name.is_none() {
                netns.name = Some(name(netns.inode));
            }
            let Some(view) = netns.view() else { continue };
            match views.entry(view.netns.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(view);
                }
                Entry::Occupied(mut entry) => entry.get_mut().absorb(&view),
            }
        }
        for (name, left) in &self.inherited {
            if let Some(view) = views.get_mut(name) {
                view.absorb(left);
            }
        }
        views.into_values().collect()
    }
}

impl Netns {
    /// The whole difference, once every CPU has been read at one moment.
    fn take_cpus(&mut self, rows: &[AuditRow]) -> Option<Unattributed> {
        for row in rows.iter().filter(|row| row.state == AuditState::Consistent as u32) {
            self.cpus.insert(row.cpu, difference(row.kernel, row.credited));
        }
        let parts: Option<Vec<_>> = rows.iter().map(|row| self.cpus.get(&row.cpu)).collect();
        Some(parts?.into_iter().fold(Unattributed::default(), |sum, part| sum.plus(*part)))
    }

    /// `None`: it has no base or no name yet.
    fn view(&self) -> Option<NetnsAudit> {
        let base = self.base?;
        Some(NetnsAudit {
            netns: self.name.clone()?,
            listen_overflows: self.kernel.overflows.wrapping_sub(base.overflows.cast_unsigned()),
            listen_drops: self.kernel.drops.wrapping_sub(base.drops.cast_unsigned()),
            unattributed: self.difference.map(|now| now.since(base)),
        })
    }
}

fn sum(parts: impl Iterator<Item = DropCounters>) -> DropCounters {
    parts.fold(DropCounters::ZERO, |sum, part| DropCounters {
        overflows: sum.overflows.wrapping_add(part.overflows),
        drops: sum.drops.wrapping_add(part.drops),
    })
}

fn difference(kernel: DropCounters, ours: DropCounters) -> Unattributed {
    Unattributed {
        overflows: kernel.overflows.wrapping_sub(ours.overflows).cast_signed(),
        drops: kernel.drops.wrapping_sub(ours.drops).cast_signed(),
    }
}

#[cfg(test)]
mod tests;
