//! What a process uses of the machine's processors.

use std::{collections::BTreeMap, fs, io, time::Duration};

use anyhow::{Context as _, Result, ensure};

/// What a process has used of all processors.
pub(super) fn time(pid: u32) -> Result<Duration> {
    let pid = libc::pid_t::try_from(pid).context("a pid out of range")?;
    let mut clock = 0;
    // SAFETY: the kernel's number of the clock goes to a valid place.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    ensure!(error == 0, "no clock of process {pid}: {}", io::Error::from_raw_os_error(error));
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time goes to a valid place.
    let answer = unsafe { libc::clock_gettime(clock, &raw mut time) };
    ensure!(answer == 0, "the clock of process {pid}: {}", io::Error::last_os_error());
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}

/// The same of its threads that live, by their names; of one name, together.
pub(super) fn time_of_threads(pid: u32) -> Result<BTreeMap<String, Duration>> {
    let mut times: BTreeMap<String, Duration> = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("no such process")? {
        let task = task.context("no such process")?.path();
        let name = fs::read_to_string(task.join("comm")).context("a thread ended")?;
        // Nanoseconds on a processor come first (Documentation/scheduler/sched-stats.rst).
        let figures = fs::read_to_string(task.join("schedstat")).context("a thread ended")?;
        let ns = figures.split_whitespace().next().context("no figure")?.parse()?;
        *times.entry(name.trim().to_owned()).or_default() += Duration::from_nanos(ns);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn this_process_uses_the_processor() {
        let before = time(std::process::id()).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {}
        assert!(time(std::process::id()).unwrap() > before);
    }
}
