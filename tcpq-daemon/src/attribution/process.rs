//! What procfs tells of one process.

use std::{io::Read as _, path::Path};

use procfs::process::Process;

use crate::attribution::text;

/// No file read here is longer; what is, is not what it should be.
const MAX_BYTES: u64 = 64 * 1024;

/// What the kernel appends to a path that has no name any more.
const DELETED: &[u8] = b" (deleted)";

/// One process: its number alone is given to others once it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// When it started: clock ticks since boot.
    pub start: u64,
    /// Its number.
    pub pid: u32,
}

/// What is known of a process. What could not be read is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Which process.
    pub id: ProcessId,
    /// `comm` of its first thread.
    pub name: Option<String>,
    /// Path of what it executes.
    pub executable: Option<String>,
    /// Text of its `cgroup` file.
    pub cgroup: Option<Vec<u8>>,
}

/// The facts of the process that has this number now. `None`: there is none, it cannot be
/// read at all, or another has taken its number meanwhile.
pub fn read(procfs: &Path, pid: u32) -> Option<Facts> {
    let process = open(procfs, pid)?;
    let start = start(&process)?;
    let facts = Facts {
        id: ProcessId { start, pid },
        name: content(&process, "comm")
            .and_then(|comm| text::name(comm.strip_suffix(b"\n").unwrap_or(&comm))),
        executable: process.exe().ok().and_then(|path| executable(&path)),
        cgroup: content(&process, "cgroup"),
    };
    // In procfs an open folder stays with its process: once that has ended, nothing more
    // can be read, and what was read is its own. Elsewhere this is what tells.
    match self::start(&process) {
        Some(now) if now != start => None,
        _ => Some(facts),
    }
}

/// When the process that has this number now started.
pub fn start_of(procfs: &Path, pid: u32) -> Option<u64> {
    start(&open(procfs, pid)?)
}

/// Whether this process still runs. One that waits for its parent has closed its files.
pub fn is_running(procfs: &Path, id: ProcessId) -> bool {
    open(procfs, id.pid)
        .and_then(|process| content(&process, "stat"))
        .and_then(|stat| parse(&stat))
        .is_some_and(|stat| stat.start == id.start && !matches!(stat.state, b'Z' | b'X' | b'x'))
}

fn open(procfs: &Path, pid: u32) -> Option<Process> {
    Process::new_with_root(procfs.join(pid.to_string())).ok()
}

fn start(process: &Process) -> Option<u64> {
    parse(&content(process, "stat")?).map(|stat| stat.start)
}

/// A file of the process. `None` also if it is longer than it can be.
fn content(process: &Process, file: &str) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let file = process.open_relative(file).ok()?;
    file.take(MAX_BYTES).read_to_end(&mut content).ok()?;
    Some(content).filter(|content| (content.len() as u64) < MAX_BYTES)
}

/// What is used of a `stat` file.
struct Stat {
    state: u8,
    start: u64,
}

/// The second field is the name in parentheses, and the name may have any bytes: what
/// counts is the last one that closes.
fn parse(stat: &[u8]) -> Option<Stat> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields =
        stat.get(close + 1..)?.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty());
    // Fields 3 and 22 of proc(5).
    let state = *fields.next()?.first()?;
    let since = str::from_utf8(fields.nth(22 - 4)?).ok()?.parse().ok()?;
    Some(Stat { state, start: since })
}

fn executable(path: &Path) -> Option<String> {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = path.as_os_str().as_bytes();
    text::path(bytes.strip_suffix(DELETED).unwrap_or(bytes))
}

#[cfg(test)]
mod tests;
