//! tcpq about itself.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};
use tcpq_common::{record::Kind, totals::Loss};

use super::{Families, encode};
use crate::model::{group::Folded, sample::ProgramRuns};

impl Families {
    pub(super) fn own(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = &self.snapshot;
        let counter = MetricType::Counter;
        let (name, help) = ("tcpq_build", "Version of this daemon.");
        if let Some(mut build) = self.family(encoder, name, help, MetricType::Info)? {
            build.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        }

        let help = "What each signal rests on: exact, derived or absent (see `tcpq doctor`).";
        if let Some(mut hooks) = self.family(encoder, "tcpq_hook", help, MetricType::Info)? {
            for plan in snapshot.plan.iter() {
                hooks.encode_info(&[
                    ("signal", plan.signal.name()),
                    ("hook", &*plan.hook),
                    ("backend", plan.backend_name()),
                    ("exactness", plan.exactness.name()),
                ])?;
            }
        }

        let help = "Records received from the kernel side.";
        if let Some(mut events) = self.family(encoder, "tcpq_events", help, counter)? {
            for (kind, count) in Kind::ALL.into_iter().zip(snapshot.events.by_kind) {
                encode(&mut events.encode_family(&[("kind", kind.label())])?, counter, count)?;
            }
        }

        let help =
            "Events lost on the kernel side, by where. Totals stay exact when the ring is full.";
        if let Some(mut lost) = self.family(encoder, "tcpq_events_lost", help, counter)? {
            for (loss, count) in Loss::ALL.into_iter().zip(snapshot.losses) {
                encode(&mut lost.encode_family(&[("where", loss.label())])?, counter, count)?;
            }
            let skipped = [("where", "program_skipped")];
            encode(&mut lost.encode_family(&skipped)?, counter, snapshot.skipped)?;
        }

        let help = "Listening sockets that were given no series of their own when first seen: on \
                    ephemeral ports, beyond the limit of groups, or excluded by a filter.";
        let Folded { ephemeral, other, excluded } = snapshot.folded;
        if let Some(mut folded) = self.family(encoder, "tcpq_listeners_folded", help, counter)? {
            let all = [("ephemeral", ephemeral), ("other", other), ("excluded", excluded)];
            for (into, count) in all {
                encode(&mut folded.encode_family(&[("into", into)])?, counter, count)?;
            }
        }
        self.programs(encoder)?;
        self.single(encoder)
    }

    /// Only if their runs are counted.
    fn programs(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let programs = &self.snapshot.programs;
        if programs.is_empty() {
            return Ok(());
        }
        let counter = MetricType::Counter;
        let help = "Time that each BPF program has run since its runs are counted.";
        let name = "tcpq_bpf_program_run_seconds";
        if let Some(mut family) = self.family(encoder, name, help, counter)? {
            for ProgramRuns { program, time, .. } in programs {
                family
                    .encode_family(&[("program", *program)])?
                    .encode_counter::<NoLabelSet, f64, f64>(&time.as_secs_f64(), None)?;
            }
        }
        let help = "Runs of each BPF program since they are counted.";
        if let Some(mut family) = self.family(encoder, "tcpq_bpf_program_runs", help, counter)? {
            for ProgramRuns { program, count, .. } in programs {
                encode(&mut family.encode_family(&[("program", *program)])?, counter, *count)?;
            }
        }
        Ok(())
    }

    /// Families of one series.
    fn single(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = &self.snapshot;
        let counter = MetricType::Counter;
        let counts = [
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
        for (name, help, value) in counts {
            if let Some(mut family) = self.family(encoder, name, help, counter)? {
                encode(&mut family, counter, value)?;
            }
        }
        let help = "CPU time taken by finding out who owns the listeners.";
        if let Some(mut family) =
            self.family(encoder, "tcpq_attribution_cpu_seconds", help, counter)?
        {
            let seconds = snapshot.attribution.as_secs_f64();
            family.encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
        }
        let help = "Listening sockets known now.";
        let gauge = MetricType::Gauge;
        if let Some(mut family) = self.family(encoder, "tcpq_listeners_tracked", help, gauge)? {
            family.encode_gauge(&snapshot.sockets_tracked)?;
        }
        let seconds = [
            (
                "tcpq_scrape_duration_seconds",
                "Time that this scrape waited for the kernel side.",
                self.reading,
            ),
            (
                "tcpq_snapshot_age_seconds",
                "Time since the reading of the kernel side that these figures are of began.",
                snapshot.taken.elapsed(),
            ),
        ];
        for (name, help, value) in seconds {
            if let Some(mut family) = self.family(encoder, name, help, gauge)? {
                family.encode_gauge(&value.as_secs_f64())?;
            }
        }
        Ok(())
    }
}
