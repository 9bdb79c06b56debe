//! Control groups as the host names them, also from within a container.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::Path,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Whether this thread had to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It was there, or what runs in its pid namespace is all it can see.
    Already,
    /// Process 1 may not be looked at, by a security policy: it may be elsewhere.
    Unknown,
    /// It was in another one.
    Now,
}

/// Moves this thread, and those that it starts from now on, into the cgroup namespace of
/// process 1. A container on cgroup v2 has one of its own, from which other groups are `/../..`
/// (cgroup_namespaces(7)); with the host's processes visible, process 1 is the host's.
pub fn enter_first(procfs: &Path) -> io::Result<Entered> {
    let first = procfs.join("1/ns/cgroup");
    let own = fs::read_link(procfs.join("thread-self/ns/cgroup"))?;
    match fs::read_link(&first) {
        Ok(theirs) if theirs == own => return Ok(Entered::Already),
        Ok(_) => {}
        Err(_) => return Ok(Entered::Unknown),
    }
    let first = File::open(&first)?;
    move_into_link_name_space(first.as_fd(), Some(LinkNameSpaceType::ControlGroup))?;
    Ok(Entered::Now)
}
