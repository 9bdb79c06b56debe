//! What became of the start-up self-test.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::hooks::Signal;

/// Whether a self-test is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Before anything is served.
    #[default]
    Run,
    /// Not at all.
    Skip,
}

/// Its outcome; a part of `doctor --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum SelfTest {
    /// The signals that the plan has told what was forced.
    Passed {
        /// How long all of it took.
        seconds: f64,
        /// What was wrong at first, and is no part of the plan any more.
        replaced: Vec<Finding>,
    },
    /// Some did not, and there is no other hook for them.
    Failed {
        /// How long all of it took.
        seconds: f64,
        /// What was wrong at first, and is no part of the plan any more.
        replaced: Vec<Finding>,
        /// What is wrong.
        wrong: Vec<Finding>,
    },
    /// There was none: nothing is known for the worse.
    NotRun {
        /// Why not.
        why: String,
        /// Unless it ended half-way: what was wrong until then, and is no part of the
        /// plan any more.
        replaced: Vec<Finding>,
    },
}

/// A signal that told something else than what was forced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// The signal.
    pub signal: Signal,
    /// The hooks that it rested on and that are to blame; for people.
    pub hooks: Vec<String>,
    /// What was expected and what was seen; for people.
    pub says: String,
}

impl SelfTest {
    /// Not wanted.
    pub fn skipped() -> Self {
        Self::not_run("--no-self-test")
    }

    /// Not possible.
    pub fn not_run(why: impl Into<String>) -> Self {
        Self::NotRun { why: why.into(), replaced: Vec::new() }
    }

    /// What was wrong at first, and is no part of the plan any more.
    pub fn replaced(&self) -> &[Finding] {
        match self {
            Self::Passed { replaced, .. }
            | Self::Failed { replaced, .. }
            | Self::NotRun { replaced, .. } => replaced,
        }
    }

    /// What is wrong still.
    pub fn wrong(&self) -> &[Finding] {
        match self {
            Self::Failed { wrong, .. } => wrong,
            Self::Passed { .. } | Self::NotRun { .. } => &[],
        }
    }
}

/// One line; the findings are lines of their own.
impl fmt::Display for SelfTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed { seconds, .. } => write!(f, "passed in {:.0} ms", seconds * 1e3),
            Self::Failed { seconds, .. } => write!(f, "failed, in {:.0} ms", seconds * 1e3),
            Self::NotRun { why, .. } => write!(f, "not run: {why}"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.signal.name(), self.says)?;
        if !self.hooks.is_empty() {
            write!(f, " ({})", self.hooks.join(", "))?;
        }
        Ok(())
    }
}
