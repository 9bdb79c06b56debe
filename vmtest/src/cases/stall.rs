//! A real nginx whose only worker is stopped for two seconds while wrk loads it: does a
//! real Prometheus see the stall in the waits for accept(), whichever histogram it takes?

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::waits::WAIT;
use crate::{
    bench::{Bench, Case, Held, Target},
    beside,
    daemon::Daemon,
    figures::Figures,
    helper::Home,
    histogram::Histogram,
    ledger::{Checks, Reading},
    netns::Netns,
    processes,
    prometheus::{Prometheus, Scrapes},
    promtool, protobuf,
    scale::Stopwatch,
    servers::{Opening, Place, Program, Server},
    sockets, wait,
};

pub(super) const CASES: &[Case] = &[Case::new(
    "prometheus_sees_a_stall",
    stall,
    Held::Only(
        &[Target::V6_12],
        "one guest has real servers and a Prometheus; what they see is the same elsewhere",
    ),
)];

const STALL: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// As many clients does wrk have, each with one connection at a time.
const CLIENTS: u64 = 100;

/// Accepts before the stall: it is to stand out against them.
const BEFORE: u64 = 200;

fn stall(bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let address = sockets::free_address(&netns, Ipv4Addr::LOCALHOST.into())?;
    let place =
        Place { netns: &netns, address, home: Home::SamePidNamespace, opening: Opening::ByServer };
    let server = Server::start("nginx", Program::NginxAlone, place, bench.scratch())?;
    let scrapers = [Scrapes::Text, Scrapes::Protobuf]
        .map(|scrapes| Prometheus::start(bench.scratch(), &daemon, scrapes));
    let [classic, native] = scrapers;
    let (classic, native) = (classic?, native?);
    let port = address.port().to_string();
    let scraped = format!("tcpq_accepts_total{{port=\"{port}\"}}");
    for scraper in [&classic, &native] {
        wait::until_true("Prometheus has scraped the listener", PATIENCE, || {
            Ok(!scraper.query(&scraped)?.is_empty())
        })?;
    }

    let load: beside::Work<'_> = Box::new(|_| netns.run(|| load(bench, address)));
    beside::beside(vec![load], || stop_and_go(&netns, &daemon, &server, address))?;

    let end = Reading::take(&netns, &daemon)?;
    let figures = end.figures(address)?;
    let accepts = figures.accepts.context("no accepts")?;
    let text = Histogram::of(&end.metrics, WAIT, &netns.label(), address)?;
    let text = text.context("no waits")?;
    let mut checks = Checks::default();
    checks.equal("waits", text.count, accepts);
    same_by_protobuf(&netns, &daemon, address, &text, &mut checks)?;

    let labels = format!("{{port=\"{port}\"}}");
    let counts = [format!("{WAIT}_count{labels}"), format!("histogram_count({WAIT}{labels})")];
    for (scraper, count) in [&classic, &native].into_iter().zip(&counts) {
        wait::until_true("Prometheus has scraped all", PATIENCE, || {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let all = accepts as f64;
            Ok(scraper.number(count)?.is_some_and(|count| (count - all).abs() < 0.5))
        })?;
    }

    // As a dashboard has it: over the last seconds, at each moment.
    let by_bucket = format!("sum by (le) (rate({WAIT}_bucket{labels}[4s]))");
    let whole = format!("sum(rate({WAIT}{labels}[4s]))");
    let peak = |rate: &str| format!("max_over_time(histogram_quantile(0.99, {rate})[60s:1s])");
    let peaks = [classic.number(&peak(&by_bucket))?, native.number(&peak(&whole))?];
    for (form, p99) in ["classic", "native"].into_iter().zip(peaks) {
        checks.hold(
            &format!("p99 by the {form} histogram is {p99:?}, and the stall took 2 s"),
            p99.is_some_and(|p99| (1.0..8.0).contains(&p99)),
        );
    }
    // Of all waits both have to come to the same, as exactly as the buckets are wide.
    for quantile in ["0.5", "0.9", "0.99"] {
        let of = |what: &str| format!("histogram_quantile({quantile}, {what}{labels})");
        let ours = classic.number(&of(&format!("{WAIT}_bucket")))?.context("no quantile")?;
        let theirs = native.number(&of(WAIT))?.context("no native quantile")?;
        checks.hold(
            &format!("quantile {quantile}: classic {ours}, native {theirs}"),
            overlap(&text, ours, theirs),
        );
    }
    checks.end()?;
    let peaks = peaks.map(Option::unwrap_or_default);
    watch.tell(&format!(
        "{accepts} accepts; p99 in the stall: {:.2} s, by the native histogram {:.2} s",
        peaks[0], peaks[1]
    ));
    Ok(())
}

