//! Everything at once: many listeners, some of them served, several clients on
//! every CPU. Sums must still be the kernel's, and nothing may be lost between
//! enqueue and accept.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use anyhow::{Result, ensure};

use super::plan::ON_6_12;
use crate::{
    bench::Case,
    daemon::{Backend, Daemon},
    ledger::{Checks, Reading},
    load,
    netns::{self, Netns},
    sockets::{Family, Listener},
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("mixed_concurrent", |bench| {
        let shared = bench.daemon()?;
        mixed(&shared)
    }),
    Case::new(
        "mixed_concurrent_kprobe",
        |bench| mixed(&bench.daemon_with(Backend::Kprobe)?),
        ON_6_12,
    ),
    Case::new(
        "mixed_concurrent_tracepoint",
        |bench| mixed(&bench.daemon_with(Backend::Tracepoint)?),
        ON_6_12,
    ),
];

const CLIENT_THREADS: usize = 4;
const ATTEMPTS_PER_THREAD: usize = 1_500;
const BACKLOGS: [i32; 4] = [1, 4, 16, 64];

/// A listener, and how many connections were accepted from it.
struct Service {
    listener: Listener,
    accepting: bool,
    accepted: AtomicU64,
}

fn mixed(daemon: &Daemon) -> Result<()> {
    let netns = Netns::new()?;
    let services = open_services(&netns)?;
    let start = Reading::take(&netns, daemon)?;

    run_load(&netns, &services)?;

    let end = Reading::take(&netns, daemon)?;
    let kernel = end.agrees_since(&start)?;
    ensure!(kernel.listen_overflows > 0, "the fixture overflowed nothing: {kernel:?}");
    let mut checks = Checks::default();
    for service in &services {
        let address = service.listener.address();
        let queue = service.listener.accept_queue()?;
        let accepted = service.accepted.load(Ordering::Relaxed);
        let figures = end.figures(address)?;
        checks.equal(&format!("{address}: accepts"), figures.accepts, accepted);
        checks.equal(&format!("{address}: enqueued"), figures.enqueued, accepted + queue.length);
        checks.equal(
            &format!("{address}: queue length"),
            figures.accept_queue_length,
            queue.length,
        );
        checks.equal(&format!("{address}: queue limit"), figures.accept_queue_limit, queue.limit);
        checks.equal(&format!("{address}: sockets"), figures.sockets, 1);
    }
    checks.end()
}

/// One of each family and backlog that is served, and one that is not.
fn open_services(netns: &Netns) -> Result<Vec<Service>> {
    let mut services = Vec::new();
    for family in [Family::V4, Family::V6] {
        for backlog in BACKLOGS {
            for accepting in [false, true] {
                let listener = Listener::open(netns, family.loopback(), backlog)?;
                services.push(Service { listener, accepting, accepted: AtomicU64::new(0) });
            }
        }
    }
    Ok(services)
}

/// Clients on several threads, and one thread that accepts, until all clients
/// are through and the served queues are empty.
fn run_load(netns: &Netns, services: &[Service]) -> Result<()> {
    let addresses: Vec<SocketAddr> =
        services.iter().map(|service| service.listener.address()).collect();
    let clients_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let acceptor = scope.spawn(|| {
            loop {
                // Read before the round, so that a full round follows the last client.
                let last_round = clients_done.load(Ordering::Acquire);
                for service in services.iter().filter(|service| service.accepting) {
                    let accepted = service.listener.accept_all()?;
                    service.accepted.fetch_add(accepted, Ordering::Relaxed);
                }
                if last_round {
                    return Ok::<_, anyhow::Error>(());
                }
                thread::yield_now();
            }
        });
        let clients: Vec<_> = (0..CLIENT_THREADS)
            .map(|_| {
                scope.spawn(|| {
                    netns.enter()?;
                    let targets = addresses.iter().cycle().take(ATTEMPTS_PER_THREAD);
                    targets.copied().try_for_each(load::one_attempt)
                })
            })
            .collect();
        let outcomes: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        clients_done.store(true, Ordering::Release);
        let accepted = acceptor.join();
        for outcome in outcomes.into_iter().chain([accepted]) {
            netns::joined(outcome)?;
        }
        Ok(())
    })
}
