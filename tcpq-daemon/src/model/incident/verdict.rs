//! Why it happened.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::advice::Advice;

/// A cause. Names are a contract: labels and JSON have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The program took nothing from the queue for a while.
    ApplicationStalled,
    /// It takes connections, but slower than they come.
    ApplicationTooSlow,
    /// Its control group had used up its CPU.
    CpuThrottled,
    /// accept() failed: no file descriptor was left.
    OutOfFiles,
    /// The queue is emptied fast, but is too short for how connections come.
    BacklogTooSmall,
    /// The same, and `net.core.somaxconn` made it shorter than the program asked for.
    BacklogClipped,
    /// SYNs that nobody follows up.
    SynFlood,
    /// The SYN queue is too short for the rate of real clients and their round-trip time.
    SynQueueByRoundTrip,
    /// Many clients came at once, as after a restart.
    ReconnectHerd,
    /// One socket of a group is not accepted from, or was closed; others are well.
    MemberStuck,
    /// `TCP_DEFER_ACCEPT` keeps requests in the SYN queue until data comes.
    DeferredAccept,
    /// Memory, routes, ICMP errors, policy: no queue was full.
    NotTheListener,
    /// The evidence is not enough for any of them.
    Unknown,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 13] = [
        Self::ApplicationStalled,
        Self::ApplicationTooSlow,
        Self::CpuThrottled,
        Self::OutOfFiles,
        Self::BacklogTooSmall,
        Self::BacklogClipped,
        Self::SynFlood,
        Self::SynQueueByRoundTrip,
        Self::ReconnectHerd,
        Self::MemberStuck,
        Self::DeferredAccept,
        Self::NotTheListener,
        Self::Unknown,
    ];

    /// Its name in labels, flags and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApplicationStalled => "application_stalled",
            Self::ApplicationTooSlow => "application_too_slow",
            Self::CpuThrottled => "cpu_throttled",
            Self::OutOfFiles => "out_of_files",
            Self::BacklogTooSmall => "backlog_too_small",
            Self::BacklogClipped => "backlog_clipped",
            Self::SynFlood => "syn_flood",
            Self::SynQueueByRoundTrip => "syn_queue_by_round_trip",
            Self::ReconnectHerd => "reconnect_herd",
            Self::MemberStuck => "member_stuck",
            Self::DeferredAccept => "deferred_accept",
            Self::NotTheListener => "not_the_listener",
            Self::Unknown => "unknown",
        }
    }

    /// In a few words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::ApplicationStalled => "the program stopped accepting",
            Self::ApplicationTooSlow => "connections came faster than the program accepts",
            Self::CpuThrottled => "the program's control group ran out of its CPU quota",
            Self::OutOfFiles => "accept() failed: no file descriptor was left",
            Self::BacklogTooSmall => "the accept queue was too short for a burst",
            Self::BacklogClipped => "the accept queue was too short: somaxconn clipped it",
            Self::SynFlood => "SYNs came that nobody followed up: a SYN flood",
            Self::SynQueueByRoundTrip => {
                "the SYN queue was too short for real clients' round trips"
            }
            Self::ReconnectHerd => "many clients connected at once",
            Self::MemberStuck => "one socket of the group was not accepted from",
            Self::DeferredAccept => "TCP_DEFER_ACCEPT kept requests in the SYN queue",
            Self::NotTheListener => "handshakes were dropped for other reasons than a full queue",
            Self::Unknown => "the cause is not known",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// It fits, and so may something that is not seen here.
    Low,
    /// The figures show it; what would prove it is not told here.
    Medium,
    /// What proves it was seen.
    High,
}

impl Confidence {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// A cause, what shows it, and what to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Verdict {
    /// Which.
    pub cause: Cause,
    /// How sure; absent if it is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub confidence: Option<Confidence>,
    /// What shows it.
    pub proofs: Vec<String>,
    /// What speaks against it, or for something else as well.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub against: Vec<String>,
    /// The change that would help most.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub advice: Option<Advice>,
}

impl Verdict {
    /// Not known, and what is missing.
    pub const fn unknown(proofs: Vec<String>) -> Self {
        Self { cause: Cause::Unknown, confidence: None, proofs, against: Vec::new(), advice: None }
    }
}
