//! Listeners that change hands, or have none: named after who has them now, or honestly
//! after nobody.

use std::{net::SocketAddr, os::unix::net::UnixStream, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, Case, Target},
    claims::{self, BY_A_WALK, BY_AN_EVENT, Listeners},
    daemon::Daemon,
    figures::Figures,
    helper::{Holder, Home},
    kernel_counters::KernelCounters,
    load::{self, Clients},
    netns::Netns,
    processes, promtool,
    puppet::Puppet,
    sockets::{Family, Listener},
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("owner_bequeaths_to_a_child", bequeathed).in_part_on(SOME),
    Case::everywhere("owner_with_a_helper", with_a_helper).in_part_on(SOME),
    Case::everywhere("owner_sends_it_to_another", sent).in_part_on(SOME),
    Case::everywhere("owner_is_nobody", nobody).in_part_on(SOME),
    Case::everywhere("owner_becomes_another_program", becomes_another).in_part_on(SOME),
    Case::everywhere("owner_is_outside_of_the_namespace", outside).in_part_on(SOME),
    Case::everywhere("owners_that_die_at_once", die_at_once),
];

/// An emulated guest walks rarely, for each walk takes it long.
const SOME: &[Target] = &[Target::Host, Target::V5_10];

/// Whether a group has this one owner, and who holds it.
fn owned(
    api: &Listeners,
    netns: &Netns,
    address: SocketAddr,
    name: &str,
    pid: u32,
) -> Result<Vec<u32>, String> {
    let Some(group) = api.find(&netns.label(), address) else {
        return Err(format!("{address} is not listed"));
    };
    let ([owner], [member]) = (&group.owners[..], &group.members[..]) else {
        return Err(format!("not one owner and one member: {group:?}"));
    };
    if owner.process.as_deref() != Some(name) || owner.pid != Some(pid) || *owner != member.owner {
        return Err(format!("{owner:?} and {:?}, not {name} of {pid}", member.owner));
    }
    let mut holders: Vec<_> = member.holders.iter().map(|holder| holder.pid).collect();
    holders.sort_unstable();
    holders.dedup();
    Ok(holders)
}

/// Waits until it is this one's, and only these hold it.
fn becomes(
    daemon: &Daemon,
    (netns, address): (&Netns, SocketAddr),
    (name, pid): (&str, u32),
    others: &[u32],
) -> Result<()> {
    let mut expected: Vec<_> = others.iter().copied().chain([pid]).collect();
    expected.sort_unstable();
    claims::until_so(daemon, BY_A_WALK, |api, _, checks| {
        match owned(api, netns, address, name, pid) {
            Ok(holders) => {
                checks.hold(&format!("held by {holders:?}, not {expected:?}"), holders == expected);
            }
            Err(error) => checks.hold(&error, false),
        }
        Ok(())
    })
}

/// A process that ends right after it has forked, as one that becomes a daemon does.
fn bequeathed(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    let mut puppet = Puppet::stage().netns(&netns).start()?.with_name(b"forebear")?;
    let address = puppet.listen(Family::V4.loopback_at(9_500), 4)?;
    let first = puppet.pid();
    // At once, before anybody could look at the process.
    puppet.bequeath()?;
    ensure!(puppet.pid() != first, "nobody has taken over");
    becomes(&daemon, (&netns, address), ("forebear", puppet.pid()), &[])?;
    let second = puppet.pid();
    puppet.bequeath()?;
    ensure!(puppet.pid() != second, "nobody has taken over");
    becomes(&daemon, (&netns, address), ("forebear", puppet.pid()), &[])
}

/// The owner is who called listen(), though others have it open, too.
fn with_a_helper(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    let mut puppet = Puppet::stage().netns(&netns).start()?.with_name(b"parent")?;
    let address = puppet.listen(Family::V4.loopback_at(9_501), 4)?;
    let helpers = [puppet.fork()?, puppet.fork()?];
    becomes(&daemon, (&netns, address), ("parent", puppet.pid()), &helpers)
}

/// `SCM_RIGHTS`: the sender ends, and the receiver goes on.
fn sent(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    let (here, there) = UnixStream::pair().context("no pair of sockets")?;
    let stage = Puppet::stage().netns(&netns).channel(here.into());
    let mut sender = stage.start()?.with_name(b"sender")?;
    let stage = Puppet::stage().channel(there.into());
    let mut receiver = stage.start()?.with_name(b"receiver")?;
    let address = sender.listen(Family::V6.loopback_at(9_502), 4)?;
    claims::until_so(&daemon, BY_AN_EVENT, |api, _, checks| {
        let owned = owned(api, &netns, address, "sender", sender.pid());
        checks.hold(&format!("at first {owned:?}"), owned.is_ok());
        Ok(())
    })?;
    sender.send()?;
    receiver.receive()?;
    drop(sender);
    becomes(&daemon, (&netns, address), ("receiver", receiver.pid()), &[])
}

