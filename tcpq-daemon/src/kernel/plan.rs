//! The decision: which hook on which backend, and what each signal is then worth.
//! A pure function of [`KernelFacts`]; tested as a table.

use crate::{
    kernel::{
        facts::KernelFacts,
        programs::{Hook, Program, programs},
    },
    model::hooks::{Backend, Exactness, Signal, SignalPlan},
};

/// Which backends may be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// The best per hook.
    #[default]
    Auto,
    /// Only this one; what it cannot tell is absent. (The life cycle is always seen by
    /// tracepoint, and listeners are found by iterators.)
    Only(Backend),
}

/// One hook to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedHook {
    /// Which.
    pub hook: Hook,
    /// How.
    pub backend: Backend,
    /// Its programs.
    pub programs: &'static [Program],
}

/// Where the overflows and drops come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropSource {
    /// Counted inside the calls that drop.
    Calls,
    /// SYNs derived from `sk_drops`, ACKs from `kfree_skb`.
    SocketDrops,
    /// SYNs counted inside the call, ACKs from `kfree_skb`.
    CallsAndTracepoint,
    /// Nothing can tell.
    Nowhere,
}

/// Where the accepts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptSource {
    /// Counted at the return of `inet_csk_accept`.
    Returns,
    /// Connections enqueued, less those queued now, less those abandoned.
    QueueBalance,
    /// Nothing can tell.
    Nowhere,
}

/// What to attach, and what it yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order to attach.
    pub hooks: Vec<PlannedHook>,
    /// See [`DropSource`].
    pub drops: DropSource,
    /// See [`AcceptSource`].
    pub accepts: AcceptSource,
    /// Every signal, in display order.
    pub signals: Vec<SignalPlan>,
    /// Which hooks each signal rests on: whom to blame for a wrong one.
    pub rests_on: Vec<(Signal, PlannedHook)>,
}

/// Decides.
pub fn plan(facts: &KernelFacts, choice: BackendChoice) -> Plan {
    Planner { facts, choice, hooks: Vec::new(), signals: Vec::new(), rests_on: Vec::new() }.run()
}

/// A hook that was chosen, or why none was.
type Choice = Result<PlannedHook, String>;

struct Planner<'a> {
    facts: &'a KernelFacts,
    choice: BackendChoice,
    hooks: Vec<PlannedHook>,
    signals: Vec<SignalPlan>,
    rests_on: Vec<(Signal, PlannedHook)>,
}

