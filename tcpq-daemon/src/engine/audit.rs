//! The kernel's counters beside ours, per network namespace: 0 is the promise.
//!
//! A difference of two moving figures means something only if both are of one moment.
//! Where the hooked calls count, each CPU's part is read so (see the eBPF side's
//! `audit`). Where figures are derived, a reading counts only if the kernel's counters
//! were the same before and after it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
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
    retention: Duration,
    by_id: HashMap<u64, Netns>,
}

#[derive(Debug)]
struct Netns {
    inode: NetnsInode,
    seen: Instant,
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
    /// `retention`: how long a namespace stays after its last listener closed.
    pub fn new(comparison: Comparison, retention: Duration) -> Self {
        Self { comparison, retention, by_id: HashMap::new() }
    }

    /// Takes in what was read. `ours`: the sums of the listeners' counters at that
    /// moment. Returns the namespaces that are gone.
    pub fn apply(
        &mut self,
        readings: &[NetnsReading],
        ours: &HashMap<u64, DropCounters>,
        now: Instant,
    ) -> Vec<u64> {
        for reading in readings {
            let ours = ours.get(&reading.id).copied().unwrap_or(DropCounters::ZERO);
            self.take(reading, ours, now);
        }
        let gone = |netns: &Netns| now.duration_since(netns.seen) >= self.retention;
        let ids: Vec<_> =
            self.by_id.iter().filter(|(_, netns)| gone(netns)).map(|(id, _)| *id).collect();
        for id in &ids {
            self.by_id.remove(id);
        }
        ids
    }

    fn take(&mut self, reading: &NetnsReading, ours: DropCounters, now: Instant) {
        let usable = |row: &AuditRow| {
            row.state == AuditState::Consistent as u32 || row.state == AuditState::Busy as u32
        };
        if !reading.cpus.iter().all(usable) {
            return;
        }
        let kernel = sum(reading.cpus.iter().map(|row| row.kernel));
        // Before Linux 5.12 a namespace's identity is used again after its end.
        if self
            .by_id
            .get(&reading.id)
            .is_some_and(|known| known.inode != reading.inode || kernel.drops < known.kernel.drops)
        {
            self.by_id.remove(&reading.id);
        }
        let netns = self.by_id.entry(reading.id).or_insert_with(|| Netns {
            inode: reading.inode,
            seen: now,
            kernel,
            cpus: HashMap::new(),
            difference: None,
            base: reading
                .base
                .filter(|base| base.is_known == 1)
                .map(|base| difference(base.kernel, base.credited)),
        });
        netns.seen = now;
        netns.kernel = kernel;
        let fresh = match self.comparison {
            Comparison::PerCpu => netns.take_cpus(&reading.cpus),
            Comparison::Sums => (reading.before == Some(kernel)).then(|| difference(kernel, ours)),
        };
        if let Some(fresh) = fresh {
            netns.difference = Some(fresh);
            netns.base.get_or_insert(fresh);
        }
    }

    /// Every namespace that has a base, ordered by name.
    pub fn views(&self, mut name: impl FnMut(NetnsInode) -> String) -> Vec<NetnsAudit> {
        let mut latest: HashMap<String, &Netns> = HashMap::new();
        for netns in self.by_id.values() {
            let entry = latest.entry(name(netns.inode)).or_insert(netns);
            // A namespace may be made again under the name of one that is gone.
            if entry.seen < netns.seen {
                *entry = netns;
            }
        }
        let mut views: Vec<_> =
            latest.into_iter().filter_map(|(name, netns)| netns.view(name)).collect();
        views.sort_by(|one, other| one.netns.cmp(&other.netns));
        views
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

    fn view(&self, netns: String) -> Option<NetnsAudit> {
        let base = self.base?;
        Some(NetnsAudit {
            netns,
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
