//! The `process_*` families that Prometheus client libraries have in common.

use std::fmt;

use procfs::process::Process as Proc;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

/// Read at each scrape; a figure that cannot be read is left out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Ok(me) = Proc::myself() else {
            return Ok(());
        };
        let mut gauge = |name: &str, help: &str, value: f64| {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
        };
        let Ok(stat) = me.stat() else { return Ok(()) };
        gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            precise(stat.rss.saturating_mul(procfs::page_size())),
        )?;
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            precise(stat.vsize),
        )?;
        if let Ok(count) = me.fd_count() {
            gauge("process_open_fds", "Number of open file descriptors.", precise(count as u64))?;
        }
        if let Ok(limits) = me.limits()
            && let procfs::process::LimitValue::Value(limit) = limits.max_open_files.soft_limit
        {
            gauge("process_max_fds", "Maximum number of open file descriptors.", precise(limit))?;
        }
        let ticks = precise(procfs::ticks_per_second());
        if let Ok(boot) = procfs::boot_time_secs() {
            gauge(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
                precise(boot) + precise(stat.starttime) / ticks,
            )?;
        }
        let cpu = precise(stat.utime + stat.stime) / ticks;
        encoder
            .encode_descriptor(
                "process_cpu_seconds",
                "Total user and system CPU time spent in seconds.",
                None,
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, f64, f64>(&cpu, None)
    }
}

/// Metrics are floating point; these figures are far below where that loses anything.
#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
fn precise(value: u64) -> f64 {
    value as f64
}
