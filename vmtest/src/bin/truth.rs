//! Runs the truth tests on the kernel it finds itself on.
//!
//! `TRUTH_TARGET` says which kernel that is meant to be: `host`, or a series as
//! `cargo xtask vm` names it. Arguments are those of any Rust test binary, as a part of a case's name.

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use tcpq_vmtest::{
    bench::{Bench, Case, SharedDaemon, Target},
    cases,
    daemon::Backend,
    helper, netns, puppet, scenarios,
};

fn main() -> ExitCode {
    if helper::maybe_hold() || puppet::maybe_play() {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("truth: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    // One daemon at a time: two cases at once would measure each other.
    arguments.test_threads.get_or_insert(1);
    let target = Target::from_env()?;
    // A guest may come up with its loopback interface down.
    netns::loopback_up()?;

    let shared = Arc::new(SharedDaemon::new()?);
    let (mut trials, mut without) = (Vec::new(), Vec::new());
    for case in cases::all() {
        match case.reason_against(target) {
            None => {
                let shared = Arc::clone(&shared);
                trials.push(Trial::test(case.name, move || hold(&case, target, shared)));
            }
            Some(reason) => without.push((case.name, reason)),
        }
    }
    for backend in scenarios::backends(target) {
        let shared = match backend {
            Backend::Auto => Arc::clone(&shared),
            forced => Arc::new(SharedDaemon::with(*forced)?),
        };
        for row in scenarios::rows() {
            if let Some(reason) = row.reason_against(target) {
                scenarios::not_held(&row, *backend);
                without.push((row.name, reason));
                continue;
            }
            let (shared, backend) = (Arc::clone(&shared), *backend);
            trials.push(Trial::test(row.title(backend), move || {
                scenarios::hold(&row, target, backend, shared).map_err(Failed::from)
            }));
        }
    }
    if !arguments.list {
        println!("target {}: {} cases", target.label(), trials.len());
        for (name, reason) in without {
            println!("  not held here: {name}: {reason}");
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        scenarios::print_cells();
    }
    Ok(conclusion.exit_code())
}

fn hold(case: &Case, target: Target, shared: Arc<SharedDaemon>) -> Result<(), Failed> {
    let bench = Bench::new(target, shared)?;
    (case.run)(&bench).map_err(|error| Failed::from(format!("{error:#}\n{}", bench.logs())))
}
