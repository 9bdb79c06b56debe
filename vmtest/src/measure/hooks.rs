//! Which hooks a process has programs on, as the kernel tells of its links, and programs that
//! do nothing on the same hooks: the least that so many hooks can cost.

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString},
    fs, io,
    mem::zeroed,
    os::fd::{FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail};

use super::statistics::{info, told};
use crate::{bpf, bpf_objects::BpfObjects};

/// One program on one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hooked {
    program: CString,
    place: Place,
}

/// Where a program is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// To a function or a tracepoint of the kernel, by its BTF.
    Traced { attach_type: u32, btf_id: u32 },
    /// To a function of the kernel, by a breakpoint.
    Probed { function: CString, at: At },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Entry,
    Return,
}

/// Every program that a process has attached, but for iterators, which run when they are read.
pub(super) fn of_process(pid: u32) -> Result<Vec<Hooked>> {
    let mut found = Vec::new();
    for id in BpfObjects::held_by(pid)?.links {
        found.extend(Hooked::by_link(id).with_context(|| format!("BPF link {id}"))?);
    }
    Ok(found)
}

/// How many functions and tracepoints these are on.
pub(super) fn places(hooks: &[Hooked]) -> usize {
    let place = |hook: &Hooked| match &hook.place {
        Place::Traced { btf_id, .. } => btf_id.to_string(),
        Place::Probed { function, .. } => function.to_string_lossy().into_owned(),
    };
    hooks.iter().map(place).collect::<BTreeSet<_>>().len()
}

/// Programs that do nothing, in place until dropped.
pub(super) struct Empty(#[expect(dead_code, reason = "closed when dropped")] Vec<[OwnedFd; 2]>);

impl Empty {
    pub(super) fn attach(hooks: &[Hooked]) -> Result<Self> {
        let attach = |hook: &Hooked| {
            hook.attach_empty().with_context(|| format!("an empty program as {:?}", hook.program))
        };
        hooks.iter().map(attach).collect::<Result<_>>().map(Self)
    }
}

// Of linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_PROG_TYPE_KPROBE: u32 = 2;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_TRACE_RAW_TP: u32 = 23;
const BPF_PERF_EVENT: u32 = 41;
const BPF_LINK_TYPE_RAW_TRACEPOINT: u32 = 1;
const BPF_LINK_TYPE_TRACING: u32 = 2;
const BPF_LINK_TYPE_ITER: u32 = 4;
const BPF_LINK_TYPE_PERF_EVENT: u32 = 7;
const BPF_PERF_EVENT_KPROBE: u32 = 3;
const BPF_PERF_EVENT_KRETPROBE: u32 = 4;

/// `KSYM_NAME_LEN` is 512 in current kernels.
const NAME_ROOM: usize = 512;

/// The beginning of `struct bpf_link_info`, with the member of its union for kprobes.
#[repr(C)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    padding: u32,
    // For tracing links: the attach type, and the target's BTF object.
    first: [u32; 2],
    // For perf events: where the function's name goes.
    name: u64,
    name_length: u32,
    offset: u32,
    rest: [u64; 3],
}

impl Hooked {
    fn by_link(id: u32) -> Result<Option<Self>> {
        let mut attr = [id, 0, 0];
        // SAFETY: the attribute is the id; the command opens a link.
        let fd = unsafe { bpf::open(BPF_LINK_GET_FD_BY_ID, &mut attr) }?;
        // SAFETY: integers only, for which all-zero is valid.
        let mut link: LinkInfo = unsafe { zeroed() };
        // SAFETY: laid out as the kernel's; there is no address in it.
        unsafe { info(&fd, &mut link) }?;
        let program = told(link.prog_id)?;
        let btf_id = program.attach_btf_id;
        let place = match link.kind {
            BPF_LINK_TYPE_ITER => return Ok(None),
            BPF_LINK_TYPE_RAW_TRACEPOINT => Place::Traced { attach_type: BPF_TRACE_RAW_TP, btf_id },
            BPF_LINK_TYPE_TRACING => Place::Traced { attach_type: link.first[0], btf_id },
            BPF_LINK_TYPE_PERF_EVENT => probed(&fd)?,
            other => bail!("a link of type {other}, which has no empty counterpart here"),
        };
        if matches!(place, Place::Traced { btf_id: 0, .. }) {
            bail!("{} has no target by BTF", program.name);
        }
        Ok(Some(Self { program: CString::new(program.name)?, place }))
    }

