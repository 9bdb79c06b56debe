//! The kernels on disk: resolved to a version, downloaded, unpacked, remembered.
//!
//! `CACHE/kernels/SERIES.json` remembers which package a series resolved to,
//! and `CACHE/kernels/PACKAGE_VERSION/` holds what a guest needs of it. With
//! both there, nothing asks the network.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    apt::{self, Mirrors},
    cmd,
    kernels::Series,
    packages::{self, XZ},
    suites::Lists,
    versions::{self, Package},
};

/// How old an answer to "which is the newest" may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Two weeks: stable kernels move about that fast.
    Recent,
    /// Ask again now.
    Renewed,
}

const RECENT: Duration = Duration::from_hours(14 * 24);

/// A kernel that can be booted.
pub(crate) struct Kernel {
    pub(crate) series: &'static Series,
    pub(crate) package: Package,
    pub(crate) vmlinuz: PathBuf,
    /// `NAME.ko` files, decompressed.
    pub(crate) modules: Vec<PathBuf>,
}

/// Modules that tests may load: interfaces and delay for networks of their own, and the driver
/// of the card that reaches this machine.
/// None of them depends on another module in any kernel of the matrix.
const MODULES: [&str; 4] = ["veth", "dummy", "sch_netem", "vmxnet3"];

/// Beside them, which ones were looked for: a package may lack some.
const LOOKED_FOR: &str = "modules";

#[derive(Serialize, Deserialize)]
struct Resolution {
    package: Package,
    suite: String,
    /// Seconds since 1970.
    at: u64,
}

/// Provides a kernel of the series, from the cache where that is recent enough.
pub(crate) fn provide(series: &'static Series, freshness: Freshness) -> Result<Kernel> {
    let kernels = packages::cache()?.join("kernels");
    let known = read_resolution(&kernels, series)?;
    let kept = known.as_ref().and_then(|known| open(&kernels, series, &known.package));
    let recent = known.is_some_and(|known| {
        let age = now().saturating_sub(Duration::from_secs(known.at));
        freshness == Freshness::Recent
            && age < RECENT
            && is_whole(&folder(&kernels, &known.package))
    });
    match (kept, recent) {
        (Some(kernel), true) => Ok(kernel),
        (Some(kernel), false) => renew(&kernels, series).or_else(|error| {
            let reason = format!("{error:#}");
            cmd::say(format!(
                "{series}: no newer kernel could be looked for ({}); keeping {}",
                reason.lines().next().unwrap_or_default(),
                kernel.package.version
            ));
            Ok(kernel)
        }),
        (None, _) => renew(&kernels, series),
    }
}

/// The kernel in the cache, if there is one.
pub(crate) fn cached(series: &'static Series) -> Result<Option<Kernel>> {
    let kernels = packages::cache()?.join("kernels");
    let known = read_resolution(&kernels, series)?;
    Ok(known.and_then(|known| open(&kernels, series, &known.package)))
}

/// Asks the suites for the newest kernel, and brings it if it is not there.
fn renew(kernels: &Path, series: &'static Series) -> Result<Kernel> {
    let mirrors = Mirrors::find()?;
    let cache = packages::cache()?;
    for suite in series.suites {
        let lists = Lists::fetch(*suite, &mirrors, &cache)?;
        let Some(package) = lists.newest_kernel(series.version)? else {
            continue;
        };
        cmd::say(format!("{series}: {} is the newest in {}", package.version, suite.name()));
        let kept = open(kernels, series, &package);
        let kernel = match kept.filter(|_| is_whole(&folder(kernels, &package))) {
            Some(kernel) => kernel,
            None => unpack(kernels, series, &lists, &package)?,
        };
        let suite = suite.name().to_owned();
        let resolution = Resolution { package, suite, at: now().as_secs() };
        fs::write(resolution_file(kernels, series), serde_json::to_vec_pretty(&resolution)?)?;
        return Ok(kernel);
    }
    bail!("no suite has a kernel of series {series} any more; the matrix needs a look")
}

fn unpack(
    kernels: &Path,
    series: &'static Series,
    lists: &Lists,
    package: &Package,
) -> Result<Kernel> {
    let unpacked = kernels.join("unpacked");
    let unfinished = kernels.join("unfinished");
    apt::recreate(&unfinished)?;
    let exact = |name: &str| format!("{name}={}", package.version);
    let mut names = vec![package.name.clone()];
    if let Some(modules) = versions::modules_package(&package.name) {
        // Modules are of another source package than the signed image, and Debian removes
        // that first once a series has been superseded.
        if lists.has(&modules, &package.version)? {
            names.push(modules);
        } else {
            cmd::say(format!("{series}: {modules} is gone; its guest is without modules"));
        }
    }
    for name in names {
        lists.unpack(&exact(&name), &unpacked)?;
        keep(&unpacked, &unfinished)?;
        fs::remove_dir_all(&unpacked)?;
    }
    fs::write(unfinished.join(LOOKED_FOR), MODULES.join("\n"))?;
    let folder = folder(kernels, package);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(&unfinished, &folder)?;
    open(kernels, series, package)
        .with_context(|| format!("package {} holds no kernel image", package.name))
}

/// Takes the few files that a guest needs out of an unpacked package.
fn keep(package: &Path, into: &Path) -> Result<()> {
    for file in files(package)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match name.split_once('.') {
            _ if name.starts_with("vmlinuz") => {
                fs::copy(&file, into.join("vmlinuz"))?;
            }
            Some((module, "ko")) if MODULES.contains(&module) => {
                fs::copy(&file, into.join(&name))?;
            }
            Some((module, "ko.xz")) if MODULES.contains(&module) => {
                fs::copy(&file, into.join(&name))?;
                cmd::output(Command::new(XZ.path()?).arg("-d").arg(into.join(&name)))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Every regular file below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn open(kernels: &Path, series: &'static Series, package: &Package) -> Option<Kernel> {
    let folder = folder(kernels, package);
    let vmlinuz = folder.join("vmlinuz");
    let modules = MODULES.map(|name| folder.join(format!("{name}.ko")));
    vmlinuz.is_file().then(|| Kernel {
        series,
        package: package.clone(),
        vmlinuz,
        modules: modules.into_iter().filter(|file| file.is_file()).collect(),
    })
}

/// Whether what is there was unpacked with all modules of today in mind.
fn is_whole(folder: &Path) -> bool {
    fs::read_to_string(folder.join(LOOKED_FOR)).is_ok_and(|looked| looked == MODULES.join("\n"))
}

fn folder(kernels: &Path, package: &Package) -> PathBuf {
    kernels.join(format!("{}_{}", package.name, package.version))
}

fn resolution_file(kernels: &Path, series: &Series) -> PathBuf {
    kernels.join(format!("{series}.json"))
}

fn read_resolution(kernels: &Path, series: &Series) -> Result<Option<Resolution>> {
    let file = resolution_file(kernels, series);
    match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .with_context(|| format!("{} is damaged; remove it", file.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
