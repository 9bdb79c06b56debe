//! `--collector.bpf-stats`: the kernel's own figures of our programs.

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, Case, Target},
    daemon::Daemon,
    load,
    netns::Netns,
    sockets::{Family, Listener},
};

pub(super) const CASES: &[Case] =
    &[Case::everywhere("runs_of_programs_are_counted", counted).in_part_on(SOME)];

/// What differs is the program that a SYN runs.
const SOME: &[Target] = &[Target::Host, Target::V6_12];

const SYNS: u64 = 200;

fn runs(daemon: &Daemon, program: &str) -> Result<Option<(u64, f64)>> {
    let metrics = daemon.scrape()?;
    let labels = [("program", program)];
    let Some(count) = metrics.sum("tcpq_bpf_program_runs_total", &labels)? else {
        return Ok(None);
    };
    let time = metrics.select("tcpq_bpf_program_run_seconds_total", &labels).next();
    let time = time.context("a program with runs and without time")?.value.parse();
    Ok(Some((count, time.context("no number")?)))
}

fn counted(bench: &Bench) -> Result<()> {
    // The tracepoint runs at each change of a socket's state: several for each connection.
    let (program, at_most) = match bench.target() {
        Target::Host => ("tp_set_state", SYNS * 100),
        // Nobody else sends SYNs but the scrapes.
        _ => ("fx_syn_v4", SYNS + 10),
    };
    ensure!(runs(&*bench.daemon()?, program)?.is_none(), "counted without being asked");
    let daemon = bench.launch()?.env("TCPQ_COLLECTOR_BPF_STATS", "true").start()?;
    let netns = Netns::new()?;
    let listener = Listener::open(&netns, Family::V4.loopback(), 4)?;
    let (before, spent) = runs(&daemon, program)?.context("no runs")?;
    load::syns(&netns, listener.address(), SYNS)?;
    let (after, spent_after) = runs(&daemon, program)?.context("no runs")?;
    let grown = after - before;
    ensure!((SYNS..=at_most).contains(&grown), "{program} ran {grown} times for {SYNS} SYNs");
    ensure!(spent_after > spent, "{grown} runs of {program} took no time");
    println!("{program}: {grown} runs in {:.0} us", (spent_after - spent) * 1e6);
    Ok(())
}
