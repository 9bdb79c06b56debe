//! Network namespaces that come and go while the daemon watches, each with listeners
//! that overflow: each one's counts are its own, and nothing of it stays.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, Case, Target},
    beside,
    daemon::Daemon,
    footprint,
    kernel_counters::KernelCounters,
    ledger::{Checks, Reading},
    load::{self, Clients},
    netns::Netns,
    scale::{Scale, Stopwatch},
    sockets::{Family, Listener},
    wait,
};

/// 5.10, because a namespace's identity is used again there.
pub(super) const CASES: &[Case] = &[Case::everywhere("namespaces_come_and_go", come_and_go)
    .in_part_on(&[Target::Host, Target::V5_10])];

/// Namespaces in all, and of them at once.
const NAMESPACES: usize = 100;
const THREADS: usize = 4;

/// Listeners in each.
const LISTENERS: usize = 10;

/// Until what has ended is forgotten.
const FORGOTTEN_WITHIN: Duration = Duration::from_mins(1);

fn come_and_go(bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    let daemon = bench.launch()?.setting("--listener.retention", 1).start()?;
    // With a listener that stays, and is overflowed all the while.
    let staying = Netns::new()?;
    let full = Listener::open(&staying, Family::V4.loopback(), 4)?;
    let _queued = load::fill(&staying, &full, full.address())?;
    let start = Reading::take(&staying, &daemon)?;
    let tracked = start.metrics.sum("tcpq_listeners_tracked", &[])?;
    let entries = footprint::map_entries(daemon.pid())?;

    let each = Scale::from_env().tenth(NAMESPACES).div_ceil(THREADS);
    let (overflows, inodes) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    beside::on_threads(THREADS, |_| {
        for _ in 0..each {
            let inside = Inside::open(&daemon)?;
            load::syns(&staying, full.address(), 10)?;
            let counted = inside.overflow(&daemon)?;
            overflows.fetch_add(counted, Ordering::Relaxed);
            inodes.lock().unwrap_or_else(PoisonError::into_inner).push(inside.netns.inode());
        }
        Ok(())
    })?;

    let end = Reading::take(&staying, &daemon)?;
    end.agrees_since(&start)?;
    let sent = u64::try_from(each * THREADS * 10)?;
    let refused = full.socket_drops()?;
    ensure!(refused >= sent, "{sent} clients, but only {refused} were refused");
    let mut checks = Checks::default();
    checks.equal("the one that stays", end.figures(full.address())?.overflows_syn, refused);
    checks.end()?;
    nothing_left(&daemon, tracked, &entries, &inodes.into_inner().unwrap_or_default())?;
    watch.tell(&format!(
        "{} namespaces of {LISTENERS} listeners, {} overflows",
        each * THREADS,
        overflows.into_inner()
    ));
    Ok(())
}

/// A namespace that ends when this is dropped, with its listeners. (The kernel soon
/// gives its number to the next one, whose counts may then continue its groups; so all
/// is compared between two readings.)
struct Inside {
    /// Before the namespace: sockets and clients keep it alive.
    _queued: Vec<Clients>,
    listeners: Vec<Listener>,
    start: Reading,
    netns: Netns,
}

impl Inside {
    fn open(daemon: &Daemon) -> Result<Self> {
        let netns = Netns::passing()?;
        let listeners = (0..LISTENERS)
            .map(|index| {
                let family = if index % 2 == 0 { Family::V4 } else { Family::V6 };
                // The same ports in each: only the namespace tells them apart.
                let port = 9_000 + u16::try_from(index)?;
                Listener::open(&netns, family.loopback_at(port), 1)
            })
            .collect::<Result<Vec<_>>>()?;
        let queued = listeners
            .iter()
            .map(|listener| load::fill(&netns, listener, listener.address()))
            .collect::<Result<Vec<_>>>()?;
        let start = Reading::take(&netns, daemon)?;
        Ok(Self { _queued: queued, listeners, start, netns })
    }

    /// Overflows each listener another number of times, and returns their sum.
    fn overflow(&self, daemon: &Daemon) -> Result<u64> {
        let mut expected: BTreeMap<SocketAddr, u64> = BTreeMap::new();
        for (index, listener) in self.listeners.iter().enumerate() {
            let count = 5 + u64::try_from(index)?;
            load::syns(&self.netns, listener.address(), count)?;
            // The kernel's own count for this socket: maybe some SYNs came twice.
            let refused = listener.socket_drops()?;
            ensure!(refused >= count, "{count} clients, but only {refused} were refused");
            expected.insert(listener.address(), refused);
        }
        let end = Reading::take(&self.netns, daemon)?;
        let kernel = end.agrees_since(&self.start)?;
        let mut checks = Checks::default();
        for (address, count) in &expected {
            let before = self.start.figures(*address)?.overflows();
            let ours = end.figures(*address)?.overflows() - before;
            checks.equal(&format!("{address}: overflows"), ours, *count);
        }
        checks.equal("sum", expected.values().sum::<u64>(), kernel.listen_overflows);
        checks.end()?;
        // Nobody is still sending: what is compared is all there is.
        let after = KernelCounters::read(&self.netns)?;
        ensure!(after == end.kernel, "the namespace is not quiet: {after:?}");
        Ok(kernel.listen_overflows)
    }
}

fn nothing_left(
    daemon: &Daemon,
    tracked: Option<u64>,
    entries: &BTreeMap<String, usize>,
    inodes: &[u64],
) -> Result<()> {
    let mut last = String::new();
    wait::until_true("nothing of the namespaces is left", FORGOTTEN_WITHIN, || {
        let metrics = daemon.scrape()?;
        let groups: usize = inodes
            .iter()
            .map(|inode| {
                metrics.select("tcpq_listener_sockets", &[("netns", &inode.to_string())]).count()
            })
            .sum();
        let tracked_now = metrics.sum("tcpq_listeners_tracked", &[])?;
        let entries_now = footprint::map_entries(daemon.pid())?;
        let audited = footprint::audited_namespaces(daemon.pid())?;
        last = format!(
            "{groups} groups, tracked {tracked_now:?}, entries {entries_now:?}, {audited} audited"
        );
        // The one that stays has had drops.
        Ok(groups == 0 && tracked_now == tracked && entries_now == *entries && audited <= 1)
    })
    .with_context(|| {
        format!("at the start tracked {tracked:?}, entries {entries:?}; now {last}")
    })?;
    // A daemon that holds one would keep the kernel from ending it.
    let held = footprint::held_namespaces(daemon.pid())?;
    let kept: Vec<_> = inodes.iter().filter(|inode| held.contains(inode)).collect();
    ensure!(kept.is_empty(), "the daemon holds namespaces that have ended: {kept:?}");
    Ok(())
}
