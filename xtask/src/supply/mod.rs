//! What others' code is allowed in: licences, sources, duplicates, yanked versions, advisories.
//!
//! cargo-deny and cargo-audit decide; `deny.toml` has the rules. What could not be checked is said
//! in the report, and every check is shown something that it has to refuse.

mod advisories;
mod refusals;
mod tools;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use self::tools::Tools;
use crate::{
    apt, artifacts, cmd,
    failures::Failure,
    report::{Counts, Entry, Report},
};

/// What cargo-deny checks: everything but advisories, which need a database.
const RULES: [&str; 3] = ["bans", "licenses", "sources"];

/// Brings what the checks are made with.
pub(crate) fn bring() -> Result<()> {
    tools::provide().map(drop)
}

pub(crate) fn check(report: &mut Report) -> Result<()> {
    let tools = tools::provide()?;
    let scratch = artifacts::target().join("supply");
    apt::recreate(&scratch)?;
    let metadata = scratch.join("metadata.json");
    fs::write(&metadata, crates()?)?;
    report.add(timed("licences", || licences(&tools, &metadata))?);
    report.add(timed("yanked", || advisories::yanked(&tools, &scratch))?);
    report.add(timed("advisories", || advisories::known(&tools))?);
    report.add(timed("refusals", || refusals::show(&tools, &scratch, &metadata))?);
    Ok(())
}

/// What a check found.
struct Outcome {
    counts: Counts,
    note: String,
    failures: Vec<Failure>,
}

impl Outcome {
    const fn new(counts: Counts) -> Self {
        Self { counts, note: String::new(), failures: Vec::new() }
    }

    /// Neither passed nor failed.
    fn unchecked(note: impl Into<String>) -> Self {
        let note = note.into();
        cmd::say(&note);
        Self { note, ..Self::new(Counts { passed: 0, failed: 0 }) }
    }
}

fn timed(name: &str, check: impl FnOnce() -> Result<Outcome>) -> Result<Entry> {
    let start = Instant::now();
    let Outcome { counts, note, failures } = check()?;
    let took = start.elapsed();
    Ok(Entry { name: name.to_owned(), machine: String::new(), counts, took, note, failures })
}

fn licences(tools: &Tools, metadata: &Path) -> Result<Outcome> {
    let what = format!("cargo deny check {}", RULES.join(" "));
    let status = cmd::openly(&what, &mut deny(tools, metadata, &RULES))?;
    Ok(Outcome::new(if status.success() { Counts::PASSED } else { Counts::FAILED }))
}

/// cargo-deny on crates that cargo described.
fn deny(tools: &Tools, metadata: &Path, rules: &[&str]) -> Command {
    let mut command = Command::new(&tools.deny);
    command.current_dir(artifacts::root()).arg("--metadata-path").arg(metadata);
    // Else a licence that it does not know is guessed from the package's files.
    command.args(["check", "--deny", "parse-error"]).args(rules);
    command
}

/// What cargo says of all crates of the lock file, whatever they are for.
fn crates() -> Result<String> {
    let mut command = artifacts::cargo();
    cmd::output(command.args(["metadata", "--locked", "--format-version", "1"]))
        .context("cargo cannot describe the crates")
}

/// What a program said, and whether it ended well.
struct Said {
    well: bool,
    text: String,
}

fn said(command: &mut Command) -> Result<Said> {
    let out = command.stdin(Stdio::null()).output();
    let out = out.with_context(|| format!("cannot run {}", cmd::shown(command)))?;
    let text = [out.stdout, out.stderr].concat();
    Ok(Said { well: out.status.success(), text: String::from_utf8_lossy(&text).into_owned() })
}

/// Long enough for a slow line, and for cargo's attempts without one.
const NETWORK_LIMIT: Duration = Duration::from_mins(2);

/// Where cargo keeps what is its own.
fn cargo_home() -> Option<PathBuf> {
    let set = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    set.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
}
