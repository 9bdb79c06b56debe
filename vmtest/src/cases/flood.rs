//! A SYN flood of clients that do not exist, on one listener, while others of the
//! machine are used as ever: nothing is miscounted, and the flood costs the others
//! none of their records.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, SocketAddrV4},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    bench::{Bench, Case, Held, Target},
    beside::{self, Work},
    daemon::Daemon,
    exposition::Metrics,
    flood::{self, Flood},
    ledger::{Checks, Reading},
    load::{self, AckStage, Clients},
    netns::Netns,
    scale::{Scale, Stopwatch},
    sockets::{Family, Listener},
    wait,
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("flood_beside_normal_use", beside_normal_use)
        .in_part_on(&[Target::Host, Target::V6_12]),
    Case::new(
        "flood_fills_the_ring",
        fills_the_ring,
        Held::NotOn(
            &[Target::Host],
            "no hook there sees a refused SYN, so that a flood sends no records at all",
        ),
    )
    .in_part_on(&[Target::V6_1]),
];

/// SYNs, each from another address.
const SYNS: usize = 1_000_000;

/// Clients whose final ACKs are refused while the flood goes on, and how often each
/// tries. Together they stay below what one listener may send at once.
const REFUSED_CLIENTS: usize = 10;
const REFUSED_ROUNDS: u64 = 3;

/// More records than the ring has room for: 1 MiB, and a record has 96 bytes.
const RING_FILLING: usize = 30_000;

/// Until every record sent has been read.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// Half of the flood meets an empty accept queue: the SYN queue fills, and the rest
/// is answered with cookies. The other half meets a full accept queue.
fn beside_normal_use(bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    let netns = Netns::new()?;
    // Its own: the totals of records are of the whole machine.
    let daemon = bench.fresh_daemon()?;
    let flooded = Listener::open(&netns, Family::V4.loopback(), 16)?;
    let used = Listener::open(&netns, Family::V4.loopback(), 64)?;
    let refusing = Listener::open(&netns, Family::V4.loopback(), 64)?;
    let mut source = Flood::new(&netns, v4(flooded.address())?)?;
    let half = Scale::from_env().tenth(SYNS) / 2;
    let start = Reading::take(&netns, &daemon)?;
    let records_before = Records::of(&start.metrics)?;

    let served = AtomicU64::new(0);
    let (empty, full) = beside::beside(vec![use_normally(&netns, &used, &served)], || {
        source.send(half)?;
        let empty = Reading::take(&netns, &daemon)?;
        let _queued = load::fill(&netns, &flooded, flooded.address())?;
        beside::beside(vec![refuse_acks(&netns, &refusing)], || source.send(half))?;
        Ok((empty, Reading::take(&netns, &daemon)?))
    })?;
    let end = Reading::take(&netns, &daemon)?;

    let kernel = end.agrees_since(&start)?;
    // On this very socket the kernel counts a refused SYN, and nothing else that came.
    let refused_syns = flooded.socket_drops()?;
    let refused_acks = kernel.listen_overflows - refused_syns;
    let cookies = empty.kernel.since(start.kernel).cookies_sent;
    let most = u64::try_from(half)?;
    ensure!(cookies > most / 2, "the fixture made only {cookies} cookies");
    ensure!(refused_syns > most / 2, "the fixture made only {refused_syns} overflows");
    let at_least = u64::try_from(REFUSED_CLIENTS)? * REFUSED_ROUNDS;
    ensure!(refused_acks >= at_least, "the fixture made only {refused_acks} at stage ack");
    let served = served.into_inner();
    ensure!(served > 0, "nothing was served beside the flood");

    let mut checks = Checks::default();
    let figures = end.figures(flooded.address())?;
    checks.equal("flooded: overflows at stage syn", figures.overflows_syn, refused_syns);
    checks.nothing("flooded: overflows at stage ack", figures.overflows_ack);
    checks.nothing("flooded: overflows at stage cookie", figures.overflows_cookie);
    checks.equal("flooded: enqueued", figures.enqueued, 17);
    if let Some(received) = figures.syns_received {
        // One of 17 real clients may have sent another SYN, when the machine was busy.
        let lost = flood::refused_by_loopback(&netns)?;
        let sent = 2 * most + 17;
        checks.hold(
            &format!("flooded: {received} SYNs received of {sent} sent and {lost} lost"),
            (sent - lost..=sent + 17).contains(&received) && (lost > 0 || received == sent),
        );
    }
    let group = flooded.address();
    match sum_of_group(&end.metrics, "tcpq_syn_cookies_sent_total", &netns, group)? {
        Some(ours) => checks.equal("flooded: cookies sent", ours, end.kernel.cookies_sent),
        None => checks.hold("cookies sent: absent", cookies_may_be_absent(bench.target())),
    }
    let figures = end.figures(used.address())?;
    checks.equal("used: accepts", figures.accepts, served);
    checks.equal("used: enqueued", figures.enqueued, served);
    checks.nothing("used: overflows", Some(figures.overflows()));
    let figures = end.figures(refusing.address())?;
    checks.equal("refusing: overflows at stage ack", figures.overflows_ack, refused_acks);
    checks.nothing("refusing: overflows at stage syn", figures.overflows_syn);
    checks.end()?;

    // Only the quiet listener sends this kind. Each of its records has come.
    let records = Records::all_read(&daemon, &records_before, |since| {
        since.read("overflow_ack") == refused_acks && since.overflow_syn_accounted(refused_syns)
    });
    let since = records.with_context(|| {
        format!("{refused_acks} overflows at stage ack, {refused_syns} at stage syn")
    })?;
    drop(full);
    watch.tell(&format!(
        "{} SYNs: {cookies} cookies, {refused_syns} overflows; records: {} read, {} suppressed, \
         {} lost; quiet listeners: {served} served, {refused_acks} refused ACKs all on record",
        2 * half,
        since.read("overflow_syn"),
        since.suppressed,
        since.ring_full,
    ));
    Ok(())
}