/// New connections all the time.
fn load(bench: &Bench, address: SocketAddr) -> Result<()> {
    let mut wrk = Command::new(promtool::program("TCPQ_WRK")?);
    wrk.args(["--threads", "1", "--connections", &CLIENTS.to_string(), "--duration", "8s"])
        .args(["--timeout", "20s", "--header", "Connection: close"])
        .arg(format!("http://{address}/"));
    let finished = bench.finish(wrk)?;
    ensure!(finished.code == Some(0), "wrk ended with {:?}: {}", finished.code, finished.stderr);
    println!("    {}", finished.stdout.lines().map(str::trim).collect::<Vec<_>>().join("; "));
    Ok(())
}

fn stop_and_go(netns: &Netns, daemon: &Daemon, server: &Server<'_>, to: SocketAddr) -> Result<()> {
    let figures = || Figures::of(&daemon.scrape()?, &netns.label(), to);
    wait::until_true("nginx is under load", PATIENCE, || {
        Ok(figures()?.accepts.is_some_and(|accepts| accepts >= BEFORE))
    })?;
    let stopped = Stopped::new(worker(server.pid())?)?;
    thread::sleep(STALL);
    let queued = figures()?.accept_queue_length;
    drop(stopped);
    ensure!(
        queued >= Some(CLIENTS / 2),
        "in the stall {queued:?} of {CLIENTS} clients were queued"
    );
    Ok(())
}

/// A process that is stopped until this is dropped.
pub(super) struct Stopped(i32);

impl Stopped {
    pub(super) fn new(pid: i32) -> Result<Self> {
        processes::signal(pid, libc::SIGSTOP).context("cannot stop a worker")?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Err(error) = processes::signal(self.0, libc::SIGCONT) {
            eprintln!("cannot let a worker go on: {error}");
        }
    }
}

/// The only child of nginx's first process.
pub(super) fn worker(master: u32) -> Result<i32> {
    let path = format!("/proc/{master}/task/{master}/children");
    let children = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    children.trim().parse().with_context(|| format!("nginx has the children {children:?}"))
}

/// A scraper of native histograms is told the same.
fn same_by_protobuf(
    netns: &Netns,
    daemon: &Daemon,
    to: SocketAddr,
    text: &Histogram,
    checks: &mut Checks,
) -> Result<()> {
    let scrape = protobuf::Scrape::of(daemon.address())?;
    let both = scrape.select(WAIT, &netns.label(), to).context("no waits by protobuf")?;
    checks.hold("by protobuf the classic histogram is another", both.classic == *text);
    let native = both.native.as_ref().context("no native histogram")?;
    checks.hold("the native histogram is another", native.agrees_with(text));
    Ok(())
}

/// Whether two estimates of one quantile can both be right: the true one is in the classic
/// bucket of the one, and in the native bucket of the other, which is a factor of the root
/// of 2 wide.
fn overlap(classic: &Histogram, ours: f64, theirs: f64) -> bool {
    let at = classic.buckets.partition_point(|bucket| bucket.bound < ours);
    let bound = |at: usize| classic.buckets.get(at).map_or(f64::INFINITY, |bucket| bucket.bound);
    let lower = at.checked_sub(1).map_or(0.0, bound);
    let width = std::f64::consts::SQRT_2;
    theirs * width >= lower && theirs / width <= bound(at)
}
