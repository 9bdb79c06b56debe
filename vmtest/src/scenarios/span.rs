//! A span of a row: what the kernel, the sockets and tcpq must show of it, and do.

use std::{fmt, net::SocketAddr, ops::RangeInclusive, time::Duration};

use anyhow::Result;

use super::scene::Scene;
use crate::{
    figures::{Audit, Count, Tally},
    kernel_counters::KernelCounters,
    ledger::{Checks, Reading},
    sockets::Listener,
    wait,
};

/// Until what was sent has been counted; longer than any timer a row waits for.
const COUNTED_WITHIN: Duration = Duration::from_secs(10);

/// What a row says of a span, until [`Span::end`] judges it.
#[derive(Debug)]
pub(super) struct Span<'s> {
    scene: &'s Scene,
    group: SocketAddr,
    sockets: Vec<(&'s Listener, u64)>,
    start: Reading,
    kernel: KernelCounters,
    retransmits: RangeInclusive<u64>,
    socket_drops: Vec<u64>,
    ours: Vec<(Count, u64)>,
    by_tracepoint: Option<Vec<(Count, u64)>>,
}

/// The kernel says that a row did something else than it means to: nothing is said of tcpq.
#[derive(Debug)]
pub(super) struct NotForced(String);

impl fmt::Display for NotForced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the fixture is wrong: {}", self.0)
    }
}

impl std::error::Error for NotForced {}

