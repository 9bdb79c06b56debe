//! Reads the kernel's own counters, namespace by namespace, through a listener in each:
//! no namespace is entered.

use std::collections::{BTreeMap, HashMap};

use aya::maps::{HashMap as BpfMap, MapData, MapError};
use tcpq_common::{
    TCP_LISTEN,
    iterator::{
        AUDIT_ROWS, AuditAsked, AuditKey, AuditRow, AuditState, AuditTarget, DropCounters,
        ListenerRow, NetnsBase,
    },
};

use crate::{
    kernel::{
        attach::Attached,
        error::KernelError,
        reader::Reader,
        readout::{gone, read_error, take},
    },
    model::{ids::NetnsInode, sample::NetnsReading},
};

/// Readings before a CPU that is always in the middle of something is left for the
/// next time.
const TRIES: usize = 8;

/// The maps of the audit.
pub(super) struct Auditing {
    bases: BpfMap<MapData, u64, NetnsBase>,
    credited: BpfMap<MapData, AuditKey, DropCounters>,
    rows: Reader<AuditRow>,
    cpus: usize,
    /// The namespaces of the last sample.
    known: BTreeMap<u64, Known>,
}

#[derive(Clone, Copy)]
struct Known {
    target: AuditTarget,
    inode: NetnsInode,
}

impl Auditing {
    pub(super) fn new(attached: &mut Attached) -> Result<Self, KernelError> {
        let what = "the kernel's counters";
        let rows = Reader::new(attached, "rt_audit", "AUDIT_ROWS_READ", what)?;
        Ok(Self {
            bases: take(attached, "NETNS_BASES")?,
            credited: take(attached, "AUDIT")?,
            rows,
            cpus: attached.facts.possible_cpus,
            known: BTreeMap::new(),
        })
    }

    /// The sums of the namespaces known from the last sample.
    pub(super) fn sums(&mut self) -> Result<HashMap<u64, DropCounters>, KernelError> {
        let known = std::mem::take(&mut self.known);
        let mut sums = HashMap::new();
        for (id, known) in &known {
            let rows = self.read(&known.target)?;
            let sum = rows.iter().fold(DropCounters::ZERO, |sum, row| DropCounters {
                overflows: sum.overflows + row.kernel.overflows,
                drops: sum.drops + row.kernel.drops,
            });
            sums.insert(*id, sum);
        }
        self.known = known;
        Ok(sums)
    }

    /// Every namespace that has a listener among `rows`.
    pub(super) fn readings(
        &mut self,
        rows: &[ListenerRow],
        before: &HashMap<u64, DropCounters>,
    ) -> Result<Vec<NetnsReading>, KernelError> {
        self.known = rows
            .iter()
            .filter(|row| row.now.state == u32::from(TCP_LISTEN))
            .map(|row| {
                let id = row.listener.netns_id;
                let target = AuditTarget { sk: row.sk, net: row.now.net, netns_id: id };
                (id, Known { target, inode: NetnsInode(row.listener.netns) })
            })
            .collect();
        let known = self.known.clone();
        let mut readings = Vec::with_capacity(known.len());
        for (id, Known { target, inode }) in known {
            let base = match self.bases.get(&id, 0) {
                Ok(base) => Some(base),
                Err(MapError::KeyNotFound) => None,
                Err(error) => return Err(read_error("the base of an audit", error)),
            };
            let cpus = self.consistent(&target)?;
            readings.push(NetnsReading { id, inode, base, before: before.get(&id).copied(), cpus });
        }
        Ok(readings)
    }

    /// Forgets a namespace that is gone.
    pub(super) fn forget(&mut self, id: u64) -> Result<(), KernelError> {
        for cpu in 0..u32::try_from(self.cpus).unwrap_or(u32::MAX) {
            gone(self.credited.remove(&AuditKey { netns_id: id, cpu, reserved: 0 }))?;
        }
        gone(self.bases.remove(&id))
    }

    /// One namespace's rows, each CPU's of one moment if a few tries can make it so.
    fn consistent(&mut self, target: &AuditTarget) -> Result<Vec<AuditRow>, KernelError> {
        let mut rows = self.read(target)?;
        for _ in 1..TRIES {
            if rows.iter().all(|row| row.state != AuditState::Busy as u32) {
                break;
            }
            for (row, again) in rows.iter_mut().zip(self.read(target)?) {
                if row.state == AuditState::Busy as u32 {
                    *row = again;
                }
            }
        }
        Ok(rows)
    }

    fn read(&mut self, target: &AuditTarget) -> Result<Vec<AuditRow>, KernelError> {
        let mut rows = Vec::with_capacity(self.cpus);
        let at_once = AUDIT_ROWS as usize;
        for first in (0..self.cpus).step_by(at_once) {
            let asked = AuditAsked { target: *target, first_cpu: first as u64 };
            for row in self.rows.read(&asked, at_once.min(self.cpus - first))? {
                rows.push(row?);
            }
        }
        Ok(rows)
    }
}
