//! What a flood of SYNs costs: how many the kernel handles when they come as fast as it takes
//! them, and how busy it is at a rate that it can bear.
//!
//! Each SYN is of another client, which does not exist. There are two kinds of listener: one
//! whose SYN queue is full, which answers with cookies, and one whose accept queue is full,
//! which refuses.

use std::{
    fs,
    net::SocketAddr,
    process, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Options,
    hooks::{self, Empty, Hooked},
    say_of,
    statistics::{Counting, runs, say_programs},
};
use crate::{
    daemon::{self, Backend, Daemon, Launch},
    flood::{self, Flood},
    kernel_counters::KernelCounters,
    load::{self, Clients},
    netns::Netns,
    scratch::Scratch,
    sockets::{Family, Listener},
};

const SETTLE: Duration = Duration::from_secs(2);

/// Enough to fill the SYN queue.
const WARM_UP: u32 = 2000;
const BACKLOG: i32 = 16;

/// Between two bursts of the bearable flood. No multiple of a tick, of which `/proc/stat` is
/// made: else all ticks would hit the bursts, or none.
const PACE: Duration = Duration::from_micros(7300);

struct Settings {
    rounds: u32,
    /// Sent as fast as it goes.
    syns: u32,
    /// A second, for so many seconds.
    rate: u32,
    seconds: u32,
}

pub(super) fn run(options: &mut Options) -> Result<()> {
    let settings = Settings {
        rounds: options.take("rounds", 5)?,
        syns: options.take("syns", 30_000)?,
        rate: options.take("rate", 50_000)?,
        seconds: options.take("seconds", 1)?,
    };
    options.end()?;
    let scratch = Scratch::new()?;
    let mut cases = vec![("nothing", What::Nothing)];
    for (backend, floor, tcpq) in BACKENDS {
        let hooks = hooks::of_process(launch(backend, &scratch)?.pid())?;
        cases.extend([(floor, What::Floor(hooks)), (tcpq, What::Tcpq(backend))]);
    }
    for round in 1..=settings.rounds {
        println!("round {round} of {}", settings.rounds);
        for (name, what) in &cases {
            // What was in place before is gone by then.
            thread::sleep(SETTLE);
            let in_place = what.put_in_place(&scratch)?;
            for queue in [Full::Syn, Full::Accept] {
                measure(name, &in_place, queue, round, &settings)
                    .with_context(|| format!("{name}, {}\n{}", queue.name(), scratch.logs()))?;
            }
            drop(in_place);
        }
        cases.reverse();
    }
    Ok(())
}

/// And what the floor and tcpq are called by them.
const BACKENDS: [(Backend, &str, &str); 2] = [
    (Backend::Auto, "floor", "tcpq"),
    (Backend::Kprobe, "floor --backend kprobe", "tcpq --backend kprobe"),
];

fn launch(backend: Backend, scratch: &Scratch) -> Result<Daemon> {
    Launch::new(&daemon::binary()?, scratch)?.backend(backend).start()
}

enum What {
    Nothing,
    Floor(Vec<Hooked>),
    Tcpq(Backend),
}

/// Until dropped.
enum InPlace {
    Nothing,
    Floor(#[expect(dead_code, reason = "detached when dropped")] Empty),
    Tcpq(Daemon),
}

impl InPlace {
    fn pids(&self) -> Vec<u32> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Floor(_) => vec![process::id()],
            Self::Tcpq(daemon) => vec![daemon.pid()],
        }
    }
}

impl What {
    fn put_in_place(&self, scratch: &Scratch) -> Result<InPlace> {
        Ok(match self {
            Self::Nothing => InPlace::Nothing,
            Self::Floor(hooks) => InPlace::Floor(Empty::attach(hooks)?),
            Self::Tcpq(backend) => InPlace::Tcpq(launch(*backend, scratch)?),
        })
    }
}

/// Which queue of the flooded listener is full.
#[derive(Clone, Copy)]
enum Full {
    Syn,
    Accept,
}

impl Full {
    const fn name(self) -> &'static str {
        match self {
            Self::Syn => "answered with cookies",
            Self::Accept => "refused, accept queue full",
        }
    }

    /// Puts a listener into this state; who waits in its queue must not be dropped.
    fn fill(self, netns: &Netns, listener: &Listener) -> Result<Option<Clients>> {
        match self {
            // The flood itself does.
            Self::Syn => Ok(None),
            Self::Accept => load::fill(netns, listener, listener.address()).map(Some),
        }
    }
}

