//! Modules of the guest's kernel, which come with its image.

use std::{fs::File, io, os::fd::AsRawFd as _, path::Path};

use anyhow::{Context as _, Result};

/// Loads one that depends on no other, if it is not loaded yet.
pub fn load(name: &str) -> Result<()> {
    let folder = std::env::var_os("TCPQ_MODULES").context("TCPQ_MODULES names no folder")?;
    let path = Path::new(&folder).join(format!("{name}.ko"));
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    // SAFETY: an open descriptor, and a string that ends in a zero and outlives the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    if answer == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        error => Err(error).with_context(|| format!("cannot load {name}")),
    }
}
