//! Overflows at both stages, at least a thousand of each, against the kernel's
//! counters: exactly equal, on the right listener, at the right stage.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    bench::{Bench, Case, Held, Target},
    figures::Figures,
    ledger::{Checks, Reading},
    load::{self, AckStage, Clients, ENOUGH},
    netns::Netns,
    sockets::{Family, Listener},
    wait,
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("overflow_syn_v4", |bench| at_syn(bench, Family::V4)),
    Case::everywhere("overflow_syn_v6", |bench| at_syn(bench, Family::V6)),
    Case::everywhere("overflow_ack_v4", |bench| at_ack(bench, Family::V4)),
    Case::everywhere("overflow_ack_v6", |bench| at_ack(bench, Family::V6)),
    Case::everywhere("overflow_both_v4_mapped", v4_mapped),
    Case::new(
        "overflow_without_cookies",
        without_cookies,
        Held::NotOn(
            &[Target::Host],
            "without SYN cookies the tracepoint backend cannot split sk_drops into a full SYN \
             queue and a full accept queue; drops_without_cookies is held instead",
        ),
    ),
    Case::new(
        "drops_without_cookies",
        drops_without_cookies,
        Held::Only(&[Target::Host], "overflow_without_cookies asks for more"),
    ),
];

/// SYNs refused: one listener is flooded, its neighbour is left alone.
fn at_syn(bench: &Bench, family: Family) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let listener = Listener::open(&netns, family.loopback(), 4)?;
    let neighbour = Listener::open(&netns, family.loopback(), 4)?;
    let to = listener.address();
    let start = Reading::take(&netns, &daemon)?;

    let _queued = load::fill(&netns, &listener, to)?;
    load::syns(&netns, to, ENOUGH)?;

    let end = Reading::take(&netns, &daemon)?;
    let kernel = end.agrees_since(&start)?;
    ensure!(kernel.listen_overflows >= ENOUGH, "the fixture made only {kernel:?}");
    let mut checks = Checks::default();
    // The kernel's other witness: one sk_drops per refused SYN, on this very socket.
    checks.equal("sk_drops of the flooded socket", listener.socket_drops()?, kernel.listen_drops);
    let figures = end.figures(to)?;
    checks.equal("overflows at stage syn", figures.overflows_syn, kernel.listen_overflows);
    checks.nothing("overflows at stage ack", figures.overflows_ack);
    checks.nothing("overflows at stage cookie", figures.overflows_cookie);
    checks.equal("listen drops", figures.listen_drops, kernel.listen_drops);
    checks.equal("accept queue length", figures.accept_queue_length, 5);
    checks.equal("accept queue limit", figures.accept_queue_limit, 4);
    checks.equal("enqueued", figures.enqueued, 5);
    if let Some(received) = figures.syns_received {
        checks.equal("SYNs received", received, 5 + kernel.listen_overflows);
    }
    let idle = end.figures(neighbour.address())?;
    checks.nothing("overflows of the neighbour", Some(idle.overflows()));
    checks.nothing("listen drops of the neighbour", idle.listen_drops);
    checks.end()
}

/// Final ACKs refused; no SYN is.
fn at_ack(bench: &Bench, family: Family) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let listener = Listener::open(&netns, family.loopback(), 4)?;
    let to = listener.address();
    let start = Reading::take(&netns, &daemon)?;

    let mut stage = AckStage::connect(&netns, &listener, to)?;
    let waiting = Reading::take(&netns, &daemon)?;
    stage.overflow(&netns, &listener, ENOUGH)?;
    stage.end()?;

    let end = Reading::take(&netns, &daemon)?;
    let kernel = end.agrees_since(&start)?;
    ensure!(kernel.listen_overflows >= ENOUGH, "the fixture made only {kernel:?}");
    let mut checks = Checks::default();
    let before = waiting.figures(to)?;
    checks.equal("SYN queue length", before.syn_queue_length, AckStage::REQUESTS);
    checks.equal("accept queue length before", before.accept_queue_length, 0);
    checks.nothing("listen drops of deferred ACKs", before.listen_drops);
    let figures = end.figures(to)?;
    checks.nothing("overflows at stage syn", figures.overflows_syn);
    checks.equal("overflows at stage ack", figures.overflows_ack, kernel.listen_overflows);
    checks.nothing("overflows at stage cookie", figures.overflows_cookie);
    checks.equal("listen drops", figures.listen_drops, kernel.listen_drops);
    // listen(fd, 0) holds one.
    checks.equal("accept queue length", figures.accept_queue_length, 1);
    checks.equal("accept queue limit", figures.accept_queue_limit, 0);
    checks.equal("enqueued", figures.enqueued, 1);
    checks.end()
}

