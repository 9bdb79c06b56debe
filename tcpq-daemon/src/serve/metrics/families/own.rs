//! tcpq about itself.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};
use tcpq_common::{record::Kind, totals::Loss};

use super::{Families, encode};
use crate::model::group::Folded;

impl Families {
    pub(super) fn own(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
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
        let skipped = [("where", "program_skipped")];
        encode(&mut lost.encode_family(&skipped)?, counter, snapshot.skipped)?;

        let help = "Listening sockets that were given no series of their own when first seen: on \
                    ephemeral ports, beyond the limit of groups, or excluded by a filter.";
        let Folded { ephemeral, other, excluded } = snapshot.folded;
        let mut folded = encoder.encode_descriptor("tcpq_listeners_folded", help, None, counter)?;
        for (into, count) in [("ephemeral", ephemeral), ("other", other), ("excluded", excluded)] {
            encode(&mut folded.encode_family(&[("into", into)])?, counter, count)?;
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
                "tcpq_attribution_cpu_seconds",
                "CPU time taken by finding out who owns the listeners.",
                None,
                counter,
            )?
            .encode_counter::<NoLabelSet, f64, f64>(&snapshot.attribution.as_secs_f64(), None)?;
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
            .encode_gauge(&self.reading.as_secs_f64())?;
        encoder
            .encode_descriptor(
                "tcpq_snapshot_age_seconds",
                "Time since the reading of the kernel side that these figures are of began.",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&snapshot.taken.elapsed().as_secs_f64())
    }
}
