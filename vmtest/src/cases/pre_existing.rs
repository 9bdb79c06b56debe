//! Listeners that were there before the daemon, wherever they and it live.

use std::{
    net::SocketAddr,
    process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};

use crate::{
    bench::{Bench, Case, Target},
    daemon::Daemon,
    figures::{Figures, NetnsSums},
    helper::{Holder, Home},
    kernel_counters::KernelCounters,
    ledger::{Checks, Reading},
    load,
    netns::{self, Netns},
    sockets::{Family, Listener},
    wait,
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("pre_existing_listeners", everywhere),
    Case::everywhere("pre_existing_daemon_in_pid_namespace", daemon_in_pid_namespace)
        .in_part_on(SOME),
    Case::everywhere("pre_existing_overflow_during_start", during_start).in_part_on(SOME),
];

/// The oldest kernel finds listeners on other ways than the newest.
const SOME: &[Target] = &[Target::Host, Target::V5_10, Target::V7];

/// SYNs at once, of those that are refused while a daemon starts.
const BURST: u64 = 20;

/// The label of the namespace that the machine booted in, where the tests run.
const HOST: &str = "host";

/// Every combination of the daemon's own or another network namespace, and a
/// process of the daemon's or another pid namespace; and a namespace with a name.
fn everywhere(bench: &Bench) -> Result<()> {
    let (here, elsewhere, named) = (Netns::current()?, Netns::new()?, Netns::new()?);
    let name = format!("tcpq-truth-{}", process::id());
    let _named = named.with_name(&name)?;
    let label = elsewhere.label();
    let open = |netns: &Netns, family: Family| Listener::open(netns, family.loopback(), 7);
    let mut known: Vec<(String, &str, SocketAddr)> = Vec::new();

    let own = [open(&here, Family::V4)?, open(&elsewhere, Family::V6)?, open(&named, Family::V4)?];
    known.push(("own process, own netns".into(), HOST, own[0].address()));
    known.push(("own process, other netns".into(), &label, own[1].address()));
    known.push(("own process, named netns".into(), &name, own[2].address()));
    let mut holders = Vec::new();
    for (home, name) in [
        (Home::SamePidNamespace, "other process"),
        (Home::OwnPidNamespace, "process in its own pid namespace"),
    ] {
        for (netns, netns_label) in [(&here, HOST), (&elsewhere, &label)] {
            let listener = open(netns, Family::V4)?;
            known.push((format!("{name}, netns {netns_label}"), netns_label, listener.address()));
            holders.push(Holder::take(listener, home)?);
        }
    }

    let daemon = bench.fresh_daemon()?;
    listed_at_first_scrape(&daemon, &known)?;

    // Found is not enough: they are counted, too.
    let to = own[1].address();
    let start = Reading::take(&elsewhere, &daemon)?;
    let _queued = load::fill(&elsewhere, &own[1], to)?;
    load::syns(&elsewhere, to, 200)?;
    let end = Reading::take(&elsewhere, &daemon)?;
    let kernel = end.agrees_since(&start)?;
    let mut checks = Checks::default();
    checks.equal("overflows", end.figures(to)?.overflows_syn, kernel.listen_overflows);
    checks.equal("queue length", end.figures(to)?.accept_queue_length, 8);
    checks.end()
}

/// A daemon that cannot see the listener's process at all, as in a container
/// with the host's network.
fn daemon_in_pid_namespace(bench: &Bench) -> Result<()> {
    let here = Netns::current()?;
    let held_by_us = Listener::open(&here, Family::V4.loopback(), 7)?;
    let held_by_us_v6 = Listener::open(&here, Family::V6.loopback(), 7)?;
    let daemon = bench.launch()?.in_pid_namespace().start()?;
    let known = [
        ("IPv4, process outside".to_owned(), HOST, held_by_us.address()),
        ("IPv6, process outside".to_owned(), HOST, held_by_us_v6.address()),
    ];
    listed_at_first_scrape(&daemon, &known)
}

fn listed_at_first_scrape(daemon: &Daemon, known: &[(String, &str, SocketAddr)]) -> Result<()> {
    let first = daemon.scrape()?;
    let mut checks = Checks::default();
    for (what, netns, address) in known {
        let figures = Figures::of(&first, netns, *address)?;
        checks.equal(&format!("{what}: sockets"), figures.sockets, 1);
        checks.equal(&format!("{what}: limit"), figures.accept_queue_limit, 7);
    }
    checks.end()
}

/// SYNs are being refused all the while. From the moment the daemon is ready
/// none may be missed, and none may ever be counted that the kernel did not.
fn during_start(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let listener = Listener::open(&netns, Family::V4.loopback(), 4)?;
    let to = listener.address();
    let _queued = load::fill(&netns, &listener, to)?;
    let over = AtomicBool::new(false);
    let (daemon, at_ready, flooded) = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            netns.enter()?;
            let mut sent = 0_u64;
            while !over.load(Ordering::Acquire) {
                for _ in 0..BURST {
                    load::one_attempt(to)?;
                    sent += 1;
                }
                // An emulated guest has one CPU's worth of time for all of it.
                wait::pace();
            }
            Ok::<_, anyhow::Error>(sent)
        });
        let started = bench.fresh_daemon().and_then(|daemon| {
            let at_ready = KernelCounters::read(&netns)?;
            // Still flooding: some of it falls for certain after the daemon is ready.
            let more = || Ok(KernelCounters::read(&netns)?.since(at_ready).listen_overflows >= 500);
            wait::until_true("the flood goes on", Duration::from_secs(30), more)?;
            Ok((daemon, at_ready))
        });
        // Whatever happened, or the scope would wait for the flood for ever.
        over.store(true, Ordering::Release);
        let sent = netns::joined(flood.join())?;
        let (daemon, at_ready) = started?;
        Ok::<_, anyhow::Error>((daemon, at_ready, sent))
    })?;

    let quiet = Reading::take(&netns, &daemon)?;
    ensure!(quiet.kernel.listen_overflows >= flooded, "the fixture's SYNs were not refused");
    let ours = NetnsSums::of(&quiet.metrics, &netns.label())?;
    let since_ready = quiet.kernel.since(at_ready);
    let mut checks = Checks::default();
    for (what, ours, certain, all) in [
        ("overflows", ours.overflows, since_ready.listen_overflows, quiet.kernel.listen_overflows),
        ("listen drops", ours.listen_drops, since_ready.listen_drops, quiet.kernel.listen_drops),
    ] {
        checks.hold(
            &format!(
                "{what}: tcpq says {ours}, but {certain} came after it was ready, {all} in all"
            ),
            (certain..=all).contains(&ours),
        );
    }
    checks.end()?;

    // Between two quiet points, exactly.
    load::syns(&netns, to, load::ENOUGH)?;
    Reading::take(&netns, &daemon)?.agrees_since(&quiet)?;
    Ok(())
}
