//! What shows what happened. What this kernel or host does not tell is absent, never 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{
    group::{NetnsSettings, Queue},
    hooks::Signal,
    incident::{
        moment::Moment,
        probe::{CgroupReading, Pressure},
    },
    limit::Limit,
};

/// All that a verdict rests on, beside the time-line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Evidence {
    /// The signals that this kernel tells.
    pub told: Vec<Signal>,
    /// What was counted from the reading before the first trouble to the one after the last.
    pub totals: Totals,
    /// How long connections waited for accept() that it took meanwhile.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accept_wait: Option<Spread>,
    /// How full the accept queue was at most when a connection entered it. Unit: percent of its
    /// limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entered_at_most: Option<u64>,
    /// How long handshakes took meanwhile.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handshake: Option<Spread>,
    /// The limit of the socket that was worst off; absent in a folded group.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<Limit>,
    /// The settings of its namespace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub settings: Option<NetnsSettings>,
    /// Each socket, those in trouble first; 16 at most.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sockets: Vec<SocketFigures>,
    /// Sockets that listened at the end.
    pub sockets_open: u64,
    /// Sockets that closed meanwhile.
    pub sockets_closed: u64,
    /// When the newest socket's listen() was, if it was seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub newest_listen: Option<Moment>,
    /// Who was refused.
    pub clients: Clients,
    /// The longest time in which accept() took nothing although connections waited.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accept_gap: Option<AcceptGap>,
    /// The processes that may call accept().
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub processes: Vec<ProcessFigures>,
    /// The owner's control group, between the first look and the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cgroup: Option<CgroupReading>,
    /// The host's pressure in that time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host_pressure: Option<Pressure>,
    /// Between the first look at the owner and the last. Unit: milliseconds.
    pub looked_ms: u64,
    /// `TCP_DEFER_ACCEPT`: 0 is off. Unit: seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub defer_accept: Option<u32>,
    /// What is missing of our own data.
    pub losses: Losses,
    /// What could not be looked at, and why.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub not_seen: Vec<String>,
}

/// Counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Totals {
    /// Overflows by stage: `syn`, `ack`, `cookie`.
    pub overflows: BTreeMap<String, u64>,
    /// ListenDrops, overflows included.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drops: Option<u64>,
    /// SYNs dropped for another reason than an overflow, by reason.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub syn_drops: Option<BTreeMap<String, u64>>,
    /// Requests that left the SYN queue without completing, by reason.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub requests_lost: Option<BTreeMap<String, u64>>,
    /// SYNs that came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub syns: Option<u64>,
    /// SYN cookies sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cookies_sent: Option<u64>,
    /// SYN cookies that came back valid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cookies_validated: Option<u64>,
    /// SYN-ACKs sent again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub synack_retransmits: Option<u64>,
    /// Connections that entered the accept queue.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub enqueued: Option<u64>,
    /// Connections that accept() took.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accepts: Option<u64>,
    /// Calls of accept() that failed, by error.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accept_errors: Option<BTreeMap<String, u64>>,
    /// Connections reset in the queue because a socket closed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub abandoned: Option<u64>,
}

impl Totals {
    /// Overflows at all stages that are told.
    pub fn overflows(&self) -> u64 {
        self.overflows.values().sum()
    }

    /// SYNs dropped for a reason; 0 if it is not told.
    pub fn syn_drops(&self, reason: &str) -> u64 {
        of(self.syn_drops.as_ref(), reason)
    }

    /// Requests lost for a reason; 0 if it is not told.
    pub fn requests_lost(&self, reason: &str) -> u64 {
        of(self.requests_lost.as_ref(), reason)
    }

    /// Calls of accept() that failed with an error; 0 if it is not told.
    pub fn accept_errors(&self, error: &str) -> u64 {
        of(self.accept_errors.as_ref(), error)
    }

    /// Drops that are no overflows and hurt somebody: not what was sent to a broadcast
    /// address.
    pub fn other_drops(&self) -> u64 {
        let harmless = self.syn_drops("not_unicast") + self.overflows();
        self.drops.unwrap_or(0).saturating_sub(harmless)
    }
}

fn of(counts: Option<&BTreeMap<String, u64>>, name: &str) -> u64 {
    counts.and_then(|counts| counts.get(name)).copied().unwrap_or(0)
}

/// Times that were observed. Unit: seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Spread {
    /// How many.
    pub count: u64,
    /// On average.
    pub mean: f64,
    /// Half of them do not exceed it: estimated.
    pub p50: f64,
    /// 99 of 100 do not exceed it: estimated.
    pub p99: f64,
}

/// One socket, from the reading before the first trouble to the one after the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SocketFigures {
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub process: Option<String>,
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// Its descriptor there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fd: Option<u32>,
    /// Its accept queue at the last reading with trouble.
    pub accept_queue: Queue,
    /// Overflows at it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub overflows: Option<u64>,
    /// Connections that accept() took from it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accepts: Option<u64>,
}

impl SocketFigures {
    /// The kernel lets limit + 1 in.
    pub const fn is_full(&self) -> bool {
        self.accept_queue.length > self.accept_queue.limit
    }
}

/// Who was refused, as far as records tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "known", rename_all = "snake_case")]
pub enum Clients {
    /// Nothing is known.
    No {
        /// Why not.
        why: String,
    },
    /// Records named them.
    Yes {
        /// Refusals that named a client.
        refusals: u64,
        /// Different addresses: exact up to 256, then estimated.
        addresses: u64,
        /// Different pairs of address and port, that is connections; as `addresses`.
        connections: u64,
        /// Connections that were refused more than once: their clients tried again. At most
        /// as many as are told apart, 4096.
        retried: u64,
        /// Networks with most refusals, /24 of IPv4 and /56 of IPv6, and how many at most.
        prefixes: Vec<PrefixCount>,
        /// What became of them afterwards: always why that is not known.
        outcome: String,
    },
}

impl Default for Clients {
    fn default() -> Self {
        Self::No { why: "nobody was refused".to_owned() }
    }
}

/// A network and its refusals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PrefixCount {
    /// `192.0.2.0/24`.
    pub prefix: String,
    /// At most so many refusals.
    pub refusals: u64,
    /// By how many it may be too high: it took the place of another one.
    pub error: u64,
}

/// A time without accept().
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AcceptGap {
    /// How long at least; readings are a second apart. Unit: milliseconds.
    pub ms: u64,
    /// When it began.
    pub from: Moment,
    /// Connections that waited at its end.
    pub waiting: u64,
}

/// One process over all looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProcessFigures {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Looks at it.
    pub looks: u64,
    /// Looks at which every thread that was read was stopped (state `T` or `t`).
    pub stopped: u64,
    /// Threads at the last look.
    pub threads: u64,
    /// Threads by state, over all looks.
    pub states: BTreeMap<char, u64>,
    /// Sleeping threads by the kernel function in which they did, over all looks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub waits: BTreeMap<String, u64>,
    /// CPU time between the first look and the last, in thousandths of one CPU; absent if
    /// there was one look only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu_permille: Option<u64>,
    /// Open files, the most at any look.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub files: Option<u64>,
    /// Its RLIMIT_NOFILE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub files_limit: Option<u64>,
}

/// What is missing of our own data meanwhile, for all listeners together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Losses {
    /// Records lost because the ring was full, or here because too many waited.
    pub records: u64,
    /// Records that a rate limit left out.
    pub suppressed: u64,
}
