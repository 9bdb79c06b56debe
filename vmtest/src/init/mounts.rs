//! The file systems a tcpq guest has: what the daemon reads, and what tests need.

use std::{ffi::CString, fs, io};

/// One line of the guest's mount table.
struct Mount {
    source: &'static str,
    target: &'static str,
    options: &'static str,
}

const fn mount(source: &'static str, target: &'static str) -> Mount {
    Mount { source, target, options: "" }
}

/// In order: a later line may lie inside an earlier one.
const TABLE: [Mount; 11] = [
    mount("proc", "/proc"),
    mount("sysfs", "/sys"),
    mount("devtmpfs", "/dev"),
    mount("devpts", "/dev/pts"),
    mount("tmpfs", "/dev/shm"),
    Mount { source: "tmpfs", target: "/tmp", options: "mode=1777" },
    Mount { source: "tmpfs", target: "/run", options: "mode=755" },
    mount("bpf", "/sys/fs/bpf"),
    mount("tracefs", "/sys/kernel/tracing"),
    mount("debugfs", "/sys/kernel/debug"),
    mount("cgroup2", "/sys/fs/cgroup"),
];

/// Folders that tools expect under the mounts: `ip netns` keeps its names here.
const FOLDERS: [&str; 2] = ["/run/netns", "/var"];

/// Mounts the table and returns what did not work, one sentence each.
///
/// A kernel without, say, debugfs is still worth testing: the command notices
/// what it misses, so nothing here ends the guest.
pub(crate) fn all() -> Vec<String> {
    let mut troubles = Vec::new();
    for entry in &TABLE {
        if let Err(error) = one(entry) {
            troubles.push(format!("cannot mount {} at {}: {error}", entry.source, entry.target));
        }
    }
    for folder in FOLDERS {
        if let Err(error) = fs::create_dir_all(folder) {
            troubles.push(format!("cannot make {folder}: {error}"));
        }
    }
    troubles
}

fn one(entry: &Mount) -> io::Result<()> {
    // Fails inside sysfs, where the kernel has already made the mount points.
    if fs::metadata(entry.target).is_err() {
        fs::create_dir_all(entry.target)?;
    }
    let (source, target) = (CString::new(entry.source)?, CString::new(entry.target)?);
    let options = CString::new(entry.options)?;
    // SAFETY: all four strings are NUL-terminated and live until the call returns.
    let result = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), source.as_ptr(), 0, options.as_ptr().cast())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
