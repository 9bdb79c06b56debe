//! One process: its threads, its CPU time, its files.

use std::{collections::BTreeMap, fs, io, path::Path};

use crate::{
    model::{incident::probe::ProcessReading, text::printable},
    probe::{Deadline, note, text},
};

/// Threads that are read; a pool of thousands does the same in most of them.
const THREADS: usize = 256;

/// `USER_HZ`: of what procfs tells, on every architecture that tcpq runs on.
const TICKS_PER_SECOND: u64 = 100;

/// What is used of a `stat` file.
struct Stat {
    name: String,
    state: char,
    ticks: u64,
    threads: u64,
    start: u64,
}

/// As it is now. What could not be read is absent, and said if it should have been there.
pub(super) fn read(
    procfs: &Path,
    pid: u32,
    deadline: Deadline,
    failures: &mut Vec<String>,
) -> io::Result<ProcessReading> {
    let folder = procfs.join(pid.to_string());
    let stat = stat(&folder.join("stat"))?;
    let mut reading = ProcessReading {
        pid,
        start: stat.start,
        name: stat.name,
        threads: stat.threads,
        cpu_ms: stat.ticks * 1000 / TICKS_PER_SECOND,
        ..ProcessReading::default()
    };
    if let Err(error) = threads(&folder, deadline, &mut reading) {
        note(failures, &folder.join("task"), &error);
    }
    match files(&folder.join("fd"), deadline) {
        Ok(files) => reading.files = Some(files),
        Err(error) => note(failures, &folder.join("fd"), &error),
    }
    match text(&folder.join("limits")) {
        Ok(limits) => reading.files_limit = files_limit(&limits),
        Err(error) => note(failures, &folder.join("limits"), &error),
    }
    Ok(reading)
}

/// States of all threads, and where those sleep that do.
fn threads(folder: &Path, deadline: Deadline, reading: &mut ProcessReading) -> io::Result<()> {
    let mut states = BTreeMap::new();
    let mut waits = BTreeMap::new();
    for thread in fs::read_dir(folder.join("task"))?.take(THREADS) {
        if deadline.is_over() {
            break;
        }
        let path = thread?.path();
        // One that has ended meanwhile is none.
        let Ok(stat) = stat(&path.join("stat")) else { continue };
        *states.entry(stat.state).or_insert(0) += 1;
        let Ok(function) = text(&path.join("wchan")) else { continue };
        let function = printable(function.trim());
        if !matches!(&*function, "" | "0") {
            *waits.entry(function).or_insert(0) += 1;
        }
    }
    (reading.states, reading.waits) = (states, waits);
    Ok(())
}

fn files(folder: &Path, deadline: Deadline) -> io::Result<u64> {
    let mut count = 0;
    for file in fs::read_dir(folder)? {
        file?;
        count += 1;
        if count % 1024 == 0 && deadline.is_over() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "too many to count in time"));
        }
    }
    Ok(count)
}

/// The soft limit of open files; `None`: there is none.
fn files_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn stat(path: &Path) -> io::Result<Stat> {
    parse(&text(path)?).ok_or_else(|| io::Error::other("not as proc(5) says"))
}

/// The name may have any characters: what counts is the last parenthesis that closes.
fn parse(stat: &str) -> Option<Stat> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let fields: Vec<_> = after.split_ascii_whitespace().collect();
    // Field 3 of proc(5) is the first one here.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        name: printable(name),
        state: fields.first()?.chars().next()?,
        ticks: number(14)? + number(15)?,
        threads: number(20)?,
        start: number(22)?,
    })
}
