//! What the kernel keeps of each program's runs, while somebody asks it to.

use std::{
    collections::BTreeMap,
    io,
    mem::{size_of, zeroed},
    os::fd::OwnedFd,
};

use anyhow::{Context as _, Result};

use super::say_of;
use crate::{bpf, bpf_objects::BpfObjects};

// `enum bpf_cmd` and `enum bpf_stats_type` of linux/bpf.h.
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_ENABLE_STATS: libc::c_long = 32;
const BPF_STATS_RUN_TIME: u32 = 0;

/// The kernel counts while it lives.
pub(super) struct Counting(#[expect(dead_code, reason = "closed when dropped")] OwnedFd);

impl Counting {
    pub(super) fn begin() -> Result<Self> {
        let mut attr = BPF_STATS_RUN_TIME;
        // SAFETY: the attribute is the statistics' type; the command makes a descriptor.
        let fd = unsafe { bpf::open(BPF_ENABLE_STATS, &mut attr) };
        fd.map(Self).context("the kernel keeps no statistics of BPF programs")
    }
}

/// A program, as the kernel tells of it.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) name: String,
    /// What it is attached to, as a type of the kernel's BTF; 0 if by other means.
    pub(super) attach_btf_id: u32,
    pub(super) runs: u64,
    pub(super) run_ns: u64,
}

/// `struct bpf_prog_info` up to what is used here; the names are the kernel's.
#[repr(C)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    prog_lens: [u32; 2],
    insns: [u64; 2],
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
    ifindex: u32,
    gpl_compatible: u32,
    netns: [u64; 2],
    nr_jited: [u32; 2],
    jited: [u64; 2],
    btf_id: u32,
    functions_record_size: u32,
    functions: u64,
    nr_functions_and_lines: [u32; 2],
    lines: [u64; 2],
    lines_sizes: [u32; 4],
    prog_tags: u64,
    run_time_ns: u64,
    run_cnt: u64,
    recursion_misses: u64,
    verified_insns: u32,
    attach_btf_obj_id: u32,
    attach_btf_id: u32,
    padding: u32,
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

/// Opens a program by its id.
pub(super) fn program(id: u32) -> io::Result<OwnedFd> {
    let mut attr = ById { id, next: 0, open_flags: 0 };
    // SAFETY: integers only; the command opens a program.
    unsafe { bpf::open(BPF_PROG_GET_FD_BY_ID, &mut attr) }
}

/// Asks for what the kernel tells of an object, into a struct of integers.
///
/// # Safety
///
/// The struct has to begin as the kernel's of that kind of object does, and any address in
/// it has to be valid for what the kernel writes there.
pub(super) unsafe fn info<T>(fd: &OwnedFd, into: &mut T) -> io::Result<()> {
    let length = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let mut attr = InfoByFd { fd: bpf::raw(fd), length, info: (&raw mut *into) as u64 };
    // SAFETY: the kernel writes at most `length` bytes; the rest is the caller's promise.
    unsafe { bpf::call(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.map(drop)
}

/// What the kernel tells of a program.
pub(super) fn told(id: u32) -> Result<Told> {
    let ask = || {
        let fd = program(id)?;
        // SAFETY: integers only, for which all-zero is valid.
        let mut found: Info = unsafe { zeroed() };
        // SAFETY: laid out as the kernel's, without an address in it.
        unsafe { info(&fd, &mut found) }?;
        Ok::<_, io::Error>(found)
    };
    let found = ask().with_context(|| format!("cannot ask for BPF program {id}"))?;
    let name = found.name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Told {
        name: String::from_utf8_lossy(name).into_owned(),
        attach_btf_id: found.attach_btf_id,
        runs: found.run_cnt,
        run_ns: found.run_time_ns,
    })
}

/// Of each program that these processes hold, by its id.
pub(super) fn runs(pids: &[u32]) -> Result<BTreeMap<u32, Told>> {
    let mut found = BTreeMap::new();
    for pid in pids {
        for id in BpfObjects::held_by(*pid)?.programs {
            found.insert(id, told(id)?);
        }
    }
    Ok(found)
}

/// Says what each program has done for each of `count` events, and all of them together: the
/// runs of all are returned.
pub(super) fn say_programs(
    case: &str,
    item: &str,
    round: u32,
    count: u32,
    before: &BTreeMap<u32, Told>,
    after: &BTreeMap<u32, Told>,
) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "sums of a round are far below 2^52")]
    let per = |sum: u64| sum as f64 / f64::from(count);
    let (mut all_runs, mut all_ns) = (0.0, 0.0);
    for (id, after) in after {
        // One that was not there before has run since.
        let (runs, ns) = before.get(id).map_or((0, 0), |before| (before.runs, before.run_ns));
        let (runs, ns) = (per(after.runs - runs), per(after.run_ns - ns));
        // Of a flood some programs see a packet in thousands.
        if runs > 0.0 {
            let program = match item {
                "" => after.name.clone(),
                item => format!("{item}: {}", after.name),
            };
            say_of(case, "program_runs", &program, round, runs);
            say_of(case, "program_ns", &program, round, ns);
        }
        all_runs += runs;
        all_ns += ns;
    }
    say_of(case, "runs", item, round, all_runs);
    say_of(case, "run_ns", item, round, all_ns);
    all_runs
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn laid_out_as_in_the_kernel() {
        // By pahole of Linux 6.12.
        assert_eq!(offset_of!(Info, name), 64);
        assert_eq!(offset_of!(Info, run_time_ns), 192);
        assert_eq!(offset_of!(Info, run_cnt), 200);
        assert_eq!(offset_of!(Info, attach_btf_id), 224);
        assert_eq!(size_of::<Info>(), 232);
    }
}
