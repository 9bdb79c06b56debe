//! Shows a newcomer what an accept queue overflow is, and that tcpq counts it as
//! the kernel does. Ends with 0 only if every figure is equal.
//!
//! `demo [--backend fentry|kprobe|tracepoint]`; the same on a host and in a guest.

use std::{net::SocketAddr, process::ExitCode};

use anyhow::{Context as _, Result, anyhow, bail};
use tcpq_vmtest::{
    daemon::{self, Backend, Daemon, Launch},
    figures::Figures,
    ledger::{Checks, Reading},
    load::{self, AckStage, Clients},
    netns::{self, Netns},
    scratch::Scratch,
    sockets::{Family, Listener},
};

const CLIENTS: usize = 30;
const BACKLOG: i32 = 4;
const LATE_CLIENTS: usize = 10;

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nVerdict: NOT shown. {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let backend = backend_from_arguments()?;
    let scratch = Scratch::new()?;
    netns::loopback_up().context("cannot bring the loopback interface up (this needs root)")?;
    println!("tcpq demo: connections that a server is too slow to accept");
    let daemon = Launch::new(&daemon::binary()?, &scratch)?
        .backend(backend)
        .start()
        .map_err(|error| anyhow!("{error:#}\n{}", scratch.logs()))?;

    let netns = Netns::new()?;
    let idle = Listener::open(&netns, Family::V4.loopback(), BACKLOG)?;
    let shrinking = Listener::open(&netns, Family::V4.loopback(), BACKLOG)?;
    println!("A tcpq of its own is watching every listener; nothing tells it about these.");
    let mut checks = Checks::default();
    let start = Reading::take(&netns, &daemon)?;

    let (refused, _queued) = refused_at_syn(&netns, &daemon, &idle, &start)?;
    let end = refused_at_ack(&netns, &daemon, &shrinking, &refused)?;
    drain(&netns, &daemon, [&idle, &shrinking], &end, &mut checks)?;

    compare(&start, &end, [&idle, &shrinking], &mut checks)?;
    checks.end().context("NOT equal")?;
    let kernel = end.kernel.since(start.kernel);
    println!(
        "\nVerdict: equal. The kernel counted {} overflows and {} drops for the whole namespace;",
        kernel.listen_overflows, kernel.listen_drops
    );
    println!("tcpq counted the same, and knows which listener and which stage.");
    Ok(())
}

/// The first act: a full queue, and clients that are refused at the door.
fn refused_at_syn(
    netns: &Netns,
    daemon: &Daemon,
    listener: &Listener,
    start: &Reading,
) -> Result<(Reading, Clients)> {
    let to = listener.address();
    println!("\n1. A server that never calls accept()");
    println!("   It listens on {to} with listen(fd, {BACKLOG}), in a network namespace of");
    println!("   its own. Its accept queue has room for {BACKLOG} + 1 finished connections.");
    println!("   {CLIENTS} clients come, one after the other.");
    let queued = load::fill(netns, listener, to)?;
    let late = CLIENTS.checked_sub(queued.len()).context("more places than clients")?;
    load::syns(netns, to, u64::try_from(late)?)?;
    let now = Reading::take(netns, daemon)?;
    println!(
        "   {} are connected and wait in the queue. The SYNs of the other {late}",
        queued.len()
    );
    println!("   were dropped without an answer: overflows at stage \"syn\".");
    show(start, &now, to, "overflow_syn")?;
    if now.figures(to)?.overflows_cookie.is_none() {
        println!("   (-: this kernel has no hook that shows it; see `tcpq doctor`)");
    }
    Ok((now, queued))
}

/// The second act: clients that were let in, and lost their place meanwhile.
fn refused_at_ack(
    netns: &Netns,
    daemon: &Daemon,
    listener: &Listener,
    before: &Reading,
) -> Result<Reading> {
    let to = listener.address();
    println!("\n2. A queue that is full by the time a handshake ends");
    println!("   {LATE_CLIENTS} clients of {to} get an answer to their SYN while there is");
    println!("   room. Then the queue shrinks to one place, listen(fd, 0), and each client");
    println!("   sends its data, which is the ACK that ends the handshake. One gets the");
    println!("   place; the others are refused at each try: overflows at stage \"ack\".");
    let mut stage = AckStage::connect_some(netns, listener, to, LATE_CLIENTS)?;
    stage.overflow(netns, listener, 2 * u64::try_from(LATE_CLIENTS)?)?;
    stage.end()?;
    let now = Reading::take(netns, daemon)?;
    show(before, &now, to, "overflow_ack")?;
    Ok(now)
}

