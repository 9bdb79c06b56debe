//! The daemon comes and goes while listeners overflow without a pause. Whenever it
//! says that it is ready, it has all that the kernel counts from then on.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, Case, Target},
    beside::{self, Work},
    daemon::Daemon,
    exposition::Metrics,
    figures::NetnsSums,
    kernel_counters::KernelCounters,
    ledger::{Checks, Reading},
    load,
    netns::Netns,
    scale::{Scale, Stopwatch},
    sockets::{Family, Listener},
    wait,
};

pub(super) const CASES: &[Case] =
    &[Case::everywhere("restart_while_overflowing", restart).in_part_on(&[Target::Host])];

/// How often it is started amidst an overflow, ended and started again: part and whole.
const LIVES: (usize, usize) = (1, 10);

/// Overflows that each life sees for certain.
const ENOUGH: u64 = 1_000;

/// Until they have come, in a slow guest.
const OVERFLOWS_WITHIN: Duration = Duration::from_mins(1);

/// SYNs at once of each client thread; then others get the CPU.
const BURST: u32 = 20;

fn restart(bench: &Bench) -> Result<()> {
    let (part, whole) = LIVES;
    (0..Scale::from_env().pick(part, whole)).try_for_each(|life| {
        let watch = Stopwatch::start();
        let (scrapes, ours) = one_life(bench)?;
        watch.tell(&format!("life {}: {ours} overflows, {scrapes} scrapes", life + 1));
        Ok(())
    })
}

/// A daemon is started amidst the overflow, ended and started again, and then asked
/// when it is quiet.
fn one_life(bench: &Bench) -> Result<(u32, u64)> {
    let netns = Netns::new()?;
    let v4 = Listener::open(&netns, Family::V4.loopback(), 4)?;
    let v6 = Listener::open(&netns, Family::V6.loopback(), 1)?;
    let _queued = (load::fill(&netns, &v4, v4.address())?, load::fill(&netns, &v6, v6.address())?);
    let hammers = vec![hammer(&netns, v4.address()), hammer(&netns, v6.address())];
    let mut scrapes = 0;
    let (daemon, before_start, at_ready) = beside::beside(hammers, || {
        let mut first = bench.fresh_daemon()?;
        scrapes += watch_it(bench, &netns, &first)?;
        first.signal(libc::SIGTERM)?;
        let (status, _) = first.wait_end(Duration::from_secs(10))?;
        ensure!(status.success(), "the first daemon ended with {status}");
        let before_start = KernelCounters::read(&netns)?;
        let second = bench.fresh_daemon()?;
        let at_ready = KernelCounters::read(&netns)?;
        scrapes += watch_it(bench, &netns, &second)?;
        Ok((second, before_start, at_ready))
    })?;

    // Quiet now.
    let end = Reading::take(&netns, &daemon)?;
    let label = netns.label();
    unattributed(bench, &end.metrics, &label)?;
    let ours = NetnsSums::of(&end.metrics, &label)?;
    let (least, most) = (end.kernel.since(at_ready), end.kernel.since(before_start));
    let mut checks = Checks::default();
    for (what, family, ours, least, most) in [
        (
            "overflows",
            "tcpq_netns_listen_overflows_total",
            ours.overflows,
            least.listen_overflows,
            most.listen_overflows,
        ),
        (
            "listen drops",
            "tcpq_netns_listen_drops_total",
            ours.listen_drops,
            least.listen_drops,
            most.listen_drops,
        ),
    ] {
        checks.hold(
            &format!(
                "{what}: tcpq says {ours}; {least} came after it was ready, {most} after it started"
            ),
            (least..=most).contains(&ours),
        );
        if let Some(kernels) = audited(bench, &end.metrics, family, &label)? {
            checks.equal(&format!("{what} since the start"), ours, kernels);
        }
    }
    checks.end()?;

    // From one quiet point to the next, with nothing in between that is uncertain.
    load::syns(&netns, v4.address(), ENOUGH)?;
    let later = Reading::take(&netns, &daemon)?;
    later.agrees_since(&end)?;
    unattributed(bench, &later.metrics, &label)?;
    Ok((scrapes, ours.overflows))
}

/// From its first scrape on nothing may be unattributed; for as long as it takes the
/// kernel to count some more overflows.
fn watch_it(bench: &Bench, netns: &Netns, daemon: &Daemon) -> Result<u32> {
    let from = KernelCounters::read(netns)?;
    let mut scrapes = 0;
    wait::until_true("the overflow goes on", OVERFLOWS_WITHIN, || {
        unattributed(bench, &daemon.scrape()?, &netns.label())
            .with_context(|| format!("scrape {} of a daemon that is ready", scrapes + 1))?;
        scrapes += 1;
        Ok(KernelCounters::read(netns)?.since(from).listen_overflows >= ENOUGH)
    })?;
    Ok(scrapes)
}

fn unattributed(bench: &Bench, metrics: &Metrics, netns: &str) -> Result<()> {
    for family in ["tcpq_netns_unattributed_overflows", "tcpq_netns_unattributed_drops"] {
        if let Some(difference) = audited(bench, metrics, family, netns)? {
            ensure!(difference == 0, "{family} is {difference}");
        }
    }
    Ok(())
}

/// A figure of the audit. Where the audit is derived it may be absent for as long as
/// traffic runs.
fn audited(bench: &Bench, metrics: &Metrics, family: &str, netns: &str) -> Result<Option<u64>> {
    let figure = metrics.sum(family, &[("netns", netns)])?;
    ensure!(figure.is_some() || audit_may_be_absent(bench.target()), "{family} is absent");
    Ok(figure)
}

/// Where the plan says that the audit is derived.
fn audit_may_be_absent(target: Target) -> bool {
    target == Target::Host
}

/// SYNs to a full listener, until it is over.
fn hammer(netns: &Netns, to: SocketAddr) -> Work<'_> {
    Box::new(move |over| {
        netns.enter()?;
        while !over.is_so() {
            (0..BURST).try_for_each(|_| load::one_attempt(to))?;
            wait::pace();
        }
        Ok(())
    })
}
