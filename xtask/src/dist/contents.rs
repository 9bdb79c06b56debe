//! Which files a release has, and where.

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::Parts;
use crate::artifacts;

/// What may be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Read,
    Run,
}

impl Mode {
    const fn bits(self) -> u32 {
        match self {
            Self::Read => 0o644,
            Self::Run => 0o755,
        }
    }
}

/// A tree of files that is being made.
pub(super) struct Tree<'a> {
    root: &'a Path,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root }
    }

    /// Copies a file to a place in the tree.
    pub(super) fn copy(&self, from: &Path, to: &str, mode: Mode) -> Result<PathBuf> {
        let contents = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write(&contents, to, mode)
    }

    /// Writes a file to a place in the tree.
    pub(super) fn write(&self, contents: &[u8], to: &str, mode: Mode) -> Result<PathBuf> {
        let path = self.root.join(to);
        let folder = path.parent().unwrap_or(self.root);
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::write(&path, contents).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(mode.bits()))
            .with_context(|| format!("cannot set the mode of {}", path.display()))?;
        Ok(path)
    }

    /// Copies a file of the repository, under its own name, into a folder of the tree.
    pub(super) fn ours(&self, from: &str, folder: &str) -> Result<PathBuf> {
        let from = artifacts::root().join(from);
        self.copy(&from, &format!("{folder}/{}", name(&from)), Mode::Read)
    }

    /// Copies all files of a folder, and of none below it.
    pub(super) fn all_of(&self, from: &Path, folder: &str) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(from).with_context(|| format!("no {}", from.display()))?;
        let mut copied = Vec::new();
        for entry in entries {
            let path = entry.context("a file went away")?.path();
            if path.is_file() {
                copied.push(self.copy(&path, &format!("{folder}/{}", name(&path)), Mode::Read)?);
            }
        }
        Ok(copied)
    }

    /// What an operator starts from: rules, dashboards, configurations of others.
    pub(super) fn examples(&self, folder: &str) -> Result<()> {
        for kind in ["prometheus", "grafana", "alertmanager"] {
            self.all_of(&artifacts::root().join("deploy").join(kind), &format!("{folder}/{kind}"))?;
        }
        Ok(())
    }

    /// The pages that README and rules refer to.
    pub(super) fn docs(&self, folder: &str) -> Result<()> {
        let docs = artifacts::root().join("docs");
        for part in ["", "adr", "runbooks"] {
            self.all_of(&docs.join(part), &format!("{folder}/docs/{part}"))?;
        }
        Ok(())
    }

    /// The shells' completions, where each shell looks for them below a prefix.
    pub(super) fn completions(&self, parts: &Parts, prefix: &str) -> Result<()> {
        let completions = parts.pages.join("completions");
        for (made, place) in [
            ("tcpq.bash", "bash-completion/completions/tcpq"),
            ("_tcpq", "zsh/vendor-completions/_tcpq"),
            ("tcpq.fish", "fish/vendor_completions.d/tcpq.fish"),
        ] {
            self.copy(&completions.join(made), &format!("{prefix}/{place}"), Mode::Read)?;
        }
        Ok(())
    }
}

pub(super) fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| OsStr::to_string_lossy(name).into_owned())
}