fn measure(
    case: &str,
    in_place: &InPlace,
    queue: Full,
    round: u32,
    settings: &Settings,
) -> Result<()> {
    let netns = Netns::passing()?;
    let listener = Listener::open(&netns, Family::V4.loopback(), BACKLOG)?;
    let SocketAddr::V4(to) = listener.address() else { bail!("a listener without IPv4") };
    let mut source = Flood::new(&netns, to)?;
    let waiting = queue.fill(&netns, &listener)?;
    source.send(usize::try_from(WARM_UP)?)?;
    thread::sleep(SETTLE);

    let before = KernelCounters::read(&netns)?;
    let start = Instant::now();
    source.send(usize::try_from(settings.syns)?)?;
    let took = start.elapsed();
    is_handled(&netns, before, settings.syns)?;
    let rate = f64::from(settings.syns) / took.as_secs_f64();
    say_of(case, "syns_per_second", queue.name(), round, rate);

    let counting = Counting::begin()?;
    let before = runs(&in_place.pids())?;
    source.send(usize::try_from(settings.syns)?)?;
    let after = runs(&in_place.pids())?;
    drop(counting);
    say_programs(case, queue.name(), round, settings.syns, &before, &after);

    thread::sleep(SETTLE);
    let (before, busy) = (KernelCounters::read(&netns)?, Busy::now()?);
    let (sent, took) = at_rate(&mut source, settings)?;
    let busy = Busy::now()?.since(&busy);
    is_handled(&netns, before, sent)?;
    let rate = f64::from(sent) / took.as_secs_f64();
    say_of(case, "bearable_syns_per_second", queue.name(), round, rate);
    say_of(case, "softirq_percent", queue.name(), round, busy.softirq_percent());
    say_of(case, "busy_percent", queue.name(), round, busy.percent());
    drop(waiting);
    Ok(())
}

/// All that were sent were answered with a cookie or refused; a SYN that loopback lost, or
/// that a queue took, would have cost another time.
fn is_handled(netns: &Netns, before: KernelCounters, sent: u32) -> Result<()> {
    let since = KernelCounters::read(netns)?.since(before);
    let handled = since.cookies_sent + since.listen_drops;
    let lost = flood::refused_by_loopback(netns)?;
    // A request of the SYN queue may have ended meanwhile, and its place was free.
    let few = u64::from(sent) / 100;
    ensure!(
        handled.abs_diff(sent.into()) <= few && lost == 0,
        "of {sent} SYNs {handled} were handled, and loopback lost {lost}"
    );
    Ok(())
}

/// How many were sent, and in which time.
fn at_rate(source: &mut Flood, settings: &Settings) -> Result<(u32, Duration)> {
    let whole = Duration::from_secs(settings.seconds.into());
    let mut sent = 0;
    let start = Instant::now();
    loop {
        let now = start.elapsed();
        if now >= whole {
            return Ok((sent, now));
        }
        let due = now.as_secs_f64() * f64::from(settings.rate);
        while f64::from(sent) < due {
            source.send(1)?;
            sent += 1;
        }
        thread::sleep((now + PACE).saturating_sub(start.elapsed()));
    }
}

/// Ticks of all processors, by `/proc/stat`.
struct Busy {
    all: u64,
    idle: u64,
    softirq: u64,
}

impl Busy {
    fn now() -> Result<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?)
    }

    /// user, nice, system, idle, iowait, irq, softirq, steal; guests are in user, too.
    fn parse(text: &str) -> Result<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "));
        let ticks = line.context("/proc/stat has no line cpu")?.split_whitespace().take(8);
        let ticks: Vec<u64> = ticks
            .map(str::parse)
            .collect::<Result<_, _>>()
            .context("/proc/stat has other words")?;
        ensure!(ticks.len() == 8, "/proc/stat has {} columns", ticks.len());
        Ok(Self { all: ticks.iter().sum(), idle: ticks[3] + ticks[4], softirq: ticks[6] })
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            all: self.all - earlier.all,
            idle: self.idle - earlier.idle,
            softirq: self.softirq - earlier.softirq,
        }
    }

    fn percent(&self) -> f64 {
        self.part(self.all - self.idle)
    }

    fn softirq_percent(&self) -> f64 {
        self.part(self.softirq)
    }

    #[expect(clippy::cast_precision_loss, reason = "ticks of a second")]
    fn part(&self, ticks: u64) -> f64 {
        100.0 * ticks as f64 / self.all.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_not_idle() {
        let before = Busy::parse("cpu  0 0 0 100 0 0 0 0 0 0\ncpu0 1").unwrap();
        let after = Busy::parse("cpu  5 0 10 150 10 0 25 0 0 0\n").unwrap();
        let busy = after.since(&before);
        assert!((busy.percent() - 40.0).abs() < 1e-9);
        assert!((busy.softirq_percent() - 25.0).abs() < 1e-9);
        assert!(Busy::parse("cpu  0 0 0 100\n").is_err());
        assert!(Busy::parse("intr 5\n").is_err());
    }
}
