//! How much this process may have open.

use std::{io, mem};

use anyhow::{Context as _, Result};

/// As many files as this process may allow itself, and the processes it starts.
pub fn allow_open_files() -> Result<()> {
    // SAFETY: the kernel writes one valid rlimit, and then reads it.
    let done = unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    if done {
        Ok(())
    } else {
        Err(io::Error::last_os_error()).context("cannot raise RLIMIT_NOFILE")
    }
}