    /// A program that does nothing in the same place, and what holds it there.
    fn attach_empty(&self) -> io::Result<[OwnedFd; 2]> {
        match &self.place {
            Place::Traced { attach_type, btf_id } => {
                let program =
                    load_empty(BPF_PROG_TYPE_TRACING, *attach_type, *btf_id, &self.program)?;
                let mut attr = RawTracepointOpen { name: 0, prog_fd: bpf::raw(&program) };
                // SAFETY: no name, which means the program's own target; makes a link.
                let link = unsafe { bpf::open(BPF_RAW_TRACEPOINT_OPEN, &mut attr) }?;
                Ok([program, link])
            }
            Place::Probed { function, at } => {
                let program = load_empty(BPF_PROG_TYPE_KPROBE, 0, 0, &self.program)?;
                let event = probe_event(function, *at)?;
                let mut attr = [bpf::raw(&program), bpf::raw(&event), BPF_PERF_EVENT, 0];
                // SAFETY: integers only; the command makes a link, which keeps the event.
                let link = unsafe { bpf::open(BPF_LINK_CREATE, &mut attr) }?;
                Ok([program, link])
            }
        }
    }
}

fn probed(link: &OwnedFd) -> Result<Place> {
    // SAFETY: integers only, for which all-zero is valid.
    let mut found: LinkInfo = unsafe { zeroed() };
    let mut name = [0_u8; NAME_ROOM];
    found.name = name.as_mut_ptr() as u64;
    found.name_length = u32::try_from(NAME_ROOM)?;
    // SAFETY: laid out as the kernel's for a perf event; the name's room outlives the call.
    unsafe { info(link, &mut found) }?;
    let at = match found.first[0] {
        BPF_PERF_EVENT_KPROBE => At::Entry,
        BPF_PERF_EVENT_KRETPROBE => At::Return,
        other => bail!("a perf event of type {other}, which is no kprobe"),
    };
    let function = CStr::from_bytes_until_nul(&name).context("a name without an end")?;
    if function.is_empty() || found.offset != 0 {
        bail!("a kprobe at {function:?}+{}, not at the start of a function", found.offset);
    }
    Ok(Place::Probed { function: function.to_owned(), at })
}

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct ProgLoad {
    kind: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u32; 2],
    log_buf: u64,
    kern_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
    btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    prog_fd: u32,
}

/// `r0 = 0; exit`.
const DO_NOTHING: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

fn load_empty(kind: u32, attach_type: u32, btf_id: u32, name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: integers only, for which all-zero is valid.
    let mut attr: ProgLoad = unsafe { zeroed() };
    attr.kind = kind;
    attr.insn_cnt = 2;
    attr.insns = DO_NOTHING.as_ptr() as u64;
    attr.license = c"GPL".as_ptr() as u64;
    for (to, from) in attr.name.iter_mut().zip(name.to_bytes()) {
        *to = *from;
    }
    attr.expected_attach_type = attach_type;
    attr.attach_btf_id = btf_id;
    // SAFETY: instructions and licence are constants; the command opens a program.
    unsafe { bpf::open(BPF_PROG_LOAD, &mut attr) }
}

/// `PERF_FLAG_FD_CLOEXEC` of linux/perf_event.h.
const FD_CLOEXEC: u64 = 8;

/// `struct perf_event_attr` up to `config2`.
#[repr(C)]
struct EventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sampling: [u64; 3],
    flags: u64,
    wakeup_and_breakpoint: [u32; 2],
    function: u64,
    offset: u64,
}

/// The perf event of a breakpoint on a function.
fn probe_event(function: &CStr, at: At) -> io::Result<OwnedFd> {
    const FOLDER: &str = "/sys/bus/event_source/devices/kprobe";
    let kind = fs::read_to_string(format!("{FOLDER}/type"))?;
    // SAFETY: integers only, for which all-zero is valid.
    let mut attr: EventAttr = unsafe { zeroed() };
    attr.kind = kind.trim().parse().map_err(io::Error::other)?;
    attr.size = u32::try_from(size_of::<EventAttr>()).map_err(io::Error::other)?;
    // `format/retprobe` says config:0, on every kernel so far.
    attr.config = match at {
        At::Entry => 0,
        At::Return => 1,
    };
    attr.function = function.as_ptr() as u64;
    let (any_process, first_cpu, no_group) = (-1, 0, -1);
    // SAFETY: the attribute is as long as it says, and the name outlives the call.
    let fd = unsafe {
        let attr = &raw const attr;
        libc::syscall(libc::SYS_perf_event_open, attr, any_process, first_cpu, no_group, FD_CLOEXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn laid_out_as_in_the_kernel() {
        // By pahole of Linux 6.12.
        assert_eq!(offset_of!(LinkInfo, first), 16);
        assert_eq!(offset_of!(LinkInfo, name), 24);
        assert_eq!(offset_of!(ProgLoad, name), 48);
        assert_eq!(offset_of!(ProgLoad, attach_btf_id), 108);
        assert_eq!(size_of::<EventAttr>(), 72);
    }

    #[test]
    fn a_place_has_one_or_two_programs() {
        let hook = |program: &CStr, btf_id| Hooked {
            program: program.to_owned(),
            place: Place::Traced { attach_type: 24, btf_id },
        };
        assert_eq!(places(&[hook(c"fe_a", 1), hook(c"fx_a", 1), hook(c"fe_b", 2)]), 2);
    }
}
