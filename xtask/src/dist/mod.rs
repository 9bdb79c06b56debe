//! `cargo xtask dist`: what is released, in `target/dist`: a static binary in a tarball, a
//! Debian package, and their checksums.
//!
//! The same sources give the same bytes: times are that of the commit, owners are root, and
//! names are sorted.

mod contents;
mod deb;
mod tarball;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

pub(crate) use self::deb::Revision;
use crate::{
    artifacts::{self, TCPQ},
    cmd, notices, sbom,
    setup::{self, Purpose},
    store::Freshness,
};

/// The version of everything in the workspace.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The software bill of materials (CycloneDX).
const BILL: &str = "tcpq.cdx.json";

const NOTICES: &str = "THIRD-PARTY-NOTICES";

/// What a release is made of.
pub(crate) struct Parts {
    binary: PathBuf,
    /// `man` and `completions`.
    pages: PathBuf,
    /// What the binary is made of, and the licences that go with it.
    bill: PathBuf,
    notices: PathBuf,
    /// Seconds since the epoch, which every file gets.
    time: String,
}

/// How the binary is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// Optimized as a whole, which takes minutes.
    Shipped,
    /// As tests run it.
    Tested,
}

impl Parts {
    /// Builds them.
    pub(crate) fn build(build: Build) -> Result<Self> {
        let binary = match build {
            Build::Shipped => artifacts::shipped()?,
            Build::Tested => artifacts::standalone(TCPQ)?,
        };
        let pages = pages()?;
        let (bill, notices) = (pages.join(BILL), pages.join(NOTICES));
        sbom::write(&bill)?;
        notices::write(&notices)?;
        Ok(Self { binary, pages, bill, notices, time: time()? })
    }

    /// Writes the tarball into a folder.
    pub(crate) fn tarball(&self, folder: &Path) -> Result<PathBuf> {
        tarball::write(self, folder)
    }

    /// Writes the Debian package into a folder.
    pub(crate) fn deb(&self, folder: &Path, revision: Revision) -> Result<PathBuf> {
        deb::write(self, folder, revision)
    }
}

/// All that is released.
pub(crate) fn run() -> Result<()> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    let parts = Parts::build(Build::Shipped)?;
    let folder = emptied(&artifacts::target().join("dist"))?;
    let bill = folder.join(format!("tcpq-{VERSION}.cdx.json"));
    fs::copy(&parts.bill, &bill).context("cannot copy the bill of materials")?;
    let mut written = vec![parts.tarball(&folder)?, bill];
    if cmd::program("dpkg-deb").is_some() {
        written.push(parts.deb(&folder, Revision::FIRST)?);
    } else {
        cmd::say("no Debian package: this machine has no dpkg-deb (the package dpkg)");
    }
    written.push(checksums(&folder, &written)?);
    for path in written {
        let size = fs::metadata(&path)?.len();
        cmd::say(format!("{} ({size} bytes)", path.display()));
    }
    Ok(())
}

/// A folder with nothing in it.
pub(crate) fn emptied(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.to_owned())
}

/// As `sha256sum --check` reads them.
fn checksums(folder: &Path, files: &[PathBuf]) -> Result<PathBuf> {
    let names = files.iter().filter_map(|file| file.file_name());
    let sums = cmd::output(Command::new("sha256sum").args(names).current_dir(folder))?;
    let path = folder.join("SHA256SUMS");
    fs::write(&path, sums).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The manual pages and completions, from the command line itself.
fn pages() -> Result<PathBuf> {
    let folder = emptied(&artifacts::target().join("pages"))?;
    let writer = artifacts::standalone(artifacts::PAGES)?;
    cmd::output(Command::new(writer).arg(&folder))?;
    Ok(folder)
}

/// Of the commit, unless the one who builds says otherwise (reproducible-builds.org).
fn time() -> Result<String> {
    if let Ok(time) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(time);
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(artifacts::root());
    let time = cmd::output(&mut git)
        .context("set SOURCE_DATE_EPOCH: the time of the commit is not known")?;
    let time = time.trim();
    if time.is_empty() || !time.bytes().all(|byte| byte.is_ascii_digit()) {
        bail!("git says that the commit's time is {time:?}");
    }
    Ok(time.to_owned())
}
