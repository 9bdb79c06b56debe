//! A server that accepts after a known delay: is each wait in its bucket? What the kernel
//! side says must lie between what the test's own clock read before and after.

use std::{
    hint,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use socket2::Socket;

use super::plan::ON_6_12;
use crate::{
    bench::{Bench, Case, Held, Target},
    daemon::{Backend, Daemon},
    histogram::{Histogram, Spans},
    ledger::{Checks, Reading},
    load,
    netns::Netns,
    protobuf,
    scale::Stopwatch,
    sockets::{self, Family, Listener},
};

/// How long each connection of a listener waited, until accept() returned it.
pub(super) const WAIT: &str = "tcpq_accept_wait_seconds";

pub(super) const CASES: &[Case] = &[
    Case::new(
        "accept_wait_known_delays",
        both_probes,
        Held::NotOn(&[Target::Host], "the tracepoint backend has no wait: accept_wait_absent"),
    ),
    Case::new(
        "accept_wait_absent",
        |bench| absent(&*bench.daemon()?),
        Held::Only(&[Target::Host], "here there is a wait"),
    ),
    Case::new(
        "accept_wait_absent_tracepoint",
        |bench| absent(&bench.daemon_with(Backend::Tracepoint)?),
        ON_6_12,
    ),
];

/// A server: so long do its clients wait, so many at once, so many times.
struct Plan {
    delay: Duration,
    batch: usize,
    batches: usize,
}

/// 1,000 connections. The long delays come first, and pass while the others are played.
const PLANS: [Plan; 6] = [
    plan(5_000_000, 100, 1),
    plan(1_000_000, 100, 1),
    plan(100_000, 100, 2),
    plan(10_000, 20, 10),
    plan(1_000, 1, 200),
    plan(100, 1, 200),
];

const fn plan(delay_us: u64, batch: usize, batches: usize) -> Plan {
    Plan { delay: Duration::from_micros(delay_us), batch, batches }
}

/// What the daemons are asked of: a listener, its truth.
struct Played {
    delay: Duration,
    listener: SocketAddr,
    waits: Spans,
}

fn both_probes(bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    let netns = Netns::new()?;
    let daemons =
        [("auto", bench.daemon()?), ("kprobe", Arc::new(bench.daemon_with(Backend::Kprobe)?))];
    let servers = PLANS.iter().map(|plan| Server::new(&netns, plan)).collect::<Result<Vec<_>>>()?;
    let starts = daemons.iter().map(|(_, daemon)| Reading::take(&netns, daemon));
    let starts = starts.collect::<Result<Vec<_>>>()?;

    let played = netns.run(|| play(servers))?;

    let mut checks = Checks::default();
    let mut told = Vec::new();
    for ((name, daemon), start) in daemons.iter().zip(&starts) {
        let end = Reading::take(&netns, daemon)?;
        end.agrees_since(start)?;
        let forced = compare(name, &netns, &end, &played, &mut checks)?;
        let forced: Vec<_> =
            forced.into_iter().map(|(delay, n)| format!("{n} of {delay:?}")).collect();
        native(name, &netns, daemon, &played, &mut checks)?;
        told.push(format!("{name}: {}", forced.join(" ")));
    }
    let mut all = Spans::default();
    for server in &played {
        all.extend(&server.waits);
    }
    let (least, most) = all.sum();
    ensure!(all.count() == 1_000, "the fixture made {} waits", all.count());
    // Else a sum that is 5 % off would go through.
    ensure!(most.as_secs_f64() < least.as_secs_f64() * 1.05, "too slow: {least:?} to {most:?}");
    checks.end()?;
    watch.tell(&format!(
        "1000 waits of {:.2} s to {:.2} s in sum; in the only bucket they can be in, {}",
        least.as_secs_f64(),
        most.as_secs_f64(),
        told.join(", ")
    ));
    Ok(())
}

/// One daemon's word against the truth; of each delay, how many waits could be in one bucket
/// only.
fn compare(
    name: &str,
    netns: &Netns,
    end: &Reading,
    played: &[Played],
    checks: &mut Checks,
) -> Result<Vec<(Duration, usize)>> {
    let mut forced = Vec::new();
    for Played { delay, listener, waits } in played {
        let what = format!("{name}, {delay:?}");
        let histogram = Histogram::of(&end.metrics, WAIT, &netns.label(), *listener)?;
        waits.hold(&what, histogram.as_ref(), checks);
        let figures = end.figures(*listener)?;
        checks.equal(&format!("{what}: accepts"), figures.accepts, waits.count());
        forced.push((*delay, histogram.map_or(0, |histogram| waits.forced(&histogram))));
    }
    Ok(forced)
}

/// A scraper that asks for protobuf gets the same once more, and in finer buckets.
fn native(
    name: &str,
    netns: &Netns,
    daemon: &Daemon,
    played: &[Played],
    checks: &mut Checks,
) -> Result<()> {
    let scrape = protobuf::Scrape::of(daemon.address())?;
    let text = daemon.scrape()?;
    for Played { delay, listener, waits } in played {
        let what = format!("{name}, {delay:?}, by protobuf");
        let both = scrape.select(WAIT, &netns.label(), *listener);
        let both = both.with_context(|| format!("{what}: no histogram"))?;
        let classic = Histogram::of(&text, WAIT, &netns.label(), *listener)?;
        checks
            .hold(&format!("{what}: not as in the text"), classic.as_ref() == Some(&both.classic));
        waits.hold(&what, both.native.as_ref(), checks);
        let agrees = both.native.as_ref().is_some_and(|native| native.agrees_with(&both.classic));
        checks.hold(&format!("{what}: classic and native disagree: {both:?}"), agrees);
    }
    Ok(())
}

/// Without a place where a connection is seen as it is accepted, there is no wait to tell.
fn absent(daemon: &Daemon) -> Result<()> {
    const FAMILIES: [&str; 4] = [
        WAIT,
        "tcpq_accept_queue_abandoned_wait_seconds",
        "tcpq_handshake_seconds",
        "tcpq_syn_queue_fill_ratio",
    ];
    let netns = Netns::new()?;
    let listener = Listener::open(&netns, Family::V4.loopback(), 8)?;
    let start = Reading::take(&netns, daemon)?;
    let clients = load::Clients::connect(&netns, listener.address(), 5)?;
    listener.accept_at_most(4)?;
    let to = listener.address();
    drop(listener);
    clients.reset()?;
    let end = Reading::take(&netns, daemon)?;
    end.agrees_since(&start)?;
    let mut checks = Checks::default();
    for family in FAMILIES {
        let histogram = Histogram::of(&end.metrics, family, &netns.label(), to)?;
        checks.hold(&format!("{family} is there: {histogram:?}"), histogram.is_none());
    }
    checks.end()
}

fn play(mut servers: Vec<Server>) -> Result<Vec<Played>> {
    let (long, short) = servers.split_at_mut(2);
    long.iter_mut().try_for_each(Server::fill)?;
    for server in short {
        for _ in 0..server.plan.batches {
            server.fill()?;
            server.serve()?;
        }
    }
    long.iter_mut().rev().try_for_each(Server::serve)?;
    let played = |server: Server| Played {
        delay: server.plan.delay,
        listener: server.listener.address(),
        waits: server.waits,
    };
    Ok(servers.into_iter().map(played).collect())
}

/// A client in the queue: it entered between these two moments.
struct Queued {
    _client: Socket,
    earliest: Instant,
    latest: Instant,
}

struct Server {
    plan: &'static Plan,
    listener: Listener,
    queue: Vec<Queued>,
    waits: Spans,
}

impl Server {
    fn new(netns: &Netns, plan: &'static Plan) -> Result<Self> {
        let listener = Listener::open(netns, Family::V4.loopback(), i32::try_from(plan.batch)?)?;
        Ok(Self { plan, listener, queue: Vec::new(), waits: Spans::default() })
    }

    /// Lets a batch of clients come, one after the other.
    fn fill(&mut self) -> Result<()> {
        for number in 1..=self.plan.batch as u64 {
            let earliest = Instant::now();
            let client = load::connect(self.listener.address())?;
            // The final ACK may be left to `ksoftirqd`.
            while self.listener.accept_queue()?.length != number {
                ensure!(earliest.elapsed() < Duration::from_secs(20), "a client is not queued");
                thread::yield_now();
            }
            self.queue.push(Queued { _client: client, earliest, latest: Instant::now() });
        }
        Ok(())
    }

    /// Accepts all of them, when the last one has waited long enough. The queue is first
    /// in, first out.
    fn serve(&mut self) -> Result<()> {
        let last = self.queue.last().context("nobody waits")?.latest;
        rest(last + self.plan.delay + ABOVE);
        for queued in self.queue.drain(..) {
            let before = Instant::now();
            let connection = self.listener.accept()?.context("nobody waits")?;
            self.waits.add(before - queued.latest, queued.earliest.elapsed());
            // By RST, while its client is still there.
            sockets::end(&connection)?;
        }
        Ok(())
    }
}

/// The delays are bounds of buckets themselves: a wait is to be above its own for sure.
const ABOVE: Duration = Duration::from_micros(5);

/// A sleep is exact to some 50 us, and an emulated one less.
fn rest(until: Instant) {
    const EXACT: Duration = Duration::from_millis(5);
    thread::sleep(until.saturating_duration_since(Instant::now() + EXACT));
    while Instant::now() < until {
        hint::spin_loop();
    }
}
