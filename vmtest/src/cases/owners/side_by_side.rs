//! Real servers side by side on this machine: each is named rightly when it was there
//! before the daemon, when it came after, and when it was restarted.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process,
    time::Duration,
};

use anyhow::Result;

use crate::{
    bench::{Bench, Case, Held, Target},
    claims::{self, BY_A_WALK, Listeners, Truth},
    daemon::Daemon,
    helper::Home,
    ledger::Checks,
    netns::Netns,
    promtool,
    scale::Stopwatch,
    servers::{Container, Network, Opening, Place, Podman, Program, Server},
    sockets::free_address,
};

const ON_HOST: Held = Held::Only(
    &[Target::Host],
    "a guest has no servers of others; who owns a socket is asked there of processes of our own",
);

pub(super) const CASES: &[Case] = &[
    Case::new("servers_start_and_stop", start_and_stop, ON_HOST),
    Case::new("servers_side_by_side", side_by_side, ON_HOST),
];

/// Networks that the servers are on.
struct Networks {
    here: Netns,
    named: Netns,
    anonymous: Netns,
}

/// All servers, running.
struct Row<'a> {
    servers: Vec<Server<'a>>,
    containers: Vec<Container<'a>>,
}

impl<'a> Row<'a> {
    fn start(
        bench: &'a Bench,
        prefix: &str,
        networks: &'a Networks,
        podman: &'a Podman<'a>,
    ) -> Result<Self> {
        let Networks { here, named, anonymous } = networks;
        let by_itself = |program, netns, home| (program, netns, home, Opening::ByServer);
        let same = Home::SamePidNamespace;
        let mut servers = Vec::new();
        for (what, (program, netns, home, opening)) in [
            ("nginx", by_itself(Program::Nginx, here, same)),
            ("node", by_itself(Program::Node, here, same)),
            ("python", by_itself(Program::Python, here, same)),
            ("redis", by_itself(Program::Redis, here, same)),
            ("activated", (Program::PythonActivated, here, same, Opening::ByManager)),
            ("named-netns", by_itself(Program::Python, named, same)),
            ("anonymous-netns", by_itself(Program::Redis, anonymous, same)),
            ("pid-namespace", by_itself(Program::Python, here, Home::OwnPidNamespace)),
        ] {
            let address = free_address(netns, IpAddr::V4(Ipv4Addr::LOCALHOST))?;
            let place = Place { netns, address, home, opening };
            let name = format!("{prefix}-{what}");
            servers.push(Server::start(&name, program, place, bench.scratch())?);
        }
        let inside: SocketAddr = (Ipv4Addr::LOCALHOST, 8080).into();
        let outside = free_address(here, IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let containers = vec![
            podman.start(&format!("{prefix}-bridge"), Network::Bridge, inside)?,
            podman.start(&format!("{prefix}-on-host"), Network::Host, outside)?,
        ];
        Ok(Self { servers, containers })
    }

    fn restart(&mut self) -> Result<()> {
        self.servers.iter_mut().try_for_each(Server::restart)?;
        self.containers.iter().try_for_each(Container::restart)
    }

    fn truths(&self) -> Result<Vec<Truth>> {
        let servers = self.servers.iter().map(Server::truth);
        servers.chain(self.containers.iter().map(Container::truth)).collect()
    }
}

fn networks() -> Result<Networks> {
    Ok(Networks { here: Netns::current()?, named: Netns::new()?, anonymous: Netns::new()? })
}

/// The fixture by itself: each server is what it is meant to be, and nothing stays.
fn start_and_stop(bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    let networks = networks()?;
    let name = format!("tcpq-truth-{}", process::id());
    let _name = networks.named.with_name(&name)?;
    let mut pids = Vec::new();
    let mut checks = Checks::default();
    {
        let podman = Podman::new(bench)?;
        let mut row = Row::start(bench, "fixture", &networks, &podman)?;
        let before = row.truths()?;
        row.restart()?;
        let after = row.truths()?;
        for (before, after) in before.iter().zip(&after) {
            let what = &before.what;
            checks.hold(&format!("{what} was not restarted"), before.pid != after.pid);
            checks.hold(&format!("{what}: {before:?}, then {after:?}"), {
                before.process == after.process
                    && before.executable == after.executable
                    && (before.cgroup == after.cgroup && before.container == after.container)
                    && !std::path::Path::new(&format!("/proc/{}", before.pid)).exists()
            });
        }
        checks.hold(
            &format!("not the servers that were meant: {after:?}"),
            after.iter().zip(NAMES).all(|(truth, name)| truth.process == name),
        );
        checks.hold(
            &format!("not the namespaces that were meant: {after:?}"),
            after[5].netns == name && after[6].netns == networks.anonymous.label(),
        );
        pids.extend(before.into_iter().chain(after).map(|truth| truth.pid));
    }
    let left: Vec<_> =
        pids.iter().filter(|pid| crate::processes::name(**pid).is_ok()).copied().collect();
    checks.hold(&format!("processes {left:?} are left"), left.is_empty());
    checks.end()?;
    watch.tell(&format!("{} servers started, restarted and ended", pids.len() / 2));
    Ok(())
}

/// Of the servers, as the kernel names them.
const NAMES: [&str; 10] = [
    "nginx",
    "node",
    "python3",
    "redis-server",
    "python3",
    "python3",
    "redis-server",
    "python3",
    "httpd",
    "httpd",
];

fn side_by_side(bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    let networks = networks()?;
    let _name = networks.named.with_name(&format!("tcpq-truth-{}", process::id()))?;
    let podman = Podman::new(bench)?;

    let mut before = Row::start(bench, "before", &networks, &podman)?;
    let daemon = bench.fresh_daemon()?;
    // At its first word, without any patience.
    let first = (Listeners::of(&daemon)?, daemon.scrape()?);
    let mut checks = Checks::default();
    let truths = before.truths()?;
    for truth in &truths {
        truth.check(&first.0, &first.1, &mut checks);
    }
    shared(&truths, &first.0, &mut checks)?;
    checks.end()?;
    started(&daemon, &before)?;
    before.restart()?;
    named(&daemon, &before, BY_A_WALK)?;

    let mut after = Row::start(bench, "after", &networks, &podman)?;
    named(&daemon, &after, BY_A_WALK)?;
    after.restart()?;
    named(&daemon, &after, BY_A_WALK)?;
    // And those have not been forgotten over these.
    named(&daemon, &before, Duration::ZERO)?;
    promtool::has_nothing_to_say(bench, &daemon)?;
    watch.tell("20 servers named, each before and after it was restarted");
    Ok(())
}

fn named(daemon: &Daemon, row: &Row<'_>, within: Duration) -> Result<()> {
    let truths = row.truths()?;
    claims::until_so(daemon, within, |api, metrics, checks| {
        for truth in &truths {
            truth.check(api, metrics, checks);
        }
        shared(&truths, api, checks)
    })
}

/// Sockets that several processes have open: each of them is told.
fn shared(truths: &[Truth], api: &Listeners, checks: &mut Checks) -> Result<()> {
    // nginx: two sockets of one group, both the master's, and each open in all three.
    let nginx = api.group(&truths[0].netns, truths[0].address)?;
    checks.equal("nginx: sockets", nginx.sockets, 2);
    for member in &nginx.members {
        checks.hold(
            &format!("nginx: the holders of a socket are {:?}", member.holders),
            member.holders.len() == 3 && member.holders.iter().all(|h| h.process == "nginx"),
        );
    }
    // What was passed on is open in both, and not the manager's any more.
    let activated = api.group(&truths[4].netns, truths[4].address)?;
    for member in &activated.members {
        let has = |name: &str| member.holders.iter().any(|holder| holder.process == name);
        checks.hold(
            &format!("activated: the holders are {:?}", member.holders),
            member.holders.len() == 2 && has("systemd") && has("python3"),
        );
    }
    Ok(())
}

/// Nobody has seen their listen(), so when that was is not told.
fn started(daemon: &Daemon, row: &Row<'_>) -> Result<()> {
    let (api, metrics) = (Listeners::of(daemon)?, daemon.scrape()?);
    let mut checks = Checks::default();
    for truth in row.truths()? {
        let group = api.group(&truth.netns, truth.address)?;
        checks.hold(
            &format!("{}: started {:?}, which nobody saw", truth.what, group.started),
            group.started.is_none(),
        );
        let port = truth.address.port().to_string();
        let labels = [("netns", truth.netns.as_str()), ("port", &port)];
        let told = metrics.select("tcpq_listener_start_time_seconds", &labels).count();
        checks.equal(&format!("{}: start times", truth.what), told as u64, 0);
    }
    checks.end()
}
