//! What is observed of connections on their way: how long they wait, how full the queues are.
//! Each observation is made by the program that counts the event.

use crate::{
    kernel::{
        plan::{CALLS, Choice, DropSource, PlannedHook, Planner},
        programs::Hook,
    },
    model::hooks::{Exactness, Signal},
};

type Hooks = Result<Vec<PlannedHook>, String>;

impl Planner<'_> {
    /// After everything that is counted.
    pub(super) fn waits(&mut self, drops: DropSource) {
        let established = self.facts.established.clone();
        let accepts = established.clone().and_then(|()| self.accept_hooks());
        self.observe(Signal::AcceptWait, accepts);
        let forget = established.and_then(|()| self.pick_all(&[Hook::ChildForget], CALLS));
        self.observe(Signal::AbandonedWait, forget);
        let handshakes = self.handshake_hooks(drops);
        self.observe(Signal::HandshakeTime, handshakes);
        self.accept_queue_fill(drops);
        let requests = self.request_hooks(drops);
        self.observe(Signal::SynQueueFill, requests);
    }

    fn observe(&mut self, signal: Signal, hooks: Hooks) {
        let hooks = self.take_all(hooks);
        self.signal(signal, &hooks.iter().collect::<Vec<_>>(), Exactness::Exact);
    }

    /// When the first SYN-ACK was sent is read with the final ACK, while the request is there
    /// for sure.
    fn handshake_hooks(&self, drops: DropSource) -> Hooks {
        self.facts.synack_sent.clone()?;
        let enqueued = self.enqueue_hooks(drops)?;
        let acks = self.hooks_behind(Signal::OverflowAck);
        Ok(enqueued.into_iter().filter(|hook| hook.hook == Hook::Hashdance).chain(acks).collect())
    }

    /// As exact as what is known of connections that enter the queue.
    fn accept_queue_fill(&mut self, drops: DropSource) {
        match self.enqueue_hooks(drops) {
            Ok(hooks) => self.observe(Signal::AcceptQueueFill, Ok(hooks)),
            Err(why) => {
                let ready: Vec<Choice> =
                    self.hooks_behind(Signal::Enqueued).into_iter().map(Ok).collect();
                if ready.is_empty() {
                    return self.absent(Signal::AcceptQueueFill, &why);
                }
                let ready: Vec<_> = ready.iter().collect();
                self.signal(Signal::AcceptQueueFill, &ready, Exactness::Derived);
                let limits = "the length as the server is told; an NFS server's listener and a \
                              joining MPTCP subflow count once too often";
                self.explain(Signal::AcceptQueueFill, &format!("{limits}; {why}"));
            }
        }
    }

    /// A request enters the SYN queue inside the call that handles the SYN.
    fn request_hooks(&self, drops: DropSource) -> Hooks {
        if !matches!(drops, DropSource::Calls | DropSource::CallsAndTracepoint) {
            let said = self.signals.iter().find(|plan| plan.signal == Signal::SynsReceived);
            let why = said.and_then(|plan| plan.reason.clone());
            return Err(why.unwrap_or_else(|| "no SYN is seen".to_owned()));
        }
        let queued = [Hook::RequestQueuedVoid, Hook::RequestQueued]
            .into_iter()
            .find(|hook| self.exists(*hook))
            .unwrap_or(Hook::RequestQueued);
        let queued = self.pick(queued, CALLS)?;
        Ok(std::iter::once(queued).chain(self.hooks_behind(Signal::SynsReceived)).collect())
    }

    fn hooks_behind(&self, signal: Signal) -> Vec<PlannedHook> {
        let hooks = self.rests_on.iter().filter(|(on, _)| *on == signal);
        hooks.map(|(_, hook)| hook.clone()).collect()
    }
}
