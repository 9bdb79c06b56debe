//! Prometheus's own linter, where there is one.

use std::{
    ffi::OsString,
    fs::{self, File},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    bench::{Bench, Target},
    daemon::Daemon,
    exposition::Metrics,
    http,
};

/// Where a program of others is, as the harness says.
pub fn program(variable: &str) -> Result<OsString> {
    std::env::var_os(variable)
        .with_context(|| format!("{variable} does not say where the program is"))
}

/// Scrapes a daemon, and has the linter look at the text: on the host. A guest has no
/// linter; there every line has to be understood, and no series told twice.
pub fn has_nothing_to_say(bench: &Bench, daemon: &Daemon) -> Result<Metrics> {
    let text = http::get_ok(daemon.address(), "/metrics", "text/plain")?;
    let metrics = Metrics::parse(&text)?;
    if bench.target() == Target::Host {
        lint(bench, &text)?;
    }
    let mut series: Vec<_> = metrics.all().map(|sample| (&sample.name, &sample.labels)).collect();
    series.sort();
    if let Some([twice, ..]) = series.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("{twice:?} is there twice");
    }
    Ok(metrics)
}

fn lint(bench: &Bench, text: &str) -> Result<()> {
    let scrape = bench.scratch().path().join("scrape.txt");
    fs::write(&scrape, text).context("cannot keep a scrape")?;
    let mut check = Command::new(program("TCPQ_PROMTOOL")?);
    check.args(["check", "metrics"]).stdin(File::open(&scrape).context("cannot read a scrape")?);
    let finished = bench.finish_with_stdin(check)?;
    ensure!(
        finished.code == Some(0) && finished.stdout.is_empty() && finished.stderr.is_empty(),
        "promtool ended with {:?} and said: {}{}",
        finished.code,
        finished.stdout,
        finished.stderr
    );
    Ok(())
}
