//! What is said of each signal.

use crate::{
    kernel::{
        plan::{BackendChoice, Choice, PlannedHook, Planner},
        programs::Attachment,
    },
    model::hooks::{Backend, Exactness, Signal, SignalPlan},
};

impl Planner<'_> {
    /// Records what a signal rests on: all of `hooks`, or it is absent.
    pub(super) fn signal(&mut self, signal: Signal, hooks: &[&Choice], exactness: Exactness) {
        let mut names = Vec::new();
        let mut backend = None;
        for choice in hooks {
            match choice {
                Ok(hook) => {
                    let name = describe(hook);
                    if !names.contains(&name) {
                        names.push(name);
                    }
                    // The weakest backend names the signal's.
                    backend = backend.max(Some(hook.backend));
                }
                Err(why) => return self.absent(signal, &why.clone()),
            }
        }
        let reason = hooks.iter().find_map(|choice| self.why_not_fentry(choice.as_ref().ok()?));
        let hook = names.join(" + ");
        let hooks = hooks.iter().filter_map(|choice| choice.as_ref().ok());
        self.rests_on.extend(hooks.map(|hook| (signal, hook.clone())));
        self.signals.push(SignalPlan { signal, hook, backend, exactness, reason });
    }

    /// Why a hook is not on the first choice of backend.
    fn why_not_fentry(&self, hook: &PlannedHook) -> Option<String> {
        if hook.backend != Backend::Kprobe || self.choice != BackendChoice::Auto {
            return None;
        }
        self.try_backend(hook.hook, Backend::Fentry).err().map(|why| format!("fentry: {why}"))
    }

    pub(super) fn absent(&mut self, signal: Signal, why: &str) {
        self.signals.push(SignalPlan {
            signal,
            hook: String::new(),
            backend: None,
            exactness: Exactness::Absent,
            reason: Some(why.to_owned()),
        });
    }

    pub(super) fn explain(&mut self, signal: Signal, text: &str) {
        for plan in self.signals.iter_mut().filter(|plan| plan.signal == signal) {
            if plan.exactness != Exactness::Absent {
                plan.reason = Some(match plan.reason.take() {
                    Some(reason) => format!("{text}; {reason}"),
                    None => text.to_owned(),
                });
            }
        }
    }

    pub(super) fn also_by(&mut self, signal: Signal, source: &str) {
        for plan in self.signals.iter_mut().filter(|plan| plan.signal == signal) {
            plan.hook = format!("{} + {source}", plan.hook);
        }
    }
}

/// `fexit:tcp_v4_conn_request`: what tells the outcome, and the target.
pub fn describe(hook: &PlannedHook) -> String {
    let kind = match hook.programs.first().map(|program| program.attachment) {
        Some(Attachment::Fexit) => "fexit",
        Some(Attachment::Kretprobe) => "kretprobe",
        Some(Attachment::Kprobe) => "kprobe",
        Some(Attachment::Tracepoint) => "tp_btf",
        Some(Attachment::Iterator) => "iter",
        Some(Attachment::TestRun) => "test_run",
        Some(Attachment::Fentry) | None => "fentry",
    };
    format!("{kind}:{}", hook.hook.target())
}
