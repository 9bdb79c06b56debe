//! The start-up self-test: does each hook of the plan fire, and count right?
//!
//! In a [`namespace`] of its own, on a thread of its own, a [`scenario`] forces what
//! the plan promises to tell, once per address family. It is clean only if the kernel's
//! own counters of that namespace say that exactly this has happened. What the maps
//! hold of it is then [`judge`]d, a pure function from what was forced and what was
//! seen to the hooks that are to blame.

pub mod judge;
pub mod namespace;
pub mod netstat;
pub mod scenario;

use crate::{
    kernel::{error::KernelError, plan::PlannedHook, self_test::judge::Verdict},
    model::self_test::Finding,
};

/// What is put to the test.
pub trait Subject {
    /// Runs the scenario and judges it. `Err`: there was nothing to judge.
    fn attempt(&mut self) -> Result<Vec<Verdict>, Halt>;
    /// Goes on without a hook, for a reason in words.
    fn refuse(&mut self, hook: &PlannedHook, why: String) -> Result<(), KernelError>;
}

/// Why the test ends before its time.
#[derive(Debug)]
pub enum Halt {
    /// It cannot be run here: nothing is known for the worse.
    NotRun(String),
    /// The kernel side is not usable any more.
    Broken(KernelError),
}

impl From<KernelError> for Halt {
    fn from(error: KernelError) -> Self {
        Self::Broken(error)
    }
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Wrong, and no part of the plan any more.
    pub replaced: Vec<Finding>,
    /// Wrong, and there is no other hook.
    pub wrong: Vec<Finding>,
}

/// Tests, and has the plan made again without what is wrong, until a plan passes. It
/// ends: each round takes a hook away.
pub fn until_it_passes(subject: &mut impl Subject, findings: &mut Findings) -> Result<(), Halt> {
    loop {
        let verdicts = subject.attempt()?;
        let mut refused: Vec<&PlannedHook> = Vec::new();
        for Verdict { finding, suspects } in &verdicts {
            for hook in suspects {
                if !refused.contains(&hook) {
                    subject.refuse(hook, format!("self-test: {}", finding.says))?;
                    refused.push(hook);
                }
            }
        }
        let findings_now = verdicts.iter().map(|verdict| verdict.finding.clone());
        if refused.is_empty() {
            findings.wrong.extend(findings_now);
            return Ok(());
        }
        findings.replaced.extend(findings_now);
    }
}

#[cfg(test)]
pub(super) mod tests;
