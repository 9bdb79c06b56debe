//! What the daemon takes for itself: memory, processor time when nothing happens, its start.

use std::{
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Options,
    listeners::{Listeners, ensure_idle, roomy_daemon},
    processor, say, say_of,
};
use crate::{
    daemon::{self, Launch},
    footprint, http,
    scratch::Scratch,
};

struct Settings {
    starts: u32,
    rounds: u32,
    /// That it is watched for while idle.
    seconds: u32,
}

/// It has settled: looks at who owns the listeners are over.
const SETTLED: Duration = Duration::from_secs(10);

/// A start that takes longer is none.
const READY_WITHIN: Duration = Duration::from_secs(30);

pub(super) fn run(options: &mut Options) -> Result<()> {
    let settings = Settings {
        starts: options.take("starts", 20)?,
        rounds: options.take("rounds", 3)?,
        seconds: options.take("seconds", 30)?,
    };
    options.end()?;
    for round in 1..=settings.starts {
        start(round)?;
    }
    for round in 1..=settings.rounds {
        println!("round {round} of {}", settings.rounds);
        for listeners in [0, 1_000, 10_000] {
            resident(listeners, round)?;
        }
        idle(round, settings.seconds)?;
    }
    Ok(())
}

/// From exec to the first answer that it is ready, its self-test included.
fn start(round: u32) -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = Launch::new(&daemon::binary()?, &scratch)?;
    let address = launch.address();
    let mut command = launch.command()?;
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let mut child = command.spawn().context("cannot start the daemon")?;
    let took = loop {
        if begun.elapsed() > READY_WITHIN {
            drop(child.kill());
            bail!("the daemon was not ready within {READY_WITHIN:?}");
        }
        if http::get(address, "/readyz", "*/*").is_ok_and(|answer| answer.status == 200) {
            break begun.elapsed();
        }
        if let Some(status) = child.try_wait().context("cannot wait")? {
            bail!("the daemon ended: {status}");
        }
        thread::sleep(Duration::from_millis(1));
    };
    say("tcpq", "start_ms", round, took.as_secs_f64() * 1e3);
    crate::processes::signal(i32::try_from(child.id())?, libc::SIGTERM)
        .context("cannot end the daemon")?;
    child.wait().context("cannot wait")?;
    Ok(())
}

/// After some scrapes.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn resident(listeners: u16, round: u32) -> Result<()> {
    let scratch = Scratch::new()?;
    // With room for more only where more is needed.
    let daemon = if listeners > 1_000 {
        roomy_daemon(&scratch)?
    } else {
        Launch::new(&daemon::binary()?, &scratch)?.start()?
    };
    ensure_idle(&daemon)?;
    let opened = match listeners {
        0 => None,
        _ => Some(Listeners::open(listeners, listeners.min(100))?),
    };
    if let Some(opened) = &opened {
        opened.are_shown_by(&daemon)?;
        opened.serve_each_once()?;
    }
    for _ in 0..5 {
        daemon.scrape()?;
        thread::sleep(Duration::from_secs(1));
    }
    thread::sleep(SETTLED);
    let mebibytes = footprint::resident_bytes(daemon.pid())? as f64 / f64::from(1 << 20);
    say_of("tcpq", "resident_mib", &listeners.to_string(), round, mebibytes);
    Ok(())
}

/// With 1,000 listeners that nothing happens at and nobody asks of, as it is by default.
fn idle(round: u32, seconds: u32) -> Result<()> {
    let scratch = Scratch::new()?;
    let daemon = Launch::new(&daemon::binary()?, &scratch)?.start()?;
    ensure_idle(&daemon)?;
    let opened = Listeners::open(1_000, 1)?;
    opened.are_shown_by(&daemon)?;
    thread::sleep(SETTLED);
    let (used, of_threads) =
        (processor::time(daemon.pid())?, processor::time_of_threads(daemon.pid())?);
    let start = Instant::now();
    thread::sleep(Duration::from_secs(seconds.into()));
    let whole = start.elapsed().as_secs_f64();
    let later = processor::time_of_threads(daemon.pid())?;
    let used = processor::time(daemon.pid())?.saturating_sub(used);
    say("tcpq", "idle_percent", round, used.as_secs_f64() / whole * 100.0);
    for (name, time) in later {
        let before = of_threads.get(&name).copied().unwrap_or_default();
        let spent = time.saturating_sub(before).as_secs_f64();
        say_of("tcpq", "thread_percent", &name, round, spent / whole * 100.0);
    }
    Ok(())
}
