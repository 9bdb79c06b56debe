//! What happens becomes an incident with the right verdict, by real processes and real
//! packets; and a daemon that is killed loses none.

pub(super) mod causes;
mod scenes;
pub(super) mod storage;

use std::{
    collections::BTreeSet,
    net::{SocketAddr, SocketAddrV4},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::{
    bench::{Bench, Case, Target},
    daemon::Daemon,
    flood::Flood,
    kernel_counters::KernelCounters,
    load,
    netns::Netns,
    puppet::Puppet,
    scale::Scale,
    sockets::{Family, Listener},
    wait,
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("incident_verdicts", verdicts).in_part_on(IN_PART),
    Case::everywhere("incident_of_a_flood", flood).in_part_on(IN_PART),
    Case::everywhere("incidents_after_kill_9", killed).in_part_on(IN_PART),
];

/// The backends that differ most: tracepoints here, trampolines there.
const IN_PART: &[Target] = &[Target::Host, Target::V6_12];

/// An incident is over after so many seconds: longer than clients pause between the first tries.
const QUIET: u64 = 10;

/// Until an incident that has ended is told as such, in a slow guest.
const TOLD_WITHIN: Duration = Duration::from_mins(2);

/// Clients of a burst, at most; so many between two looks; and refusals that are enough.
const CROWD: usize = 400;
const AT_ONCE: usize = 50;
const REFUSED: u64 = 60;

/// How often a daemon is killed: part and whole.
const KILLS: (u64, u64) = (4, 50);

#[derive(Debug, Deserialize)]
struct Listed {
    incidents: Vec<Incident>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Incident {
    pub(super) id: String,
    state: String,
    pub(super) listener: ListenerName,
    cause: String,
    #[serde(default)]
    confidence: Option<String>,
    overflows: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct ListenerName {
    pub(super) port: String,
}

pub(super) fn incidents(bench: &Bench, daemon: &Daemon) -> Result<Vec<Incident>> {
    let run_dir = daemon.run_dir().to_str().context("a path that is no text")?;
    let listed: Listed =
        bench.run_json(&["incidents", "--json", "--limit", "1000", "--run-dir", run_dir])?;
    Ok(listed.incidents)
}

/// An incident as people see it, or as more arguments say.
fn shown(bench: &Bench, daemon: &Daemon, id: &str, more: &[&str]) -> Result<String> {
    let run_dir = daemon.run_dir().to_str().context("a path that is no text")?;
    let arguments = ["incidents", "show", id, "--run-dir", run_dir];
    Ok(bench.run(&[&arguments, more].concat())?.stdout)
}

/// The one incident of a listener, once it is over.
fn ended(bench: &Bench, daemon: &Daemon, address: SocketAddr) -> Result<Incident> {
    let port = address.port().to_string();
    wait::until(&format!("the incident of port {port} is over"), TOLD_WITHIN, || {
        let all = incidents(bench, daemon)?;
        let mut ours: Vec<_> = all.into_iter().filter(|it| it.listener.port == port).collect();
        if ours.len() > 1 {
            let shown = ours.iter().map(|it| shown(bench, daemon, &it.id, &[]));
            let shown: Vec<_> = shown.collect::<Result<_>>()?;
            bail!("more than one:\n{}", shown.join("\n"));
        }
        Ok(ours.pop().filter(|it| it.state == "closed"))
    })
}

/// Each cause by a process of its own, and one that is only busy.
fn verdicts(bench: &Bench) -> Result<()> {
    let daemon = bench.launch()?.setting("--incident.quiet", QUIET).start()?;
    let netns = Netns::new()?;
    let clipping = Netns::new()?;
    clipping.set_sysctl("net/core/somaxconn", "16")?;

    let mut stopped = served(&netns, "stopped", 9_301, 16)?;
    let mut short = served(&netns, "short", 9_302, 5)?;
    let mut clipped = served(&clipping, "clipped", 9_303, 511)?;
    let mut busy = served(&netns, "busy", 9_305, 511)?;
    let mut group = Vec::new();
    for number in 0..4 {
        let mut worker = Puppet::stage().netns(&netns).start()?.with_name(b"member")?;
        let address = worker.listen_shared(Family::V4.loopback_at(9_304), 7)?;
        worker.serve()?;
        group.push((worker, address, number));
    }
    // The flight recorder has to know what is usual.
    for _ in 0..4 {
        for (netns, (_, address)) in [(&netns, &short), (&clipping, &clipped), (&netns, &busy)] {
            load::syns(netns, *address, 2)?;
        }
        std::thread::sleep(Duration::from_secs(1));
    }

    stopped.0.signal(libc::SIGSTOP)?;
    let (member, shared, _) = &group[1];
    member.signal(libc::SIGSTOP)?;
    let mut crowds = Vec::new();
    for (netns, (_, address)) in [(&netns, &short), (&clipping, &clipped)] {
        crowds.push(burst(netns, *address)?);
    }
    for _ in 0..8 {
        load::syns(&netns, stopped.1, 40)?;
        load::syns(&netns, *shared, 40)?;
        load::syns(&netns, busy.1, 100)?;
        std::thread::sleep(Duration::from_secs(1));
    }
    stopped.0.signal(libc::SIGCONT)?;
    member.signal(libc::SIGCONT)?;

    for (name, address, cause) in [
        ("stopped", stopped.1, "application_stalled"),
        ("short", short.1, "backlog_too_small"),
        ("clipped", clipped.1, "backlog_clipped"),
        ("member", *shared, "member_stuck"),
    ] {
        let incident = ended(bench, &daemon, address)?;
        let Incident { id, cause: told, confidence, overflows, .. } = &incident;
        println!("{name}: {told} ({confidence:?}), {overflows} overflows");
        if told != cause {
            let show = |more| shown(bench, &daemon, id, more);
            bail!("{name}: not {cause}, but\n{}{}", show(&[])?, show(&["--json"])?);
        }
    }
    let port = busy.1.port().to_string();
    let all = incidents(bench, &daemon)?;
    ensure!(all.iter().all(|it| it.listener.port != port), "an incident of one that is only busy");
    // Not before: the FIN of one whose last ACK was refused has a valid cookie, too, and many at
    // once are another burst.
    drop(crowds);
    for puppet in [&mut stopped.0, &mut short.0, &mut clipped.0, &mut busy.0] {
        puppet.stop()?;
    }
    Ok(())
}

/// A process that accepts all that comes.
fn served(netns: &Netns, name: &str, port: u16, backlog: i32) -> Result<(Puppet, SocketAddr)> {
    let mut puppet = Puppet::stage().netns(netns).start()?.with_name(name.as_bytes())?;
    let address = puppet.listen(Family::V4.loopback_at(port), backlog)?;
    puppet.serve()?;
    Ok((puppet, address))
}

/// Clients that come at once and stay: more than the queue holds before the process gets the
/// CPU. No more of them than it takes, because the process waits as long as they come: on a
/// slow machine hundreds of connects are a pause of its own.
fn burst(netns: &Netns, to: SocketAddr) -> Result<Vec<socket2::Socket>> {
    let before = KernelCounters::read(netns)?;
    let mut crowd = Vec::new();
    while crowd.len() < CROWD {
        let more = netns.run(|| {
            let one = |_| {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
                socket.set_nonblocking(true)?;
                load::begin(&socket, to)?;
                Ok(socket)
            };
            (0..AT_ONCE).map(one).collect::<Result<Vec<_>>>()
        })?;
        crowd.extend(more);
        if KernelCounters::read(netns)?.since(before).listen_overflows >= REFUSED {
            break;
        }
    }
    Ok(crowd)
}

/// SYNs of clients that do not exist.
fn flood(bench: &Bench) -> Result<()> {
    let daemon = bench.launch()?.setting("--incident.quiet", QUIET).start()?;
    let netns = Netns::new()?;
    let (mut puppet, address) = served(&netns, "flooded", 9_310, 64)?;
    let SocketAddr::V4(to) = address else { bail!("{address} is not IPv4") };
    let mut flood = Flood::new(&netns, SocketAddrV4::new(*to.ip(), to.port()))?;
    let port = address.port().to_string();
    let incident = wait::until("the flood is named", TOLD_WITHIN, || {
        flood.send(300)?;
        std::thread::sleep(Duration::from_millis(200));
        let all = incidents(bench, &daemon)?;
        let ours = all.into_iter().find(|it| it.listener.port == port);
        // Until the owner has been looked at it is unknown, which is no wrong verdict.
        ensure!(
            ours.as_ref().is_none_or(|it| matches!(&*it.cause, "unknown" | "syn_flood")),
            "{ours:?}"
        );
        Ok(ours.filter(|it| it.cause == "syn_flood"))
    })?;
    println!("flood: {} ({:?})", incident.cause, incident.confidence);
    puppet.stop()
}

/// A daemon is killed amidst an incident, at another moment each time: the next one has every
/// incident, once, and none is open.
fn killed(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut first = bench.launch()?.start()?;
    let kills = Scale::from_env().pick(KILLS.0, KILLS.1);
    for life in 0..kills {
        let listener = Listener::open(&netns, Family::V4.loopback(), 1)?;
        let _queued = load::fill(&netns, &listener, listener.address())?;
        let port = listener.address().port().to_string();
        wait::until_true("the incident began", TOLD_WITHIN, || {
            load::syns(&netns, listener.address(), 20)?;
            let all = incidents(bench, &first)?;
            Ok(all.iter().any(|it| it.listener.port == port))
        })?;
        load::syns(&netns, listener.address(), 20)?;
        let before: Vec<String> = incidents(bench, &first)?.into_iter().map(|it| it.id).collect();
        // Anywhere between two writings.
        std::thread::sleep(Duration::from_millis(life * 379 % 4_000));
        first.signal(libc::SIGKILL)?;
        first.wait_end(Duration::from_secs(10))?;
        drop(listener);

        let next = bench.launch()?.run_dir_of(&first).start()?;
        let all = wait::until("the store is open", TOLD_WITHIN, || {
            Ok(Some(incidents(bench, &next)?).filter(|all| !all.is_empty()))
        })?;
        let ids: BTreeSet<String> = all.iter().map(|it| it.id.clone()).collect();
        ensure!(ids.len() == all.len(), "one is there twice: {all:#?}");
        known.extend(before);
        let lost: Vec<_> = known.difference(&ids).collect();
        ensure!(lost.is_empty(), "lost: {lost:?}");
        let open: Vec<_> =
            all.iter().filter(|it| it.state == "open" && known.contains(&it.id)).collect();
        ensure!(open.is_empty(), "still open: {open:#?}");
        known = ids;
        first = next;
    }
    println!("{} incidents after {kills} kills", known.len());
    Ok(())
}
