//! What it costs to know who listens, while nothing happens.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, Case, Held, Target},
    claims::{self, BY_A_WALK},
    daemon::Daemon,
    netns::Netns,
    processes,
    puppet::Puppet,
    scale::Scale,
    sockets::Family,
    wait,
};

pub(super) const CASES: &[Case] = &[Case::new(
    "attribution_costs_little",
    idle,
    Held::Only(&[Target::Host], "the time of an emulated processor says nothing"),
)];

const PROCESSES: u16 = 50;
const LISTENERS_EACH: u16 = 20;

/// Of a core, in all and for attribution.
const WHOLE_DAEMON: f64 = 0.02;
const ATTRIBUTION: f64 = 0.002;

fn idle(bench: &Bench) -> Result<()> {
    let daemon = bench.fresh_daemon()?;
    let netns = Netns::new()?;
    let mut puppets = Vec::new();
    for number in 0..PROCESSES {
        let name = format!("idle-{number}");
        let mut puppet = Puppet::stage().netns(&netns).start()?.with_name(name.as_bytes())?;
        puppet.listen_many(Family::V4.loopback_at(10_000 + number * 100), LISTENERS_EACH, 4)?;
        puppets.push(puppet);
    }
    let all = u64::from(PROCESSES * LISTENERS_EACH);
    claims::until_so(&daemon, BY_A_WALK, |api, _, checks| {
        let ours = api.listeners.iter().filter(|group| group.netns == netns.label());
        let named = ours.filter(|group| group.owners.iter().any(|owner| owner.pid.is_some()));
        checks.equal("listeners with an owner", named.count() as u64, all);
        Ok(())
    })?;

    // With a walk or two in it, whatever else there is.
    let span = Duration::from_secs(Scale::from_env().pick(30, 120));
    let (start, since) = (Spent::read(&daemon)?, Instant::now());
    wait::until_true("time passes", span * 2, || Ok(since.elapsed() >= span))?;
    let (end, elapsed) = (Spent::read(&daemon)?, since.elapsed().as_secs_f64());

    let all_of_it = (end.cpu - start.cpu) / elapsed;
    let attribution = (end.attribution - start.attribution) / elapsed;
    println!(
        "    {all} listeners of {PROCESSES} processes, {elapsed:.0} s: {:.3} % of a core, of it \
         attribution {:.4} %",
        all_of_it * 100.0,
        attribution * 100.0
    );
    ensure!(all_of_it < WHOLE_DAEMON, "the daemon takes {:.2} % of a core", all_of_it * 100.0);
    ensure!(attribution < ATTRIBUTION, "attribution takes {:.3} % of a core", attribution * 100.0);
    Ok(())
}

/// Seconds of CPU.
struct Spent {
    cpu: f64,
    attribution: f64,
}

impl Spent {
    fn read(daemon: &Daemon) -> Result<Self> {
        let metrics = daemon.scrape()?;
        let mut samples = metrics.select("tcpq_attribution_cpu_seconds_total", &[]);
        let sample = samples.next().context("tcpq_attribution_cpu_seconds_total is missing")?;
        let attribution = sample.value.parse().context("that is no number of seconds")?;
        let cpu = processes::cpu_time(daemon.pid())?.as_secs_f64();
        Ok(Self { cpu, attribution })
    }
}
