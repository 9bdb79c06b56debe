//! The real Prometheus: does its linter have nothing to say, and does it see an
//! overflow the way a dashboard would ask for it?

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, Case, Held, Target},
    daemon::Daemon,
    http,
    ledger::Reading,
    load,
    netns::Netns,
    prometheus::{Prometheus, Scrapes},
    promtool,
    sockets::{Family, Listener},
    wait,
};

const ON_HOST: Held = Held::Only(
    &[Target::Host],
    "a guest has no Prometheus; what is served does not depend on the kernel",
);

pub(super) const CASES: &[Case] = &[
    Case::everywhere("openmetrics_ends", openmetrics),
    Case::new("promtool_has_nothing_to_say", linted, ON_HOST),
    Case::new("prometheus_sees_an_overflow", prometheus, ON_HOST),
    Case::new("prometheus_takes_protobuf", protobuf, ON_HOST),
];

fn openmetrics(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let accept = "application/openmetrics-text; version=1.0.0";
    let response = http::get(daemon.address(), "/metrics", accept)?;
    ensure!(
        response.content_type.starts_with("application/openmetrics-text"),
        "asked for OpenMetrics, got {}",
        response.content_type
    );
    ensure!(response.body.ends_with("# EOF\n"), "OpenMetrics without its end");
    let classic = http::get(daemon.address(), "/metrics", "text/plain")?;
    ensure!(
        classic.content_type.starts_with("text/plain"),
        "asked for text, got {}",
        classic.content_type
    );
    ensure!(!classic.body.contains("# EOF"), "classic text with an end of OpenMetrics");
    Ok(())
}

fn linted(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    // With a listener of every kind of address, so that there is text to check.
    let _v4 = Listener::open(&netns, Family::V4.loopback(), 4)?;
    let _v6 = Listener::open(&netns, Family::V6.loopback(), 4)?;
    promtool::has_nothing_to_say(bench, &daemon)?;
    Ok(())
}

/// A minute when asked for the whole (`TRUTH_FULL=1`), else a quarter of it.
fn span() -> Duration {
    let full = std::env::var_os("TRUTH_FULL").is_some_and(|value| value == "1");
    Duration::from_secs(if full { 60 } else { 15 })
}

fn prometheus(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let listener = Listener::open(&netns, Family::V4.loopback(), 4)?;
    let to = listener.address();
    let server = Prometheus::start(bench.scratch(), &daemon, Scrapes::Text)?;
    let seconds = span().as_secs();

    let port = to.port().to_string();
    let series = format!("tcpq_accept_queue_overflows_total{{port=\"{port}\",stage=\"syn\"}}");
    wait::until_true("Prometheus has scraped the listener", Duration::from_secs(30), || {
        Ok(!server.query(&series)?.is_empty())
    })?;
    // From its first scrape on; it takes some seconds to know its targets.
    let start = Instant::now();
    let _queued = load::fill(&netns, &listener, to)?;
    load::syns(&netns, to, 25)?;

    let rate = format!("rate({series}[{seconds}s]) > 0");
    let risen = wait::until("rate() shows the overflow", Duration::from_secs(30), || {
        Ok(server.query(&rate)?.into_iter().next())
    })?;
    for (label, value) in
        [("netns", netns.label()), ("address", "127.0.0.1".to_owned()), ("port", port)]
    {
        let said = risen.metric.get(label);
        ensure!(said == Some(&value), "label {label} is {said:?}, not {value}");
    }

    wait::until_true("the daemon was scraped long enough", span() * 2, || {
        Ok(start.elapsed() >= span())
    })?;
    let up = format!("min_over_time(up{{job=\"tcpq\"}}[{seconds}s]) == 1");
    ensure!(server.query(&up)?.len() == 1, "up was not 1 all the while");
    let count = format!("count_over_time(up{{job=\"tcpq\"}}[{seconds}s]) >= {}", seconds * 8 / 10);
    ensure!(server.query(&count)?.len() == 1, "scraped less than once per second");

    // What Prometheus stored is what the kernel counted.
    let kernel = Reading::take(&netns, &daemon)?.kernel.listen_overflows;
    let stored = format!("{series} == {kernel}");
    ensure!(server.query(&stored)?.len() == 1, "Prometheus has another total than {kernel}");
    names_the_incident(bench, &daemon, &server, &series, to)
}

/// From the counter on a dashboard to the incident.
fn names_the_incident(
    bench: &Bench,
    daemon: &Daemon,
    server: &Prometheus,
    series: &str,
    to: SocketAddr,
) -> Result<()> {
    let port = to.port().to_string();
    let all = super::incidents::incidents(bench, daemon)?;
    let incident = all.into_iter().find(|it| it.listener.port == port).context("no incident")?;
    wait::until_true("an exemplar names the incident", Duration::from_secs(30), || {
        let exemplars = server.exemplars(series)?;
        Ok(exemplars.iter().any(|it| it.get("incident_id") == Some(&incident.id)))
    })
}

/// What it stores from protobuf is what the kernel counted.
fn protobuf(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let listener = Listener::open(&netns, Family::V4.loopback(), 4)?;
    let to = listener.address();
    let _queued = load::fill(&netns, &listener, to)?;
    load::syns(&netns, to, 25)?;
    let server = Prometheus::start(bench.scratch(), &daemon, Scrapes::Protobuf)?;

    let kernel = Reading::take(&netns, &daemon)?.kernel.listen_overflows;
    let port = to.port();
    let stored =
        format!("tcpq_accept_queue_overflows_total{{port=\"{port}\",stage=\"syn\"}} == {kernel}");
    wait::until_true("Prometheus has the kernel's total", Duration::from_secs(30), || {
        Ok(!server.query(&stored)?.is_empty())
    })?;
    // Protobuf has no info metrics: that tells what the scrape was.
    let path = "/api/v1/targets/metadata?metric=tcpq_build_info";
    let metadata = http::get_ok(server.address(), path, "application/json")?;
    ensure!(metadata.contains("\"type\":\"gauge\""), "not scraped by protobuf: {metadata}");
    Ok(())
}
