//! Runs the one command a guest was booted for, and reaps everything else.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Command, ExitStatus},
};

use crate::protocol;

/// The console as a terminal of its own: unlike `/dev/console` it can be a
/// controlling terminal, which a shell needs for ^C and job control.
const TERMINAL: &str = "/dev/ttyS0";

/// The exit code when the command could not be started, as shells do.
pub(crate) const CANNOT_START: i32 = 127;
/// Added to the number of the signal that killed the command, as shells do.
const SIGNAL_BASE: i32 = 128;

/// What the initramfs asks for.
pub(crate) struct Order {
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
}

impl Order {
    pub(crate) fn read() -> io::Result<Self> {
        Ok(Self {
            argv: list(&fs::read(protocol::ARGV_FILE)?),
            env: list(&fs::read(protocol::ENV_FILE)?)
                .iter()
                .filter_map(|entry| split(entry))
                .collect(),
        })
    }

    /// Runs the command to its end; the result is its exit code.
    pub(crate) fn run(&self) -> io::Result<i32> {
        let (program, arguments) =
            self.argv.split_first().ok_or(io::Error::other("the command is empty"))?;
        let terminal = File::options().read(true).write(true).open(TERMINAL)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(terminal.try_clone()?)
            .stdout(terminal.try_clone()?)
            .stderr(terminal);
        // SAFETY: between fork and exec it makes two system calls and touches
        // no memory but its own stack.
        unsafe { command.pre_exec(own_terminal) };
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                println!("tcpq-init: cannot run {}: {error}", program.display());
                return Ok(CANNOT_START);
            }
        };
        reap_until(child.id())
    }
}

/// Makes the command the leader of a session whose terminal is its stdin.
fn own_terminal() -> io::Result<()> {
    // SAFETY: takes nothing; fails only for a group leader, which a fresh child is not.
    if unsafe { libc::setsid() } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: descriptor 0 is the terminal opened above; the argument is a plain number.
    if unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Reaps every process that dies, orphans included, until `wanted` is among them.
fn reap_until(wanted: u32) -> io::Result<i32> {
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one int to a valid place.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if pid < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        if u32::try_from(pid) == Ok(wanted) {
            let status = ExitStatus::from_raw(status);
            let killed = || SIGNAL_BASE + status.signal().unwrap_or_default();
            return Ok(status.code().unwrap_or_else(killed));
        }
    }
}

/// Splits a file of entries that are each ended by a NUL byte.
fn list(bytes: &[u8]) -> Vec<OsString> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(|entry| OsStr::from_bytes(entry).to_owned()).collect()
}

fn split(entry: &OsStr) -> Option<(OsString, OsString)> {
    let bytes = entry.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let part = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    Some((part(&bytes[..at]), part(&bytes[at + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_empty_entries() {
        assert_eq!(list(b"truth\0\0--list\0"), ["truth", "", "--list"]);
        assert!(list(b"").is_empty());
    }

    #[test]
    fn an_entry_splits_at_its_first_equals_sign() {
        let (name, value) = split(OsStr::new("A=b=c")).expect("has an equals sign");
        assert_eq!((name.as_os_str(), value.as_os_str()), (OsStr::new("A"), OsStr::new("b=c")));
        assert_eq!(split(OsStr::new("nothing")), None);
    }
}
