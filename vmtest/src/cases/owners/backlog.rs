//! What a program asked of listen(), what it got, and which limit clipped it.

use std::{net::SocketAddr, process};

use anyhow::{Result, ensure};

use crate::{
    bench::{Bench, Case, Target},
    beside::{self, Work},
    claims::{self, BY_AN_EVENT, Listeners},
    daemon::Daemon,
    exposition::Metrics,
    kernel_counters::KernelCounters,
    ledger::Checks,
    load::{self, Clients},
    netns::Netns,
    puppet::Puppet,
    sockets::Family,
    wait,
};

/// The oldest kernel and the newest, which save the registers in other places.
const SOME: &[Target] = &[Target::Host, Target::V5_10, Target::V7];

pub(super) const CASES: &[Case] = &[
    Case::everywhere("backlog_clipped_by_somaxconn", clipped).in_part_on(SOME),
    Case::everywhere("backlog_of_the_program", small).in_part_on(SOME),
    Case::everywhere("backlog_unlimited", unlimited).in_part_on(SOME),
    Case::everywhere("backlog_changed_later", changed).in_part_on(SOME),
];

/// `net.core.somaxconn` of the namespaces here.
const SOMAXCONN: u16 = 128;

/// A namespace with a name and that setting, and a program in it that listens.
struct Scene {
    name: String,
    netns: Netns,
    puppet: Puppet,
    address: SocketAddr,
}

impl Scene {
    fn new(netns: Netns, name: &str, program: &[u8], backlog: i32) -> Result<Self> {
        netns.set_sysctl("net.core.somaxconn", &SOMAXCONN.to_string())?;
        let mut puppet = Puppet::stage().netns(&netns).start()?.with_name(program)?;
        let address = puppet.listen(Family::V4.loopback(), backlog)?;
        Ok(Self { name: name.to_owned(), netns, puppet, address })
    }

    /// The queue takes its limit and one, as the kernel has it; then all are refused.
    fn overflow(&self, limit: usize) -> Result<Clients> {
        let start = KernelCounters::read(&self.netns)?;
        let clients = Clients::connect(&self.netns, self.address, limit + 1)?;
        let full = KernelCounters::read(&self.netns)?.since(start);
        ensure!(full.listen_overflows == 0, "the limit is not {limit}: {full:?}");
        load::syns(&self.netns, self.address, 50)?;
        let over = KernelCounters::read(&self.netns)?.since(start);
        ensure!(over.listen_overflows >= 50, "the limit is not {limit}: {over:?}");
        Ok(clients)
    }

    fn figure(&self, metrics: &Metrics, family: &str) -> Result<Option<i64>> {
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        metrics.gauge(family, &[("netns", &self.name), ("address", &ip), ("port", &port)])
    }

    /// In the metrics and in the API.
    fn is_told(&self, daemon: &Daemon, requested: i64, limit: u64) -> Result<()> {
        claims::until_so(daemon, BY_AN_EVENT, |api, metrics, checks| {
            let asked = self.figure(metrics, "tcpq_backlog_requested")?;
            checks.hold(&format!("requested {asked:?}, not {requested}"), asked == Some(requested));
            let got = self.figure(metrics, "tcpq_accept_queue_limit")?;
            let expected = Some(i64::try_from(limit)?);
            checks.hold(&format!("limit {got:?}, not {limit}"), got == expected);
            let group = api.group(&self.name, self.address)?;
            let members: Vec<_> =
                group.members.iter().map(|member| member.backlog_requested).collect();
            checks.hold(
                &format!("API: requested {:?} and {members:?}", group.backlog_requested),
                group.backlog_requested == Some(requested) && members == [Some(requested)],
            );
            checks.equal("API: limit", group.accept_queue.limit, limit);
            checks.hold("API: when it started is not told", group.started.is_some());
            Ok(())
        })
    }

    /// Asks while bursts come that are longer than the queue, and all that got in is
    /// accepted in between.
    fn explain_bursts(&mut self, bench: &Bench, daemon: &Daemon, limit: u64) -> Result<String> {
        let Self { netns, puppet, address, .. } = self;
        puppet.accept()?;
        let bursts: Work<'_> = Box::new(|over| {
            while !over.is_so() {
                load::syns(netns, *address, limit + 20)?;
                puppet.accept()?;
                wait::pace();
            }
            Ok(())
        });
        let (name, what) = (self.name.clone(), address.port().to_string());
        beside::beside(vec![bursts], || explain(bench, daemon, &name, &what))
    }

    fn explain(&self, bench: &Bench, daemon: &Daemon, what: &str) -> Result<String> {
        explain(bench, daemon, &self.name, what)
    }
}

/// `tcpq explain` of a listener in the namespace of this name.
fn explain(bench: &Bench, daemon: &Daemon, netns: &str, what: &str) -> Result<String> {
    let run_dir = daemon.run_dir().display().to_string();
    let finished = bench.run(&["explain", what, "--netns", netns, "--run-dir", &run_dir])?;
    ensure!(
        finished.code == Some(0),
        "explain ended with {:?}: {}",
        finished.code,
        finished.stderr
    );
    Ok(finished.stdout)
}

