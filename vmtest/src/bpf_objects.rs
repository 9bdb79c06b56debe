//! Which BPF programs, links and maps a process holds, and which exist at all.
//! Asked of the kernel, by numbers that it does not use twice.

use std::{collections::BTreeSet, fs, io, mem::size_of};

use anyhow::{Context as _, Result};

/// Ids by kind of object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BpfObjects {
    /// Programs.
    pub programs: BTreeSet<u32>,
    /// Links.
    pub links: BTreeSet<u32>,
    /// Maps.
    pub maps: BTreeSet<u32>,
}

impl BpfObjects {
    /// Everything that a process has a descriptor of.
    pub fn held_by(pid: u32) -> Result<Self> {
        let mut held = Self::default();
        let directory = format!("/proc/{pid}/fdinfo");
        for entry in fs::read_dir(&directory).with_context(|| format!("cannot list {directory}"))? {
            let entry = entry.with_context(|| format!("cannot list {directory}"))?;
            // A descriptor may be closed between the listing and the reading.
            let Ok(text) = fs::read_to_string(entry.path()) else {
                continue;
            };
            held.add(&text);
        }
        Ok(held)
    }

    /// Everything that exists in this kernel.
    pub fn existing() -> Result<Self> {
        Ok(Self {
            programs: ids(BPF_PROG_GET_NEXT_ID).context("cannot list BPF programs")?,
            links: ids(BPF_LINK_GET_NEXT_ID).context("cannot list BPF links")?,
            maps: ids(BPF_MAP_GET_NEXT_ID).context("cannot list BPF maps")?,
        })
    }

    /// What is in both.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        Self {
            programs: &self.programs & &other.programs,
            links: &self.links & &other.links,
            maps: &self.maps & &other.maps,
        }
    }

    /// Nothing at all.
    pub fn is_empty(&self) -> bool {
        let Self { programs, links, maps } = self;
        programs.is_empty() && links.is_empty() && maps.is_empty()
    }

    fn add(&mut self, fdinfo: &str) {
        for (key, value) in fdinfo.lines().filter_map(|line| line.split_once(':')) {
            let Ok(id) = value.trim().parse::<u32>() else {
                continue;
            };
            match key {
                "prog_id" => self.programs.insert(id),
                "link_id" => self.links.insert(id),
                "map_id" => self.maps.insert(id),
                _ => false,
            };
        }
    }
}

// `enum bpf_cmd` of linux/bpf.h.
const BPF_PROG_GET_NEXT_ID: libc::c_long = 11;
const BPF_MAP_GET_NEXT_ID: libc::c_long = 12;
const BPF_LINK_GET_NEXT_ID: libc::c_long = 31;

/// The part of `union bpf_attr` that the `GET_NEXT_ID` commands use.
#[repr(C)]
struct NextId {
    start: u32,
    next: u32,
    open_flags: u32,
}

fn ids(command: libc::c_long) -> io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    let mut attr = NextId { start: 0, next: 0, open_flags: 0 };
    loop {
        // SAFETY: the attribute is as long as is said, outlives the call, and is
        // integers only, so that whatever the kernel writes is valid.
        let answer =
            unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<NextId>()) };
        if answer == 0 {
            found.insert(attr.next);
            attr.start = attr.next;
            continue;
        }
        let error = io::Error::last_os_error();
        // The end of the list.
        return if error.raw_os_error() == Some(libc::ENOENT) { Ok(found) } else { Err(error) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_fdinfo() {
        let mut objects = BpfObjects::default();
        objects.add("pos:\t0\nlink_type:\ttracing\nlink_id:\t7\nprog_tag:\tab\nprog_id:\t40\n");
        objects.add("pos:\t0\nmap_type:\t1\nmap_id:\t3\n");
        assert_eq!(objects.programs, BTreeSet::from([40]));
        assert_eq!(objects.links, BTreeSet::from([7]));
        assert_eq!(objects.maps, BTreeSet::from([3]));
        assert!(!objects.is_empty());
        assert!(objects.common(&BpfObjects::default()).is_empty());
    }
}
