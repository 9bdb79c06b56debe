//! Names that were made to break what prints them: of processes, control groups and
//! network namespaces. What is served stays what it is, and says it as well as it can.

use std::{
    ffi::{OsStr, OsString},
    net::SocketAddr,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
    process,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    bench::{Bench, Case, Target},
    cgroups::{self, Cgroup, Nested},
    claims::{self, BY_AN_EVENT, Group, Listeners},
    daemon::Daemon,
    exposition::Metrics,
    kernel_counters::KernelCounters,
    ledger::Checks,
    load,
    netns::Netns,
    processes, promtool,
    puppet::Puppet,
    sockets::Family,
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("hostile_process_names", process_names).in_part_on(SOME),
    Case::everywhere("hostile_cgroup_names", cgroup_names).in_part_on(SOME),
    Case::everywhere("hostile_cgroup_of_5_kib", endless_cgroup).in_part_on(SOME),
    Case::everywhere("hostile_netns_name", netns_name).in_part_on(SOME),
];

/// It has a daemon of its own, which takes an emulated guest long to start.
const SOME: &[Target] = &[Target::Host, Target::V6_1];

/// 15 bytes at most.
const NAMES: [&[u8]; 10] = [
    b"new\nline",
    b"quo\"te\"",
    b"back\\slash\\",
    b"{a=\"b\"} 1",
    b"\"} 1\nup 0\n",
    b"bad \xff utf-8",
    "\u{e9}t\u{e9} \u{2028}".as_bytes(),
    "\u{202e}xnign".as_bytes(),
    b"\x1b[31mred\x07",
    b"~ephemeral",
];

/// What cannot be shown, or would break or turn the line it is in, is shown as U+FFFD.
fn shown(name: &[u8]) -> String {
    let harmful =
        |character: char| character.is_control() || ('\u{2028}'..='\u{202e}').contains(&character);
    String::from_utf8_lossy(name)
        .chars()
        .map(|character| if harmful(character) { '\u{fffd}' } else { character })
        .collect()
}

fn process_names(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let label = netns.label();
    let open = |name: &[u8]| -> Result<(Puppet, SocketAddr)> {
        let mut puppet = Puppet::stage().netns(&netns).start()?.with_name(name)?;
        ensure!(processes::name(puppet.pid())? == name, "the kernel has another name");
        let address = puppet.listen(Family::V4.loopback_at(next_port()), 4)?;
        Ok((puppet, address))
    };
    let before = NAMES.map(open).into_iter().collect::<Result<Vec<_>>>()?;
    let daemon = bench.fresh_daemon()?;
    let first = (Listeners::of(&daemon)?, daemon.scrape()?);
    let mut checks = Checks::default();
    are_named(&label, &before, &first.0, &first.1, &mut checks);
    checks.end()?;
    let after = NAMES.map(open).into_iter().collect::<Result<Vec<_>>>()?;
    claims::until_so(&daemon, BY_AN_EVENT, |api, metrics, checks| {
        are_named(&label, &before, api, metrics, checks);
        are_named(&label, &after, api, metrics, checks);
        Ok(())
    })?;
    let metrics = promtool::has_nothing_to_say(bench, &daemon)?;
    ensure!(metrics.select("up", &[]).next().is_none(), "a name has become a sample");
    // A table for people must stay one, too.
    listed(bench, &daemon)
}

fn are_named(
    label: &str,
    puppets: &[(Puppet, SocketAddr)],
    api: &Listeners,
    metrics: &Metrics,
    checks: &mut Checks,
) {
    for ((puppet, address), name) in puppets.iter().zip(NAMES) {
        let expected = shown(name);
        let owner = api.find(label, *address).and_then(|group| group.owners.first());
        checks.hold(
            &format!("{expected:?} of {}: {owner:?}", puppet.pid()),
            owner.is_some_and(|owner| {
                owner.process.as_ref() == Some(&expected) && owner.pid == Some(puppet.pid())
            }),
        );
        let said = claims::infos(metrics, label, *address);
        let one = ("process".to_owned(), expected.clone());
        checks.hold(
            &format!("{expected:?}: tcpq_listener_info has {said:?}"),
            matches!(said.as_slice(), [labels] if labels.contains(&one)),
        );
    }
}

