//! The programs that testing needs, which Debian package each is in, and why.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{apt, cmd, ebpf_toolchain};

/// How a package gets onto the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrival {
    /// By apt, as part of the system.
    Installed,
    /// Unpacked into the cache: it needs no library of its own, and installing
    /// it would start a service, or is not needed.
    Unpacked,
}

/// A program that tests use.
pub(crate) struct Tool {
    program: &'static str,
    package: &'static str,
    arrival: Arrival,
    why: &'static str,
    /// Whether a program of that name found on the machine will do.
    suits: fn(&Path) -> bool,
}

const fn installed(program: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool { program, package, arrival: Arrival::Installed, why, suits: any }
}

const fn unpacked(program: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool { program, package, arrival: Arrival::Unpacked, why, suits: any }
}

pub(crate) const QEMU: Tool =
    installed("qemu-system-x86_64", "qemu-system-x86", "boots the kernels of the matrix");
pub(crate) const XZ: Tool = installed("xz", "xz-utils", "decompresses kernel modules");
const SS: Tool = installed("ss", "iproute2", "what the kernel says about its queues");
const BPFTOOL: Tool = installed("bpftool", "bpftool", "what the kernel says about our programs");
pub(crate) const PROMETHEUS: Tool =
    unpacked("prometheus", "prometheus", "scrapes the daemon in the host tests");
pub(crate) const PROMTOOL: Tool = unpacked("promtool", "prometheus", "lints the exposed metrics");
pub(crate) const BUSYBOX: Tool = Tool {
    suits: is_static,
    ..unpacked("busybox", "busybox-static", "the guests' shell and tools")
};

const ALL: [&Tool; 7] = [&QEMU, &XZ, &SS, &BPFTOOL, &PROMETHEUS, &PROMTOOL, &BUSYBOX];

/// Brings every missing tool.
pub(crate) fn provide() -> Result<()> {
    let missing = || ALL.into_iter().filter(|tool| tool.find().is_none());
    if missing().next().is_none() {
        return Ok(());
    }
    if !apt::present() {
        let list: Vec<_> =
            missing().map(|tool| format!("  {}: {}", tool.program, tool.why)).collect();
        bail!("this machine has no apt-get; install by hand:\n{}", list.join("\n"));
    }
    for tool in missing() {
        cmd::say(format!("{} ({}): {}", tool.program, tool.package, tool.why));
    }
    let by_apt: Vec<_> = missing()
        .filter(|tool| tool.arrival == Arrival::Installed)
        .map(|tool| tool.package)
        .collect();
    if !by_apt.is_empty() {
        apt::install(&by_apt)?;
    }
    for tool in ALL {
        if tool.find().is_none() && tool.arrival == Arrival::Unpacked {
            apt::unpack(tool.package, &folder(tool.package)?)?;
        }
        tool.path()?;
    }
    Ok(())
}

impl Tool {
    /// Where the program is; an error says how to get it.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        self.find().with_context(|| {
            format!(
                "{} is missing ({}); run `cargo xtask setup --for test`",
                self.program, self.why
            )
        })
    }

    fn find(&self) -> Option<PathBuf> {
        let on_machine = cmd::program(self.program).filter(|path| (self.suits)(path));
        on_machine.or_else(|| {
            let folder = folder(self.package).ok()?;
            let places = ["usr/bin", "bin"].map(|place| folder.join(place).join(self.program));
            places.into_iter().find(|path| path.is_file())
        })
    }
}

/// Where a package that is not installed is unpacked.
fn folder(package: &str) -> Result<PathBuf> {
    Ok(cache()?.join("tools").join(package))
}

/// The cache that all checkouts share.
pub(crate) fn cache() -> Result<PathBuf> {
    ebpf_toolchain::cache_dir().context("set HOME or TCPQ_CACHE: there is no place for the cache")
}

fn any(_: &Path) -> bool {
    true
}

/// A dynamic program names its loader, and would not start in a bare guest.
fn is_static(program: &Path) -> bool {
    const LOADERS: [&[u8]; 2] = [b"/ld-linux", b"/ld-musl"];
    let Ok(bytes) = fs::read(program) else {
        return false;
    };
    let names = |loader: &[u8]| bytes.windows(loader.len()).any(|window| window == loader);
    !LOADERS.into_iter().any(names)
}
