//! Makes a machine able to build, and to test. Does nothing where nothing is missing.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{
    apt, artifacts, cmd,
    ebpf_toolchain::{self, Compiler, LINKED},
    kernels::{MATRIX, Tested},
    packages,
    store::{self, Freshness},
    supply,
};

/// What a machine is prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Building and running the daemon
    Build,
    /// Also every plane of `cargo xtask test`: tools and kernels
    Test,
}

/// Debian's compiler for its browsers: recent, with its library's sources.
const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const LINKER: &str = "bpf-linker";
/// The newest release that was tried with Debian's LLVM.
const LINKER_VERSION: &str = "0.13.0";

const DOWNLOAD_LIMIT: Duration = Duration::from_mins(10);
const BUILD_LIMIT: Duration = Duration::from_mins(15);
const MOMENT: Duration = Duration::from_secs(30);

pub(crate) fn prepare(purpose: Purpose, freshness: Freshness) -> Result<()> {
    compiler()?;
    linker()?;
    if purpose == Purpose::Test {
        tools()?;
        servers()?;
        servers_of_guests()?;
        supply::bring()?;
        for series in MATRIX.iter().filter(|series| series.tested == Tested::Always) {
            store::provide(series, freshness)?;
        }
    }
    Ok(())
}

/// What booting and testing need besides our own programs.
pub(crate) fn tools() -> Result<()> {
    packages::provide(packages::TOOLS)
}

/// What the tests on this machine's own kernel start, besides: real servers.
pub(crate) fn servers() -> Result<()> {
    packages::provide(packages::SERVERS)
}

/// What a guest with real servers is given.
pub(crate) fn servers_of_guests() -> Result<()> {
    packages::provide(&packages::IN_A_GUEST.map(|(_, tool)| tool))
}

/// A compiler that can build the eBPF programs.
///
/// Debian's comes first where there is one: its LLVM is packaged too, so a
/// linker that fits can be built. A nightly's LLVM is often newer than any
/// packaged one.
fn compiler() -> Result<()> {
    if ebpf_toolchain::compiler().is_some() {
        return Ok(());
    }
    if cmd::program("rustup").is_none() {
        bail!("rustup is missing; it chooses the compiler of the eBPF programs");
    }
    if apt::present() {
        apt::update()?;
    }
    if apt::offers(COMPILER_PACKAGES[0]) {
        cmd::say("the eBPF programs need a compiler with its library's sources: Debian has one");
        apt::install(&COMPILER_PACKAGES)?;
        let mut link = Command::new("rustup");
        link.args(["toolchain", "link", LINKED, "/usr"]);
        cmd::quietly(&format!("link it into rustup as {LINKED}"), &mut link, MOMENT)?;
    } else {
        cmd::say("the eBPF programs need a nightly with its library's sources");
        let mut install = Command::new("rustup");
        install.args(["toolchain", "install", "nightly", "--profile", "minimal"]).args([
            "--component",
            "rust-src",
            "--no-self-update",
        ]);
        cmd::quietly("rustup toolchain install nightly", &mut install, DOWNLOAD_LIMIT)?;
    }
    ebpf_toolchain::compiler()
        .map(|_| ())
        .context("still no compiler for the eBPF programs: its library's sources are missing")
}

/// A bpf-linker built on the LLVM of that compiler.
fn linker() -> Result<()> {
    if ebpf_toolchain::linker_dir().is_some() {
        return Ok(());
    }
    cmd::say("bpf-linker makes one eBPF object out of what the compiler emits");
    match ebpf_toolchain::compiler().context("the compiler is gone")? {
        Compiler::Released(toolchain) => linker_on_packaged_llvm(&toolchain)?,
        Compiler::Nightly => linker_for_nightly()?,
    }
    ebpf_toolchain::linker_dir().map(|_| ()).context("bpf-linker was built but is not found")
}

fn linker_on_packaged_llvm(toolchain: &str) -> Result<()> {
    let mut version = Command::new("rustup");
    let version = cmd::output(version.args(["run", toolchain, "rustc", "-vV"]))?;
    let major = llvm_major(&version).context("the compiler does not say which LLVM it has")?;
    let [llvm, polly] = ["llvm", "libpolly"].map(|name| format!("{name}-{major}-dev"));
    apt::install(&[&llvm, &polly, "libzstd-dev", "zlib1g-dev"])?;
    let prefix = format!("/usr/lib/llvm-{major}");
    let mut install = artifacts::cargo();
    install
        .args(["install", LINKER, "--version", LINKER_VERSION, "--locked"])
        .args(["--no-default-features", "--features", &format!("llvm-{major}"), "--root"])
        .arg(packages::cache()?.join("tools"))
        .env("LLVM_PREFIX", &prefix)
        .env("RUSTFLAGS", format!("-L native={prefix}/lib"));
    cmd::quietly(&format!("build bpf-linker on LLVM {major}"), &mut install, BUILD_LIMIT)
}

fn linker_for_nightly() -> Result<()> {
    let tools = packages::cache()?.join("tools");
    let mut install = if cmd::program("cargo-binstall").is_some() {
        let mut install = artifacts::cargo();
        install.args(["binstall", "--no-confirm", LINKER]);
        install
    } else {
        let mut install = Command::new("rustup");
        install.args(["run", "nightly", "cargo", "install", LINKER, "--locked"]);
        install
    };
    install.arg("--root").arg(tools);
    cmd::quietly("get bpf-linker", &mut install, BUILD_LIMIT).context(
        "bpf-linker could not be built: it needs LLVM's libraries in the nightly's version; \
         put a released bpf-linker on PATH (`cargo binstall bpf-linker`)",
    )
}

/// `22` of `LLVM version: 22.1.8`.
fn llvm_major(verbose_version: &str) -> Option<u32> {
    let version = verbose_version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_a_compiler_is_read() {
        assert_eq!(llvm_major("rustc 1.96.0\nhost: x\nLLVM version: 22.1.8\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }
}
