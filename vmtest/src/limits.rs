//! How much this process may have open.

use std::{io, mem};

use anyhow::{Context as _, Result};

/// As many files as this process may allow itself, and the processes it starts.
pub fn allow_open_files() -> Result<()> {
    let limit = open_files()?;
    set_open_files(libc::rlimit { rlim_cur: limit.rlim_max, ..limit })
}

/// So many at most, as by `ulimit -n`.
pub fn limit_open_files(files: u64) -> Result<()> {
    set_open_files(libc::rlimit { rlim_cur: files, ..open_files()? })
}

/// Not one more than it has now; the limit that it had.
pub fn no_more_files() -> Result<libc::rlimit> {
    let limit = open_files()?;
    // The kernel gives the lowest number that is free, and none from the limit on.
    // SAFETY: system calls on numbers; what is opened is closed.
    let lowest = unsafe {
        let fd = libc::dup(0);
        if fd >= 0 {
            libc::close(fd);
        }
        fd
    };
    let lowest = libc::rlim_t::try_from(lowest).context("cannot duplicate stdin")?;
    set_open_files(libc::rlimit { rlim_cur: lowest, ..limit })?;
    Ok(limit)
}

/// Sets the limit.
pub fn set_open_files(limit: libc::rlimit) -> Result<()> {
    // SAFETY: the kernel reads one rlimit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error()).context("cannot set RLIMIT_NOFILE")
    }
}

fn open_files() -> Result<libc::rlimit> {
    // SAFETY: the kernel writes one valid rlimit.
    unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            return Ok(limit);
        }
    }
    Err(io::Error::last_os_error()).context("cannot read RLIMIT_NOFILE")
}
