//! What a scrape of many listeners takes, beside `ss` in each of their namespaces.

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Options,
    listeners::{Listeners, ensure_idle, roomy_daemon},
    note, processor, say_of,
};
use crate::{daemon::Daemon, http, netns::Netns, scratch::Scratch};

/// Listeners, and namespaces that they are in.
const SIZES: [(u16, u16); 6] =
    [(100, 1), (100, 100), (1_000, 1), (1_000, 100), (10_000, 1), (10_000, 100)];

struct Settings {
    rounds: u32,
    /// In each round.
    scrapes: u32,
    /// The largest size.
    most: u16,
}

pub(super) fn run(options: &mut Options) -> Result<()> {
    let settings = Settings {
        rounds: options.take("rounds", 5)?,
        scrapes: options.take("scrapes", 40)?,
        most: options.take("most", 10_000)?,
    };
    options.end()?;
    note("each listener has served one connection, so that it has all series of this kernel");
    for (listeners, namespaces) in SIZES.into_iter().filter(|(size, _)| *size <= settings.most) {
        let scratch = Scratch::new()?;
        let daemon = roomy_daemon(&scratch)?;
        ensure_idle(&daemon)?;
        let opened = Listeners::open(listeners, namespaces)?;
        opened.are_shown_by(&daemon)?;
        opened.serve_each_once()?;
        let item = format!("{listeners} in {namespaces}");
        for round in 1..=settings.rounds {
            println!("{item}: round {round} of {}", settings.rounds);
            scrapes(&daemon, &item, round, settings.scrapes)?;
            sweep(&opened.namespaces, &item, round, listeners)?;
        }
        busy(&daemon, &item, settings.scrapes)?;
    }
    Ok(())
}

fn scrapes(daemon: &Daemon, item: &str, round: u32, count: u32) -> Result<()> {
    let mut bytes = 0.0;
    let mut times = Vec::new();
    let used = processor::time(daemon.pid())?;
    for _ in 0..count {
        let (took, length) = scrape(daemon)?;
        times.push(took);
        bytes = length;
        thread::sleep(Duration::from_millis(20));
    }
    let used = processor::time(daemon.pid())?.saturating_sub(used);
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get((times.len() - 1) * part / 100).copied().unwrap_or(f64::NAN);
    for (number, time) in times.iter().enumerate() {
        say_of("tcpq", "ms", item, round * count + u32::try_from(number)?, *time);
    }
    say_of("tcpq", "bytes", item, round, bytes);
    say_of("tcpq", "ms_p50", item, round, at(50));
    say_of("tcpq", "cpu_ms", item, round, used.as_secs_f64() * 1e3 / f64::from(count));
    Ok(())
}

/// Milliseconds, and bytes.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn scrape(daemon: &Daemon) -> Result<(f64, f64)> {
    let start = Instant::now();
    let text = http::get_ok(daemon.address(), "/metrics", "text/plain")?;
    Ok((start.elapsed().as_secs_f64() * 1e3, text.len() as f64))
}

/// The same listeners, as who has no daemon reads them: in each namespace, one after the other.
fn sweep(namespaces: &[Netns], item: &str, round: u32, listeners: u16) -> Result<()> {
    let start = Instant::now();
    let mut lines = 0;
    for netns in namespaces {
        let output = netns.run(|| {
            let mut ss = Command::new("ss");
            ss.args(["-H", "-ltnm"]).stdin(Stdio::null());
            ss.output().context("cannot run ss")
        })?;
        ensure!(output.status.success(), "ss: {output:?}");
        lines += output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|it| it.starts_with(b"LISTEN"))
            .count();
    }
    let took = start.elapsed();
    ensure!(lines == usize::from(listeners), "ss shows {lines} of {listeners}");
    say_of("ss in each namespace", "ms_p50", item, round, took.as_secs_f64() * 1e3);
    Ok(())
}

/// While every processor has two others to run.
fn busy(daemon: &Daemon, item: &str, count: u32) -> Result<()> {
    let over = AtomicBool::new(false);
    let burners = thread::available_parallelism().map_or(2, std::num::NonZero::get) * 2;
    let longest = thread::scope(|scope| {
        for _ in 0..burners {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let times = (0..count).map(|_| {
            let (took, _) = scrape(daemon)?;
            thread::sleep(Duration::from_millis(20));
            Ok(took)
        });
        let times = times.collect::<Result<Vec<_>>>();
        over.store(true, Ordering::Relaxed);
        Ok::<_, anyhow::Error>(times?.into_iter().fold(0.0, f64::max))
    })?;
    say_of("tcpq", "busy_ms_max", item, 1, longest);
    Ok(())
}
