//! The daemon in a container: the image of the Containerfile, run by the command that
//! docs/container.md gives.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, Case, Held, Target},
    cases::privileges,
    claims::{self, BY_AN_EVENT, Truth},
    daemon::{self, READY_WITHIN},
    figures::Figures,
    kernel_counters::KernelCounters,
    load::{self, Clients},
    netns::Netns,
    processes,
    puppet::Puppet,
    scale::Stopwatch,
    servers::{Container, Network, Podman},
    sockets::{Family, free_address},
    wait,
};

const ON_HOST: Held =
    Held::Only(&[Target::Host], "a guest has no podman; privileges_of_the_unit is held in one");

pub(super) const CASES: &[Case] = &[Case::new("container_sees_host_and_containers", sees, ON_HOST)];

const CONTAINERFILE: &str = include_str!("../../../deploy/container/Containerfile");
const SETTINGS: &str = include_str!("../../../deploy/tcpq.toml");
const PAGE: &str = include_str!("../../../docs/container.md");

/// The user that the Containerfile has.
const USER: &str = "65532";

/// Of a listener of ours.
const BACKLOG: i32 = 4;

/// More than wait for any server here before the next one is refused.
const MANY: usize = 64;

/// Clients that a full queue refuses.
const REFUSED: u64 = 20;

/// A listener of a process of ours; it closes when this is dropped.
struct Own {
    truth: Truth,
    _puppet: Puppet,
}

impl Own {
    fn open(name: &str, netns: &Netns) -> Result<Self> {
        let mut puppet = Puppet::stage().netns(netns).start()?.with_name(name.as_bytes())?;
        let address = puppet.listen(Family::V4.loopback(), BACKLOG)?;
        let executable = processes::executable(puppet.pid())?;
        let truth = Truth {
            what: name.to_owned(),
            netns: netns.label_by_name()?,
            address,
            process: name.to_owned(),
            pid: puppet.pid(),
            executable: executable.to_str().context("a path that is no text")?.to_owned(),
            cgroup: None,
            container: None,
        };
        Ok(Self { truth, _puppet: puppet })
    }
}

fn sees(bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    let (here, named, named_late) = (Netns::current()?, Netns::new()?, Netns::new()?);
    let name = |which| format!("tcpq-truth-{}-{which}", process::id());
    let _name = named.with_name(&name("early"))?;
    let podman = Podman::new(bench)?;
    podman.build(&context(bench)?, "tcpq")?;
    let inside: SocketAddr = (Ipv4Addr::LOCALHOST, 8080).into();

    // Quiet ones, which it has to look for.
    let host = Own::open("early", &here)?;
    let in_named = Own::open("early-named", &named)?;
    let other = podman.start("early-container", Network::Bridge, inside)?;
    let log = bench.scratch().path().join("container.log");
    let tcpq = start(&podman, &log)?;
    says(tcpq.address(), &[host.truth.clone(), in_named.truth.clone(), other.truth()?])?;
    given(tcpq.pid()?)?;

    let _name = named_late.with_name(&name("late"))?;
    let host = Own::open("late", &here)?;
    let in_named = Own::open("late-named", &named_late)?;
    let other = podman.start("late-container", Network::Bridge, inside)?;
    says(tcpq.address(), &[host.truth.clone(), in_named.truth.clone(), other.truth()?])?;
    overflows(tcpq.address(), &here, &host.truth)?;
    let truth = other.truth()?;
    // It takes no connection any more.
    processes::signal(i32::try_from(truth.pid)?, libc::SIGSTOP).context("cannot stop a server")?;
    overflows(tcpq.address(), &Netns::of_process(truth.pid)?, &truth)?;

    let list = tcpq.exec(&["tcpq", "list"])?;
    ensure!(list.contains("httpd") && list.contains("late"), "{list}");
    privileges::as_good_as_root(bench, &daemon::scrape(tcpq.address())?, &log)?;
    privileges::has_given_up(tcpq.pid()?)?;
    let code = tcpq.stop()?;
    ensure!(code == 0, "it ended with {code}");
    watch.tell("6 listeners named and 2 overflowed, seen from a container");
    Ok(())
}