/// Ports below those for clients, each once.
fn next_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(9_300);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// `tcpq list`: no line of it may be a name's.
fn listed(bench: &Bench, daemon: &Daemon) -> Result<()> {
    let run_dir = daemon.run_dir().display().to_string();
    let finished = bench.run(&["list", "--run-dir", &run_dir])?;
    ensure!(finished.code == Some(0), "list ended with {:?}", finished.code);
    ensure!(
        finished.stdout.chars().all(|character| character == '\n' || !character.is_control()),
        "list prints control characters: {:?}",
        finished.stdout
    );
    ensure!(!finished.stdout.lines().any(|line| line.trim() == "line"), "a name broke a line");
    Ok(())
}

/// How long a path may get before it is cut, with what marks that.
const CUT_AT: usize = 512;
const CUT_MARK: char = '\u{2026}';

/// Whether a path is shown as it should be: in full, or its beginning and a mark.
fn is_shown(said: &str, path: &Path) -> bool {
    let whole = shown(path.as_os_str().as_bytes());
    match said.strip_suffix(CUT_MARK) {
        None => said == whole && whole.len() <= CUT_AT,
        Some(beginning) => {
            whole.len() > CUT_AT
                && whole.starts_with(beginning)
                && (CUT_AT - 8..=CUT_AT).contains(&beginning.len())
        }
    }
}

fn cgroup_names(bench: &Bench) -> Result<()> {
    kernel_refuses_newlines()?;
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let long = "x".repeat(240);
    let names: [&[u8]; 6] = [
        b"quo\"te\"} 1",
        b"back\\slash\\n",
        b"bad \xff utf-8",
        b"tab\tand \x1b[31m",
        b"0::/docker:\x01",
        long.as_bytes(),
    ];
    let mut groups = Vec::new();
    let mut expected: Vec<(SocketAddr, OsString)> = Vec::new();
    for name in names {
        let group = Cgroup::new(OsStr::from_bytes(name))?;
        let mut puppet = Puppet::stage().netns(&netns).cgroup(&group).start()?;
        let address = puppet.listen(Family::V4.loopback_at(next_port()), 4)?;
        expected.push((address, group.path().into()));
        groups.push((puppet, group));
    }
    let label = netns.label();
    claims::until_so(&daemon, BY_AN_EVENT, |api, metrics, checks| {
        for (address, path) in &expected {
            let said = cgroup_of(api, metrics, &label, *address)?;
            checks.hold(
                &format!("{} is told as {said:?}", path.display()),
                said.is_some_and(|said| is_shown(&said, Path::new(path))),
            );
        }
        Ok(())
    })?;
    promtool::has_nothing_to_say(bench, &daemon)?;
    listed(bench, &daemon)
}

/// It could not be told in `/proc/PID/cgroup`; so nobody needs to be tested with one.
fn kernel_refuses_newlines() -> Result<()> {
    let root = cgroups::hierarchies()?.into_iter().next().context("no control groups")?;
    let name = format!("tcpq-truth-{}\nx", process::id());
    match std::fs::create_dir(root.join(&name)) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        Err(error) => Err(error).context("a group with a newline was refused otherwise"),
        Ok(()) => {
            std::fs::remove_dir(root.join(&name))?;
            bail!("this kernel lets a control group's name have a newline");
        }
    }
}

