//! Which toolchain compiles the eBPF programs: one answer, shared by the
//! daemon's build script and `cargo xtask setup`.
//!
//! The programs need `-Zbuild-std=core`, so a compiler with its library
//! sources, and a `bpf-linker` built on an LLVM at least as new as the
//! compiler's. Two kinds of machine have that: one with rustup's nightly and
//! `rust-src`, and one where `xtask setup` linked the distribution's compiler
//! into rustup under the name [`LINKED`].

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The rustup name under which `xtask setup` links a distribution's compiler.
pub(crate) const LINKED: &str = "tcpq-ebpf";

/// A compiler that can build the eBPF programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// A rustup nightly with the `rust-src` component.
    Nightly,
    /// A named rustup toolchain of a released compiler; needs `RUSTC_BOOTSTRAP=1`.
    Released(String),
}

/// Looks for a usable compiler: `TCPQ_EBPF_TOOLCHAIN`, then nightly, then [`LINKED`].
pub(crate) fn compiler() -> Option<Compiler> {
    if let Ok(name) = env::var("TCPQ_EBPF_TOOLCHAIN") {
        return Some(Compiler::Released(name));
    }
    if has_library_source("nightly") {
        return Some(Compiler::Nightly);
    }
    has_library_source(LINKED).then(|| Compiler::Released(LINKED.to_owned()))
}

/// The folder that holds `bpf-linker`: one on `PATH`, else the one `xtask setup` filled.
pub(crate) fn linker_dir() -> Option<PathBuf> {
    let on_path =
        env::var_os("PATH").and_then(|path| env::split_paths(&path).find(|dir| has_linker(dir)));
    on_path.or_else(|| Some(cache_dir()?.join("tools/bin")).filter(|dir| has_linker(dir)))
}

/// Where `xtask` keeps what it builds and downloads, shared by all checkouts.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    if let Some(dir) = env::var_os("TCPQ_CACHE") {
        return Some(PathBuf::from(dir));
    }
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    Some(base.join("tcpq"))
}

fn has_linker(dir: &Path) -> bool {
    dir.join("bpf-linker").is_file()
}

fn has_library_source(toolchain: &str) -> bool {
    let Ok(out) =
        Command::new("rustup").args(["run", toolchain, "rustc", "--print", "sysroot"]).output()
    else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&out.stdout);
    out.status.success()
        && Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
}
