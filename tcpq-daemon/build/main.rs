//! Compiles the eBPF programs from source and leaves the object in `OUT_DIR`.

mod strip;
mod toolchain;

use std::{env, path::Path};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};

#[expect(clippy::disallowed_methods, reason = "aya-build takes its child's environment from ours")]
fn main() -> Result<()> {
    for name in ["TCPQ_EBPF_TOOLCHAIN", "TCPQ_CACHE", "XDG_CACHE_HOME"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let Some(compiler) = toolchain::compiler() else {
        bail!(
            "no compiler for the eBPF programs (a nightly with rust-src, or a linked \
             distribution compiler); run `cargo xtask setup`"
        );
    };
    let Some(linker) = toolchain::linker_dir() else {
        bail!("bpf-linker is missing; run `cargo xtask setup`");
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(linker).chain(env::split_paths(&path)))
        .context("the folder of bpf-linker cannot be put on PATH")?;
    // SAFETY: a build script is one thread at this point, and only the child
    // cargo reads these.
    unsafe { env::set_var("PATH", path) };

    let toolchain = match &compiler {
        toolchain::Compiler::Nightly => Toolchain::Nightly,
        toolchain::Compiler::Released(name) => {
            // Lets a released compiler take -Zbuild-std, in the child only.
            // SAFETY: as above.
            unsafe { env::set_var("RUSTC_BOOTSTRAP", "1") };
            Toolchain::Custom(name)
        }
    };
    let features: &[&str] =
        if env::var_os("CARGO_FEATURE_BPF_LOG").is_some() { &["log"] } else { &[] };
    build_ebpf(
        [Package { name: "tcpq-ebpf", root_dir: "../tcpq-ebpf", features, ..Default::default() }],
        toolchain,
    )?;
    let folder = env::var_os("OUT_DIR").context("cargo names no OUT_DIR")?;
    strip::debug_sections(&Path::new(&folder).join("tcpq-probes"))
}
