//! What a daemon needs, says that it lacks, and has given up once it runs.

use std::{collections::BTreeSet, ffi::OsStr, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::thread::CapabilitySet;

use crate::{
    bench::{Bench, Case, Held, Target},
    cgroups::Cgroup,
    daemon::Daemon,
    exposition::Metrics,
    load,
    netns::Netns,
    puppet::Puppet,
    sockets::Family,
    wait,
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("privileges_given_up", given_up),
    Case::new("privileges_of_the_unit", unit, SOME),
    Case::new("privileges_missing_are_named", missing, SOME),
    Case::new("control_groups_are_the_hosts", control_groups, VISIBLE),
];

const SOME: Held =
    Held::Only(&[Target::Host, Target::V6_12], "checks of capabilities have not changed");

const VISIBLE: Held = Held::Only(&[Target::V6_12], "the host does not let root look at process 1");

const UNIT: &str = include_str!("../../../deploy/systemd/tcpq.service");

/// Exit code for a privilege that it cannot do without.
const NO_PRIVILEGE: i32 = 3;

/// What a unit's user gets, by name.
pub(super) fn granted() -> Result<Vec<(&'static str, CapabilitySet)>> {
    let line = UNIT.lines().find_map(|line| line.strip_prefix("AmbientCapabilities="));
    let names = line.context("the unit grants nothing")?.split_whitespace();
    names
        .map(|name| {
            let short = name.strip_prefix("CAP_").context("no capability")?;
            let bit = CapabilitySet::from_name(short).with_context(|| format!("{name}?"))?;
            Ok((name, bit))
        })
        .collect()
}

/// A user of its own with what the unit grants: all of it works, and nothing is amiss.
fn unit(bench: &Bench) -> Result<()> {
    let all = granted()?.into_iter().fold(CapabilitySet::empty(), |all, (_, one)| all | one);
    // There before the daemon, in a namespace that it has to enter, of another user's process.
    let netns = Netns::new()?;
    let mut puppet = Puppet::stage().netns(&netns).start()?.with_name(b"cashier")?;
    let address = puppet.listen(Family::V4.loopback_at(8_444), 4)?;
    let launch = bench.launch()?.as_nobody_with(all)?;
    let log = launch.log().to_owned();
    let daemon = launch.start()?;
    load::syns(&netns, address, 12)?;
    wait::until_true("the overflows are counted and the owner is known", SOON, || {
        let port = address.port().to_string();
        let port = ("port", port.as_str());
        let metrics = daemon.scrape()?;
        let counted = metrics.sum("tcpq_accept_queue_overflows_total", &[port])?;
        let owner = metrics.gauge("tcpq_listener_info", &[port, ("process", "cashier")])?;
        Ok(owner == Some(1) && counted.is_some_and(|count| count >= 7))
    })?;
    as_good_as_root(bench, &daemon.scrape()?, &log)?;
    reduced(&daemon)?;
    puppet.stop()
}

/// The same hooks as root's: what the kernel does not tell, it does not tell root either. And
/// nothing is amiss in the log.
pub(super) fn as_good_as_root(bench: &Bench, metrics: &Metrics, log: &Path) -> Result<()> {
    let hooks = |metrics: &Metrics| {
        let all = metrics.select("tcpq_hook_info", &[]).map(|hook| format!("{hook:?}"));
        all.collect::<BTreeSet<_>>()
    };
    ensure!(hooks(metrics) == hooks(&bench.daemon()?.scrape()?), "other hooks than root's");
    let said = fs::read_to_string(log).context("no log")?;
    ensure!(said.contains("serving"), "this is no log: {said}");
    for amiss in ["missing privilege", "self-test", "as seen from tcpq's own", "ERROR"] {
        ensure!(!said.contains(amiss), "{said}");
    }
    Ok(())
}

/// Without any one of them the daemon names it, and what lacks.
fn missing(bench: &Bench) -> Result<()> {
    let granted = granted()?;
    ensure!(granted.len() == 7, "{granted:?}");
    for (name, one) in &granted {
        let others = granted.iter().filter(|(other, _)| other != name);
        let mut kept = others.fold(CapabilitySet::empty(), |kept, (_, other)| kept | *other);
        let needed = matches!(*name, "CAP_BPF" | "CAP_PERFMON");
        if needed {
            // Who has it may do the same.
            kept -= CapabilitySet::SYS_ADMIN;
        }
        let launch = bench.launch()?.as_nobody_with(kept)?;
        if needed {
            let finished = bench.finish(launch.command()?)?;
            ensure!(finished.code == Some(NO_PRIVILEGE), "without {name}: {finished:?}");
            let says = format!("missing privilege: {name}; ");
            ensure!(finished.stderr.contains(&says), "without {name}: {}", finished.stderr);
            continue;
        }
        let log = launch.log().to_owned();
        let daemon = launch.start().with_context(|| format!("without {name}"))?;
        daemon.scrape()?;
        let said = fs::read_to_string(&log).context("no log")?;
        let mut lines = said.lines().filter(|line| line.contains("missing privilege"));
        let (Some(line), None) = (lines.next(), lines.next()) else {
            bail!("without {name}, not one line of it: {said}")
        };
        ensure!(line.contains(name), "without {name}: {said}");
        ensure!(!one.is_empty() && !said.contains("panicked"), "without {name}: {said}");
    }
    Ok(())
}

/// A daemon that has control groups of its own names those of others by their whole path.
fn control_groups(bench: &Bench) -> Result<()> {
    let own = Cgroup::new(OsStr::new("tcpq-own"))?;
    let theirs = Cgroup::new(OsStr::new("tcpq-theirs"))?;
    let netns = Netns::new()?;
    let mut puppet = Puppet::stage().netns(&netns).cgroup(&theirs).start()?;
    let address = puppet.listen(Family::V4.loopback_at(8_445), 4)?;
    let daemon = bench.launch()?.confined_to(&own).start()?;
    let port = address.port().to_string();
    let path = theirs.path().to_str().context("a path that is no text")?;
    let labels = [("port", port.as_str()), ("cgroup", path)];
    wait::until_true("the owner's group is named", SOON, || {
        Ok(daemon.scrape()?.gauge("tcpq_listener_info", &labels)? == Some(1))
    })?;
    puppet.stop()
}

/// Until what happened is told, on a slow machine.
const SOON: Duration = Duration::from_secs(30);

/// CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE and CAP_BPF, by their bits of include/uapi/linux/capability.h.
const GOES_ON_WITH: u64 = 1 << 2 | 1 << 19 | 1 << 39;

fn given_up(bench: &Bench) -> Result<()> {
    reduced(&*bench.daemon()?)
}

fn reduced(daemon: &Daemon) -> Result<()> {
    has_given_up(daemon.pid())?;
    // It works all the same.
    daemon.scrape()?;
    Ok(())
}

/// No thread of it has more than it goes on with, or a way to get more.
pub(super) fn has_given_up(pid: u32) -> Result<()> {
    let tasks = format!("/proc/{pid}/task");
    let mut threads = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        let path = task.context("a thread went away")?.path().join("status");
        let status = fs::read_to_string(&path).context("cannot read a thread's status")?;
        for set in ["CapPrm", "CapEff", "CapInh"] {
            let more = capabilities(&status, set)? & !GOES_ON_WITH;
            ensure!(more == 0, "{set} has more than it goes on with:\n{status}");
        }
        ensure!(field(&status, "NoNewPrivs")? == "1", "it may get more:\n{status}");
        ensure!(field(&status, "Seccomp")? == "2", "nothing is forbidden:\n{status}");
        threads += 1;
    }
    ensure!(threads >= 5, "{threads} threads only");
    Ok(())
}

/// A field of a `status` of `/proc`.
pub(super) fn field<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.strip_prefix(':'));
    Ok(value.with_context(|| format!("no {name}:\n{status}"))?.trim())
}

/// A set of capabilities of a `status` of `/proc`.
pub(super) fn capabilities(status: &str, set: &str) -> Result<u64> {
    u64::from_str_radix(field(status, set)?, 16).context("no number")
}