/// What the image is built from.
fn context(bench: &Bench) -> Result<PathBuf> {
    let folder = bench.scratch().path().join("image");
    fs::create_dir(&folder).context("cannot make a folder for an image")?;
    for (name, text) in [("Containerfile", CONTAINERFILE), ("tcpq.toml", SETTINGS)] {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    fs::copy(bench.tcpq(), folder.join("tcpq")).context("cannot copy tcpq into an image")?;
    Ok(folder)
}

/// What the page has after `podman run`: flags, and at last the image.
fn documented() -> Result<Vec<&'static str>> {
    let (_, rest) = PAGE.split_once("$ podman run ").context("the page runs nothing")?;
    let (command, _) = rest.split_once("\n$ ").context("the page's command has no end")?;
    Ok(command.split_whitespace().filter(|word| *word != "\\").collect())
}

/// On a port of its own, for there may be another daemon; with its log in this file.
fn start<'a>(podman: &'a Podman<'_>, log: &Path) -> Result<Container<'a>> {
    let address = free_address(&Netns::current()?, IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let ours = [
        format!("--env=TCPQ_WEB_LISTEN_ADDRESS={address}"),
        format!("--log-opt=path={}", log.display()),
        "--log-driver=k8s-file".to_owned(),
    ];
    let mut arguments: Vec<_> = ours.iter().map(String::as_str).collect();
    arguments.extend(documented()?);
    let container = podman
        .start_as("tcpq", (Network::Host, address), &arguments)
        .context("the daemon has to be a static program")?;
    wait::until_true("the daemon is ready", READY_WITHIN, || Ok(daemon::is_ready(address)))?;
    Ok(container)
}

/// Waits until it names them all as the kernel does.
fn says(tcpq: SocketAddr, truths: &[Truth]) -> Result<()> {
    claims::until_so_at(tcpq, BY_AN_EVENT, |api, metrics, checks| {
        for truth in truths {
            truth.check(api, metrics, checks);
        }
        Ok(())
    })
}

/// It is not root, and could never have had more than the unit grants.
fn given(pid: u32) -> Result<()> {
    let granted = privileges::granted()?;
    let granted = granted.iter().fold(0, |all, (_, one)| all | one.bits());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("no status")?;
    let bounding = privileges::capabilities(&status, "CapBnd")?;
    ensure!(bounding == granted, "it was given {bounding:x}, not {granted:x}");
    for ids in ["Uid", "Gid"] {
        let all = privileges::field(&status, ids)?;
        ensure!(all.split_whitespace().all(|id| id == USER), "{ids} {all}, not {USER}");
    }
    Ok(())
}

/// Fills the queue of a listener that accepts nothing, and waits until the daemon has what
/// the kernel has counted.
fn overflows(tcpq: SocketAddr, netns: &Netns, truth: &Truth) -> Result<()> {
    let before = KernelCounters::read(netns)?;
    let _queued = Clients::connect_until_refused(netns, truth.address, MANY)?;
    load::syns(netns, truth.address, REFUSED)?;
    // The last SYN may wait for ksoftirqd.
    let after = wait::until_steady("the kernel's counters stand still", BY_AN_EVENT, || {
        KernelCounters::read(netns)
    })?;
    let kernel = after.since(before).listen_overflows;
    ensure!(kernel >= REFUSED, "{}: the fixture made {kernel} overflows", truth.what);
    claims::until_so_at(tcpq, BY_AN_EVENT, |_, metrics, checks| {
        let figures = Figures::of(metrics, &truth.netns, truth.address)?;
        checks.equal(&format!("{}: overflows", truth.what), figures.overflows(), kernel);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a line of the Containerfile, as `name="value"`.
    fn label(name: &str) -> &'static str {
        let (_, rest) = CONTAINERFILE.split_once(&format!("{name}=\"")).unwrap();
        rest.split_once('"').unwrap().0
    }

    #[test]
    fn image_and_page_name_the_capabilities_of_the_unit() {
        let granted = privileges::granted().unwrap();
        let granted: Vec<_> = granted.iter().map(|(name, _)| &name["CAP_".len()..]).collect();
        assert_eq!(label("io.containers.capabilities"), granted.join(","));
        let flags = documented().unwrap();
        let added: Vec<_> = flags.iter().filter_map(|f| f.strip_prefix("--cap-add=")).collect();
        assert_eq!(added, granted);
        assert!(flags.contains(&"--cap-drop=ALL"));
    }

    #[test]
    fn the_image_has_the_version_of_the_workspace() {
        assert_eq!(label("org.opencontainers.image.version"), env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn the_command_ends_with_the_image() {
        assert_eq!(documented().unwrap().last(), Some(&"tcpq"));
    }
}
