//! Every family of tcpq: its name, its help, its values. Names are a contract
//! (`docs/metrics.md`); a family whose signal is absent on this kernel is not there.

use std::{fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};
use tcpq_common::{record::Kind, totals::Loss};

use crate::model::{
    group::GroupView,
    hooks::{Backend, Exactness, Signal},
    snapshot::Snapshot,
};

/// A snapshot as families.
#[derive(Debug)]
pub(super) struct Families {
    snapshot: Snapshot,
    reading: Duration,
}

/// One more label of a listener family, and its values.
struct Split<'a> {
    label: &'static str,
    values: &'a [SplitValue],
}

/// A label's value, the signal behind it, and where the figure is.
type SplitValue = (&'static str, Signal, fn(&GroupView) -> u64);

impl Families {
    pub(super) fn new(snapshot: Snapshot, reading: Duration) -> Self {
        Self { snapshot, reading }
    }

    fn tells(&self, signal: Signal) -> bool {
        self.snapshot
            .plan
            .iter()
            .any(|plan| plan.signal == signal && plan.exactness != Exactness::Absent)
    }

    /// One value per group that has one.
    fn per_group(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        kind: MetricType,
        value: impl Fn(&GroupView) -> Option<u64>,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for group in &self.snapshot.groups {
            let Some(value) = value(group) else { continue };
            let address = group.key.address.to_string();
            let port = group.key.port.to_string();
            let labels = [("netns", &*group.netns), ("address", &*address), ("port", &*port)];
            encode(&mut family.encode_family(&labels)?, kind, value)?;
        }
        Ok(())
    }

    /// A counter per group whose signal may be absent.
    fn counter(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        signal: Signal,
        value: impl Fn(&GroupView) -> u64,
    ) -> fmt::Result {
        if !self.tells(signal) {
            return Ok(());
        }
        self.per_group(encoder, name, help, MetricType::Counter, |group| Some(value(group)))
    }

    /// A counter per group and value of one more label.
    fn split(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        split: &Split<'_>,
    ) -> fmt::Result {
        let told: Vec<_> =
            split.values.iter().filter(|(_, signal, _)| self.tells(*signal)).collect();
        if told.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for group in &self.snapshot.groups {
            let address = group.key.address.to_string();
            let port = group.key.port.to_string();
            for (label, _, value) in &told {
                let labels = [
                    ("netns", &*group.netns),
                    ("address", &*address),
                    ("port", &*port),
                    (split.label, *label),
                ];
                let mut series = family.encode_family(&labels)?;
                encode(&mut series, MetricType::Counter, value(group))?;
            }
        }
        Ok(())
    }

    fn queues(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = MetricType::Gauge;
        self.per_group(
            encoder,
            "tcpq_listener_sockets",
            "Listening sockets of this address and port.",
            gauge,
            |group| Some(group.sockets),
        )?;
        self.per_group(
            encoder,
            "tcpq_accept_queue_length",
            "Connections that wait for accept() now.",
            gauge,
            |group| open(group).map(|group| group.accept_queue.length),
        )?;
        self.per_group(
            encoder,
            "tcpq_accept_queue_limit",
            "Limit of the accept queue: the smaller of listen()'s backlog and somaxconn. One more fits.",
            gauge,
            |group| open(group).map(|group| group.accept_queue.limit),
        )?;
        self.per_group(
            encoder,
            "tcpq_syn_queue_length",
            "Connections in the handshake now.",
            gauge,
            |group| open(group).map(|group| group.syn_queue.length),
        )?;
        self.per_group(
            encoder,
            "tcpq_syn_queue_limit",
            "Limit of the SYN queue, above which SYN cookies are sent or SYNs are dropped.",
            gauge,
            |group| open(group).map(|group| group.syn_queue.limit),
        )
    }

    fn counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.split(
            encoder,
            "tcpq_accept_queue_overflows",
            "Connection attempts refused because the accept queue was full (ListenOverflows), by \
             what was refused: a SYN, the final ACK, or a SYN cookie's ACK.",
            &Split {
                label: "stage",
                values: &[
                    ("syn", Signal::OverflowSyn, |group| group.counts.overflows.syn),
                    ("ack", Signal::OverflowAck, |group| group.counts.overflows.ack),
                    ("cookie", Signal::OverflowCookie, |group| group.counts.overflows.cookie),
                ],
            },
        )?;
        self.counter(
            encoder,
            ("tcpq_listen_drops", "SYNs and ACKs dropped for any reason (ListenDrops)."),
            Signal::ListenDrops,
            |group| group.counts.listen_drops,
        )?;
        self.counter(
            encoder,
            ("tcpq_syns_received", "SYNs that reached the listener."),
            Signal::SynsReceived,
            |group| group.counts.syns_received,
        )?;
        self.enqueued(encoder)?;
        self.counter(
            encoder,
            ("tcpq_accepts", "Connections that accept() took."),
            Signal::Accepts,
            |group| group.counts.accepts,
        )?;
        self.counter(
            encoder,
            (
                "tcpq_accept_queue_abandoned",
                "Connections that were reset in the accept queue because the listener closed.",
            ),
            Signal::Abandoned,
            |group| group.counts.abandoned,
        )
    }

    /// The ways into the accept queue; where the hook cannot tell them, `unknown`.
    fn enqueued(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        const SIGNAL: Signal = Signal::Enqueued;
        const BY_PATH: &[SplitValue] = &[
            ("handshake", SIGNAL, |group| group.counts.enqueued.handshake),
            ("cookie", SIGNAL, |group| group.counts.enqueued.cookie),
            ("fastopen", SIGNAL, |group| group.counts.enqueued.fastopen),
        ];
        const UNKNOWN: SplitValue = ("unknown", SIGNAL, |group| group.counts.enqueued.unknown);
        let mut values = BY_PATH.to_vec();
        let plan = self.snapshot.plan.iter().find(|plan| plan.signal == SIGNAL);
        if plan.is_some_and(|plan| plan.backend == Some(Backend::Tracepoint)) {
            values.clear();
        }
        // A connection that migrated from a closed listener has no path of its own.
        if values.is_empty() || self.snapshot.groups.iter().any(|g| g.counts.enqueued.unknown > 0) {
            values.push(UNKNOWN);
        }
        self.split(
            encoder,
            "tcpq_accept_queue_enqueued",
            "Connections that entered the accept queue, by their way: handshake, SYN cookie, Fast \
             Open, or unknown where this kernel's hook cannot tell.",
            &Split { label: "path", values: &values },
        )
    }

    fn own(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = &self.snapshot;
        encoder
            .encode_descriptor("tcpq_build", "Version of this daemon.", None, MetricType::Info)?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;

        let help = "What each signal rests on: exact, derived or absent (see `tcpq doctor`).";
        let mut hooks = encoder.encode_descriptor("tcpq_hook", help, None, MetricType::Info)?;
        for plan in snapshot.plan.iter() {
            hooks.encode_info(&[
                ("signal", plan.signal.name()),
                ("hook", &*plan.hook),
                ("backend", plan.backend_name()),
                ("exactness", plan.exactness.name()),
            ])?;
        }

        let help = "Records received from the kernel side.";
        let counter = MetricType::Counter;
        let mut events = encoder.encode_descriptor("tcpq_events", help, None, counter)?;
        for (kind, count) in Kind::ALL.into_iter().zip(snapshot.events.by_kind) {
            encode(&mut events.encode_family(&[("kind", kind.label())])?, counter, count)?;
        }

        let help =
            "Events lost on the kernel side, by where. Totals stay exact when the ring is full.";
        let mut lost = encoder.encode_descriptor("tcpq_events_lost", help, None, counter)?;
        for (loss, count) in Loss::ALL.into_iter().zip(snapshot.losses) {
            encode(&mut lost.encode_family(&[("where", loss.label())])?, counter, count)?;
        }

        let single = [
            (
                "tcpq_events_suppressed",
                "Records that a listener's rate limit suppressed; they are in the totals.",
                snapshot.records_suppressed,
            ),
            (
                "tcpq_decode_errors",
                "Records that could not be decoded.",
                snapshot.events.undecodable,
            ),
        ];
        for (name, help, value) in single {
            let mut family = encoder.encode_descriptor(name, help, None, counter)?;
            encode(&mut family, counter, value)?;
        }
        encoder
            .encode_descriptor(
                "tcpq_listeners_tracked",
                "Listening sockets known now.",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&snapshot.sockets_tracked)?;
        encoder
            .encode_descriptor(
                "tcpq_scrape_duration_seconds",
                "Time that this scrape waited for the kernel side.",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&self.reading.as_secs_f64())
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.queues(&mut encoder)?;
        self.counters(&mut encoder)?;
        self.own(&mut encoder)
    }
}

/// A closed listener has no queue; its counters stay for a while.
fn open(group: &GroupView) -> Option<&GroupView> {
    (group.sockets > 0).then_some(group)
}

fn encode(
    series: &mut prometheus_client::encoding::MetricEncoder<'_>,
    kind: MetricType,
    value: u64,
) -> fmt::Result {
    match kind {
        MetricType::Counter => series.encode_counter::<NoLabelSet, u64, f64>(&value, None),
        _ => series.encode_gauge(&value),
    }
}
