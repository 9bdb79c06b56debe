//! Four processes share a port and one of them is stuck: the group's figures are sums,
//! and the API tells whose socket is full.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, Case},
    claims::{self, BY_A_WALK, BY_AN_EVENT, Listeners},
    figures::Figures,
    kernel_counters::KernelCounters,
    ledger::Checks,
    load,
    netns::Netns,
    puppet::Puppet,
    sockets::Family,
    wait,
};

pub(super) const CASES: &[Case] = &[Case::everywhere("reuseport_with_a_stuck_worker", stuck)];

const WORKERS: usize = 4;
const BACKLOG: u8 = 7;

/// Refused, at least.
const ENOUGH: u64 = 20;

fn stuck(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    let label = netns.label();
    let mut workers = Vec::new();
    let mut address = Family::V4.loopback_at(9_100);
    for number in 0..WORKERS {
        let name = format!("worker-{number}");
        let mut worker = Puppet::stage().netns(&netns).start()?.with_name(name.as_bytes())?;
        address = worker.listen_shared(address, BACKLOG.into())?;
        worker.serve()?;
        workers.push(worker);
    }
    let stuck = &workers[1];
    claims::until_so(&daemon, BY_AN_EVENT, |api, _, checks| {
        checks.equal("sockets", api.find(&label, address).map(|group| group.sockets), 4);
        Ok(())
    })?;

    stuck.signal(libc::SIGSTOP)?;
    // The kernel chooses by the client's port, so each gets about a quarter.
    wait::until_true("the stuck worker's queue overflows", Duration::from_mins(1), || {
        load::syns(&netns, address, 10)?;
        Ok(KernelCounters::read(&netns)?.listen_overflows >= ENOUGH)
    })?;

    let patience = BY_A_WALK;
    claims::until_so(&daemon, patience, |api, metrics, checks| {
        let kernel = KernelCounters::read(&netns)?;
        let figures = Figures::of(metrics, &label, address)?;
        checks.equal("overflows", figures.overflows(), kernel.listen_overflows);
        checks.equal("listen drops", figures.listen_drops, kernel.listen_drops);
        checks.equal("sockets", figures.sockets, 4);
        let limit = u64::from(BACKLOG);
        checks.equal("limit", figures.accept_queue_limit, 4 * limit);
        checks.equal("waiting", figures.accept_queue_length, limit + 1);

        let group = api.group(&label, address)?;
        checks.equal("members", group.members.len() as u64, 4);
        let members = || group.members.iter();
        let sum: u64 =
            members().filter_map(|member| member.overflows).map(claims::Overflows::sum).sum();
        checks.equal("overflows, sum over members", sum, kernel.listen_overflows);
        for worker in &workers {
            let whose = members().filter(|member| member.owner.pid == Some(worker.pid()));
            let [member] = whose.collect::<Vec<_>>()[..] else {
                checks.hold(&format!("no one member is of {}", worker.pid()), false);
                continue;
            };
            let overflows = member.overflows.map_or(0, claims::Overflows::sum);
            let (length, most) = (member.accept_queue.length, member.accept_queue.limit);
            checks.equal("limit of a member", most, limit);
            let is_stuck = worker.pid() == stuck.pid();
            checks.hold(
                &format!("{:?}: {length} wait, {overflows} refused", member.owner),
                if is_stuck { length == limit + 1 && overflows >= ENOUGH } else { length == 0 },
            );
        }
        Ok(())
    })?;

    // The four names are four facts of one group.
    let metrics = daemon.scrape()?;
    let names: Vec<_> = claims::infos(&metrics, &label, address);
    ensure!(names.len() == WORKERS, "the owners of the group are {names:?}");
    let api = Listeners::of(&daemon)?;
    let group = api.group(&label, address)?;
    let mut checks = Checks::default();
    let owners: Vec<_> = group.owners.iter().filter_map(|owner| owner.process.clone()).collect();
    checks.hold(
        &format!("owners {owners:?}"),
        owners == ["worker-0", "worker-1", "worker-2", "worker-3"],
    );
    checks.end()?;
    stuck.signal(libc::SIGCONT).context("cannot free the stuck worker")
}
