//! Holds what tcpq says against what the kernel says, over the same span.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    daemon::Daemon,
    exposition::Metrics,
    figures::{Figures, NetnsSums},
    kernel_counters::KernelCounters,
    netns::Netns,
    wait,
};

/// Until the last retransmission of a case has died down.
const QUIET_WITHIN: Duration = Duration::from_mins(1);

/// Losses that would make a count wrong. A full ring does not, and an event on a socket
/// that has just closed is nobody's.
const LOSSES: [(&str, &str); 5] = [
    ("where", "listeners_full"),
    ("where", "totals_missing"),
    ("where", "retired_full"),
    ("where", "unpaired_probe"),
    ("where", "unreadable"),
];

/// Within which a scrape of what is now comes. A scrape waits 0.8 s for the kernel side,
/// then gets the last reading, which may be from before the end of a load. An emulated CPU
/// that reads 10,000 listeners takes longer.
const FRESH_WITHIN: Duration = Duration::from_secs(30);

/// A scrape whose figures were read from now on.
fn fresh(daemon: &Daemon) -> Result<Metrics> {
    let start = Instant::now();
    wait::until("a scrape of what was read after it was asked for", FRESH_WITHIN, || {
        let metrics = daemon.scrape()?;
        Ok((age(&metrics)? <= start.elapsed()).then_some(metrics))
    })
}

fn age(metrics: &Metrics) -> Result<Duration> {
    let age = metrics.select("tcpq_snapshot_age_seconds", &[]).next();
    let age = age.context("a scrape does not say how old its figures are")?;
    let seconds = age.value.parse::<f64>().context("that is no number")?;
    Duration::try_from_secs_f64(seconds).context("that is no duration")
}

/// The kernel's counters and ours at one moment: the kernel's were the same
/// before and after our scrape, so the scrape cannot have been early or late.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The kernel's.
    pub kernel: KernelCounters,
    /// Ours, in full.
    pub metrics: Metrics,
    sums: NetnsSums,
    label: String,
}

impl Reading {
    /// Waits until the namespace is quiet, then reads both sides.
    pub fn take(netns: &Netns, daemon: &Daemon) -> Result<Self> {
        let label = netns.label();
        wait::until(
            "the kernel's counters are the same on both sides of a scrape",
            QUIET_WITHIN,
            || {
                let before =
                    wait::until_steady("the kernel's counters stand still", QUIET_WITHIN, || {
                        KernelCounters::read(netns)
                    })?;
                let metrics = fresh(daemon)?;
                let after = KernelCounters::read(netns)?;
                if before != after {
                    return Ok(None);
                }
                let sums = NetnsSums::of(&metrics, &label)?;
                Ok(Some(Self { kernel: after, metrics, sums, label: label.clone() }))
            },
        )
    }

    /// One listener's figures at this moment.
    pub fn figures(&self, listener: SocketAddr) -> Result<Figures> {
        Figures::of(&self.metrics, &self.label, listener)
    }

    /// What the kernel counted since `earlier`, and what we did.
    pub fn since(&self, earlier: &Self) -> Result<(KernelCounters, NetnsSums)> {
        let then = NetnsSums::of_those_in(&self.metrics, &earlier.metrics, &self.label)?;
        let ours = self.sums.since(then)?;
        Ok((self.kernel.since(earlier.kernel), ours))
    }

    /// Compares the span since `earlier`: our sums over all listeners of the
    /// namespace must equal the kernel's counters. Returns the kernel's.
    pub fn agrees_since(&self, earlier: &Self) -> Result<KernelCounters> {
        let (kernel, ours) = self.since(earlier)?;
        let mut checks = Checks::default();
        checks.equal("overflows, sum over listeners", ours.overflows, kernel.listen_overflows);
        checks.equal("listen drops, sum over listeners", ours.listen_drops, kernel.listen_drops);
        self.no_losses_since(earlier, &mut checks)?;
        checks.end()?;
        Ok(kernel)
    }

    /// Nothing was lost since `earlier` that would make a count wrong.
    pub fn no_losses_since(&self, earlier: &Self, checks: &mut Checks) -> Result<()> {
        for loss in LOSSES {
            let lost = |reading: &Self| reading.metrics.sum("tcpq_events_lost_total", &[loss]);
            let count = lost(self)?.unwrap_or(0).saturating_sub(lost(earlier)?.unwrap_or(0));
            checks.nothing(&format!("lost by {}", loss.1), Some(count));
        }
        checks.nothing("undecodable records", self.metrics.sum("tcpq_decode_errors_total", &[])?);
        // No mismatch by itself, but it may explain one.
        let late = |reading: &Self| {
            reading.metrics.sum("tcpq_events_lost_total", &[("where", "late_event")])
        };
        let late = late(self)?.unwrap_or(0).saturating_sub(late(earlier)?.unwrap_or(0));
        if late > 0 {
            checks.remark(format!("{late} events came too late for their listener"));
        }
        Ok(())
    }
}

