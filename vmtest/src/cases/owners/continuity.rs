//! The owner of a port is restarted again and again, with overflows in between: what
//! Prometheus makes of the counter is what the kernel counted.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use anyhow::{Result, ensure};

use crate::{
    bench::{Bench, Case, Target},
    beside::{self, Work},
    claims::{self, BY_AN_EVENT},
    daemon::Daemon,
    exposition::Metrics,
    kernel_counters::KernelCounters,
    ledger::{Checks, Reading},
    load::{self, Clients},
    netns::Netns,
    puppet::Puppet,
    scale::Stopwatch,
    sockets::Family,
    wait,
};

pub(super) const CASES: &[Case] =
    &[Case::everywhere("increase_over_restarts", continuity)
        .in_part_on(&[Target::Host, Target::V7])];

/// Of the owner.
const RESTARTS: u64 = 20;

/// A queue of two.
const BACKLOG: i32 = 1;

const FAMILIES: [&str; 2] = ["tcpq_accept_queue_overflows_total", "tcpq_listen_drops_total"];

/// The values of each series of a family, in the order they were scraped.
type Scraped = BTreeMap<String, Vec<u64>>;

fn continuity(bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    let daemon = bench.daemon()?;
    let netns = Netns::new()?;
    let address = Family::V4.loopback_at(9_200);
    let scraped: [Mutex<Scraped>; 2] = Default::default();
    let keep = |metrics: &Metrics| -> Result<()> {
        for (family, scraped) in FAMILIES.iter().zip(&scraped) {
            let mut scraped = scraped.lock().unwrap_or_else(PoisonError::into_inner);
            for sample in metrics.select(family, &[("netns", &netns.label())]) {
                let series = format!("{:?}", sample.labels);
                scraped.entry(series).or_default().push(sample.count()?);
            }
        }
        Ok(())
    };

    let first = Owner::new(&netns, address, 0)?;
    claims::until_so(&daemon, BY_AN_EVENT, |api, metrics, checks| {
        checks.hold("the first is not listed", api.find(&netns.label(), address).is_some());
        // So that the first sample is of before the first overflow.
        keep(metrics)
    })?;
    let start = Reading::take(&netns, &daemon)?;
    keep(&start.metrics)?;

    let scraping: Work<'_> = Box::new(|over| {
        while !over.is_so() {
            keep(&daemon.scrape()?)?;
            wait::pace();
        }
        Ok(())
    });
    let last = beside::beside(vec![scraping], || {
        let mut owner = first;
        for restart in 1..=RESTARTS {
            // Before it ends, after it came back, or both.
            if restart % 3 != 0 {
                owner.overflow(&netns, restart)?;
            }
            drop(owner);
            owner = Owner::new(&netns, address, restart)?;
            if restart % 2 == 0 {
                owner.overflow(&netns, 2 * restart)?;
            }
        }
        Ok(owner)
    })?;

    let end = Reading::take(&netns, &daemon)?;
    keep(&end.metrics)?;
    let kernel = end.kernel.since(start.kernel);
    let forced = (1..=RESTARTS)
        .map(|restart| {
            let before = if restart % 3 == 0 { 0 } else { restart };
            before + if restart % 2 == 0 { 2 * restart } else { 0 }
        })
        .sum::<u64>();
    ensure!(kernel.listen_overflows >= forced, "{forced} were forced: {kernel:?}");
    let mut checks = Checks::default();
    let mut samples = 0;
    for ((family, scraped), truth) in
        FAMILIES.iter().zip(&scraped).zip([kernel.listen_overflows, kernel.listen_drops])
    {
        let scraped = scraped.lock().unwrap_or_else(PoisonError::into_inner);
        let increased: u64 = scraped.values().map(|values| increase(values)).sum();
        checks.equal(&format!("increase({family})"), increased, truth);
        samples = scraped.values().map(Vec::len).max().unwrap_or_default();
    }
    checks.end()?;
    end.agrees_since(&start)?;
    is_of_the_last(&daemon, &netns, address, &last)?;
    watch.tell(&format!(
        "{RESTARTS} restarts, {} overflows, {forced} of them forced, {samples} scrapes",
        kernel.listen_overflows
    ));
    Ok(())
}

/// As Prometheus does it: a value below the one before is a counter that began anew.
fn increase(values: &[u64]) -> u64 {
    values.windows(2).map(|pair| if pair[1] < pair[0] { pair[1] } else { pair[1] - pair[0] }).sum()
}

fn is_of_the_last(daemon: &Daemon, netns: &Netns, address: SocketAddr, last: &Owner) -> Result<()> {
    claims::until_so(daemon, BY_AN_EVENT, |api, _, checks| {
        let group = api.group(&netns.label(), address)?;
        let pids: Vec<_> = group.owners.iter().map(|owner| owner.pid).collect();
        checks.hold(
            &format!("owners {pids:?}, not {}", last.puppet.pid()),
            pids == [Some(last.puppet.pid())],
        );
        checks.equal("sockets", group.sockets, 1);
        Ok(())
    })
}

/// One life of the owner; its queue is full and nobody accepts.
struct Owner {
    address: SocketAddr,
    /// First, so that they are gone when their listener closes.
    _clients: Clients,
    puppet: Puppet,
}

impl Owner {
    fn new(netns: &Netns, address: SocketAddr, life: u64) -> Result<Self> {
        // Sometimes another program.
        let name = format!("life-{}", life / 4);
        let mut puppet = Puppet::stage().netns(netns).start()?.with_name(name.as_bytes())?;
        puppet.listen(address, BACKLOG)?;
        let room = usize::try_from(BACKLOG + 1)?;
        let clients = Clients::connect(netns, address, room)?;
        Ok(Self { address, _clients: clients, puppet })
    }

    fn overflow(&self, netns: &Netns, count: u64) -> Result<()> {
        let before = KernelCounters::read(netns)?;
        load::syns(netns, self.address, count)?;
        let refused = KernelCounters::read(netns)?.since(before).listen_overflows;
        ensure!(refused >= count, "{count} clients, but only {refused} were refused");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::increase;

    #[test]
    fn a_counter_that_begins_anew_is_added() {
        assert_eq!(increase(&[]), 0);
        assert_eq!(increase(&[7]), 0);
        assert_eq!(increase(&[0, 3, 3, 5]), 5);
        assert_eq!(increase(&[10, 12, 4, 6]), 8);
    }
}
