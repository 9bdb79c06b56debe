//! What a daemon occupies: entries in its maps, memory, network namespaces.
//! Asked of the kernel, which does not know what the daemon believes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    mem::{size_of, zeroed},
    os::fd::OwnedFd,
};

use anyhow::{Context as _, Result};

use crate::{bpf, bpf_objects::BpfObjects};

/// What the audit keeps: an entry for each CPU of each network namespace that has had a
/// drop, for as long as the namespace has listeners, and some time longer.
const AUDIT: &str = "AUDIT";

/// Entries of each hash map that a process holds, by the map's name, but for the audit's.
pub fn map_entries(pid: u32) -> Result<BTreeMap<String, usize>> {
    let mut entries = all_entries(pid)?;
    entries.remove(AUDIT);
    Ok(entries)
}

/// Network namespaces that the audit of a process keeps something for.
pub fn audited_namespaces(pid: u32) -> Result<usize> {
    Ok(all_entries(pid)?.remove(AUDIT).unwrap_or(0))
}

/// Of the audit's map, so many namespaces.
fn all_entries(pid: u32) -> Result<BTreeMap<String, usize>> {
    let mut entries = BTreeMap::new();
    for id in BpfObjects::held_by(pid)?.maps {
        let map = Map::open(id).with_context(|| format!("cannot open BPF map {id}"))?;
        // Arrays are always full.
        if [BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PERCPU_HASH].contains(&map.info.kind) {
            let keys = map.keys().with_context(|| format!("cannot list {}", map.name()))?;
            let count = if map.name() == AUDIT {
                // The namespace comes first.
                keys.iter().filter_map(|key| key.first_chunk::<8>()).collect::<BTreeSet<_>>().len()
            } else {
                keys.len()
            };
            *entries.entry(map.name()).or_default() += count;
        }
    }
    Ok(entries)
}

/// Bytes of memory that a process has for itself alone. Not the pages of its program: those
/// that it has let go of come back as they are used.
pub fn own_bytes(pid: u32) -> Result<u64> {
    in_status(pid, "RssAnon:")
}

/// Bytes of memory that a process really has, its program's and its maps' included.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    in_status(pid, "VmRSS:")
}

fn in_status(pid: u32, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix("kB"))
        .with_context(|| format!("{path} has no {field}"))?;
    Ok(kilobytes.trim().parse::<u64>().with_context(|| format!("{field} no number"))? * 1024)
}

/// Inode numbers of the network namespaces that a process holds a descriptor of.
pub fn held_namespaces(pid: u32) -> Result<Vec<u64>> {
    let directory = format!("/proc/{pid}/fd");
    let mut held = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot list {directory}"))? {
        let entry = entry.with_context(|| format!("cannot list {directory}"))?;
        // A descriptor may be closed between the listing and the reading.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']'));
        held.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    Ok(held)
}

// linux/bpf.h
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_PERCPU_HASH: u32 = 5;

/// The beginning of `struct bpf_map_info`, which older kernels have, too.
#[repr(C)]
struct MapInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    name: [u8; 16],
}

/// The parts of `union bpf_attr` that the commands here use.
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    open_flags: u32,
}

#[repr(C)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
struct NextKey {
    fd: u32,
    reserved: u32,
    key: u64,
    next: u64,
    flags: u64,
}

struct Map {
    fd: OwnedFd,
    info: MapInfo,
}

impl Map {
    fn open(id: u32) -> io::Result<Self> {
        let mut attr = ById { id, next: 0, open_flags: 0 };
        // SAFETY: the command reads and writes nothing but the attribute, and opens a map.
        let fd = unsafe { bpf::open(BPF_MAP_GET_FD_BY_ID, &mut attr) }?;
        // SAFETY: integers only, for which all-zero is valid.
        let mut info: MapInfo = unsafe { zeroed() };
        let length = u32::try_from(size_of::<MapInfo>()).map_err(io::Error::other)?;
        let mut attr = InfoByFd { fd: bpf::raw(&fd), length, info: (&raw mut info) as u64 };
        // SAFETY: the kernel writes at most `length` bytes, which `info` has.
        unsafe { bpf::call(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
        Ok(Self { fd, info })
    }

    fn name(&self) -> String {
        let name = self.info.name.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// Its keys. Exact only while nobody adds or removes one.
    fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let size = usize::try_from(self.info.key_size).map_err(io::Error::other)?;
        let mut found: Vec<Vec<u8>> = Vec::new();
        // A key that was removed meanwhile starts the walk again.
        let most = usize::try_from(self.info.max_entries).map_err(io::Error::other)? * 2;
        while found.len() < most {
            let mut next = vec![0_u8; size];
            let mut attr = NextKey {
                fd: bpf::raw(&self.fd),
                reserved: 0,
                key: found.last().map_or(0, |key| key.as_ptr() as u64),
                next: next.as_mut_ptr() as u64,
                flags: 0,
            };
            // SAFETY: both keys are as long as the map's, and outlive the call.
            match unsafe { bpf::call(BPF_MAP_GET_NEXT_KEY, &mut attr) } {
                Ok(_) => found.push(next),
                // The end of the list.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_no_namespaces() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 100_000);
        assert!(held_namespaces(pid).unwrap().is_empty());
    }
}
