//! This program run again as another process, which does nothing but hold the
//! descriptors it was given.

use std::{
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{daemon::spawn_in_pid_namespace, sockets::Listener};

/// The first argument that makes this program a holder.
pub(crate) const HOLD: &str = "hold-until-stdin-ends";

/// Where a process that holds a listener lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Home {
    /// The pid namespace of the tests.
    SamePidNamespace,
    /// A pid namespace of its own, as a container has.
    OwnPidNamespace,
}

/// Becomes a holder if the command line says so; to be called first in `main`.
pub fn maybe_hold() -> bool {
    if std::env::args().nth(1).as_deref() != Some(HOLD) {
        return false;
    }
    let mut ignored = Vec::new();
    if let Err(error) = io::stdin().read_to_end(&mut ignored) {
        eprintln!("a holder cannot read stdin: {error}");
    }
    true
}

/// Another process that holds a listener; ends when this is dropped.
#[derive(Debug)]
pub struct Holder {
    child: Child,
}

impl Holder {
    /// Gives the listener to a new process; ours is closed.
    pub fn take(listener: Listener, home: Home) -> Result<Self> {
        let shared = listener.share()?;
        drop(listener);
        let program = std::env::current_exe().context("cannot tell where this program is")?;
        let mut command = Command::new(program);
        command.arg(HOLD).stdin(Stdio::piped());
        inherit(&mut command, &shared);
        let child = match home {
            Home::SamePidNamespace => command.spawn(),
            Home::OwnPidNamespace => spawn_in_pid_namespace(command),
        }
        .context("cannot start a process that holds a listener")?;
        Ok(Self { child })
    }

    /// Its process id, as we see it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // End of file on its stdin; it has nothing else to wait for.
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("cannot wait for a holder: {error}");
        }
    }
}

/// Keeps a descriptor open across exec in this command's child.
pub(crate) fn inherit(command: &mut Command, descriptor: &OwnedFd) {
    let fd = descriptor.as_raw_fd();
    // SAFETY: the closure makes one system call, on a descriptor that the caller
    // keeps open until the child has been spawned.
    unsafe {
        command.pre_exec(move || {
            if libc::fcntl(fd, libc::F_SETFD, 0) == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
}
