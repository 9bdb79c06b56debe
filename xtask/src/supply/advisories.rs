//! What became known of a version after it was published: that it was yanked, that it is
//! vulnerable.

use std::{env, fs, path::Path, path::PathBuf, process::Command};

use anyhow::{Result, bail};

use super::{NETWORK_LIMIT, Outcome, cargo_home, said, tools::Tools};
use crate::{apt, artifacts, cmd, report::Counts};

/// Names a folder with RustSec's database.
const DATABASE: &str = "TCPQ_ADVISORY_DB";
/// How cargo-audit says that the registry's index, as cargo has it, lacks a crate.
const UNKNOWN: &str = "couldn't check if the package is yanked";

/// Whether a version of the lock file was withdrawn. cargo-audit asks cargo's copy of the index,
/// which cargo renews first.
pub(super) fn yanked(tools: &Tools, scratch: &Path) -> Result<Outcome> {
    let index = renew();
    let database = scratch.join("empty");
    apt::recreate(&database.join("crates"))?;
    let lock = artifacts::root().join("Cargo.lock");
    let found = said(&mut look_for_yanked(tools, &database, &lock))?;
    let unknown = found.text.matches(UNKNOWN).count();
    if !found.well {
        println!("{}", found.text);
        return Ok(Outcome::new(Counts::FAILED));
    }
    Ok(match (index, unknown) {
        (Index::Renewed, 0) => Outcome::new(Counts::PASSED),
        (Index::Renewed, _) => {
            println!("{}", found.text);
            Outcome::new(Counts::FAILED)
        }
        (Index::Old, 0) => Outcome {
            note: "the registry cannot be reached: as cargo last saw it".to_owned(),
            ..Outcome::new(Counts::PASSED)
        },
        (Index::Old, _) => Outcome::unchecked(format!(
            "NOT checked: {unknown} crates unknown and the registry cannot be reached"
        )),
    })
}

/// How old cargo's copy of the registry's index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Index {
    Renewed,
    Old,
}

fn renew() -> Index {
    let mut update = artifacts::cargo();
    update.args(["update", "--dry-run"]);
    match cmd::quietly("renew cargo's copy of the index", &mut update, NETWORK_LIMIT) {
        Ok(()) => Index::Renewed,
        Err(error) => {
            cmd::say(format!("{error:#}"));
            Index::Old
        }
    }
}

/// The database is one without advisories.
pub(super) fn look_for_yanked(tools: &Tools, database: &Path, lock: &Path) -> Command {
    let mut command = audit(tools, database, lock);
    command.args(["--stale", "--deny", "yanked"]);
    command
}

/// Whether anything is known against a version of the lock file.
pub(super) fn known(tools: &Tools) -> Result<Outcome> {
    let Some(database) = database()? else {
        return Ok(Outcome::unchecked(format!(
            "NOT checked: no copy of RustSec's advisory-db on this machine ({DATABASE})"
        )));
    };
    let lock = artifacts::root().join("Cargo.lock");
    let what = format!("cargo audit with {}", database.display());
    let status = cmd::openly(&what, &mut look_for_advisories(tools, &database, &lock))?;
    let counts = if status.success() { Counts::PASSED } else { Counts::FAILED };
    Ok(Outcome { note: format!("as of {}", day(&database)), ..Outcome::new(counts) })
}

/// Of when a database is, where git knows.
fn day(database: &Path) -> String {
    let mut log = Command::new("git");
    log.arg("-C").arg(database).args(["log", "-1", "--format=%cs"]);
    // A folder inside another repository would be given that one's day.
    let day = database.join(".git").exists().then(|| cmd::output(&mut log)).and_then(Result::ok);
    day.map_or_else(|| "an unknown day".to_owned(), |day| day.trim().to_owned())
}

/// Unsound and unmaintained crates count as well.
pub(super) fn look_for_advisories(tools: &Tools, database: &Path, lock: &Path) -> Command {
    let mut command = audit(tools, database, lock);
    command.args(["--no-yanked", "--deny", "warnings"]);
    command
}

fn audit(tools: &Tools, database: &Path, lock: &Path) -> Command {
    let mut command = Command::new(&tools.audit);
    command.current_dir(artifacts::root()).args(["audit", "--color", "never", "--no-fetch"]);
    command.arg("--db").arg(database).arg("--file").arg(lock);
    command
}

/// The one that is named, else where cargo-audit and cargo-deny keep theirs.
fn database() -> Result<Option<PathBuf>> {
    if let Some(named) = env::var_os(DATABASE).map(PathBuf::from) {
        if !is_database(&named) {
            bail!("{DATABASE}: no advisory database in {}", named.display());
        }
        return Ok(Some(named));
    }
    Ok(cargo_home().and_then(|home| kept(&home)))
}

fn kept(cargo_home: &Path) -> Option<PathBuf> {
    let of_deny = fs::read_dir(cargo_home.join("advisory-dbs")).into_iter().flatten().flatten();
    let of_deny = of_deny.map(|entry| entry.path());
    [cargo_home.join("advisory-db")].into_iter().chain(of_deny).find(|path| is_database(path))
}

/// An empty one knows nothing against anything.
fn is_database(folder: &Path) -> bool {
    fs::read_dir(folder.join("crates")).is_ok_and(|mut crates| crates.next().is_some())
}
