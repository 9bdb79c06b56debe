//! What to change.

use serde::{Deserialize, Serialize};

/// A change that would help, and how to make it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Advice {
    /// In words.
    pub change: String,
    /// To be typed.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub commands: Vec<String>,
}
