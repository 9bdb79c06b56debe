//! The accept queue: what enters it, and what leaves it.

use crate::{
    kernel::{
        plan::{
            AbandonedSource, AcceptSource, CALLS, Choice, DropSource, PlannedHook, Planner, all,
            pick::RULED_OUT,
        },
        preemption::Preemption,
        programs::Hook,
    },
    model::hooks::{Backend, Exactness, Signal, SignalPlan},
};

impl Planner<'_> {
    /// Connections reset because the listener closed.
    pub(super) fn abandoned(&mut self, lifecycle: &[Choice]) -> AbandonedSource {
        match self.pick(Hook::ChildForget, CALLS) {
            Ok(forget) => {
                let forget = self.take(Ok(forget));
                self.signal(Signal::Abandoned, &[&forget], Exactness::Exact);
                AbandonedSource::Resets
            }
            Err(why) => {
                let no_lifecycle = |why: &String| format!("no life cycle: {why}");
                let at_close: Vec<Choice> = lifecycle
                    .iter()
                    .map(|hook| hook.clone().map_err(|why| no_lifecycle(&why)))
                    .collect();
                self.signal(Signal::Abandoned, &all(&at_close), Exactness::Derived);
                self.explain(
                    Signal::Abandoned,
                    &format!(
                        "the queue's length when the listener closes; what completes at that \
                         very moment may be missed, and what migrates is counted; {why}"
                    ),
                );
                AbandonedSource::QueueAtClose
            }
        }
    }

    /// Enqueues and accepts. The way into the queue is told by the calls that the drops
    /// are counted in: without those a handshake cannot be told from a cookie.
    pub(super) fn accept_queue(&mut self, drops: DropSource) -> AcceptSource {
        let enqueued = match self.enqueue_hooks(drops) {
            Ok(hooks) => {
                let hooks = self.take_all(Ok(hooks));
                let hooks: Vec<_> = hooks.iter().collect();
                self.signal(Signal::Enqueued, &hooks, Exactness::Exact);
                true
            }
            Err(why) => {
                let ready = self.pick(Hook::DataReady, &[Backend::Tracepoint]);
                let ready = self.take(ready);
                self.signal(Signal::Enqueued, &[&ready], Exactness::Derived);
                let limits = "not by path; an NFS server's listener and a joining MPTCP subflow \
                              count once too often";
                self.explain(Signal::Enqueued, &format!("{limits}; {why}"));
                ready.is_ok()
            }
        };
        match self.accept_hooks() {
            Ok(hooks) => {
                let hooks = self.take_all(Ok(hooks));
                self.signal(Signal::Accepts, &hooks.iter().collect::<Vec<_>>(), Exactness::Exact);
                AcceptSource::Returns
            }
            Err(why) if enqueued => {
                self.accepts_by_balance(&why);
                AcceptSource::QueueBalance
            }
            Err(why) => {
                self.absent(Signal::Accepts, &why);
                AcceptSource::Nowhere
            }
        }
    }

    pub(super) fn enqueue_hooks(&self, drops: DropSource) -> Result<Vec<PlannedHook>, String> {
        let mut hooks = vec![Hook::Hashdance, Hook::QueueAdd];
        hooks.extend(Some(Hook::RequestClone).filter(|hook| self.exists(*hook)));
        self.pick_all(&hooks, CALLS).and_then(|hooks| match drops {
            DropSource::Calls => Ok(hooks),
            _ => Err("the calls that tell a handshake from a cookie are not hooked".to_owned()),
        })
    }

    /// By trampoline at the return of accept(), twice where one program may be skipped. A
    /// breakpoint at the return of a function that
    /// sleeps has a fixed number of slots, which threads that wait would use up: there its
    /// entry is seen, and the entry of what its callers call with the connection.
    pub(super) fn accept_hooks(&self) -> Result<Vec<PlannedHook>, String> {
        let returns = match self.facts.preemption {
            Preemption::Never => Hook::Accept,
            Preemption::Possible => Hook::AcceptByEither,
        };
        let returns = self.pick_all(&[returns], &[Backend::Fentry]);
        returns.or_else(|no_fentry| {
            let entries = self.pick_all(&[Hook::Accept, Hook::SockGraft], &[Backend::Kprobe]);
            entries.map_err(|no_kprobe| match (&*no_fentry, &*no_kprobe) {
                (RULED_OUT, _) => no_kprobe,
                (_, RULED_OUT) => no_fentry,
                _ => format!("{no_fentry}; {no_kprobe}"),
            })
        })
    }

    fn accepts_by_balance(&mut self, why: &str) {
        let (hook, backend): (String, Option<Backend>) = self
            .signals
            .iter()
            .find(|plan| plan.signal == Signal::Enqueued)
            .map(|plan| (plan.hook.clone(), plan.backend))
            .unwrap_or_default();
        let inflow = self.rests_on.iter().filter(|(on, _)| *on == Signal::Enqueued);
        let inflow: Vec<_> = inflow.map(|(_, hook)| hook.clone()).collect();
        self.rests_on.extend(inflow.into_iter().map(|hook| (Signal::Accepts, hook)));
        self.signals.push(SignalPlan {
            signal: Signal::Accepts,
            hook: format!("{hook} - sk_ack_backlog"),
            backend,
            exactness: Exactness::Derived,
            reason: Some(format!("enqueued, less queued now, less abandoned; {why}")),
        });
    }
}