impl<'s> Span<'s> {
    /// `group` is what tcpq lists, `sockets` are those whose `sk_drops` are compared.
    pub(super) fn start(
        scene: &'s Scene,
        group: SocketAddr,
        sockets: &[&'s Listener],
    ) -> Result<Self> {
        let start = scene.reading()?;
        let sockets = sockets
            .iter()
            .map(|socket| Ok((*socket, socket.socket_drops()?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            scene,
            group,
            socket_drops: vec![0; sockets.len()],
            sockets,
            start,
            kernel: KernelCounters::default(),
            // Requests that wait for longer than a second have their SYN-ACK sent again.
            retransmits: 0..=u64::MAX,
            ours: Vec::new(),
            by_tracepoint: None,
        })
    }

    /// What the kernel's counters must have risen by. `syn_retransmits` is not looked
    /// at: see [`Span::retransmits`].
    pub(super) fn kernel(mut self, rise: KernelCounters) -> Self {
        self.kernel = rise;
        self
    }

    /// How many SYN-ACKs must have been sent again. Where nothing is said, any number:
    /// what tcpq says must equal the kernel's.
    pub(super) fn retransmits(mut self, rise: RangeInclusive<u64>) -> Self {
        self.retransmits = rise;
        self
    }

    /// What `sk_drops` of each socket must have risen by.
    pub(super) fn socket_drops(mut self, rise: &[u64]) -> Self {
        self.socket_drops = rise.to_vec();
        self
    }

    /// What tcpq's counts of the group must have risen by; all others by nothing.
    pub(super) fn ours(mut self, rise: &[(Count, u64)]) -> Self {
        self.ours = rise.to_vec();
        self
    }

    /// What the tracepoint backend shows instead, where it cannot know better: a stated
    /// hole, not a tolerance.
    pub(super) fn by_tracepoint(mut self, rise: &[(Count, u64)]) -> Self {
        self.by_tracepoint = Some(rise.to_vec());
        self
    }

    /// Waits until the kernel has counted, and judges everything.
    pub(super) fn end(self) -> Result<()> {
        let scene = self.scene;
        let counted = wait::until_true("the kernel has counted", COUNTED_WITHIN, || {
            let now = KernelCounters::read(&scene.netns)?.since(self.start.kernel);
            Ok(without_retransmits(now) == self.kernel
                && now.syn_retransmits >= *self.retransmits.start())
        });
        // What it has not counted until then is told below, number by number.
        drop(counted);
        let end = scene.reading()?;
        let kernel = end.kernel.since(self.start.kernel);
        self.fixture(kernel)?;

        let mut checks = Checks::default();
        let expected = self.expected(kernel);
        let at =
            |reading: &Reading, group| Tally::of(&reading.metrics, &scene.netns.label(), group);
        let tally = at(&end, self.group)?.since(&at(&self.start, self.group)?)?;
        for count in Count::ALL {
            let truth = expected.iter().filter(|(this, _)| *this == count).map(|(_, n)| n).sum();
            self.one(&mut checks, count, tally.get(count), truth);
        }
        let neighbour = at(&end, scene.neighbour())?.since(&at(&self.start, scene.neighbour())?)?;
        for count in Count::ALL {
            checks.nothing(&format!("{} of the neighbour", count.name()), neighbour.get(count));
        }
        self.audit(&mut checks, &end, kernel, &expected)?;
        end.no_losses_since(&self.start, &mut checks)?;
        checks.end()
    }

    /// The row must have done what it says, by the kernel's own word.
    fn fixture(&self, kernel: KernelCounters) -> Result<()> {
        let mut wrong = Vec::new();
        let named = without_retransmits(kernel).named();
        for ((name, found), (_, meant)) in named.into_iter().zip(self.kernel.named()) {
            if found != meant {
                wrong.push(format!("{name} rose by {found}, not {meant}"));
            }
        }
        if !self.retransmits.contains(&kernel.syn_retransmits) {
            wrong.push(format!(
                "TCPSynRetrans rose by {}, not {:?}",
                kernel.syn_retransmits, self.retransmits
            ));
        }
        for (at, (socket, before)) in self.sockets.iter().enumerate() {
            let rise = socket.socket_drops()? - before;
            let meant = self.socket_drops.get(at).copied().unwrap_or(0);
            if rise != meant {
                wrong.push(format!("sk_drops of socket {at} rose by {rise}, not {meant}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(NotForced(wrong.join("; ")).into()) }
    }

    fn exactness(&self, signal: &str) -> &'static str {
        let plan = &self.scene.plan;
        plan.iter().find(|expected| expected.signal == signal).map_or("absent", |e| e.exactness)
    }

    fn is_tracepoint(&self) -> bool {
        self.scene.plan.iter().any(|e| e.signal == "overflow_syn" && e.backend == "tracepoint")
    }

    /// What tcpq must say on this target.
    fn expected(&self, kernel: KernelCounters) -> Vec<(Count, u64)> {
        let mut expected = match &self.by_tracepoint {
            Some(stated) if self.is_tracepoint() => stated.clone(),
            _ => self.ours.clone(),
        };
        if self.is_tracepoint() {
            for (count, _) in &mut expected {
                if count.series().signal == "enqueued" {
                    *count = Count::EnqueuedUnknown;
                }
            }
        }
        expected.push((Count::SynAckRetransmits, kernel.syn_retransmits));
        expected
    }

    fn one(&self, checks: &mut Checks, count: Count, ours: Option<u64>, truth: u64) {
        let what = count.name();
        match (self.exactness(count.series().signal), truth) {
            ("absent", _) => checks
                .hold(&format!("{what} is {ours:?}, but its signal is absent"), ours.is_none()),
            // A series that nothing was ever counted in need not be there.
            (_, 0) => checks.nothing(&what, ours),
            (_, truth) => checks.equal(&what, ours, truth),
        }
    }

    /// The namespace's own counters, and what of them no listener has. The latter is 0,
    /// except where the row states that the backend is wrong by just this.
    fn audit(
        &self,
        checks: &mut Checks,
        end: &Reading,
        kernel: KernelCounters,
        expected: &[(Count, u64)],
    ) -> Result<()> {
        let sum = |wanted: fn(Count) -> bool| -> u64 {
            expected.iter().filter(|(count, _)| wanted(*count)).map(|(_, n)| n).sum()
        };
        let overflows = sum(|count| {
            matches!(count, Count::OverflowSyn | Count::OverflowAck | Count::OverflowCookie)
        });
        let drops = sum(|count| count == Count::ListenDrops);
        let label = self.scene.netns.label();
        let (then, now) =
            (Audit::of(&self.start.metrics, &label)?, Audit::of(&end.metrics, &label)?);
        let rise = |now: Option<u64>, then: Option<u64>| Some(now?.wrapping_sub(then.unwrap_or(0)));
        checks.equal(
            "tcpq_netns_listen_overflows_total",
            rise(now.listen_overflows, then.listen_overflows),
            kernel.listen_overflows,
        );
        checks.equal(
            "tcpq_netns_listen_drops_total",
            rise(now.listen_drops, then.listen_drops),
            kernel.listen_drops,
        );
        for (name, now, then, kernel, ours) in [
            (
                "tcpq_netns_unattributed_overflows",
                now.unattributed_overflows,
                then.unattributed_overflows,
                kernel.listen_overflows,
                overflows,
            ),
            (
                "tcpq_netns_unattributed_drops",
                now.unattributed_drops,
                then.unattributed_drops,
                kernel.listen_drops,
                drops,
            ),
        ] {
            let meant = i64::try_from(kernel)? - i64::try_from(ours)?;
            checks.hold(
                &format!("{name} went from {then:?} to {now:?}, not by {meant}"),
                now.zip(then.or(Some(0))).is_some_and(|(now, then)| now - then == meant),
            );
            if !self.is_tracepoint() {
                checks.hold(&format!("{name} is {now:?}, not 0"), now == Some(0));
            }
        }
        Ok(())
    }
}

fn without_retransmits(counters: KernelCounters) -> KernelCounters {
    KernelCounters { syn_retransmits: 0, ..counters }
}
