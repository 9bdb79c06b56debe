//! What a look at the owner and its surroundings finds while an incident is open.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::incident::{id::IncidentId, moment::Moment};

/// Whom to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// For which incident.
    pub incident: IncidentId,
    /// The processes that may call accept(): those in trouble first.
    pub holders: Vec<u32>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// When the look began.
    pub at: Moment,
    /// Each process that could be read.
    pub processes: Vec<ProcessReading>,
    /// The host's pressure.
    pub host: Option<Pressure>,
    /// What could not be read, and why.
    pub failures: Vec<String>,
}

/// One process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessReading {
    /// Its number in the daemon's pid namespace.
    pub pid: u32,
    /// When it started, in clock ticks since boot: another one may have its number later.
    pub start: u64,
    /// Its name.
    pub name: String,
    /// Its threads by state, `R`, `S`, `D`, `T` and so on, as far as they were read.
    pub states: BTreeMap<char, u64>,
    /// Those that sleep, by the kernel function in which they do.
    pub waits: BTreeMap<String, u64>,
    /// Threads in all.
    pub threads: u64,
    /// CPU time of all threads since it started. Unit: milliseconds.
    pub cpu_ms: u64,
    /// Open files.
    pub files: Option<u64>,
    /// Its soft RLIMIT_NOFILE; `None`: unlimited, or not known.
    pub files_limit: Option<u64>,
    /// Its control group's CPU, if it is limited.
    pub cgroup: Option<CgroupReading>,
}

/// A control group at one moment: of those on the path to the root, the one that is
/// throttled most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CgroupReading {
    /// From the root of the hierarchy.
    pub path: String,
    /// CPU that it may use, in thousandths of one; `None`: as much as there is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub quota: Option<u64>,
    /// The file that says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<String>,
    /// Periods that had any work, since it was made.
    pub periods: u64,
    /// Of them, those in which it was stopped for want of quota.
    pub throttled: u64,
    /// For how long. Unit: microseconds, summed over CPUs.
    pub throttled_us: u64,
    /// Pressure stall information of the process's own group.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pressure: Option<Pressure>,
}

/// Time in which something that could have run did not, since the beginning. Unit:
/// microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Pressure {
    /// For want of CPU.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu: Option<u64>,
    /// For want of memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory: Option<u64>,
    /// For input and output.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub io: Option<u64>,
}

impl Pressure {
    /// What came since `base`.
    #[must_use]
    pub fn since(self, base: Self) -> Self {
        let less = |now: Option<u64>, base: Option<u64>| Some(now?.saturating_sub(base?));
        Self {
            cpu: less(self.cpu, base.cpu),
            memory: less(self.memory, base.memory),
            io: less(self.io, base.io),
        }
    }
}
