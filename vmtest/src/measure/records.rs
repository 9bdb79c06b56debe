//! How many records a second the daemon reads from its ring, and whether each one that was
//! made is accounted for: read, or counted as lost.
//!
//! A client's final ACK that is refused because the accept queue is full makes one record, on
//! every backend, and one `ListenOverflows` of the kernel. Its request stays, so that the same
//! ACK can be sent again, as often as one likes.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Options, processor, say_of};
use crate::{
    beside,
    daemon::{self, Daemon, Launch},
    exposition::Metrics,
    flood::Flood,
    kernel_counters::KernelCounters,
    load,
    netns::Netns,
    raw::Wire,
    scratch::Scratch,
    sockets::{Family, Listener},
    wait,
};

const READ_WITHIN: Duration = Duration::from_secs(30);

/// At most, so that no request is given up before (after a minute).
const LONGEST: Duration = Duration::from_secs(20);

/// One does not make enough.
const SENDERS: u8 = 2;

/// ACKs between two looks at the clock.
const BURST: usize = 128;

struct Settings {
    rounds: u32,
    seconds: u32,
    /// What is wanted of a second.
    rate: u32,
}

pub(super) fn run(options: &mut Options) -> Result<()> {
    let settings = Settings {
        rounds: options.take("rounds", 10)?,
        seconds: options.take("seconds", 3)?,
        rate: options.take("rate", 205_000)?,
    };
    options.end()?;
    let scratch = Scratch::new()?;
    // No listener is to be held back.
    let daemon =
        Launch::new(&daemon::binary()?, &scratch)?.setting("--records.rate", 1_000_000).start()?;
    for round in 1..=settings.rounds {
        println!("round {round} of {}", settings.rounds);
        let at = format!("{} a second offered", settings.rate);
        measure(&daemon, &at, round, &settings, Some(settings.rate))?;
        measure(&daemon, "as fast as two can", round, &settings, None)?;
    }
    Ok(())
}

fn measure(
    daemon: &Daemon,
    item: &str,
    round: u32,
    settings: &Settings,
    rate: Option<u32>,
) -> Result<()> {
    let netns = Netns::new()?;
    let listener = Listener::open(&netns, Family::V4.loopback(), 0)?;
    let SocketAddr::V4(to) = listener.address() else { bail!("a listener without IPv4") };
    let ack = request(&netns, &listener)?;
    let source = Flood::new(&netns, to)?;
    let waiting = load::fill(&netns, &listener, listener.address())?;

    let records = Records::of(&daemon.scrape()?)?;
    let before = KernelCounters::read(&netns)?;
    let used = processor::time(daemon.pid())?;
    let start = Instant::now();
    let whole = Duration::from_secs(settings.seconds.into()).min(LONGEST);
    let sent = AtomicU64::new(0);
    beside::on_threads(SENDERS.into(), |_| {
        let share = rate.map(|rate| f64::from(rate) / f64::from(SENDERS));
        sent.fetch_add(send(&source, &ack, whole, share)?, Ordering::Relaxed);
        Ok(())
    })?;
    let took = start.elapsed().as_secs_f64();
    let used = processor::time(daemon.pid())?.saturating_sub(used);
    let made = KernelCounters::read(&netns)?.since(before).listen_overflows;
    let sent = sent.into_inner();
    ensure!(made > 0 && made <= sent, "{sent} ACKs made {made} overflows");

    let mut last = None;
    let since = wait::until("each record is accounted for", READ_WITHIN, || {
        let since = Records::of(&daemon.scrape()?)?.since(&records);
        last = Some(since);
        Ok((since.all() >= made).then_some(since))
    });
    let since = since.with_context(|| format!("{made} were made; {last:?}"))?;
    say_of("tcpq", "records_made_per_second", item, round, count(made) / took);
    say_of("tcpq", "records_read_per_second", item, round, count(since.read) / took);
    say_of("tcpq", "records_made", item, round, count(made));
    say_of("tcpq", "records_read", item, round, count(since.read));
    say_of("tcpq", "records_lost", item, round, count(since.lost));
    say_of("tcpq", "records_suppressed", item, round, count(since.suppressed));
    say_of("tcpq", "records_unaccounted", item, round, count(made) - count(since.all()));
    // What its one second's work is, is in it, too.
    say_of(
        "tcpq",
        "daemon_ns_per_record",
        item,
        round,
        used.as_secs_f64() * 1e9 / count(since.read),
    );
    drop(waiting);
    Ok(())
}

/// Has a listener wait for a client's final ACK, which is returned.
fn request(netns: &Netns, listener: &Listener) -> Result<Vec<u8>> {
    let wire = Wire::new(netns)?;
    let mut client = wire.peer(listener.address());
    client.syn()?;
    client.answered()?;
    Ok(client.ack_packet())
}

/// Sends the same ACK, at most at a rate; how often it did.
fn send(source: &Flood, ack: &[u8], whole: Duration, rate: Option<f64>) -> Result<u64> {
    let mut sent = 0;
    let start = Instant::now();
    loop {
        let now = start.elapsed();
        if now >= whole {
            return Ok(sent);
        }
        if rate.is_some_and(|rate| count(sent) > now.as_secs_f64() * rate) {
            thread::yield_now();
            continue;
        }
        source.repeat(ack, BURST)?;
        sent += BURST as u64;
    }
}

/// What became of records of refused ACKs, on the whole machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Records {
    read: u64,
    lost: u64,
    suppressed: u64,
}

impl Records {
    fn of(metrics: &Metrics) -> Result<Self> {
        let sum = |name: &str, labels: &[(&str, &str)]| {
            metrics.sum(name, labels)?.with_context(|| format!("{name} {labels:?} is absent"))
        };
        Ok(Self {
            read: sum("tcpq_events_total", &[("kind", "overflow_ack")])?,
            lost: sum("tcpq_events_lost_total", &[("where", "ring_full")])?,
            suppressed: sum("tcpq_events_suppressed_total", &[])?,
        })
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            read: self.read - earlier.read,
            lost: self.lost - earlier.lost,
            suppressed: self.suppressed - earlier.suppressed,
        }
    }

    fn all(&self) -> u64 {
        self.read + self.lost + self.suppressed
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}
