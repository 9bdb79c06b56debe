//! accept() that fails.

use crate::{
    kernel::{
        plan::{CALLS, Planner},
        programs::Hook,
    },
    model::hooks::{Backend, Exactness, Signal},
};

impl Planner<'_> {
    /// By the return of the whole call: EMFILE is decided before the TCP code is reached.
    /// io_uring does not come by there.
    pub(super) fn accept_errors(&mut self) {
        const SIGNAL: Signal = Signal::AcceptErrors;
        let call = match self.pick(Hook::AcceptCall, CALLS) {
            Ok(call) => call,
            Err(why) => return self.absent(SIGNAL, &why),
        };
        let sleeps = call.backend == Backend::Kprobe;
        let uring = if !self.facts.has_io_uring {
            Ok(None)
        } else if self.exists(Hook::UringAccept) {
            self.pick(Hook::UringAccept, CALLS).map(Some)
        } else {
            Err(format!("this kernel has no {}", Hook::UringAccept.target()))
        };
        let mut hooks = vec![self.take(Ok(call))];
        if let Ok(Some(uring)) = uring.clone() {
            hooks.push(self.take(Ok(uring)));
        }
        let exactness =
            if sleeps || uring.is_err() { Exactness::Derived } else { Exactness::Exact };
        self.signal(SIGNAL, &hooks.iter().collect::<Vec<_>>(), exactness);
        if let Err(why) = uring {
            self.explain(SIGNAL, &format!("without io_uring's: {why}"));
        }
        if sleeps {
            self.explain(
                SIGNAL,
                "returns are lost while many threads wait in accept(), and those of 32-bit \
                 programs",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        kernel::{
            facts::KernelFacts,
            plan::{BackendChoice, plan, tests::complete},
            programs::Hook,
        },
        model::hooks::{Backend, Exactness, Signal},
    };

    /// The backend, the exactness, the hooks and the reason.
    fn planned(facts: &KernelFacts, choice: BackendChoice) -> (String, Exactness, String, String) {
        let plan = plan(facts, choice);
        let errors = plan.signals.iter().find(|plan| plan.signal == Signal::AcceptErrors);
        let errors = errors.expect("a planned signal").clone();
        let backend = errors.backend_name().to_owned();
        (backend, errors.exactness, errors.hook, errors.reason.unwrap_or_default())
    }

    #[test]
    fn both_ways_to_accept_are_exact() {
        let (backend, exactness, hook, _) = planned(&complete(), BackendChoice::Auto);
        assert_eq!((backend.as_str(), exactness), ("fentry", Exactness::Exact));
        assert_eq!(hook, "fexit:__sys_accept4 + fexit:io_accept");
    }

    #[test]
    fn what_io_uring_does_unseen_is_said_and_what_it_cannot_do_is_not() {
        let mut facts = complete();
        facts.functions.remove(&Hook::UringAccept);
        let (_, exactness, hook, reason) = planned(&facts, BackendChoice::Auto);
        assert_eq!((hook.as_str(), exactness), ("fexit:__sys_accept4", Exactness::Derived));
        assert_eq!(reason, "without io_uring's: this kernel has no io_accept");
        facts.has_io_uring = false;
        let (_, exactness, _, reason) = planned(&facts, BackendChoice::Auto);
        assert_eq!((exactness, reason.as_str()), (Exactness::Exact, ""));
    }

    #[test]
    fn a_return_probe_may_lose_some() {
        let kprobe = BackendChoice::Only(Backend::Kprobe);
        let (backend, exactness, hook, reason) = planned(&complete(), kprobe);
        assert_eq!((backend.as_str(), exactness), ("kprobe", Exactness::Derived));
        assert_eq!(hook, "kretprobe:__sys_accept4");
        assert!(reason.contains("many threads wait"), "{reason}");
        assert!(reason.contains("without io_uring's"), "{reason}");
    }

    #[test]
    fn tracepoints_cannot_tell() {
        let tracepoint = BackendChoice::Only(Backend::Tracepoint);
        let (backend, exactness, _, reason) = planned(&complete(), tracepoint);
        assert_eq!((backend.as_str(), exactness), ("none", Exactness::Absent));
        assert!(!reason.is_empty());
    }
}
