//! What a guest is booted with: an initramfs of programs, modules and one command.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    artifacts::{self, GuestPrograms},
    cmd, foreign,
    initramfs::Archive,
    packages::{BUSYBOX, Tool},
    protocol,
    store::Kernel,
};

/// The command that a guest runs, and the environment it needs beyond the usual.
pub(crate) struct Order<'a> {
    pub(crate) argv: &'a [String],
    pub(crate) env: &'a [(&'a str, &'a str)],
    /// Programs of others, by the variables that are to name them.
    pub(crate) foreign: &'a [(&'a str, &'a Tool)],
    /// Files of this machine, at their own paths.
    pub(crate) files: &'a [PathBuf],
}

/// Where tests find the modules that the kernel has not built in.
const MODULES: &str = "/lib/modules-tcpq";

/// What every command finds in its environment.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("PATH", "/bin"),
    ("HOME", "/"),
    ("TERM", "linux"),
    ("RUST_BACKTRACE", "1"),
    ("TCPQ_BIN", "/bin/tcpq"),
    ("TCPQ_MODULES", MODULES),
];

/// In order: a folder comes after its parent.
const FOLDERS: [&str; 11] = [
    "/bin",
    "/dev",
    "/etc",
    "/etc/tcpq",
    "/lib",
    MODULES,
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/tmp",
];

/// What programs that look up names and users expect.
const FILES: [(&str, &str); 3] = [
    ("/etc/passwd", "root:x:0:0:root:/:/bin/sh\n"),
    ("/etc/group", "root:x:0:\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
];

/// Where the files of guests go: images and logs.
pub(crate) fn folder() -> Result<PathBuf> {
    let folder = artifacts::target().join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Writes the initramfs for one boot.
pub(crate) fn image(
    path: &Path,
    kernel: &Kernel,
    programs: &GuestPrograms,
    order: &Order<'_>,
) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    for folder in FOLDERS {
        archive.folder(folder)?;
    }
    // Init's first output goes here, before it can mount a /dev.
    archive.character_device("/dev/console", (5, 1))?;
    archive.program("/init", &read(&programs.init)?)?;
    for program in &programs.others {
        archive.program(&format!("/bin/{}", name(program)), &read(program)?)?;
    }
    let busybox = BUSYBOX.path()?;
    archive.program("/bin/busybox", &read(&busybox)?)?;
    for applet in cmd::output(Command::new(&busybox).arg("--list"))?.lines() {
        if applet != "busybox" && programs.others.iter().all(|program| name(program) != applet) {
            archive.symlink(&format!("/bin/{applet}"), "busybox")?;
        }
    }
    let foreign = foreign::add(&mut archive, order.foreign, order.files, &FOLDERS)?;
    for module in &kernel.modules {
        archive.file(&format!("{MODULES}/{}", name(module)), &read(module)?)?;
    }
    for (path, contents) in FILES {
        archive.file(path, contents.as_bytes())?;
    }
    let env = ENVIRONMENT.iter().chain(order.env).map(|(name, value)| format!("{name}={value}"));
    archive.file(protocol::ENV_FILE, &list(env.chain(foreign)))?;
    archive.file(protocol::ARGV_FILE, &list(order.argv.iter().cloned()))?;
    archive.finish()?.flush()?;
    Ok(())
}

/// Entries that are each ended by a NUL byte, as init reads them.
fn list(entries: impl Iterator<Item = String>) -> Vec<u8> {
    entries.flat_map(|entry| [entry.into_bytes(), vec![0]].concat()).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