/// The last act: the server wakes up.
fn drain(
    netns: &Netns,
    daemon: &Daemon,
    listeners: [&Listener; 2],
    full: &Reading,
    checks: &mut Checks,
) -> Result<()> {
    println!("\n3. The server wakes up and accepts everything");
    println!(
        "   {:<22}{:>12}{:>10}{:>12}",
        "accept queue of", "tcpq before", "accept()", "tcpq after"
    );
    for listener in listeners {
        let to = listener.address();
        let before = full.figures(to)?;
        let accepted = listener.accept_all()?;
        let after = Figures::of(&daemon.scrape()?, &netns.label(), to)?;
        println!(
            "   {:<22}{:>12}{accepted:>10}{:>12}",
            to.to_string(),
            text(before.accept_queue_length),
            text(after.accept_queue_length)
        );
        checks.equal("accept queue before", before.accept_queue_length, accepted);
        checks.equal("accept queue after", after.accept_queue_length, 0);
        checks.equal("accepts", after.accepts, accepted);
    }
    Ok(())
}

/// The kernel's counters and one listener's figures, before and after an act.
fn show(before: &Reading, after: &Reading, listener: SocketAddr, signal: &str) -> Result<()> {
    let (old, new) = (before.figures(listener)?, after.figures(listener)?);
    println!("\n   {:<42}{:>8}{:>8}{:>8}", "", "before", "after", "change");
    let row = |name: &str, old: Option<u64>, new: Option<u64>| {
        let change = new.zip(old).map(|(new, old)| new.saturating_sub(old));
        println!("   {name:<42}{:>8}{:>8}{:>8}", text(old), text(new), text(change));
    };
    let (kernel_old, kernel_new) = (before.kernel, after.kernel);
    row(
        "kernel  ListenOverflows (whole namespace)",
        Some(kernel_old.listen_overflows),
        Some(kernel_new.listen_overflows),
    );
    row("        ListenDrops", Some(kernel_old.listen_drops), Some(kernel_new.listen_drops));
    row("tcpq    overflows at stage syn (listener)", old.overflows_syn, new.overflows_syn);
    row("        overflows at stage ack", old.overflows_ack, new.overflows_ack);
    row("        overflows at stage cookie", old.overflows_cookie, new.overflows_cookie);
    row("        listen drops", old.listen_drops, new.listen_drops);
    for sample in after.metrics.select("tcpq_hook_info", &[("signal", signal)]) {
        let label = |name: &str| sample.labels.get(name).map_or("?", String::as_str);
        println!("   counted by {} ({})", label("hook"), label("exactness"));
    }
    Ok(())
}

/// Kernel against tcpq over both acts, and the stage that each act was about.
fn compare(
    start: &Reading,
    end: &Reading,
    [at_syn, at_ack]: [&Listener; 2],
    checks: &mut Checks,
) -> Result<()> {
    let kernel = end.agrees_since(start)?;
    let (at_syn, at_ack) = (end.figures(at_syn.address())?, end.figures(at_ack.address())?);
    let syn = u64::try_from(CLIENTS)? - at_syn.accept_queue_length.unwrap_or(0);
    checks.equal("overflows at stage syn", at_syn.overflows_syn, syn);
    checks.equal("overflows at stage ack", at_ack.overflows_ack, kernel.listen_overflows - syn);
    checks.nothing("overflows at stage ack of the first listener", at_syn.overflows_ack);
    checks.nothing("overflows at stage syn of the second listener", at_ack.overflows_syn);
    Ok(())
}

/// A figure that the backend cannot give is a dash, never a zero.
fn text(figure: Option<u64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string())
}

fn backend_from_arguments() -> Result<Backend> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let named = match arguments.as_slice() {
        [] => return Ok(Backend::Auto),
        ["--backend", name] => *name,
        _ => bail!("usage: demo [--backend auto|fentry|kprobe|tracepoint]"),
    };
    [Backend::Auto, Backend::Fentry, Backend::Kprobe, Backend::Tracepoint]
        .into_iter()
        .find(|backend| backend.flag() == named)
        .with_context(|| format!("{named} is no backend; try auto, fentry, kprobe or tracepoint"))
}