impl Planner<'_> {
    fn run(mut self) -> Plan {
        let set_state = self.pick(Hook::SetState, &[Backend::Tracepoint]);
        let set_state = self.take(set_state);
        self.signal(Signal::ListenerLifecycle, &[&set_state], Exactness::Exact);
        self.discovery();
        self.readout();
        let drops = self.drops();
        let accepts = self.accept_queue(drops);
        let abandoned = set_state.map_err(|why| format!("no life cycle: {why}"));
        self.signal(Signal::Abandoned, &[&abandoned], Exactness::Derived);
        self.explain(
            Signal::Abandoned,
            "the queue's length at the moment the listener closes; a connection that completes \
             during the close may be missed",
        );
        self.signals.sort_by_key(|plan| plan.signal);
        Plan { hooks: self.hooks, drops, accepts, signals: self.signals, rests_on: self.rests_on }
    }

    fn discovery(&mut self) {
        let tcp = self.pick(Hook::IterTcp, &[Backend::Iterator]);
        let tcp = self.take(tcp);
        let files = self.pick(Hook::IterTaskFile, &[Backend::Iterator]);
        let files = self.take(files);
        match (&tcp, &files) {
            (Err(_), Ok(_)) => {
                self.signal(Signal::ListenersAtStart, &[&files], Exactness::Derived);
                self.explain(Signal::ListenersAtStart, "only listeners of visible processes");
            }
            (Ok(_), Err(_)) => {
                self.signal(Signal::ListenersAtStart, &[&tcp], Exactness::Derived);
                self.explain(Signal::ListenersAtStart, "only namespaces of visible processes");
            }
            _ => self.signal(Signal::ListenersAtStart, &[&tcp, &files], Exactness::Exact),
        }
    }

    fn readout(&mut self) {
        let rows = self.pick(Hook::IterListeners, &[Backend::Iterator]);
        let rows = self.take(rows);
        let totals = self.pick(Hook::IterTotals, &[Backend::Iterator]);
        let totals = self.take(totals);
        // Their iterator targets are the same; one of the two names it.
        self.signal(
            Signal::QueueLengths,
            &[&rows.and_then(|row| totals.map(|_| row))],
            Exactness::Exact,
        );
    }

    /// SYNs, overflows and drops.
    fn drops(&mut self) -> DropSource {
        const CALLS: &[Backend] = &[Backend::Fentry, Backend::Kprobe];
        let syn = self.counting(Hook::ConnRequest, CALLS);
        let v4 = self.counting(Hook::SynRecvV4, CALLS);
        let v6 = self.counting(Hook::SynRecvV6, CALLS);
        let ack = v4.and_then(|v4| v6.map(|v6| (v4, v6)));
        match (syn, ack) {
            (Ok(syn), Ok((v4, v6))) => {
                let (syn, v4, v6) = (self.take(Ok(syn)), self.take(Ok(v4)), self.take(Ok(v6)));
                self.signal(Signal::SynsReceived, &[&syn], Exactness::Exact);
                self.signal(Signal::OverflowSyn, &[&syn], Exactness::Exact);
                self.signal(Signal::OverflowAck, &[&v4, &v6], Exactness::Exact);
                self.signal(Signal::OverflowCookie, &[&v4, &v6], Exactness::Exact);
                self.signal(Signal::ListenDrops, &[&syn, &v4, &v6], Exactness::Exact);
                self.explain(
                    Signal::ListenDrops,
                    "without ICMP aborts of a request and SYNs to a broadcast address",
                );
                DropSource::Calls
            }
            (Ok(syn), Err(no_ack)) => {
                let syn = self.take(Ok(syn));
                let kfree = self.kfree_skb();
                let kfree = self.take(kfree);
                self.signal(Signal::SynsReceived, &[&syn], Exactness::Exact);
                self.signal(Signal::OverflowSyn, &[&syn], Exactness::Exact);
                self.signal(Signal::OverflowAck, &[&kfree], Exactness::Derived);
                self.refused_ack_limits(&no_ack);
                self.absent(Signal::OverflowCookie, &no_ack);
                self.signal(Signal::ListenDrops, &[&syn, &kfree], Exactness::Derived);
                self.explain(Signal::ListenDrops, "without a cookie's ACK");
                DropSource::CallsAndTracepoint
            }
            (Err(no_syn), _) => self.drops_of_socket(&no_syn),
        }
    }

    /// The tracepoint backend's drops.
    fn drops_of_socket(&mut self, no_syn: &str) -> DropSource {
        self.absent(Signal::SynsReceived, no_syn);
        self.absent(Signal::OverflowCookie, no_syn);
        let kfree = match self.kfree_skb() {
            Ok(kfree) => self.take(Ok(kfree)),
            Err(no_kfree) => {
                let why = format!("{no_syn}; {no_kfree}");
                for signal in [Signal::OverflowSyn, Signal::OverflowAck, Signal::ListenDrops] {
                    self.absent(signal, &why);
                }
                return DropSource::Nowhere;
            }
        };
        self.signal(Signal::OverflowAck, &[&kfree], Exactness::Derived);
        self.refused_ack_limits(no_syn);
        self.signal(Signal::OverflowSyn, &[&kfree], Exactness::Derived);
        self.also_by(Signal::OverflowSyn, "sk_drops");
        self.explain(
            Signal::OverflowSyn,
            "a rise of sk_drops that no other drop explains; counts a SYN lost to memory or \
             routing too, and nothing while net.ipv4.tcp_syncookies is 0",
        );
        self.signal(Signal::ListenDrops, &[&kfree], Exactness::Derived);
        self.also_by(Signal::ListenDrops, "sk_drops");
        self.explain(Signal::ListenDrops, no_syn);
        DropSource::SocketDrops
    }

    fn refused_ack_limits(&mut self, instead_of: &str) {
        let limits = if self.facts.reason_listen_overflow.is_some() {
            "by the kernel's drop reason, which a failed child creation shares"
        } else {
            "this kernel's drop reason does not say; a plain ACK dropped while the queue is full"
        };
        self.explain(Signal::OverflowAck, &format!("{limits}; {instead_of}"));
    }

    /// Enqueues and accepts. The way into the queue is told by the calls that the drops
    /// are counted in: without those a handshake cannot be told from a cookie.
    fn accept_queue(&mut self, drops: DropSource) -> AcceptSource {
        const CALLS: &[Backend] = &[Backend::Fentry, Backend::Kprobe];
        let hashdance = self.pick(Hook::Hashdance, CALLS);
        let queue_add = self.pick(Hook::QueueAdd, CALLS).and_then(|hook| match drops {
            DropSource::Calls => Ok(hook),
            _ => Err("the calls that tell a handshake from a cookie are not hooked".to_owned()),
        });
        let enqueued = match hashdance.and_then(|h| queue_add.map(|q| (h, q))) {
            Ok((hashdance, queue_add)) => {
                let (hashdance, queue_add) = (self.take(Ok(hashdance)), self.take(Ok(queue_add)));
                self.signal(Signal::Enqueued, &[&hashdance, &queue_add], Exactness::Exact);
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
        match self.pick(Hook::Accept, CALLS) {
            Ok(accept) => {
                let accept = self.take(Ok(accept));
                self.signal(Signal::Accepts, &[&accept], Exactness::Exact);
                AcceptSource::Returns
            }
            Err(why) if enqueued => {
                let hooks = self
                    .signals
                    .iter()
                    .find(|plan| plan.signal == Signal::Enqueued)
                    .map(|plan| (plan.hook.clone(), plan.backend));
                let (hook, backend) = hooks.unwrap_or_default();
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
                AcceptSource::QueueBalance
            }
            Err(why) => {
                self.absent(Signal::Accepts, &why);
                AcceptSource::Nowhere
            }
        }
    }

    /// A hook whose program reads the kernel's counters of this CPU.
    fn counting(&self, hook: Hook, order: &[Backend]) -> Choice {
        let choice = self.pick(hook, order)?;
        match &self.facts.per_cpu_offset {
            Ok(_) => Ok(choice),
            Err(why) => Err(format!("the kernel's per-CPU counters cannot be read: {why}")),
        }
    }

    fn kfree_skb(&self) -> Choice {
        let choice = self.pick(Hook::KfreeSkb, &[Backend::Tracepoint])?;
        if !self.facts.kfree_has_rx_sk {
            return Err("kfree_skb does not name the receiving socket before Linux 6.11".to_owned());
        }
        match &self.facts.dropping_functions {
            Ok(_) => Ok(choice),
            Err(why) => Err(format!("where kfree_skb is called from is not known: {why}")),
        }
    }

    /// The first backend of `order` that this kernel and the choice allow.
    fn pick(&self, hook: Hook, order: &[Backend]) -> Choice {
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
        Err(if refusals.is_empty() {
            "ruled out by --backend".to_owned()
        } else {
            refusals.join("; ")
        })
    }

    /// A forced backend rules the others out; but no other sees listeners come and go,
    /// and no other finds them.
    fn may_use(&self, hook: Hook, backend: Backend) -> bool {
        match self.choice {
            BackendChoice::Auto => true,
            BackendChoice::Only(only) => {
                backend == only || backend == Backend::Iterator || hook == Hook::SetState
            }
        }
    }

    fn try_backend(&self, hook: Hook, backend: Backend) -> Result<&'static [Program], String> {
        if let Some(why) = self.facts.refused.get(&(hook, backend)) {
            return Err(why.clone());
        }
        let arity = match backend {
            Backend::Fentry | Backend::Kprobe => self.facts.functions.get(&hook).copied(),
            Backend::Tracepoint => self.facts.tracepoints.get(&hook).copied(),
            Backend::Iterator => Some(0),
        };
        let arity = arity.ok_or_else(|| format!("this kernel has no {}", hook.target()))?;
        programs(hook, backend, arity)
    }

    fn take(&mut self, choice: Choice) -> Choice {
        if let Ok(hook) = &choice {
            self.hooks.push(hook.clone());
        }
        choice
    }

    /// Records what a signal rests on: all of `hooks`, or it is absent.
    fn signal(&mut self, signal: Signal, hooks: &[&Choice], exactness: Exactness) {
        let mut names = Vec::new();
        let mut backend = None;
        for choice in hooks {
            match choice {
                Ok(hook) => {
                    names.push(describe(hook));
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

    fn absent(&mut self, signal: Signal, why: &str) {
        self.signals.push(SignalPlan {
            signal,
            hook: String::new(),
            backend: None,
            exactness: Exactness::Absent,
            reason: Some(why.to_owned()),
        });
    }

    fn explain(&mut self, signal: Signal, text: &str) {
        for plan in self.signals.iter_mut().filter(|plan| plan.signal == signal) {
            if plan.exactness != Exactness::Absent {
                plan.reason = Some(match plan.reason.take() {
                    Some(reason) => format!("{text}; {reason}"),
                    None => text.to_owned(),
                });
            }
        }
    }

    fn also_by(&mut self, signal: Signal, source: &str) {
        for plan in self.signals.iter_mut().filter(|plan| plan.signal == signal) {
            plan.hook = format!("{} + {source}", plan.hook);
        }
    }
}

/// `fexit:tcp_conn_request`: the kind of the last program, and the target.
pub fn describe(hook: &PlannedHook) -> String {
    let kind = match hook.backend {
        Backend::Fentry => "fexit",
        Backend::Kprobe => "kretprobe",
        Backend::Tracepoint => "tp_btf",
        Backend::Iterator => "iter",
    };
    format!("{kind}:{}", hook.hook.target())
}

#[cfg(test)]
pub(super) mod tests;
