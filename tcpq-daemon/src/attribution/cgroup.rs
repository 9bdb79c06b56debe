//! What a process's control groups tell of it, from the text of its `cgroup` file alone.

use crate::{
    attribution::{container::container, text},
    model::owner::Container,
};

/// What follows a path whose control group was removed while a process that has ended
/// was still in it.
const DELETED: &str = " (deleted)";

/// Of several hierarchies of version 1, the first of these that has something to tell:
/// systemd's own, then those that most managers use.
const TELLING: [&str; 4] = ["name=systemd", "memory", "cpu", "pids"];

/// What is known of a process by its control group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The path, fit to show.
    pub path: Option<String>,
    /// The systemd unit.
    pub unit: Option<String>,
    /// The container.
    pub container: Option<Container>,
}

/// Reads the text of `/proc/PID/cgroup`.
pub fn membership(text: &[u8]) -> Membership {
    let text = String::from_utf8_lossy(text);
    let Some(path) = telling_path(&text) else { return Membership::default() };
    Membership {
        path: text::path(path.as_bytes()),
        unit: unit(path).and_then(|unit| text::path(unit.as_bytes())),
        container: container(path),
    }
}

/// One line: a hierarchy and the process's place in it.
struct Line<'text> {
    rank: usize,
    path: &'text str,
}

/// The path that says most: one that names a container; else that of version 2; else that
/// of the most telling hierarchy of version 1; one that is not the root, where possible.
///
/// A container before version 2: where systemd runs both versions side by side, older
/// runtimes move a container in the hierarchies of version 1 only, and leave it in the
/// runtime's own service in version 2.
fn telling_path(text: &str) -> Option<&str> {
    let mut lines: Vec<Line<'_>> = text.lines().filter_map(line).collect();
    lines.sort_by_key(|line| line.rank);
    let find = |is_wanted: fn(&str) -> bool| lines.iter().map(|l| l.path).find(|p| is_wanted(p));
    find(|path| container(path).is_some())
        .or_else(|| find(|path| path != "/"))
        .or_else(|| find(|_| true))
}

/// `HIERARCHY:CONTROLLERS:PATH`; version 2 is hierarchy 0 and has no controllers. The
/// path may have colons, never a newline.
fn line(line: &str) -> Option<Line<'_>> {
    let mut parts = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let rank = if hierarchy == "0" && controllers.is_empty() {
        0
    } else {
        let telling = TELLING.iter().position(|name| controllers.split(',').any(|c| c == *name));
        1 + telling.unwrap_or(TELLING.len())
    };
    Some(Line { rank, path: from_root(path)? })
}

/// The path without what is above it. It begins with `/..` where the process is outside
/// of the daemon's cgroup namespace, once per level; how it goes on from the common root
/// is all that can be told.
fn from_root(path: &str) -> Option<&str> {
    let mut path = path.strip_suffix(DELETED).unwrap_or(path);
    if !path.starts_with('/') {
        return None;
    }
    while let Some(rest) = path.strip_prefix("/..")
        && (rest.is_empty() || rest.starts_with('/'))
    {
        path = rest;
    }
    Some(if path.is_empty() { "/" } else { path })
}

/// The innermost service or scope: of a user's service it is the user's, not the user
/// manager's. Where there is neither, the innermost slice.
fn unit(path: &str) -> Option<&str> {
    let last = |suffixes: &[&str]| {
        path.rsplit('/').map(unescape).find(|name| {
            suffixes.iter().any(|suffix| name.strip_suffix(suffix).is_some_and(|n| !n.is_empty()))
        })
    };
    last(&[".service", ".scope"]).or_else(|| last(&[".slice"]))
}

/// systemd writes `_` before a unit's name that could be taken for a file of the kernel's.
fn unescape(name: &str) -> &str {
    name.strip_prefix('_').unwrap_or(name)
}

#[cfg(test)]
mod tests;
