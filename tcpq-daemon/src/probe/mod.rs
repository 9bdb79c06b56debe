//! A look at a listener's owner and its surroundings while an incident is open: what its
//! threads do, its files, its control group, the host's pressure.
//!
//! It is made on a thread of its own, for which nothing waits. Each part has a time of its
//! own, looked at between two files: what is not read by then is left out, and said.

mod cgroup;
mod pressure;
mod process;

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::model::incident::{
    moment::Moment,
    probe::{Report, Wish},
};

/// For the threads and files of one process.
const FOR_PROCESS: Duration = Duration::from_millis(100);
/// For its control groups.
const FOR_CGROUP: Duration = Duration::from_millis(100);
/// No file read here is longer.
const MAX_BYTES: u64 = 64 * 1024;

/// Where the kernel shows itself; other roots in tests.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Usually `/proc`.
    pub procfs: PathBuf,
    /// Usually `/sys/fs/cgroup`.
    pub cgroup: PathBuf,
}

/// Looks at all that is wished for.
pub fn look(roots: &Roots, wish: &Wish, at: Moment) -> Report {
    let mut report = Report { at, ..Report::default() };
    for pid in &wish.holders {
        match process::read(&roots.procfs, *pid, Deadline::after(FOR_PROCESS), &mut report.failures)
        {
            Ok(mut reading) => {
                let deadline = Deadline::after(FOR_CGROUP);
                reading.cgroup = cgroup::read(roots, *pid, deadline, &mut report.failures);
                report.processes.push(reading);
            }
            Err(error) => report.failures.push(format!("pid {pid}: {error}")),
        }
    }
    match pressure::of_host(&roots.procfs) {
        Ok(pressure) => report.host = Some(pressure),
        Err(error) => report.failures.push(format!("pressure of the host: {error}")),
    }
    report
}

/// When a part of a look has to be over.
#[derive(Clone, Copy, Debug)]
struct Deadline(Instant);

impl Deadline {
    fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// A small file of the kernel's.
fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Says what could not be read, unless that is how such a file is missing.
fn note(failures: &mut Vec<String>, what: &Path, error: &io::Error) {
    let mut said = String::new();
    if write!(said, "{}: {error}", what.display()).is_ok() {
        failures.push(said);
    }
}

#[cfg(test)]
mod tests;