/// On its way in a unix socket's queue, and the sender has ended: nobody has it open. It
/// listens all the same, and overflows.
fn nobody(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    let label = netns.label();
    let (here, there) = UnixStream::pair().context("no pair of sockets")?;
    let stage = Puppet::stage().netns(&netns).channel(here.into());
    let mut sender = stage.start()?.with_name(b"gone")?;
    let address = sender.listen(Family::V4.loopback_at(9_503), 4)?;
    claims::until_so(&daemon, BY_AN_EVENT, |api, _, checks| {
        let owned = owned(api, &netns, address, "gone", sender.pid());
        checks.hold(&format!("at first {owned:?}"), owned.is_ok());
        Ok(())
    })?;
    sender.send()?;
    drop(sender);
    let clients = Clients::connect(&netns, address, 5)?;
    load::syns(&netns, address, 30)?;
    claims::until_so(&daemon, BY_A_WALK, |api, metrics, checks| {
        let group = api.group(&label, address)?;
        let ([owner], [member]) = (&group.owners[..], &group.members[..]) else {
            checks.hold(&format!("not one owner and one member: {group:?}"), false);
            return Ok(());
        };
        checks.hold(
            &format!("owner {owner:?}, held by {:?}", member.holders),
            owner.pid.is_none()
                && member.holders.is_empty()
                && owner.process.as_deref().is_none_or(|name| name == "gone"),
        );
        let kernel = KernelCounters::read(&netns)?.listen_overflows;
        checks.hold(&format!("only {kernel} overflows were made"), kernel >= 30);
        checks.equal("overflows", Figures::of(metrics, &label, address)?.overflows(), kernel);
        let infos = claims::infos(metrics, &label, address);
        checks.equal("tcpq_listener_info", infos.len() as u64, 1);
        Ok(())
    })?;
    promtool::has_nothing_to_say(bench, &daemon)?;

    // Somebody takes it out of the queue.
    let stage = Puppet::stage().channel(there.into());
    let mut finder = stage.start()?.with_name(b"finder")?;
    finder.receive()?;
    drop(clients);
    becomes(&daemon, (&netns, address), ("finder", finder.pid()), &[])
}

/// `execve()`: the same process under another name.
fn becomes_another(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let renamed = bench.scratch().path().join("renamed");
    std::fs::hard_link(&own, &renamed)
        .or_else(|_| std::fs::copy(&own, &renamed).map(drop))
        .context("cannot give this program another name")?;
    let mut puppet = Puppet::stage().netns(&netns).start()?.with_name(b"launcher")?;
    let address = puppet.listen(Family::V4.loopback_at(9_504), 4)?;
    puppet.become_program(&renamed)?;
    becomes(&daemon, (&netns, address), ("renamed", puppet.pid()), &[])?;
    let api = Listeners::of(&daemon)?;
    let owner = api.group(&netns.label(), address)?.owners.first().cloned().unwrap_or_default();
    ensure!(
        owner.executable.as_deref().map(Path::new) == Some(renamed.as_path()),
        "the executable is {owner:?}"
    );
    Ok(())
}

/// A namespace with a name and without a process; its listener is held outside.
fn outside(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    let name = format!("tcpq-empty-{}", std::process::id());
    let _name = netns.with_name(&name)?;
    let listener = Listener::open(&netns, Family::V4.loopback_at(9_505), 4)?;
    let address = listener.address();
    let holder = Holder::take(listener, Home::SamePidNamespace)?;
    let process = String::from_utf8(processes::name(holder.pid())?)?;
    claims::until_so(&daemon, BY_A_WALK, |api, metrics, checks| {
        let owners = api.find(&name, address).map(|group| group.owners.clone());
        checks.hold(
            &format!("the owners are {owners:?}, not {process} of {}", holder.pid()),
            owners.is_some_and(|owners| {
                matches!(&owners[..], [owner]
                    if owner.process.as_ref() == Some(&process)
                        && owner.pid == Some(holder.pid()))
            }),
        );
        let infos = claims::infos(metrics, &name, address);
        checks.equal("tcpq_listener_info", infos.len() as u64, 1);
        Ok(())
    })
}

/// Processes that are gone before anybody can look them up: the daemon knows what it
/// knows, and goes on.
fn die_at_once(bench: &Bench) -> Result<()> {
    const PROCESSES: u16 = 30;
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    for number in 0..PROCESSES {
        let mut puppet = Puppet::stage().netns(&netns).start()?.with_name(b"mayfly")?;
        puppet.listen(Family::V4.loopback_at(9_600 + number), 4)?;
    }
    let mut last = Puppet::stage().netns(&netns).start()?.with_name(b"survivor")?;
    let address = last.listen(Family::V4.loopback_at(9_700), 4)?;
    claims::until_so(&daemon, BY_AN_EVENT, |api, _, checks| {
        let owned = owned(api, &netns, address, "survivor", last.pid());
        checks.hold(&format!("{owned:?}"), owned.is_ok());
        let label = netns.label();
        for group in api.listeners.iter().filter(|group| group.netns == label) {
            let names = group.owners.iter().filter_map(|owner| owner.process.as_deref());
            let names: Vec<_> = names.collect();
            checks.hold(
                &format!("{:?}: {} sockets of {names:?}", group.port, group.sockets),
                group.port == Some(9_700)
                    || group.sockets == 0 && names.iter().all(|name| *name == "mayfly"),
            );
        }
        Ok(())
    })?;
    promtool::has_nothing_to_say(bench, &daemon)?;
    Ok(())
}
