//! `--listener.include` and `--listener.exclude`: what has series and what has none, and
//! that the kernel's totals are accounted for all the same.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, Case, Target},
    claims::{self, BY_AN_EVENT},
    daemon::Daemon,
    figures::Audit,
    kernel_counters::KernelCounters,
    ledger::Checks,
    load::{self, Clients},
    netns::Netns,
    puppet::Puppet,
    sockets::Family,
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("filter_include_ports", include_ports).in_part_on(SOME),
    Case::everywhere("filter_exclude_process", exclude_process).in_part_on(SOME),
    Case::everywhere("filter_that_matches_nothing", matches_nothing).in_part_on(SOME),
    Case::everywhere("filter_that_does_not_parse", does_not_parse).in_part_on(SOME),
];

/// Each has a daemon of its own, which takes an emulated guest long to start; what is
/// filtered does not depend on the kernel.
const SOME: &[Target] = &[Target::Host, Target::V6_1];

/// A listener of a puppet, with its queue full.
struct Full {
    _clients: Clients,
    _puppet: Puppet,
    address: SocketAddr,
}

impl Full {
    fn open(netns: &Netns, name: &str, port: u16) -> Result<Self> {
        let mut puppet = Puppet::stage().netns(netns).start()?.with_name(name.as_bytes())?;
        let address = puppet.listen(Family::V4.loopback_at(port), 1)?;
        let clients = Clients::connect(netns, address, 2)?;
        Ok(Self { _clients: clients, _puppet: puppet, address })
    }
}

/// Overflows all, and waits until those that are to be there are, with their counts, and
/// the others are not; and until nothing of what the kernel counted is unexplained.
fn hold(daemon: &Daemon, netns: &Netns, shown: &[&Full], hidden: &[&Full]) -> Result<()> {
    for (number, full) in shown.iter().chain(hidden).enumerate() {
        load::syns(netns, full.address, 10 + number as u64)?;
    }
    let label = netns.label();
    claims::until_so(daemon, BY_AN_EVENT, |api, metrics, checks| {
        let kernel = KernelCounters::read(netns)?;
        let mut told = 0;
        for full in shown {
            let group = api.find(&label, full.address);
            let overflows = group.and_then(|group| group.overflows).map(claims::Overflows::sum);
            checks.hold(
                &format!("{} is told with {overflows:?} overflows", full.address),
                overflows.is_some_and(|overflows| overflows >= 10),
            );
            told += overflows.unwrap_or(0);
        }
        for full in hidden {
            let hidden = api.find(&label, full.address).is_none();
            checks.hold(&format!("the API tells of {}", full.address), hidden);
            let port = full.address.port().to_string();
            let series = metrics.all().find(|sample| {
                let label_is = |name: &str, value: &str| {
                    sample.labels.get(name).is_some_and(|said| said == value)
                };
                label_is("netns", &label) && label_is("port", &port)
            });
            checks.hold(&format!("a series of {}: {series:?}", full.address), series.is_none());
        }
        if hidden.is_empty() {
            checks.equal("overflows", told, kernel.listen_overflows);
        } else {
            checks.hold(
                &format!("{told} of {} overflows are told", kernel.listen_overflows),
                told < kernel.listen_overflows,
            );
        }
        let audit = Audit::of(metrics, &label)?;
        checks.equal("the kernel's own", audit.listen_overflows, kernel.listen_overflows);
        checks.hold(&format!("{audit:?}"), audit.unattributed_overflows == Some(0));
        checks.hold(&format!("{audit:?}"), audit.unattributed_drops == Some(0));
        let excluded = metrics.sum("tcpq_listeners_folded_total", &[("into", "excluded")])?;
        checks.hold(
            &format!("{excluded:?} are counted as excluded"),
            excluded.unwrap_or(0) >= hidden.len() as u64,
        );
        Ok(())
    })
}

fn include_ports(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let open = |port| Full::open(&netns, "server", port);
    let before = [open(8_080)?, open(8_079)?];
    let daemon = bench.launch()?.setting("--listener.include", "port:8080-8090").start()?;
    let after = [open(8_090)?, open(8_091)?];
    hold(&daemon, &netns, &[&before[0], &after[0]], &[&before[1], &after[1]])
}

/// Two flags of a kind, and both kinds: what is included is shown unless it is excluded.
fn exclude_process(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let before = [Full::open(&netns, "python3", 8_200)?, Full::open(&netns, "a-python", 8_201)?];
    let daemon = bench
        .launch()?
        .setting("--listener.exclude", "process:python*")
        .setting("--listener.exclude", "port:8300")
        .setting("--listener.include", "address:127.0.0.0/8")
        .setting("--listener.include", "port:1-2")
        .start()?;
    let after = [
        Full::open(&netns, "python3.11", 8_202)?,
        Full::open(&netns, "perl", 8_203)?,
        Full::open(&netns, "perl", 8_300)?,
    ];
    hold(&daemon, &netns, &[&before[1], &after[1]], &[&before[0], &after[0], &after[2]])
}

/// Nothing is shown, and that is no fault.
fn matches_nothing(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let full = Full::open(&netns, "server", 8_400)?;
    let daemon = bench.launch()?.setting("--listener.include", "process:no-such-*").start()?;
    hold(&daemon, &netns, &[], &[&full])?;
    let groups = daemon.scrape()?.select("tcpq_listener_sockets", &[]).count();
    ensure!(groups == 0, "{groups} groups match nothing");
    Ok(())
}

/// Ends with 2 and says which flag, which pattern and what is wrong with it.
fn does_not_parse(bench: &Bench) -> Result<()> {
    let mut checks = Checks::default();
    for (flag, pattern, reason) in [
        ("--listener.include", "port:eighty", "eighty"),
        ("--listener.include", "port:90-80", "90-80"),
        ("--listener.include", "port:70000", "70000"),
        ("--listener.exclude", "address:127.0.0.0/33", "33"),
        ("--listener.exclude", "address:localhost", "localhost"),
        ("--listener.exclude", "process:[a", "[a"),
        ("--listener.exclude", "user:root", "user"),
        ("--listener.include", "8080", "8080"),
        ("--listener.include", "process:", "process:"),
    ] {
        let finished = bench.run(&["serve", flag, pattern])?;
        let said = &finished.stderr;
        checks.hold(
            &format!("{flag}={pattern}: {:?}, {said}", finished.code),
            finished.code == Some(2)
                && [flag, pattern, reason].iter().all(|word| said.contains(word))
                // More than the words themselves: a reason, and how it is meant.
                && said.len() > flag.len() + pattern.len() + 40
                && !said.contains("panicked"),
        );
    }
    // By the environment the same.
    let mut command = bench.launch()?.command()?;
    command.env("TCPQ_LISTENER_EXCLUDE", "port:22 port:x");
    let finished = bench.finish(command).context("with a filter of the environment")?;
    checks.hold(
        &format!("TCPQ_LISTENER_EXCLUDE: {:?}, {}", finished.code, finished.stderr),
        finished.code == Some(2) && finished.stderr.contains("port:x"),
    );
    checks.end()
}
