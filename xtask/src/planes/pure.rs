//! What needs no kernel: format, lints, unit tests. Dependencies are checked beside it.

use std::{
    io,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    artifacts, cmd,
    failures::Failures,
    report::{Counts, Entry, Exit, Report},
    setup::{self, Purpose},
    store::Freshness,
    stream::{self, End, Lines},
};

/// Building everything from nothing is part of it.
const LIMIT: Duration = Duration::from_mins(30);

pub(super) fn run(report: &mut Report) -> Result<()> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    check(report, "format", &["fmt", "--all", "--check"])?;
    check(
        report,
        "lints",
        &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"],
    )?;
    unit_tests(report)
}

/// A cargo command that passes or fails as a whole.
fn check(report: &mut Report, name: &str, arguments: &[&str]) -> Result<()> {
    let start = Instant::now();
    let what = format!("cargo {}", arguments.join(" "));
    let status = cmd::openly(&what, artifacts::cargo().args(arguments))?;
    let counts = if status.success() { Counts::PASSED } else { Counts::FAILED };
    report.add(entry(name, counts, start));
    Ok(())
}

fn unit_tests(report: &mut Report) -> Result<()> {
    let start = Instant::now();
    cmd::say("cargo test --workspace");
    let mut command = artifacts::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    let mut failures = Failures::default();
    let counts = counted(command, LIMIT, |line| failures.hear(line))?;
    report.add(Entry { failures: failures.into_vec(), ..entry("tests", counts, start) });
    Ok(())
}

/// Runs a test program, shows what it prints, and sums up its results.
pub(super) fn counted(
    command: Command,
    limit: Duration,
    mut on_line: impl FnMut(&str),
) -> Result<Counts> {
    let mut counts = Counts::default();
    let exit = followed(command, limit, |line| {
        on_line(line);
        counts += Counts::parse(line).unwrap_or_default();
    })?;
    Ok(counts.judged(exit))
}

/// Runs a program and shows what it prints, line by line.
pub(super) fn followed(
    mut command: Command,
    limit: Duration,
    mut on_line: impl FnMut(&str),
) -> Result<Exit> {
    let (output, writer) = io::pipe()?;
    command.stdout(writer);
    let mut lines = Lines::default();
    let end = stream::follow(command, output, Some(limit), |chunk| {
        for line in lines.push(chunk) {
            println!("{line}");
            on_line(&line);
        }
        None
    })?;
    Ok(match end {
        End::Exited(status) if status.success() => Exit::Success,
        End::Exited(_) => Exit::Failure,
        End::OutOfTime => {
            cmd::say(format!("not finished after {} s, ended", limit.as_secs()));
            Exit::Failure
        }
    })
}

fn entry(name: &str, counts: Counts, start: Instant) -> Entry {
    Entry {
        name: name.to_owned(),
        machine: String::new(),
        counts,
        took: start.elapsed(),
        note: String::new(),
        failures: Vec::new(),
    }
}
