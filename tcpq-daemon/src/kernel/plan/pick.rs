//! One hook: the first backend that this kernel and the choice allow.

use crate::{
    kernel::{
        plan::{BackendChoice, Choice, PlannedHook, Planner},
        programs::{Hook, Program, programs},
    },
    model::hooks::Backend,
};

/// Why nothing was picked where the choice of backend leaves none.
pub(super) const RULED_OUT: &str = "ruled out by --backend";

impl Planner<'_> {
    /// The first backend of `order` that this kernel and the choice allow.
    pub(super) fn pick(&self, hook: Hook, order: &[Backend]) -> Choice {
        let mut refusals = Vec::new();
        for &backend in order {
            if !self.may_use(hook, backend) {
                continue;
            }
            match self.try_backend(hook, backend) {
                Ok(programs) => {
                    return Ok(PlannedHook { hook, backend, programs });
                }
                Err(why) => refusals.push(format!("{backend}: {why}")),
            }
        }
        Err(if refusals.is_empty() { RULED_OUT.to_owned() } else { refusals.join("; ") })
    }

    /// A forced backend rules the others out; but no other sees listeners come and go or
    /// SYN-ACKs sent again, and no other finds and reads listeners.
    fn may_use(&self, hook: Hook, backend: Backend) -> bool {
        match self.choice {
            BackendChoice::Auto => true,
            BackendChoice::Only(only) => {
                backend == only
                    || matches!(backend, Backend::Iterator | Backend::TestRun)
                    || matches!(hook, Hook::SetState | Hook::SynackAgain)
            }
        }
    }

    pub(super) fn try_backend(
        &self,
        hook: Hook,
        backend: Backend,
    ) -> Result<&'static [Program], String> {
        if let Some(why) = self.facts.refused.get(&(hook, backend)) {
            return Err(why.clone());
        }
        let arity = match backend {
            Backend::Fentry | Backend::Kprobe => self.facts.functions.get(&hook).copied(),
            Backend::Tracepoint => self.facts.tracepoints.get(&hook).copied(),
            Backend::Iterator | Backend::TestRun => Some(0),
        };
        let arity = arity.ok_or_else(|| format!("this kernel has no {}", hook.target()))?;
        programs(hook, backend, arity)
    }

    /// Whether this kernel has the function at all, so that what cannot happen needs no
    /// hook.
    pub(super) fn exists(&self, hook: Hook) -> bool {
        self.facts.functions.contains_key(&hook)
    }

    /// Picks all of them, or says why one is not to be had.
    pub(super) fn pick_all(
        &self,
        hooks: &[Hook],
        order: &[Backend],
    ) -> Result<Vec<PlannedHook>, String> {
        hooks.iter().map(|hook| self.pick(*hook, order)).collect()
    }

    /// Takes all of a choice.
    pub(super) fn take_all(&mut self, choice: Result<Vec<PlannedHook>, String>) -> Vec<Choice> {
        match choice {
            Ok(hooks) => hooks.into_iter().map(|hook| self.take(Ok(hook))).collect(),
            Err(why) => vec![Err(why)],
        }
    }

    pub(super) fn take(&mut self, choice: Choice) -> Choice {
        if let Ok(hook) = &choice {
            // Some serve more than one signal.
            if !self.hooks.contains(hook) {
                self.hooks.push(hook.clone());
            }
        }
        choice
    }
}
