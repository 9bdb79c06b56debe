//! The record of an incident.

use serde::{Deserialize, Serialize};

use crate::model::{
    incident::{
        evidence::Evidence,
        id::IncidentId,
        moment::Moment,
        timeline::Timeline,
        verdict::{Cause, Confidence, Verdict},
    },
    owner::Owner,
};

/// Of the record's JSON. It is raised when a field changes its meaning or goes; readers
/// leave out what they do not know.
pub const VERSION: u32 = 1;

/// All that is kept of one incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IncidentRecord {
    /// [`VERSION`] of whoever wrote it.
    pub version: u32,
    /// Its name.
    pub id: IncidentId,
    /// Whether it is over.
    pub state: State,
    /// At which listener.
    pub listener: ListenerName,
    /// Who answered for the socket that was worst off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<Owner>,
    /// The first trouble.
    pub opened: Moment,
    /// When it was noticed, and the record first written.
    pub began: Moment,
    /// The last trouble so far.
    pub last: Moment,
    /// When the record was last written.
    pub updated: Moment,
    /// What opened it.
    pub trigger: Trigger,
    /// How often trouble began, pauses of some seconds between.
    pub bouts: u64,
    /// Why, as far as is known by now.
    pub verdict: Verdict,
    /// What shows it.
    pub evidence: Evidence,
    /// From before the first trouble to after the last.
    pub timeline: Timeline,
}

/// Whether an incident is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Trouble, or not quiet for long enough.
    Open,
    /// It has been quiet, or the listener is gone.
    Closed,
    /// The daemon ended before it did.
    Interrupted,
}

impl State {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// An overflow or a drop.
    Refusal,
    /// A queue was nearly full for a while.
    Fill,
}

/// A listener group by its labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ListenerName {
    /// The label `netns`.
    pub netns: String,
    /// The label `address`.
    pub address: String,
    /// The label `port`.
    pub port: String,
}

/// A line of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Summary {
    /// Its name.
    pub id: IncidentId,
    /// Whether it is over.
    pub state: State,
    /// At which listener.
    pub listener: ListenerName,
    /// Its owner's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub process: Option<String>,
    /// The first trouble.
    pub opened: Moment,
    /// The last one so far.
    pub last: Moment,
    /// Why.
    pub cause: Cause,
    /// How sure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub confidence: Option<Confidence>,
    /// Overflows at all stages that are told.
    pub overflows: u64,
    /// ListenDrops, overflows included, if they are told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drops: Option<u64>,
}

impl IncidentRecord {
    /// Its line in a list.
    pub fn summary(&self) -> Summary {
        Summary {
            id: self.id,
            state: self.state,
            listener: self.listener.clone(),
            process: self.owner.as_ref().and_then(|owner| owner.process.clone()),
            opened: self.opened,
            last: self.last,
            cause: self.verdict.cause,
            confidence: self.verdict.confidence,
            overflows: self.evidence.totals.overflows(),
            drops: self.evidence.totals.drops,
        }
    }
}
