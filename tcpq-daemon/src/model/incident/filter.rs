//! Which incidents are meant.

use serde::{Deserialize, Serialize};

use crate::model::incident::{moment::Moment, record::State, verdict::Cause};

/// Incidents in a list that does not say how many.
pub const USUAL: u64 = 50;

/// All conditions hold; of a list, one of its values does. An empty list is no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Trouble at this moment or after it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<Moment>,
    /// Trouble before this moment.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Moment>,
    /// The namespace's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub netns: Option<String>,
    /// The label `address`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// The label `port`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<String>,
    /// The owner's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub process: Option<String>,
    /// The verdict.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict: Option<Cause>,
    /// Whether it is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<State>,
    /// So many at most, the newest first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u64>,
}

impl Filter {
    /// How many at most.
    pub fn most(&self) -> u64 {
        self.limit.unwrap_or(USUAL)
    }
}
