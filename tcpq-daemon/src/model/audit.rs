//! The kernel's own counters of a network namespace beside tcpq's.

use serde::{Deserialize, Serialize};

/// One namespace's audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NetnsAudit {
    /// The namespace's name, `host`, or its inode number.
    pub netns: String,
    /// The kernel's ListenOverflows since tcpq watches the namespace.
    pub listen_overflows: u64,
    /// The kernel's ListenDrops since then.
    pub listen_drops: u64,
    /// What of them is in no listener's counters; absent until it could be read at one
    /// moment.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unattributed: Option<Unattributed>,
}

impl NetnsAudit {
    /// Adds a namespace that goes by the same name.
    pub fn absorb(&mut self, other: &Self) {
        self.listen_overflows += other.listen_overflows;
        self.listen_drops += other.listen_drops;
        self.unattributed = match (self.unattributed, other.unattributed) {
            (Some(ours), Some(theirs)) => Some(ours.plus(theirs)),
            (known, None) | (None, known) => known,
        };
    }
}

/// The kernel's count less tcpq's. Negative: tcpq counted too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unattributed {
    /// Of ListenOverflows.
    pub overflows: i64,
    /// Of ListenDrops.
    pub drops: i64,
}

impl Unattributed {
    /// The sum of two parts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { overflows: self.overflows + other.overflows, drops: self.drops + other.drops }
    }

    /// What came since `base`.
    #[must_use]
    pub fn since(self, base: Self) -> Self {
        Self { overflows: self.overflows - base.overflows, drops: self.drops - base.drops }
    }
}
