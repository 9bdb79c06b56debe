//! Does the self-test of the start pass, leave no trace, and find a hook that does
//! not fire?

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::plan::ON_6_12;
use crate::{
    bench::{Bench, Case, Target},
    daemon::{Backend, Daemon},
    exposition::Metrics,
    ledger::Checks,
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("self_test_passes", passes).in_part_on(&[
        Target::Host,
        Target::V5_10,
        Target::V7,
    ]),
    // They start a daemon several times over, which takes an emulated guest long.
    Case::everywhere("self_test_leaves_no_trace", no_trace).in_part_on(&[Target::Host, Target::V7]),
    Case::everywhere("self_test_off", off).in_part_on(&[Target::Host, Target::V7]),
    Case::new("self_test_finds_silent_probes", silent_probes, ON_6_12),
];

/// What is promised on a real CPU.
const PROMISED_SECONDS: f64 = 0.2;

/// An emulated CPU takes 20 to 50 times as long for a system call, and to make a
/// namespace the kernel waits for its other CPUs.
const EMULATED: f64 = 10.0;

#[derive(Deserialize)]
struct Doctor {
    self_test: SelfTest,
    signals: Vec<Signal>,
}

#[derive(Deserialize)]
struct SelfTest {
    by: String,
    outcome: String,
    #[serde(default)]
    seconds: f64,
    #[serde(default)]
    replaced: Vec<Finding>,
    #[serde(default)]
    why: String,
}

#[derive(Debug, Deserialize)]
struct Finding {
    signal: String,
    says: String,
}

#[derive(Deserialize)]
struct Signal {
    #[serde(rename = "signal")]
    name: String,
    exactness: String,
    #[serde(default)]
    reason: Option<String>,
}

/// What `tcpq doctor` says of this daemon.
fn doctor(bench: &Bench, daemon: &Daemon, more: &[&str]) -> Result<Doctor> {
    let run_dir = daemon.run_dir().to_str().context("a run directory that is no text")?;
    bench.run_json(&[&["doctor", "--json", "--run-dir", run_dir], more].concat())
}

fn passes(bench: &Bench) -> Result<()> {
    let slowness = if bench.target() == Target::Host { 1.0 } else { EMULATED };
    let daemon = bench.fresh_daemon()?;
    let of_daemon = doctor(bench, &daemon, &[])?.self_test;
    drop(daemon);
    let own: Doctor = bench.run_json(&["doctor", "--json"])?;

    let mut checks = Checks::default();
    for (said, by) in [(of_daemon, "daemon"), (own.self_test, "doctor")] {
        let SelfTest { by: said_by, outcome, seconds, replaced, why } = said;
        println!("self-test by {by}: {outcome} in {:.1} ms", seconds * 1e3);
        checks.hold(&format!("it is by {said_by}, not by {by}"), said_by == by);
        checks.hold(
            &format!("{by}: {outcome} {why}, replaced {replaced:?}"),
            outcome == "passed" && replaced.is_empty(),
        );
        checks.hold(
            &format!("{by}: it took {seconds} s"),
            seconds > 0.0 && seconds < PROMISED_SECONDS * slowness,
        );
    }
    checks.end()
}

/// The first scrape after the start shows what it would show without the test.
///
/// Others may open listeners on this machine at the same moment, and not each time; a
/// trace of the test would be there each time.
fn no_trace(bench: &Bench) -> Result<()> {
    let mut outcome = traces(bench);
    for _ in 1..STARTS {
        if outcome.is_ok() {
            break;
        }
        outcome = traces(bench);
    }
    outcome
}

/// Starts of which one must be undisturbed by others.
const STARTS: u32 = 5;

