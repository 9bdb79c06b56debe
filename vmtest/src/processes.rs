//! What the kernel says of a process: the truth about an owner's name.

use std::{fs, io, os::unix::ffi::OsStringExt as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

/// `comm` of the process's first thread, as it is.
pub fn name(pid: u32) -> Result<Vec<u8>> {
    let path = format!("/proc/{pid}/comm");
    let mut name = fs::read(&path).with_context(|| format!("cannot read {path}"))?;
    // The kernel ends it so; a name may have newlines of its own.
    name.pop();
    Ok(name)
}

/// What it executes, as its own mount namespace names it.
pub fn executable(pid: u32) -> Result<PathBuf> {
    let path = format!("/proc/{pid}/exe");
    fs::read_link(&path).with_context(|| format!("cannot read {path}"))
}

/// The lines of its control groups: hierarchy, controllers and path.
pub fn cgroup_lines(pid: u32) -> Result<Vec<(String, Vec<u8>)>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = fs::read(&path).with_context(|| format!("cannot read {path}"))?;
    let mut lines = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut fields = line.splitn(3, |byte| *byte == b':').skip(1);
        let (controllers, group) = fields.next().zip(fields.next()).context("no cgroup line")?;
        lines.push((String::from_utf8_lossy(controllers).into_owned(), group.to_vec()));
    }
    Ok(lines)
}

/// The CPU time it has used, in user mode and in the kernel.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name is in parentheses and may have any of these itself.
    let (_, fields) = text.rsplit_once(") ").context("a process's stat without its name")?;
    let ticks = |index: usize| -> Result<u64> {
        let field = fields.split(' ').nth(index).context("a process's stat is too short")?;
        field.parse().with_context(|| format!("{field} is no number of ticks"))
    };
    // `utime` and `stime` are fields 14 and 15; these begin at the third.
    let ticks = ticks(11)? + ticks(12)?;
    // SAFETY: asks for a constant of the running kernel.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let per_second = u32::try_from(per_second).context("no length of a tick")?;
    Ok(Duration::from_secs(ticks) / per_second)
}

/// Its executable's name as the kernel would name it: at most 15 bytes of the file's.
pub fn name_of(program: &std::path::Path) -> Vec<u8> {
    let mut name = program.file_name().unwrap_or_default().to_owned().into_vec();
    name.truncate(15);
    name
}

/// Sends a signal to a process that is not yet waited for, or to the group it leads.
pub fn signal(pid: i32, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is involved. Whom it meets is the caller's business.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let pid = std::process::id();
        assert!(!name(pid).unwrap().is_empty());
        assert_eq!(executable(pid).unwrap(), std::env::current_exe().unwrap());
        assert!(cgroup_lines(pid).unwrap().iter().all(|(_, path)| path.starts_with(b"/")));
        assert!(cpu_time(pid).unwrap() < Duration::from_hours(1));
    }

    #[test]
    fn a_name_has_fifteen_bytes() {
        assert_eq!(name_of("/usr/bin/a-very-long-name-of-it".as_ref()), b"a-very-long-nam");
    }
}
