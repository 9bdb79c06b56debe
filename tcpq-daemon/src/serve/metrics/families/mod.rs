//! Every family of tcpq: its name, its help, its values. Names are a contract
//! (`docs/metrics.md`); a family whose signal is absent on this kernel is not there.
//!
//! They are encoded a piece at a time, so that an exposition of many listeners is never in
//! memory as a whole: a [`Piece`] says which family it is, and of which groups.

mod accepting;
mod audit;
mod exemplars;
mod handshakes;
mod histograms;
mod incidents;
mod labels;
mod listeners;
mod own;
mod settings;

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use self::{exemplars::Exemplars, labels::GroupLabels};
use super::format::Format;
use crate::model::{
    group::GroupView,
    hooks::{Backend, Exactness, Signal},
    incident::tally::Tally,
    snapshot::Snapshot,
};

/// A part of an exposition.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Which family, in the order of the exposition.
    pub(super) family: usize,
    /// Of which groups, if it is one of listeners.
    pub(super) groups: Range<usize>,
}

/// What there was of a piece.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// Families before the piece's, and itself if it exists.
    families: AtomicUsize,
    /// It is one of listeners: other groups have more of it.
    by_group: AtomicBool,
}

impl Met {
    /// Whether there is such a family.
    pub(super) fn exists(&self, piece: &Piece) -> bool {
        self.families.load(Relaxed) > piece.family
    }

    pub(super) fn is_by_group(&self) -> bool {
        self.by_group.load(Relaxed)
    }
}

/// A snapshot as families, or a piece of them.
#[derive(Clone, Debug)]
pub(super) struct Families {
    snapshot: Arc<Snapshot>,
    /// The labels of each group.
    labels: Arc<[GroupLabels]>,
    exemplars: Arc<Exemplars>,
    tally: Arc<Tally>,
    reading: Duration,
    piece: Piece,
    met: Arc<Met>,
}

/// One more label of a listener family, and its values.
struct Split<'a> {
    label: &'static str,
    naming: Naming,
    values: &'a [SplitValue],
}

/// What the exemplars of a family name.
#[derive(Clone, Copy)]
enum Naming {
    Nothing,
    Incidents,
}

/// A label's value, the signal behind it, and where the figure is.
type SplitValue = (&'static str, Signal, fn(&GroupView) -> u64);

impl Families {
    /// The first piece, of no group.
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        tally: Tally,
        reading: Duration,
        format: Format,
    ) -> Self {
        let labels = snapshot.groups.iter().map(|group| GroupLabels::new(group, format)).collect();
        let piece = Piece { family: 0, groups: 0..0 };
        let exemplars = Arc::new(Exemplars::new(&snapshot, &tally, format));
        let (tally, met) = (Arc::new(tally), Arc::default());
        Self { snapshot, labels, exemplars, tally, reading, piece, met }
    }

    /// Another piece, and what will have been met of it once it is encoded.
    pub(super) fn piece(&self, piece: &Piece) -> (Self, Arc<Met>) {
        let met = Arc::new(Met::default());
        let families = Self { piece: piece.clone(), met: Arc::clone(&met), ..self.clone() };
        (families, met)
    }

    pub(super) fn groups_in_all(&self) -> usize {
        self.labels.len()
    }

    /// Every group of this piece, with its labels.
    fn groups(&self) -> impl Iterator<Item = (&GroupView, &GroupLabels)> {
        self.met.by_group.store(true, Relaxed);
        let Range { start, end } = self.piece.groups;
        let views = self.snapshot.groups.get(start..end).unwrap_or_default();
        views.iter().map(|view| &**view).zip(self.labels.get(start..end).unwrap_or_default())
    }

    /// Begins a family; `None`: this piece is of another one.
    fn family<'a>(
        &self,
        encoder: &'a mut DescriptorEncoder<'_>,
        name: &'a str,
        help: &str,
        kind: MetricType,
    ) -> Result<Option<MetricEncoder<'a>>, fmt::Error> {
        if self.met.families.fetch_add(1, Relaxed) != self.piece.family {
            return Ok(None);
        }
        encoder.encode_descriptor(name, help, None, kind).map(Some)
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
        let Some(mut family) = self.family(encoder, name, help, kind)? else { return Ok(()) };
        for (group, labels) in self.groups() {
            let Some(value) = value(group) else { continue };
            encode(&mut family.encode_family(labels)?, kind, value)?;
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
        let family = self.family(encoder, name, help, MetricType::Counter)?;
        let Some(mut family) = family else { return Ok(()) };
        for (place, (group, labels)) in (self.piece.groups.start..).zip(self.groups()) {
            for (label, _, value) in &told {
                let labels = labels.and([(split.label, *label)]);
                let mut series = family.encode_family(&labels)?;
                match split.naming {
                    Naming::Nothing => encode(&mut series, MetricType::Counter, value(group))?,
                    Naming::Incidents => self.exemplars.encode(&mut series, place, value(group))?,
                }
            }
        }
        Ok(())
    }

    fn queues(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = MetricType::Gauge;
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
                naming: Naming::Incidents,
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
        self.handshakes(encoder)?;
        self.enqueued(encoder)?;
        self.counter(
            encoder,
            ("tcpq_accepts", "Connections that accept() took."),
            Signal::Accepts,
            |group| group.counts.accepts,
        )?;
        self.accept_errors(encoder)?;
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
            ("migration", SIGNAL, |group| group.counts.enqueued.migration),
        ];
        const UNKNOWN: SplitValue = ("unknown", SIGNAL, |group| group.counts.enqueued.unknown);
        let mut values = BY_PATH.to_vec();
        let plan = self.snapshot.plan.iter().find(|plan| plan.signal == SIGNAL);
        if plan.is_some_and(|plan| plan.backend == Some(Backend::Tracepoint)) {
            values.clear();
        }
        if values.is_empty() {
            values.push(UNKNOWN);
        }
        self.split(
            encoder,
            "tcpq_accept_queue_enqueued",
            "Connections that entered the accept queue, by their way: handshake, SYN cookie, Fast \
             Open, migration from a closed reuseport member, or unknown where this kernel's hook \
             cannot tell.",
            &Split { label: "path", naming: Naming::Nothing, values: &values },
        )
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.listeners(&mut encoder)?;
        self.queues(&mut encoder)?;
        self.counters(&mut encoder)?;
        self.histograms(&mut encoder)?;
        self.audit(&mut encoder)?;
        self.settings(&mut encoder)?;
        self.incidents(&mut encoder)?;
        self.own(&mut encoder)
    }
}

/// A closed listener has no queue; its counters stay for a while.
fn open(group: &GroupView) -> Option<&GroupView> {
    (group.sockets > 0).then_some(group)
}

fn encode(series: &mut MetricEncoder<'_>, kind: MetricType, value: u64) -> fmt::Result {
    match kind {
        MetricType::Counter => series.encode_counter::<NoLabelSet, u64, f64>(&value, None),
        _ => series.encode_gauge(&value),
    }
}