/// A daemon that does not read its ring, because it is stopped, and a listener that
/// may send as many records as it likes: what the ring refuses is counted, and no
/// total suffers.
fn fills_the_ring(bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    let netns = Netns::new()?;
    let daemon = bench.launch()?.setting("--records.rate", 1_000_000).start()?;
    let listener = Listener::open(&netns, Family::V4.loopback(), 4)?;
    let _queued = load::fill(&netns, &listener, listener.address())?;
    let mut source = Flood::new(&netns, v4(listener.address())?)?;
    let start = Reading::take(&netns, &daemon)?;
    let records_before = Records::of(&start.metrics)?;

    daemon.signal(libc::SIGSTOP)?;
    let flooded = source.send(RING_FILLING);
    daemon.signal(libc::SIGCONT)?;
    flooded?;

    let end = Reading::take(&netns, &daemon)?;
    let kernel = end.agrees_since(&start)?;
    let overflows = kernel.listen_overflows;
    let mut checks = Checks::default();
    let figures = end.figures(listener.address())?;
    checks.equal("overflows at stage syn", figures.overflows_syn, overflows);
    checks.end()?;
    let since = Records::all_read(&daemon, &records_before, |since| {
        since.overflow_syn_accounted(overflows)
    })
    .with_context(|| format!("{overflows} overflows at stage syn"))?;
    ensure!(since.ring_full > 0, "the fixture did not fill the ring: {since:?}");
    watch.tell(&format!(
        "{overflows} overflows: {} records read, {} suppressed, {} lost",
        since.read("overflow_syn"),
        since.suppressed,
        since.ring_full
    ));
    Ok(())
}

/// What became of records, on the whole machine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Records {
    read: BTreeMap<String, u64>,
    suppressed: u64,
    ring_full: u64,
}