/// In the API, after it was compared with the metrics.
fn cgroup_of(
    api: &Listeners,
    metrics: &Metrics,
    label: &str,
    address: SocketAddr,
) -> Result<Option<String>> {
    let Some([owner]) = api.find(label, address).map(|group: &Group| &group.owners[..]) else {
        return Ok(None);
    };
    let said = claims::infos(metrics, label, address);
    let [labels] = said.as_slice() else {
        return Ok(None);
    };
    let same = ("cgroup".to_owned(), owner.cgroup.clone().unwrap_or_default());
    ensure!(labels.contains(&same), "the API says {same:?}, the metrics {labels:?}");
    Ok(owner.cgroup.clone())
}

/// Longer than a page: a kernel tells its beginning, or none of it; and so does tcpq.
fn endless_cgroup(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let name = OsString::from_vec(vec![b'"'; 250]);
    // The first is one too long to be shown in full, the second one to be told.
    for depth in [3, 20_usize] {
        let group = Nested::new(&name, depth)?;
        let mut puppet =
            Puppet::stage().netns(&netns).doors(group.doors()).start()?.with_name(b"deep-down")?;
        let whole = group.path().as_os_str().as_bytes();
        ensure!(whole.len() > 250 * depth, "the path is only {} bytes long", whole.len());
        // Of the kernels here, 6.18 cuts it, and others refuse to tell it.
        let is_told = processes::cgroup_lines(puppet.pid()).is_ok();
        ensure!(is_told || depth == 20, "the kernel tells nothing of {} bytes", whole.len());
        let address = puppet.listen(Family::V4.loopback_at(next_port()), 4)?;
        claims::until_so(&daemon, BY_AN_EVENT, |api, metrics, checks| {
            let said = cgroup_of(api, metrics, &netns.label(), address)?;
            checks.hold(
                &format!("depth {depth}: told as {said:?}"),
                match &said {
                    Some(said) => is_told && is_shown(said, group.path()),
                    None => !is_told,
                },
            );
            let group = api.group(&netns.label(), address)?;
            let owner = group.owners.first();
            checks.hold(
                &format!("depth {depth}: the owner is {owner:?}"),
                owner.is_some_and(|owner| {
                    owner.process.as_deref() == Some("deep-down") && owner.pid == Some(puppet.pid())
                }),
            );
            Ok(())
        })?;
        promtool::has_nothing_to_say(bench, &daemon)?;
    }
    Ok(())
}

fn netns_name(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    let name = format!("tcpq-{}\"}} 1\nup 0\n\\", process::id());
    let _name = netns.with_name(&name)?;
    let mut puppet = Puppet::stage().netns(&netns).start()?.with_name(b"inside")?;
    let address = puppet.listen(Family::V4.loopback_at(next_port()), 4)?;
    let prefix = format!("tcpq-{}", process::id());
    let mut label = String::new();
    claims::until_so(&daemon, BY_AN_EVENT, |api, _, checks| {
        let group = api
            .listeners
            .iter()
            .find(|group| group.port == Some(address.port()) && group.netns.starts_with(&prefix));
        label = group.map(|group| group.netns.clone()).unwrap_or_default();
        let owner = group.and_then(|group| group.owners.first());
        checks.hold(
            &format!("the owner is {owner:?}"),
            owner.is_some_and(|owner| owner.process.as_deref() == Some("inside")),
        );
        Ok(())
    })?;
    let metrics = promtool::has_nothing_to_say(bench, &daemon)?;
    ensure!(metrics.select("up", &[]).next().is_none(), "a name has become a sample");
    // And what is counted there is still that namespace's.
    let clients = load::Clients::connect(&netns, address, 5)?;
    load::syns(&netns, address, 20)?;
    claims::until_so(&daemon, BY_AN_EVENT, |_, metrics, checks| {
        let kernel = KernelCounters::read(&netns)?.listen_overflows;
        let figures = crate::figures::Figures::of(metrics, &label, address)?;
        checks.hold(&format!("only {kernel} overflows were made"), kernel >= 20);
        checks.equal("overflows", figures.overflows(), kernel);
        Ok(())
    })?;
    drop(clients);
    listed(bench, &daemon)
}
