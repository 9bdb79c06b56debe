//! Pressure stall information: time in which something that could have run did not.

use std::{io, path::Path};

use crate::{model::incident::probe::Pressure, probe::text};

/// Of the host. It has none before Linux 4.20, or where it is off.
pub(super) fn of_host(procfs: &Path) -> io::Result<Pressure> {
    let folder = procfs.join("pressure");
    all(|what| folder.join(what))
}

/// Of a control group of version 2.
pub(super) fn of_group(folder: &Path) -> io::Result<Pressure> {
    all(|what| folder.join(format!("{what}.pressure")))
}

fn all(path: impl Fn(&str) -> std::path::PathBuf) -> io::Result<Pressure> {
    let cpu = total(&text(&path("cpu"))?);
    let other = |what| text(&path(what)).ok().as_deref().and_then(total);
    Ok(Pressure { cpu, memory: other("memory"), io: other("io") })
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=123`. Unit: microseconds.
fn total(lines: &str) -> Option<u64> {
    let some = lines.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
}