fn clipped(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    let name = format!("tcpq-clip-{}", process::id());
    let _name = netns.with_name(&name)?;
    let mut scene = Scene::new(netns, &name, b"asks-511", 511)?;
    scene.is_told(&daemon, 511, SOMAXCONN.into())?;

    let (metrics, api) = (daemon.scrape()?, Listeners::of(&daemon)?);
    let mut checks = Checks::default();
    let somaxconn = metrics.sum("tcpq_netns_somaxconn", &[("netns", &name)])?;
    checks.equal("tcpq_netns_somaxconn", somaxconn, SOMAXCONN.into());
    let told = api.namespaces.iter().find(|settings| settings.netns == name);
    checks.equal("API: somaxconn", told.map(|told| told.somaxconn.into()), SOMAXCONN.into());
    checks.equal("API: inode", told.map(|told| told.inode), scene.netns.inode());
    // Settings are each namespace's own: the host's is not this one's.
    let hosts = metrics.sum("tcpq_netns_somaxconn", &[("netns", "host")])?;
    let truth = std::fs::read_to_string("/proc/sys/net/core/somaxconn")?.trim().parse()?;
    checks.equal("tcpq_netns_somaxconn of the host", hosts, truth);
    checks.end()?;

    // First with nobody who accepts: the limits are told, whatever is to be done.
    let clients = scene.overflow(SOMAXCONN.into())?;
    let said = scene.explain(bench, &daemon, &scene.address.port().to_string())?;
    for word in ["net.core.somaxconn", name.as_str(), "511", "128", "asks-511"] {
        ensure!(said.contains(word), "explain does not say {word}:\n{said}");
    }
    clients.reset()?;
    // Then with one who keeps up but for bursts: a longer queue is what would help.
    let said = scene.explain_bursts(bench, &daemon, SOMAXCONN.into())?;
    for word in ["511", "128", "asks-511", &name, "sysctl -w net.core.somaxconn="] {
        ensure!(said.contains(word), "explain does not say {word}:\n{said}");
    }
    Ok(())
}

fn small(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    let name = format!("tcpq-small-{}", process::id());
    let _name = netns.with_name(&name)?;
    let mut scene = Scene::new(netns, &name, b"asks-five", 5)?;
    scene.is_told(&daemon, 5, 5)?;

    // Before anything has happened to it, nothing is to be changed.
    let said = scene.explain(bench, &daemon, &scene.address.to_string())?;
    ensure!(said.to_lowercase().contains("nothing is wrong"), "it is idle, but:\n{said}");

    let clients = scene.overflow(5)?;
    let by_name = scene.explain(bench, &daemon, "asks-five")?;
    clients.reset()?;
    let bursts = scene.explain_bursts(bench, &daemon, 5)?;
    for said in [by_name, bursts] {
        ensure!(said.contains("asks-five"), "explain does not name the program:\n{said}");
        ensure!(
            !said.to_lowercase().contains("nothing is wrong"),
            "clients were refused, but:\n{said}"
        );
        // To raise that would change nothing.
        ensure!(
            !said.contains("sysctl -w net.core.somaxconn"),
            "explain blames somaxconn for the program's 5:\n{said}"
        );
    }
    Ok(())
}

/// `listen(-1)`: as much as there is. What is told as asked for is no less than that.
fn unlimited(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    let name = netns.label();
    let scene = Scene::new(netns, &name, b"asks-all", -1)?;
    claims::until_so(&daemon, BY_AN_EVENT, |api, metrics, checks| {
        let limit = scene.figure(metrics, "tcpq_accept_queue_limit")?;
        checks.hold(&format!("limit {limit:?}"), limit == Some(SOMAXCONN.into()));
        let requested = scene.figure(metrics, "tcpq_backlog_requested")?;
        checks.hold(
            &format!("requested {requested:?}, with a limit of {SOMAXCONN}"),
            requested.is_none_or(|requested| requested >= SOMAXCONN.into()),
        );
        let group = api.group(&scene.name, scene.address)?;
        let members: Vec<_> = group.members.iter().map(|m| m.backlog_requested).collect();
        checks.hold(&format!("API: requested {members:?}"), members == [Some(-1)]);
        Ok(())
    })
}

/// `listen()` on a listener: what was asked for at first is not told of the new limit.
fn changed(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    let name = netns.label();
    let mut scene = Scene::new(netns, &name, b"asks-again", 5)?;
    scene.is_told(&daemon, 5, 5)?;
    for backlog in [50_u8, 3, 200] {
        scene.puppet.listen_again(backlog.into())?;
        let limit = u64::from(backlog).min(SOMAXCONN.into());
        claims::until_so(&daemon, BY_AN_EVENT, |api, metrics, checks| {
            let told = scene.figure(metrics, "tcpq_accept_queue_limit")?;
            checks.hold(&format!("limit {told:?}, not {limit}"), told == Some(limit.cast_signed()));
            let requested = scene.figure(metrics, "tcpq_backlog_requested")?;
            let honest = |said: Option<i64>| said.is_none_or(|said| said == i64::from(backlog));
            checks.hold(&format!("requested {requested:?}, not {backlog}"), honest(requested));
            let group = api.group(&scene.name, scene.address)?;
            for member in &group.members {
                let requested = member.backlog_requested;
                checks.hold(&format!("API: {requested:?}, not {backlog}"), honest(requested));
            }
            Ok(())
        })?;
    }
    Ok(())
}
