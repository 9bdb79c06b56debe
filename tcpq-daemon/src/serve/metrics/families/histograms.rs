//! How long connections waited, and how full the queues were.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, NativeHistogram, NativeHistogramBuckets, NoLabelSet},
    metrics::MetricType,
};
use tcpq_common::histogram::{
    CLASSIC_BOUNDS_US, FILL_BOUNDS_PERCENT, Fills, TIME_BOUNDS_US, Times,
};

use super::Families;
use crate::{
    model::{hooks::Signal, observations::Observations},
    serve::metrics::native::{Native, SCHEMA, ZERO_THRESHOLD},
};

/// Name, help, signal, and where the cells are.
type Family<T> = (&'static str, &'static str, Signal, fn(&Observations) -> &T);

const TIMES: [Family<Times>; 3] = [
    (
        "tcpq_accept_wait_seconds",
        "Time from the accept queue to accept(), of each connection that accept() took.",
        Signal::AcceptWait,
        Observations::accept_wait,
    ),
    (
        "tcpq_accept_queue_abandoned_wait_seconds",
        "Time in the accept queue of connections that were reset there because the listener \
         closed.",
        Signal::AbandonedWait,
        Observations::abandoned_wait,
    ),
    (
        "tcpq_handshake_seconds",
        "Time from the first SYN-ACK to the accept queue, of each handshake; SYN cookies have \
         none.",
        Signal::HandshakeTime,
        Observations::handshake,
    ),
];

const FILLS: [Family<Fills>; 2] = [
    (
        "tcpq_accept_queue_fill_ratio",
        "Length of the accept queue by its limit, with each connection that entered it; above 1 \
         it is full.",
        Signal::AcceptQueueFill,
        Observations::accept_fill,
    ),
    (
        "tcpq_syn_queue_fill_ratio",
        "Length of the SYN queue by its limit, with each request that entered it.",
        Signal::SynQueueFill,
        Observations::syn_fill,
    ),
];

impl Families {
    /// The series of a listener begin with its first observation: one that is idle has none.
    pub(super) fn histograms(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for family in &TIMES {
            self.times(encoder, family)?;
        }
        for family in &FILLS {
            self.fills(encoder, family)?;
        }
        Ok(())
    }

    fn times(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help, signal, of): &Family<Times>,
    ) -> fmt::Result {
        if !self.tells(*signal) {
            return Ok(());
        }
        let family = self.family(encoder, name, help, MetricType::Histogram)?;
        let Some(mut family) = family else { return Ok(()) };
        let mut classic = Classic::new(&TIME_BOUNDS_US, &CLASSIC_BOUNDS_US, 1e6);
        for (group, labels) in self.groups() {
            let Some(times) = group.histograms.as_deref().map(of) else { continue };
            let count = times.count();
            if count == 0 {
                continue;
            }
            let native = Native::new(times);
            family.encode_family(labels)?.encode_histogram_with_native::<NoLabelSet>(
                float(times.sum_us) / 1e6,
                count,
                classic.of(&times.cells),
                None,
                NativeHistogram {
                    schema: SCHEMA,
                    zero_threshold: ZERO_THRESHOLD,
                    zero_count: native.zero_count,
                    negative: NativeHistogramBuckets { spans: &[], deltas: &[] },
                    positive: NativeHistogramBuckets {
                        spans: &native.spans,
                        deltas: &native.deltas,
                    },
                    created: None,
                },
            )?;
        }
        Ok(())
    }

    /// Ratios are no powers of two: a native histogram would say little near the limit.
    fn fills(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help, signal, of): &Family<Fills>,
    ) -> fmt::Result {
        if !self.tells(*signal) {
            return Ok(());
        }
        let family = self.family(encoder, name, help, MetricType::Histogram)?;
        let Some(mut family) = family else { return Ok(()) };
        let mut classic = Classic::new(&FILL_BOUNDS_PERCENT, &FILL_BOUNDS_PERCENT, 100.0);
        for (group, labels) in self.groups() {
            let Some(fills) = group.histograms.as_deref().map(of) else { continue };
            let count = fills.count();
            if count == 0 {
                continue;
            }
            family.encode_family(labels)?.encode_histogram::<NoLabelSet>(
                float(fills.sum_millionths) / 1e6,
                count,
                classic.of(&fills.cells),
                None,
            )?;
        }
        Ok(())
    }
}

/// Counts by classic bucket, not yet cumulated. Each bound is one of the cells' bounds.
struct Classic {
    buckets: Vec<(f64, u64)>,
    /// The bucket of each cell.
    places: Vec<usize>,
}

impl Classic {
    fn new(of_cells: &[u64], bounds: &[u64], unit: f64) -> Self {
        let ends = bounds.iter().map(|bound| float(*bound) / unit).chain([f64::INFINITY]);
        let ends_of_cells = of_cells.iter().copied().chain([u64::MAX]);
        Self {
            buckets: ends.map(|end| (end, 0)).collect(),
            places: ends_of_cells.map(|end| bounds.partition_point(|bound| *bound < end)).collect(),
        }
    }

    fn of(&mut self, cells: &[u64]) -> &[(f64, u64)] {
        let Self { buckets, places } = self;
        for (_, count) in &mut *buckets {
            *count = 0;
        }
        for (place, count) in places.iter().zip(cells) {
            buckets[*place].1 += count;
        }
        buckets
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 us are 285 years")]
fn float(value: u64) -> f64 {
    value as f64
}
