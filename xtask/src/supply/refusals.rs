//! Every check is shown what it has to refuse: a check that accepts it checks nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Outcome, Said, advisories, apt, deny, said, tools::Tools};
use crate::{artifacts, failures::Failure, report::Counts};

/// A crate that the daemon has, to change something of.
const CRATE: &str = "futures-util";
/// A version of it that was yanked.
const YANKED: &str = "0.3.30";
const ADVISORY: &str = "RUSTSEC-2000-0001";

/// What is shown: a name, and a run of the check that has to refuse it, with what it has to say.
struct Case {
    name: &'static str,
    refused: Said,
    words: &'static str,
}

pub(super) fn show(tools: &Tools, scratch: &Path, metadata: &Path) -> Result<Outcome> {
    let changed = |name: &str, field: &str, value: &str| -> Result<PathBuf> {
        let text = with(&fs::read_to_string(metadata)?, field, value)?;
        let path = scratch.join(format!("{name}.json"));
        fs::write(&path, text)?;
        Ok(path)
    };
    let forbidden = changed("forbidden", "license", "GPL-3.0-only")?;
    let unknown = changed("unknown", "license", "Unheard-Of-1.0")?;
    let git = changed("git", "source", "git+https://example.org/futures?rev=1#1")?;
    let (yanked, empty) = (scratch.join("yanked.lock"), scratch.join("empty"));
    let lock = artifacts::root().join("Cargo.lock");
    fs::write(&yanked, with_version(&fs::read_to_string(&lock)?, YANKED)?)?;
    let database = scratch.join("made-up");
    make_up(&database)?;
    let cases = [
        Case {
            name: "a licence that is not allowed",
            refused: said(&mut deny(tools, &forbidden, &["licenses"]))?,
            words: "GPL-3.0-only",
        },
        Case {
            name: "a licence that nobody knows",
            refused: said(&mut deny(tools, &unknown, &["licenses"]))?,
            words: "parse-error",
        },
        Case {
            name: "a crate from a git repository",
            refused: said(&mut deny(tools, &git, &["sources"]))?,
            words: "source-not-allowed",
        },
        Case {
            name: "a yanked version",
            refused: said(&mut advisories::look_for_yanked(tools, &empty, &yanked))?,
            words: YANKED,
        },
        Case {
            name: "a vulnerable version",
            refused: said(&mut advisories::look_for_advisories(tools, &database, &lock))?,
            words: ADVISORY,
        },
    ];
    Ok(judged(&cases))
}

fn judged(cases: &[Case]) -> Outcome {
    let mut outcome = Outcome::new(Counts::default());
    for Case { name, refused, words } in cases {
        if !refused.well && refused.text.contains(words) {
            outcome.counts += Counts::PASSED;
            continue;
        }
        outcome.counts += Counts::FAILED;
        println!("not refused as such: {name}\n{}", refused.text);
        outcome.failures.push(Failure::named(name));
    }
    outcome
}

/// Cargo's description with one field of one crate changed.
fn with(metadata: &str, field: &str, value: &str) -> Result<String> {
    let mut metadata: Value = serde_json::from_str(metadata)?;
    let packages = metadata["packages"].as_array_mut().context("cargo described no crates")?;
    let package = packages.iter_mut().find(|package| package["name"] == CRATE);
    package.with_context(|| format!("no {CRATE} among the crates"))?[field] = json!(value);
    Ok(metadata.to_string())
}

/// The lock file with another version of one crate.
fn with_version(lock: &str, version: &str) -> Result<String> {
    let start = format!("name = \"{CRATE}\"\nversion = \"");
    let Some((before, after)) = lock.split_once(&start) else {
        bail!("no {CRATE} in Cargo.lock");
    };
    let (_, after) = after.split_once('"').context("a version without an end")?;
    Ok(format!("{before}{start}{version}\"{after}"))
}

/// A database whose only advisory is against every version of that crate.
fn make_up(database: &Path) -> Result<()> {
    let folder = database.join("crates").join(CRATE);
    apt::recreate(&folder)?;
    let text = format!(
        "```toml\n[advisory]\nid = \"{ADVISORY}\"\npackage = \"{CRATE}\"\ndate = \"2000-01-01\"\n\n\
         [versions]\npatched = []\n```\n\n# Made up\n\nTo see that it is found.\n"
    );
    fs::write(folder.join(format!("{ADVISORY}.md")), text).context("cannot make up an advisory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_of_one_crate_is_changed() {
        let metadata = r#"{"packages":[{"name":"a","license":"MIT"},
            {"name":"futures-util","license":"MIT"}]}"#;
        let changed: Value =
            serde_json::from_str(&with(metadata, "license", "X").expect("has it")).expect("JSON");
        assert_eq!(changed["packages"][0]["license"], "MIT");
        assert_eq!(changed["packages"][1]["license"], "X");
        with(r#"{"packages":[]}"#, "license", "X").expect_err("has no such crate");
    }

    #[test]
    fn one_version_of_the_lock_file_is_changed() {
        let lock = "name = \"a\"\nversion = \"1\"\n\nname = \"futures-util\"\nversion = \"1\"\n";
        let changed = with_version(lock, "2").expect("has it");
        assert_eq!(changed, lock.replace("util\"\nversion = \"1\"", "util\"\nversion = \"2\""));
        with_version("", "2").expect_err("has no such crate");
    }

    #[test]
    fn a_check_that_accepts_or_fails_for_another_reason_has_failed() {
        let case = |well, text: &str| Case {
            name: "x",
            refused: Said { well, text: text.to_owned() },
            words: "forbidden",
        };
        let cases = [case(false, "forbidden"), case(true, "forbidden"), case(false, "no network")];
        let outcome = judged(&cases);
        assert_eq!(outcome.counts, Counts { passed: 1, failed: 2 });
        assert_eq!(outcome.failures.len(), 2);
    }
}
