//! The life of a queue: it drains, its listener closes and comes back, and the
//! other ways to look at it say the same.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{
    bench::{Bench, Case},
    ledger::{Checks, Reading},
    load::{self, AckStage},
    netns::Netns,
    sockets::{Family, Listener},
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("queue_drains", drains),
    Case::everywhere("listener_restart", restart),
    Case::everywhere("list_shows_the_same", list),
];

/// After everything was accepted the very next scrape says so.
fn drains(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let listener = Listener::open(&netns, Family::V4.loopback(), 16)?;
    let to = listener.address();
    let start = Reading::take(&netns, &daemon)?;
    let _queued = load::fill(&netns, &listener, to)?;
    load::syns(&netns, to, 100)?;
    let full = Reading::take(&netns, &daemon)?;

    let accepted = listener.accept_all()?;
    let next = daemon.scrape()?;

    let end = Reading::take(&netns, &daemon)?;
    end.agrees_since(&start)?;
    ensure!(accepted == 17, "the fixture accepted {accepted} connections");
    let mut checks = Checks::default();
    let before = full.figures(to)?;
    checks.equal("length when full", before.accept_queue_length, 17);
    checks.equal("accepts when full", before.accepts, 0);
    let drained = crate::figures::Figures::of(&next, &netns.label(), to)?;
    checks.equal("length at the next scrape", drained.accept_queue_length, 0);
    checks.equal("accepts at the next scrape", drained.accepts, accepted);
    checks.equal("enqueued", drained.enqueued, accepted);
    checks.nothing("abandoned", drained.abandoned);
    checks.end()
}

/// The same port closed and opened again goes on counting where it was, and the
/// connections that nobody accepted are counted as abandoned.
fn restart(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let first = Listener::open(&netns, Family::V4.loopback(), 4)?;
    let to = first.address();
    let start = Reading::take(&netns, &daemon)?;
    let queued = load::fill(&netns, &first, to)?;
    load::syns(&netns, to, 100)?;
    let open = Reading::take(&netns, &daemon)?;
    drop(first);
    let closed = Reading::take(&netns, &daemon)?;
    drop(queued);

    let second = Listener::open(&netns, to, 2)?;
    let _queued = load::fill(&netns, &second, to)?;
    load::syns(&netns, to, 50)?;
    let end = Reading::take(&netns, &daemon)?;

    let (kernel_open, kernel) = (open.agrees_since(&start)?, end.agrees_since(&start)?);
    let mut checks = Checks::default();
    let figures = closed.figures(to)?;
    checks.equal(
        "overflows of a closed listener",
        figures.overflows_syn,
        kernel_open.listen_overflows,
    );
    checks.equal("abandoned at close", figures.abandoned, 5);
    checks.nothing("sockets of a closed listener", figures.sockets);
    checks.nothing("queue of a closed listener", figures.accept_queue_length);
    let figures = end.figures(to)?;
    checks.equal("sockets after the restart", figures.sockets, 1);
    checks.equal("overflows, both lives", figures.overflows_syn, kernel.listen_overflows);
    checks.equal("listen drops, both lives", figures.listen_drops, kernel.listen_drops);
    checks.equal("enqueued, both lives", figures.enqueued, 5 + 3);
    checks.nothing("accepts", figures.accepts);
    checks.equal("abandoned, both lives", figures.abandoned, 5);
    checks.equal("queue length after the restart", figures.accept_queue_length, 3);
    checks.equal("queue limit after the restart", figures.accept_queue_limit, 2);
    checks.end()
}

#[derive(Debug, Deserialize)]
struct List {
    listeners: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    netns: String,
    address: String,
    #[serde(default)]
    port: Option<u16>,
    sockets: u64,
    accept_queue: Queue,
    syn_queue: Queue,
    #[serde(default)]
    overflows: Option<Overflows>,
    #[serde(default)]
    listen_drops: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Queue {
    length: u64,
    limit: u64,
}

#[derive(Debug, Default, Deserialize)]
struct Overflows {
    #[serde(default)]
    syn: Option<u64>,
    #[serde(default)]
    ack: Option<u64>,
}

/// `tcpq list` with a daemon has the daemon's figures; without one it still has
/// the queues.
fn list(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let listener = Listener::open(&netns, Family::V4.loopback(), 4)?;
    let to = listener.address();
    let daemon = bench.daemon()?;
    let mut requests = AckStage::connect_some(&netns, &listener, to, 3)?;
    requests.overflow(&netns, &listener, 6)?;
    requests.end()?;
    load::syns(&netns, to, 20)?;
    let reading = Reading::take(&netns, &daemon)?;
    let figures = reading.figures(to)?;

    let run_dir = daemon.run_dir().to_str().context("a run directory that is no text")?;
    let asked = row(bench, &["list", "--json", "--run-dir", run_dir], &netns, &listener)?;
    let mut checks = Checks::default();
    checks.equal("sockets", asked.sockets, 1);
    checks.equal("accept queue", asked.accept_queue.length, 1);
    checks.equal("accept queue limit", asked.accept_queue.limit, 0);
    checks.hold(
        "SYN queue limit is not the metric's",
        figures.syn_queue_limit == Some(asked.syn_queue.limit),
    );
    checks.hold(
        "SYN queue is not the metric's",
        figures.syn_queue_length == Some(asked.syn_queue.length),
    );
    let overflows = asked.overflows.unwrap_or_default();
    checks.equal("overflows at stage syn", overflows.syn, figures.overflows_syn.unwrap_or(0));
    checks.equal("overflows at stage ack", overflows.ack, figures.overflows_ack.unwrap_or(0));
    checks.equal("listen drops", asked.listen_drops, reading.kernel.listen_drops);

    let nobody_runs = bench.scratch().path().join("empty");
    std::fs::create_dir(&nobody_runs).context("cannot make a directory")?;
    let nobody_runs = nobody_runs.to_str().context("a directory that is no text")?;
    let direct = row(bench, &["list", "--json", "--run-dir", nobody_runs], &netns, &listener)?;
    checks.equal("accept queue without a daemon", direct.accept_queue.length, 1);
    checks.equal("accept queue limit without a daemon", direct.accept_queue.limit, 0);
    checks.end()
}

fn row(bench: &Bench, arguments: &[&str], netns: &Netns, listener: &Listener) -> Result<Row> {
    let list: List = bench.run_json(arguments)?;
    let to = listener.address();
    list.listeners
        .into_iter()
        .find(|row| {
            row.netns == netns.label()
                && row.address == to.ip().to_string()
                && row.port == Some(to.port())
        })
        .with_context(|| format!("tcpq {} does not show {to}", arguments.join(" ")))
}