/// Collects every mismatch, so that a failure shows the whole pattern.
#[derive(Debug, Default)]
pub struct Checks {
    mismatches: Vec<String>,
    remarks: Vec<String>,
}

impl Checks {
    /// Our figure, which may be absent, must be present and equal the truth.
    pub fn equal(&mut self, what: &str, ours: impl Into<Option<u64>>, truth: u64) {
        match ours.into() {
            Some(ours) if ours == truth => {}
            Some(ours) => self.fail(format!("{what}: tcpq says {ours}, the truth is {truth}")),
            None => self.fail(format!("{what}: tcpq says nothing, the truth is {truth}")),
        }
    }

    /// A figure that nothing happened to: absent or zero.
    pub fn nothing(&mut self, what: &str, ours: Option<u64>) {
        if let Some(ours @ 1..) = ours {
            self.fail(format!("{what}: tcpq says {ours}, but there was none"));
        }
    }

    /// Any other condition.
    pub fn hold(&mut self, what: &str, holds: bool) {
        if !holds {
            self.fail(what.to_owned());
        }
    }

    /// What may explain a mismatch, and is none.
    pub fn remark(&mut self, line: String) {
        self.remarks.push(line);
    }

    /// Fails if anything failed.
    pub fn end(self) -> Result<()> {
        if self.mismatches.is_empty() {
            return Ok(());
        }
        bail!("{}", [self.mismatches, self.remarks].concat().join("\n"))
    }

    fn fail(&mut self, line: String) {
        self.mismatches.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reading of two listeners, with these figures of the first.
    fn reading(kernel: u64, syn: u64, ack: u64, drops: u64) -> Reading {
        let text = format!(
            r#"tcpq_accept_queue_overflows_total{{netns="7",address="::1",port="1",stage="syn"}} {syn}
tcpq_accept_queue_overflows_total{{netns="7",address="::1",port="1",stage="ack"}} {ack}
tcpq_accept_queue_overflows_total{{netns="7",address="::1",port="2",stage="syn"}} 10
tcpq_accept_queue_overflows_total{{netns="8",address="::1",port="1",stage="syn"}} 500
tcpq_listen_drops_total{{netns="7",address="::1",port="1"}} {drops}
tcpq_listen_drops_total{{netns="7",address="::1",port="2"}} 10
"#
        );
        let metrics = Metrics::parse(&text).unwrap();
        let kernel = KernelCounters {
            listen_overflows: kernel,
            listen_drops: kernel,
            ..KernelCounters::default()
        };
        let sums = NetnsSums::of(&metrics, "7").unwrap();
        Reading { kernel, metrics, sums, label: "7".to_owned() }
    }

    #[test]
    fn every_listener_and_stage_of_the_namespace_is_summed() {
        let (start, end) = (reading(100, 0, 0, 0), reading(107, 3, 4, 7));
        assert_eq!(end.agrees_since(&start).unwrap().listen_overflows, 7);
    }

    #[test]
    fn one_too_few_or_too_many_is_told() {
        let start = reading(100, 0, 0, 0);
        for (end, wrong) in [
            (reading(107, 3, 3, 7), "overflows"),
            (reading(107, 3, 5, 7), "overflows"),
            (reading(107, 3, 4, 8), "listen drops"),
        ] {
            let error = end.agrees_since(&start).unwrap_err().to_string();
            assert!(error.starts_with(wrong) && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn a_counter_that_went_back_is_told() {
        let error = reading(100, 1, 0, 2).agrees_since(&reading(100, 2, 0, 2)).unwrap_err();
        assert_eq!(error.to_string(), "overflows went back: 12 to 11");
    }

    #[test]
    fn absent_is_not_zero_where_something_is_expected() {
        let mut checks = Checks::default();
        checks.equal("a figure", None, 0);
        assert!(checks.end().is_err());
        let mut checks = Checks::default();
        checks.nothing("a figure", None);
        checks.nothing("a figure", Some(0));
        checks.end().unwrap();
    }

    #[test]
    fn every_mismatch_is_reported() {
        let mut checks = Checks::default();
        checks.equal("one", 1, 2);
        checks.equal("two", 2, 2);
        checks.nothing("three", Some(3));
        checks.hold("four holds", false);
        assert_eq!(checks.end().unwrap_err().to_string().lines().count(), 3);
    }
}
