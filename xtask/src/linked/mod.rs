//! What the shipped binary is made of: the crates linked into it or into the eBPF programs it
//! carries, and what else the linker puts in.

mod natives;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

pub(crate) use self::natives::{Native, encoded};
use crate::{
    artifacts::{self, GUEST_TARGET},
    cmd,
};

/// The daemon, and what its eBPF programs are compiled from.
pub(crate) const DAEMON: &str = "tcpq-daemon";
const PROGRAMS: &str = "tcpq-ebpf";
const PROGRAMS_TARGET: &str = "bpfel-unknown-none";

/// One version of a crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// Where a crate is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A member of this workspace.
    Ours,
    Registry,
}

/// A crate whose code is in the binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crate {
    pub(crate) origin: Origin,
    /// The licence as an SPDX expression.
    pub(crate) licence: String,
    /// Empty where the crate does not tell.
    pub(crate) repository: String,
    /// SHA-256 of its package, as `Cargo.lock` has it.
    pub(crate) checksum: Option<String>,
    pub(crate) needs: BTreeSet<Key>,
}

/// Everything in the binary.
pub(crate) struct Linked {
    pub(crate) crates: BTreeMap<Key, Crate>,
    pub(crate) natives: Vec<Native>,
    /// Where cargo unpacked the registry's crates.
    registry: PathBuf,
}

impl Linked {
    pub(crate) fn find() -> Result<Self> {
        let mut crates = tree_of(DAEMON, GUEST_TARGET)?;
        let programs = tree_of(PROGRAMS, PROGRAMS_TARGET)?;
        tree::embed(&mut crates, DAEMON, PROGRAMS, programs)?;
        let lock = fs::read_to_string(artifacts::root().join("Cargo.lock"))?;
        let checksums = tree::checksums(&lock);
        for (key, found) in &mut crates {
            found.checksum = checksums.get(key).cloned();
        }
        let registry = registry()?;
        let mut linked = Self { crates, natives: Vec::new(), registry };
        linked.natives = natives::find(&linked)?;
        Ok(linked)
    }

    /// Where the sources of a crate of the registry are.
    pub(crate) fn sources(&self, key: &Key) -> PathBuf {
        self.registry.join(format!("{}-{}", key.name, key.version))
    }

    /// The only version of a crate that there is.
    pub(crate) fn version_of(&self, name: &str) -> Option<&Key> {
        self.crates.keys().find(|key| key.name == name)
    }
}

/// The crates that a package of ours links for a target; not what only runs while building.
fn tree_of(package: &str, target: &str) -> Result<BTreeMap<Key, Crate>> {
    let mut command = artifacts::cargo();
    command.args(["tree", "--locked", "--color", "never", "--package", package]);
    command.args(["--target", target, "--edges", "normal,no-proc-macro"]);
    command.args(["--prefix", "depth", "--format", tree::FORMAT]);
    tree::parse(&cmd::output(&mut command)?)
        .with_context(|| format!("cannot read cargo's tree of {package}"))
}

/// The folder that holds the sources of every crate of the registry.
fn registry() -> Result<PathBuf> {
    let mut command = artifacts::cargo();
    command.args(["metadata", "--locked", "--format-version", "1"]);
    command.args(["--filter-platform", GUEST_TARGET]);
    let metadata: Value = serde_json::from_str(&cmd::output(&mut command)?)?;
    let packages = metadata["packages"].as_array().context("no packages in cargo's metadata")?;
    let manifest = packages
        .iter()
        .find(|package| package["source"].is_string())
        .and_then(|package| package["manifest_path"].as_str())
        .context("no package from a registry in cargo's metadata")?;
    let folder = PathBuf::from(manifest).ancestors().nth(2).map(PathBuf::from);
    folder.context("a package without a folder in cargo's metadata")
}
