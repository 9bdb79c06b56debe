//! What `bench` and `cargo xtask bench` agree on: how a figure is said on a line of text.
//!
//! Compiled into both programs (xtask includes this file by path), so the two cannot drift
//! apart.

use serde::{Deserialize, Serialize};

/// What a line begins with that is for the machine; the rest of it is JSON.
pub(crate) const PREFIX: &str = "tcpq-bench: ";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// A figure.
    Sample(Sample),
    /// What a reader of the figures has to know, as that something could not be measured.
    Note(String),
}

/// One figure of one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// What it was measured of: `tcpq`, `nothing`, a peer.
    pub(crate) case: String,
    /// What was measured, with its unit: `ns_per_connection`.
    pub(crate) metric: String,
    /// Of which part, if it is of one only: a program, a size.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) item: String,
    /// In which round.
    pub(crate) round: u32,
    /// The figure.
    pub(crate) value: f64,
}