impl Records {
    fn of(metrics: &Metrics) -> Result<Self> {
        let sum = |name: &str, labels: &[(&str, &str)]| {
            metrics.sum(name, labels)?.with_context(|| format!("{name} {labels:?} is absent"))
        };
        let mut read = BTreeMap::new();
        for sample in metrics.select("tcpq_events_total", &[]) {
            let kind = sample.labels.get("kind").context("an event without its kind")?;
            read.insert(kind.clone(), sample.count()?);
        }
        Ok(Self {
            read,
            suppressed: sum("tcpq_events_suppressed_total", &[])?,
            ring_full: sum("tcpq_events_lost_total", &[("where", "ring_full")])?,
        })
    }

    fn since(&self, earlier: &Self) -> Self {
        let before = |kind: &str| earlier.read(kind);
        Self {
            read: self
                .read
                .iter()
                .map(|(kind, count)| (kind.clone(), count - before(kind)))
                .collect(),
            suppressed: self.suppressed - earlier.suppressed,
            ring_full: self.ring_full - earlier.ring_full,
        }
    }

    /// Those that came, of one kind.
    fn read(&self, kind: &str) -> u64 {
        self.read.get(kind).copied().unwrap_or(0)
    }

    /// Each overflow was sent, suppressed or lost; or, where no hook sees a refused
    /// SYN, no word was said of any.
    fn overflow_syn_accounted(&self, overflows: u64) -> bool {
        let accounted = self.read("overflow_syn") + self.suppressed + self.ring_full;
        accounted == overflows || (accounted == 0 && Target::from_env().is_ok_and(blind_to_syns))
    }

    /// Waits until the records since `before` are as they must be.
    fn all_read(
        daemon: &Daemon,
        before: &Self,
        as_it_must_be: impl Fn(&Self) -> bool,
    ) -> Result<Self> {
        let mut last = None;
        let found = wait::until("every record has been read", READ_WITHIN, || {
            let since = Self::of(&daemon.scrape()?)?.since(before);
            let right = as_it_must_be(&since);
            last = Some(since.clone());
            Ok(right.then_some(since))
        });
        found.with_context(|| format!("records since then: {last:?}"))
    }
}

/// Where refused SYNs are a count without events.
fn blind_to_syns(target: Target) -> bool {
    target == Target::Host
}

/// Where the plan says that cookies are absent.
fn cookies_may_be_absent(target: Target) -> bool {
    target == Target::Host
}

/// Clients that are served one after the other, until it is over.
fn use_normally<'a>(netns: &'a Netns, used: &'a Listener, served: &'a AtomicU64) -> Work<'a> {
    Box::new(move |over| {
        while !over.is_so() {
            let client = Clients::connect(netns, used.address(), 1)?;
            wait::until_true("a client is accepted", Duration::from_secs(30), || {
                Ok(used.accept_at_most(1)? == 1)
            })?;
            client.reset()?;
            served.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })
}

/// Some clients' final ACKs are refused, a few times.
fn refuse_acks<'a>(netns: &'a Netns, refusing: &'a Listener) -> Work<'a> {
    Box::new(move |_| {
        let to = refusing.address();
        let mut stage = AckStage::connect_some(netns, refusing, to, REFUSED_CLIENTS + 1)?;
        // One takes the only place; each of the others is refused each time.
        for _ in 0..REFUSED_ROUNDS {
            stage.overflow(netns, refusing, 1)?;
        }
        stage.end()
    })
}

fn sum_of_group(
    metrics: &Metrics,
    name: &str,
    netns: &Netns,
    group: SocketAddr,
) -> Result<Option<u64>> {
    let (netns, address, port) = (netns.label(), group.ip().to_string(), group.port().to_string());
    metrics.sum(name, &[("netns", &netns), ("address", &address), ("port", &port)])
}

fn v4(address: SocketAddr) -> Result<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => bail!("{address} is no IPv4 address"),
    }
}
