//! SYNs, overflows, drops, cookies and lost requests.

use crate::{
    kernel::{
        plan::{CALLS, Choice, DropSource, PlannedHook, Planner},
        programs::Hook,
    },
    model::hooks::{Backend, Exactness, Signal},
};

type Hooks = Result<Vec<PlannedHook>, String>;

impl Planner<'_> {
    /// `cpus`: whether the kernel's per-CPU counters can be read, by which the calls count.
    pub(super) fn drops(&mut self, cpus: Result<&(), &String>) -> DropSource {
        let readable = cpus.map(drop).map_err(Clone::clone);
        let syn = readable.clone().and_then(|()| self.syn_hooks());
        let ack = readable.and_then(|()| self.ack_hooks());
        match (syn, ack) {
            (Ok(syn), Ok(ack)) => self.drops_of_calls(syn, ack),
            (Ok(syn), Err(no_ack)) => self.drops_of_both(syn, &no_ack),
            (Err(no_syn), _) => self.drops_of_socket(&no_syn),
        }
    }

    /// What a listener's `conn_request` may point to.
    fn syn_hooks(&self) -> Hooks {
        let mut hooks = vec![Hook::SynV4, Hook::SynV6];
        hooks.extend(
            [Hook::SynMptcpV4, Hook::SynMptcpV6].into_iter().filter(|hook| self.exists(*hook)),
        );
        self.pick_all(&hooks, CALLS)
    }

    /// The final ACK and a cookie's: by the functions that make the child, or, where a
    /// trampoline takes only their callers, by those. A breakpoint is the last resort: it
    /// costs more, and is skipped when it hits inside another one.
    fn ack_hooks(&self) -> Hooks {
        const FENTRY: &[Backend] = &[Backend::Fentry];
        const CHILD: [Hook; 4] = [Hook::ChildV4, Hook::ChildV6, Hook::CookieV4, Hook::CookieV6];
        const CALLER: [Hook; 3] = [Hook::CheckRequest, Hook::CookieAckV4, Hook::CookieAckV6];
        self.pick_all(&CHILD, FENTRY)
            .or_else(|_| self.pick_all(&CALLER, FENTRY))
            .or_else(|_| self.pick_all(&CHILD, CALLS))
    }

    fn drops_of_calls(&mut self, syn: Vec<PlannedHook>, ack: Vec<PlannedHook>) -> DropSource {
        let is_cookie = |hook: &PlannedHook| {
            matches!(hook.hook.target(), "cookie_v4_check" | "cookie_v6_check")
        };
        let counts_cookie_acks = |hook: &PlannedHook| {
            matches!(
                hook.hook,
                Hook::ChildV4 | Hook::ChildV6 | Hook::CookieAckV4 | Hook::CookieAckV6
            )
        };
        let (cookie, acks): (Vec<_>, Vec<_>) = ack.iter().cloned().partition(is_cookie);
        let cookie_acks: Vec<_> = ack.into_iter().filter(counts_cookie_acks).collect();
        let syn = self.take_all(Ok(syn));
        let (acks, cookie) = (self.take_all(Ok(acks)), self.take_all(Ok(cookie)));
        let cookie_acks = self.take_all(Ok(cookie_acks));
        let icmp = self.pick(Hook::RequestError, CALLS);
        let icmp = self.take(icmp);

        self.signal_of_all(Signal::SynsReceived, &syn);
        self.signal_of_all(Signal::OverflowSyn, &syn);
        self.signal_of_all(Signal::CookiesSent, &syn);
        self.signal_of_all(Signal::OverflowAck, &acks);
        self.why_the_caller(Signal::OverflowAck);
        self.signal_of_all(Signal::OverflowCookie, &cookie_acks);
        self.why_the_caller(Signal::OverflowCookie);
        self.signal_of_all(Signal::CookiesChecked, &cookie);
        let mut all = [syn.clone(), acks, cookie_acks].concat();
        match &icmp {
            Ok(_) => {
                all.push(icmp.clone());
                self.signal_of_all(Signal::ListenDrops, &all);
            }
            Err(why) => {
                self.signal(
                    Signal::ListenDrops,
                    &all.iter().collect::<Vec<_>>(),
                    Exactness::Derived,
                );
                self.explain(Signal::ListenDrops, &format!("without ICMP errors: {why}"));
            }
        }
        self.syn_drops(&syn);
        self.requests_lost(&icmp);
        DropSource::Calls
    }

    /// Dropped SYNs by reason: the markers tell what the counters do not.
    fn syn_drops(&mut self, syn: &[Choice]) {
        let markers = self.pick_all(&[Hook::RequestAlloc, Hook::PeerProven], CALLS);
        let mut all = syn.to_vec();
        all.extend(self.take_all(markers));
        self.signal_of_all(Signal::SynDrops, &all);
    }

    fn requests_lost(&mut self, icmp: &Choice) {
        let leaves = if self.exists(Hook::RequestDropped) {
            Hook::RequestDropped
        } else {
            Hook::RequestUnlinked
        };
        let hooks = icmp
            .clone()
            .and_then(|_| self.pick_all(&[leaves, Hook::QueueDrop, Hook::Abort], CALLS));
        let mut hooks = self.take_all(hooks);
        if hooks.iter().all(Result::is_ok) {
            hooks.push(icmp.clone());
        }
        self.signal_of_all(Signal::RequestsLost, &hooks);
    }

    fn signal_of_all(&mut self, signal: Signal, hooks: &[Choice]) {
        self.signal(signal, &hooks.iter().collect::<Vec<_>>(), Exactness::Exact);
    }

    /// SYNs by calls, ACKs by tracepoint.
    fn drops_of_both(&mut self, syn: Vec<PlannedHook>, no_ack: &str) -> DropSource {
        let syn = self.take_all(Ok(syn));
        let kfree = self.kfree_skb();
        let kfree = self.take(kfree);
        self.signal_of_all(Signal::SynsReceived, &syn);
        self.signal_of_all(Signal::OverflowSyn, &syn);
        self.signal_of_all(Signal::CookiesSent, &syn);
        self.signal(Signal::OverflowAck, &[&kfree], Exactness::Derived);
        self.refused_ack_limits(no_ack);
        self.signal(Signal::OverflowCookie, &[&kfree], Exactness::Derived);
        self.explain(Signal::OverflowCookie, no_ack);
        self.absent(Signal::CookiesChecked, no_ack);
        let all: Vec<_> = syn.iter().chain([&kfree]).collect();
        self.signal(Signal::ListenDrops, &all, Exactness::Derived);
        self.explain(Signal::ListenDrops, no_ack);
        self.syn_drops(&syn);
        self.absent(Signal::RequestsLost, no_ack);
        DropSource::CallsAndTracepoint
    }

    /// The tracepoint backend's drops.
    fn drops_of_socket(&mut self, no_syn: &str) -> DropSource {
        for signal in [
            Signal::SynsReceived,
            Signal::SynDrops,
            Signal::CookiesSent,
            Signal::CookiesChecked,
            Signal::RequestsLost,
        ] {
            self.absent(signal, no_syn);
        }
        let kfree = match self.kfree_skb() {
            Ok(kfree) => self.take(Ok(kfree)),
            Err(no_kfree) => {
                let why = format!("{no_syn}; {no_kfree}");
                for signal in [
                    Signal::OverflowSyn,
                    Signal::OverflowAck,
                    Signal::OverflowCookie,
                    Signal::ListenDrops,
                ] {
                    self.absent(signal, &why);
                }
                return DropSource::Nowhere;
            }
        };
        // Without it a SYN that is refused while the listener closes is missed.
        let destroyed = self.pick(Hook::DestroySock, &[Backend::Tracepoint]);
        self.take_all(destroyed.map(|hook| vec![hook]));
        self.signal(Signal::OverflowAck, &[&kfree], Exactness::Derived);
        self.refused_ack_limits(no_syn);
        self.signal(Signal::OverflowCookie, &[&kfree], Exactness::Derived);
        self.explain(
            Signal::OverflowCookie,
            &format!("a valid cookie that made no child, for whatever reason; {no_syn}"),
        );
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

    /// The caller is hooked because the function itself could not be.
    fn why_the_caller(&mut self, signal: Signal) {
        let by_caller = self.hooks.iter().any(|hook| hook.hook == Hook::CheckRequest);
        if let Some(Err(why)) = by_caller.then(|| self.try_backend(Hook::ChildV4, Backend::Fentry))
        {
            self.explain(signal, &format!("{}: {why}", Hook::ChildV4.target()));
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
}
