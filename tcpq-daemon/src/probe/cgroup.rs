//! A process's control groups: whether its CPU is limited, and how often that stopped it.
//!
//! Version 2 has all of it in one folder, at the root or, where systemd runs both versions
//! side by side, in `unified`; then the CPU's is in that of version 1.

use std::path::{Path, PathBuf};

use crate::{
    model::incident::probe::CgroupReading,
    probe::{Deadline, Roots, note, pressure, text},
};

/// Folders of version 1 that have the CPU.
const CPU: [&str; 3] = ["cpu,cpuacct", "cpu", "cpuacct,cpu"];

/// Levels of groups that are looked at.
const LEVELS: usize = 32;

/// Where a process is, in each hierarchy that tells of the CPU.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    unified: Option<String>,
    cpu: Option<String>,
}

/// As it is now; `None`: nothing limits it, or nothing can be read.
pub(super) fn read(
    roots: &Roots,
    pid: u32,
    deadline: Deadline,
    failures: &mut Vec<String>,
) -> Option<CgroupReading> {
    let file = roots.procfs.join(pid.to_string()).join("cgroup");
    let place = match text(&file) {
        Ok(lines) => place(&lines),
        Err(error) => {
            note(failures, &file, &error);
            return None;
        }
    };
    let unified = unified(&roots.cgroup);
    let pressure = place
        .unified
        .as_deref()
        .filter(|path| *path != "/")
        .and_then(|path| pressure::of_group(&under(&unified, path)).ok());
    let mut found: Option<CgroupReading> = None;
    let roots_v1 = CPU.iter().map(|name| roots.cgroup.join(name)).find(|root| root.is_dir());
    let places =
        [roots_v1.zip(place.cpu.as_deref()), place.unified.as_deref().map(|path| (unified, path))];
    for (root, path) in places.into_iter().flatten() {
        for (above, path) in ancestors(path).take(LEVELS).enumerate() {
            // Its own group is read, however late it is.
            if above > 0 && deadline.is_over() {
                failures.push(format!("control groups from {path} on: they took too long"));
                break;
            }
            let Some(reading) = group(&root, path) else { continue };
            // The one that was throttled most limits it; of those that never were, the
            // nearest.
            let more = found.as_ref().is_none_or(|it| reading.throttled_us > it.throttled_us);
            if reading.quota.is_some() && more {
                found = Some(reading);
            }
        }
    }
    match found {
        Some(found) => Some(CgroupReading { pressure, ..found }),
        None => pressure.map(|pressure| CgroupReading {
            path: place.unified.unwrap_or_default(),
            pressure: Some(pressure),
            ..CgroupReading::default()
        }),
    }
}

fn unified(root: &Path) -> PathBuf {
    let hybrid = root.join("unified");
    if hybrid.is_dir() { hybrid } else { root.to_owned() }
}

fn under(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// A path and all above it.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| {
        let (above, last) = path.rsplit_once('/')?;
        if last.is_empty() {
            None
        } else if above.is_empty() {
            Some("/")
        } else {
            Some(above)
        }
    })
}

/// Reads the text of `/proc/PID/cgroup`. What is outside of the daemon's cgroup namespace
/// (`/..`) cannot be found.
fn place(lines: &str) -> Place {
    let mut place = Place::default();
    for line in lines.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if path.starts_with("/..") {
            continue;
        }
        if number == "0" && controllers.is_empty() {
            place.unified = Some(path.to_owned());
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            place.cpu = Some(path.to_owned());
        }
    }
    place
}

/// One group, by whichever version its files are of.
fn group(root: &Path, path: &str) -> Option<CgroupReading> {
    let folder = under(root, path);
    let stat = text(&folder.join("cpu.stat")).ok()?;
    let of = |key: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let throttled_us = of("throttled_usec").or_else(|| Some(of("throttled_time")? / 1000))?;
    let limit = quota(&folder);
    Some(CgroupReading {
        path: path.to_owned(),
        quota: limit.as_ref().map(|(quota, _)| *quota),
        file: limit.map(|(_, file)| file.display().to_string()),
        periods: of("nr_periods")?,
        throttled: of("nr_throttled")?,
        throttled_us,
        pressure: None,
    })
}

/// CPU that it may use, and the file that says so. Unit: thousandths of one.
fn quota(folder: &Path) -> Option<(u64, PathBuf)> {
    let (of_v2, of_v1) = (folder.join("cpu.max"), folder.join("cpu.cfs_quota_us"));
    let (quota, period, file) = match text(&of_v2) {
        Ok(line) => {
            let mut words = line.split_whitespace().map(str::to_owned);
            (words.next()?, words.next()?, of_v2)
        }
        Err(_) => (text(&of_v1).ok()?, text(&folder.join("cpu.cfs_period_us")).ok()?, of_v1),
    };
    // `max` and -1 are no limit.
    let quota: u64 = quota.trim().parse().ok()?;
    Some(((quota * 1000).checked_div(period.trim().parse().ok()?)?, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_all_above_it() {
        let all = |path| ancestors(path).collect::<Vec<_>>();
        assert_eq!(all("/a/b"), ["/a/b", "/a", "/"]);
        assert_eq!(all("/"), ["/"]);
    }

    #[test]
    fn each_hierarchy_has_its_place() {
        let lines = "12:memory:/m\n4:cpu,cpuacct:/v1/x\n1:name=systemd:/s\n0::/v2/a:b\n";
        let found = place(lines);
        assert_eq!(
            (found.cpu.as_deref(), found.unified.as_deref()),
            (Some("/v1/x"), Some("/v2/a:b"))
        );
        assert_eq!(place("0::/../../x\n"), Place::default());
        assert_eq!(place("nonsense\n"), Place::default());
    }
}
