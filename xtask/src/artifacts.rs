//! Builds what the other tasks run, for this machine and for guests.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::cmd;

/// The only target whose kernels are in the matrix.
pub(crate) const GUEST_TARGET: &str = "x86_64-unknown-linux-gnu";

/// A program of the workspace.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    package: &'static str,
    binary: &'static str,
}

pub(crate) const TCPQ: Program = Program { package: "tcpq-daemon", binary: "tcpq" };
pub(crate) const TRUTH: Program = Program { package: "tcpq-vmtest", binary: "truth" };
pub(crate) const DEMO: Program = Program { package: "tcpq-vmtest", binary: "demo" };
pub(crate) const BENCH: Program = Program { package: "tcpq-vmtest", binary: "bench" };
/// Writes the manual pages and completions.
pub(crate) const PAGES: Program = Program { package: "tcpq-pages", binary: "tcpq-pages" };
pub(crate) const FLEET: Program = Program { package: "tcpq-vmtest", binary: "fleet" };
const INIT: Program = Program { package: "tcpq-vmtest", binary: "vmtest-init" };

/// What a guest shall hold besides init and busybox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    Nothing,
    /// The daemon, the truth tests and the demonstration.
    Everything,
    /// The daemon and the benchmarks.
    Benchmarks,
    /// The daemon and what a host of a fleet runs.
    Fleet,
}

/// Programs built to run without a single library.
pub(crate) struct GuestPrograms {
    pub(crate) init: PathBuf,
    pub(crate) others: Vec<PathBuf>,
}

pub(crate) fn root() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs xtask, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // `cargo run` sets it for us, and it would point compilers at wrong libraries.
    command.current_dir(root()).env_remove("LD_LIBRARY_PATH");
    command
}

/// Builds a program for this machine.
pub(crate) fn release(program: Program) -> Result<PathBuf> {
    let mut command = cargo();
    // One package at a time: built together, packages would share the union of
    // their features, and the next build of one alone would start over.
    command.args(["build", "--release", "--package", program.package, "--bin", program.binary]);
    build(&mut command, &format!("build {}", program.binary))?;
    built(&target().join("release"), program)
}

/// Builds the programs of a guest.
pub(crate) fn guest(contents: Contents) -> Result<GuestPrograms> {
    let programs: &[Program] = match contents {
        Contents::Nothing => &[],
        Contents::Everything => &[TCPQ, TRUTH, DEMO],
        Contents::Benchmarks => &[TCPQ, BENCH],
        Contents::Fleet => &[TCPQ, FLEET],
    };
    Ok(GuestPrograms {
        init: standalone(INIT)?,
        others: programs.iter().copied().map(standalone).collect::<Result<_>>()?,
    })
}

/// Builds a program that runs without a single library: in a guest, and as well here.
pub(crate) fn standalone(program: Program) -> Result<PathBuf> {
    let target = target().join("guest");
    let mut command = cargo();
    command
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(["build", "--release", "--target", GUEST_TARGET, "--target-dir"])
        .arg(&target)
        .args(["--package", program.package, "--bin", program.binary]);
    build(&mut command, &format!("build {}, static", program.binary))?;
    built(&target.join(GUEST_TARGET).join("release"), program)
}

/// Builds the daemon as it is shipped: optimized as a whole and stripped, which takes minutes.
/// Relocations are packed: half a megabyte less, which the C library in it can read.
pub(crate) fn shipped() -> Result<PathBuf> {
    let target = target().join("shipped");
    let mut command = cargo();
    let flags = "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs";
    command
        .env("RUSTFLAGS", flags)
        .args(["build", "--profile", "dist", "--target", GUEST_TARGET, "--target-dir"])
        .arg(&target)
        .args(["--package", TCPQ.package, "--bin", TCPQ.binary]);
    build(&mut command, "build tcpq as it is shipped")?;
    built(&target.join(GUEST_TARGET).join("dist"), TCPQ)
}

fn build(command: &mut Command, what: &str) -> Result<()> {
    let status = cmd::openly(what, command)?;
    if !status.success() {
        bail!("{what}: {status}");
    }
    Ok(())
}

fn built(folder: &Path, program: Program) -> Result<PathBuf> {
    let path = folder.join(program.binary);
    path.canonicalize().with_context(|| format!("cargo built no {}", path.display()))
}