/// IPv4 clients of an IPv6 socket take the IPv4 path of the kernel, once.
fn v4_mapped(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let any: SocketAddr = (std::net::Ipv6Addr::UNSPECIFIED, 0).into();
    let listener = Listener::open(&netns, any, 4)?;
    let to = Family::V4.loopback_at(listener.address().port());
    let start = Reading::take(&netns, &daemon)?;

    let mut stage = AckStage::connect(&netns, &listener, to)?;
    stage.overflow(&netns, &listener, ENOUGH)?;
    stage.end()?;
    let between = Reading::take(&netns, &daemon)?;
    let at_ack = between.agrees_since(&start)?;

    // The queue of one place is still full.
    load::syns(&netns, to, ENOUGH)?;
    let end = Reading::take(&netns, &daemon)?;
    let at_syn = end.agrees_since(&between)?;

    ensure!(at_ack.listen_overflows >= ENOUGH, "the fixture made only {at_ack:?}");
    ensure!(at_syn.listen_overflows >= ENOUGH, "the fixture made only {at_syn:?}");
    let mut checks = Checks::default();
    let figures = end.figures(listener.address())?;
    checks.equal("overflows at stage syn", figures.overflows_syn, at_syn.listen_overflows);
    checks.equal("overflows at stage ack", figures.overflows_ack, at_ack.listen_overflows);
    checks.nothing("overflows at stage cookie", figures.overflows_cookie);
    checks.equal("listen drops", figures.listen_drops, at_ack.listen_drops + at_syn.listen_drops);
    checks.end()
}

/// Without cookies a full SYN queue drops SYNs too: listen drops that are no
/// overflows, on the same listener.
fn without_cookies(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    netns.set_sysctl("net.ipv4.tcp_syncookies", "0")?;
    let daemon = bench.daemon()?;
    let listener = Listener::open(&netns, Family::V4.loopback(), 8)?;
    let to = listener.address();
    let start = Reading::take(&netns, &daemon)?;

    let mut clients = fill_syn_queue(&netns, &listener)?;
    load::syns(&netns, to, ENOUGH)?;
    let between = Reading::take(&netns, &daemon)?;
    let full_syn_queue = between.agrees_since(&start)?;

    // Their data completes the handshakes: the SYN queue empties into the accept
    // queue, which is filled up to its last place.
    clients.send_one_byte_each()?;
    let requests = u64::try_from(clients.len())?;
    wait::until_true("the requests are queued", Duration::from_secs(10), || {
        Ok(listener.accept_queue()?.length == requests)
    })?;
    listener.defer_accept(0)?;
    let _more = load::fill(&netns, &listener, to)?;
    load::syns(&netns, to, ENOUGH)?;
    let end = Reading::take(&netns, &daemon)?;
    let full_accept_queue = end.agrees_since(&between)?;

    ensure!(
        full_syn_queue.syn_queue_full_drops >= ENOUGH && full_syn_queue.listen_overflows == 0,
        "the fixture did not fill only the SYN queue: {full_syn_queue:?}"
    );
    ensure!(
        full_accept_queue.listen_overflows >= ENOUGH && full_accept_queue.syn_queue_full_drops == 0,
        "the fixture did not fill only the accept queue: {full_accept_queue:?}"
    );
    let mut checks = Checks::default();
    let before: Figures = between.figures(to)?;
    checks.nothing("overflows while only the SYN queue was full", Some(before.overflows()));
    checks.equal(
        "listen drops of a full SYN queue",
        before.listen_drops,
        full_syn_queue.listen_drops,
    );
    let figures = end.figures(to)?;
    checks.equal(
        "overflows at stage syn",
        figures.overflows_syn,
        full_accept_queue.listen_overflows,
    );
    checks.nothing("overflows at stage ack", figures.overflows_ack);
    checks.equal(
        "listen drops",
        figures.listen_drops,
        full_syn_queue.listen_drops + full_accept_queue.listen_drops,
    );
    checks.end()
}

/// Where no hook sees a SYN refused, its listen drops are still exact, and none of
/// them is called an overflow on a guess.
fn drops_without_cookies(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    netns.set_sysctl("net.ipv4.tcp_syncookies", "0")?;
    let daemon = bench.daemon()?;
    let listener = Listener::open(&netns, Family::V4.loopback(), 8)?;
    let to = listener.address();
    let start = Reading::take(&netns, &daemon)?;
    let _requests = fill_syn_queue(&netns, &listener)?;
    load::syns(&netns, to, ENOUGH)?;
    let end = Reading::take(&netns, &daemon)?;

    let (kernel, ours) = end.since(&start)?;
    ensure!(kernel.syn_queue_full_drops >= ENOUGH, "the fixture made only {kernel:?}");
    let mut checks = Checks::default();
    checks.equal("listen drops, sum over listeners", ours.listen_drops, kernel.listen_drops);
    checks.equal("listen drops", end.figures(to)?.listen_drops, kernel.listen_drops);
    checks.nothing("overflows", Some(ours.overflows));
    checks.end()
}

/// As many deferred clients as the SYN queue takes: 8 at backlog 8 where the
/// kernel asks `>=`, 9 where it asks `>`.
fn fill_syn_queue(netns: &Netns, listener: &Listener) -> Result<Clients> {
    listener.defer_accept(load::DEFER_SECONDS)?;
    let clients = Clients::connect_until_refused(netns, listener.address(), 10)?;
    ensure!((8..=9).contains(&clients.len()), "{} requests at backlog 8", clients.len());
    Ok(clients)
}