fn traces(bench: &Bench) -> Result<()> {
    let without = bench.launch()?.no_self_test().start()?;
    let expected = without.scrape()?;
    drop(without);
    let daemon = bench.fresh_daemon()?;
    let metrics = daemon.scrape()?;
    ensure!(doctor(bench, &daemon, &[])?.self_test.outcome == "passed", "it was not run");

    let mut checks = Checks::default();
    for name in [
        "tcpq_listener_sockets",
        "tcpq_accept_queue_overflows_total",
        "tcpq_listen_drops_total",
        "tcpq_accepts_total",
    ] {
        // Either daemon has one listener of its own; else nothing has changed.
        let series = |metrics: &Metrics| metrics.select(name, &[]).count();
        let (now, before) = (series(&metrics), series(&expected));
        checks.hold(&format!("{now} series of {name} instead of {before}"), now == before);
        checks.hold(&format!("no series of {name}"), now > 0);
    }
    for name in ["tcpq_events_total", "tcpq_events_lost_total", "tcpq_accept_queue_overflows_total"]
    {
        for sample in metrics.select(name, &[]) {
            checks.hold(&format!("{sample:?}"), sample.count()? == 0);
        }
    }
    checks.end()
}

fn off(bench: &Bench) -> Result<()> {
    let daemon = bench.launch()?.no_self_test().start()?;
    let of_daemon = doctor(bench, &daemon, &[])?.self_test;
    drop(daemon);
    let own: Doctor = bench.run_json(&["doctor", "--json", "--no-self-test"])?;
    let mut checks = Checks::default();
    for (said, by) in [(of_daemon, "daemon"), (own.self_test, "doctor")] {
        checks.hold(&format!("it is by {}, not by {by}", said.by), said.by == by);
        checks.hold(
            &format!("{by}: {} {}", said.outcome, said.why),
            said.outcome == "not_run" && said.why.contains("--no-self-test"),
        );
    }
    checks.end()
}

/// With all kprobes disarmed they attach as ever, and never fire: the daemon must not
/// believe them. Forced to kprobes it has nothing else, so their signals are absent.
fn silent_probes(bench: &Bench) -> Result<()> {
    let daemon = {
        let _disarmed = Disarmed::now()?;
        bench.daemon_with(Backend::Kprobe)?
    };
    let said = doctor(bench, &daemon, &["--backend", "kprobe", "--no-self-test"])?;
    let plan = daemon.scrape()?;
    let mut checks = Checks::default();
    let test = said.self_test;
    checks.hold(
        &format!("it is {} by {}, replaced {:?}", test.outcome, test.by, test.replaced),
        test.outcome == "passed" && test.by == "daemon",
    );
    for signal in ["syns_received", "overflow_syn", "overflow_ack", "listen_drops", "enqueued"] {
        let found = test.replaced.iter().find(|finding| finding.signal == signal);
        checks.hold(
            &format!("{signal} was found to be {found:?}"),
            found.is_some_and(|finding| finding.says.contains("saw 0")),
        );
        let labels = [("signal", signal), ("exactness", "absent")];
        checks.hold(
            &format!("{signal} is not absent from the daemon"),
            plan.select("tcpq_hook_info", &labels).next().is_some(),
        );
    }
    // Losses of the probes that do not fire are none of the metrics'.
    for sample in plan.select("tcpq_events_lost_total", &[]) {
        checks.hold(&format!("{sample:?}"), sample.count()? == 0);
    }
    drop(daemon);

    // Armed again, they pass: it was them.
    let again: Doctor = bench.run_json(&["doctor", "--json", "--backend", "kprobe"])?;
    for signal in again.signals {
        checks.hold(
            &format!(
                "{} is {} with armed probes: {:?}",
                signal.name, signal.exactness, signal.reason
            ),
            signal.exactness != "absent",
        );
    }
    checks.end()
}

/// All kprobes of the kernel are switched off, until this is dropped.
struct Disarmed {
    switch: PathBuf,
}

impl Disarmed {
    fn now() -> Result<Self> {
        let switch = Path::new("/sys/kernel/debug/kprobes/enabled").to_owned();
        fs::write(&switch, "0").context("cannot switch kprobes off")?;
        Ok(Self { switch })
    }
}

impl Drop for Disarmed {
    fn drop(&mut self) {
        let armed: io::Result<()> = fs::write(&self.switch, "1");
        if let Err(error) = armed {
            eprintln!("kprobes stay switched off: {error}");
        }
    }
}
