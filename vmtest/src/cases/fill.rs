//! Queues that are filled one by one, to half of their limit, to nine tenths, to the limit
//! and by one more: is each step in its bucket?

use anyhow::{Result, ensure};

use crate::{
    bench::{Bench, Case, Held, Target},
    histogram::Histogram,
    ledger::{Checks, Reading},
    load::Clients,
    netns::Netns,
    raw::Wire,
    scenarios::kernel_view,
    sockets::{AcceptQueue, Family, Listener},
};

const ACCEPT: &str = "tcpq_accept_queue_fill_ratio";
const SYN: &str = "tcpq_syn_queue_fill_ratio";

pub(super) const CASES: &[Case] = &[
    Case::everywhere("fill_accept_queue", accept_queue),
    Case::new(
        "fill_syn_queue",
        syn_queue,
        Held::NotOn(&[Target::Host], "no tracepoint tells of a request: accept_wait_absent"),
    ),
];

/// The limit of every queue here.
const LIMIT: u32 = 20;
const BACKLOG: i32 = 20;

/// To what length each is filled.
const LENGTHS: [u32; 4] = [10, 18, 20, 21];

/// The bounds of the buckets, in percent.
const PERCENT: [u32; 7] = [10, 25, 50, 75, 90, 95, 100];

/// One listener per length and family.
fn listeners(netns: &Netns) -> Result<Vec<(u32, Listener)>> {
    let families = [Family::V4, Family::V6];
    let all = families.iter().flat_map(|family| LENGTHS.map(|length| (length, family)));
    all.map(|(length, family)| Ok((length, Listener::open(netns, family.loopback(), BACKLOG)?)))
        .collect()
}

/// It holds one more than its limit.
fn accept_queue(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let listeners = listeners(&netns)?;
    let start = Reading::take(&netns, &daemon)?;

    let mut clients = Vec::new();
    for (length, listener) in &listeners {
        let count = usize::try_from(*length)?;
        clients.push(Clients::connect(&netns, listener.address(), count)?);
    }

    let end = Reading::take(&netns, &daemon)?;
    let kernel = end.agrees_since(&start)?;
    ensure!(kernel.listen_overflows == 0, "the fixture overflowed: {kernel:?}");
    let mut checks = Checks::default();
    for (length, listener) in &listeners {
        let wanted = AcceptQueue { length: (*length).into(), limit: LIMIT.into() };
        let queued = listener.accept_queue()?;
        ensure!(queued == wanted, "the queue is {queued:?}");
        compare(ACCEPT, *length, &netns, listener, &end, &mut checks)?;
    }
    checks.end()
}

/// It holds its limit, and on later kernels one more. Whoever comes then is answered by a
/// cookie and enters no queue.
fn syn_queue(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let wire = Wire::new(&netns)?;
    let listeners = listeners(&netns)?;
    let start = Reading::take(&netns, &daemon)?;

    for (length, listener) in &listeners {
        for _ in 0..*length {
            wire.peer(listener.address()).syn()?;
        }
    }

    let end = Reading::take(&netns, &daemon)?;
    let kernel = end.agrees_since(&start)?;
    let mut checks = Checks::default();
    let mut by_cookie = 0;
    for (length, listener) in &listeners {
        let requests = u32::try_from(kernel_view::requests(&netns, listener.address())?)?;
        ensure!(
            requests == *length || (requests == LIMIT && *length > LIMIT),
            "{requests} requests of {length}"
        );
        by_cookie += u64::from(length - requests);
        compare(SYN, requests, &netns, listener, &end, &mut checks)?;
        let fill = Histogram::of(&end.metrics, ACCEPT, &netns.label(), listener.address())?;
        checks.hold("a fill of the accept queue", fill.is_none_or(|fill| fill.count == 0));
    }
    ensure!(kernel.cookies_sent == by_cookie, "cookies of {by_cookie} clients: {kernel:?}");
    checks.end()
}

/// Whoever enters finds the queue longer by one than the one before: 1 to `length`.
fn compare(
    family: &str,
    length: u32,
    netns: &Netns,
    listener: &Listener,
    end: &Reading,
    checks: &mut Checks,
) -> Result<()> {
    let what = format!("{family} of {}, {length} of {LIMIT}", listener.address());
    let histogram = Histogram::of(&end.metrics, family, &netns.label(), listener.address())?;
    checks.equal(&format!("{what}: count"), histogram.as_ref().map(|it| it.count), length.into());
    let Some(histogram) = histogram else { return Ok(()) };
    for percent in PERCENT {
        let bound = f64::from(percent) / 100.0;
        let within = (1..=length).filter(|now| now * 100 <= percent * LIMIT).count();
        let within = u64::try_from(within)?;
        checks.equal(&format!("{what}: up to {bound}"), histogram.within(bound), within);
    }
    checks.hold(
        &format!("{what}: {} buckets", histogram.buckets.len()),
        histogram.buckets.len() == PERCENT.len() + 1,
    );
    let sum = f64::from((1..=length).sum::<u32>()) / f64::from(LIMIT);
    checks.hold(
        &format!("{what}: the sum is {}, not {sum}", histogram.sum),
        (histogram.sum - sum).abs() < 1e-4,
    );
    Ok(())
}
