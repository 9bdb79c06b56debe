//! The bpf(2) calls that aya lacks: iterators that are read more than once, runs of a program,
//! and how often one was not run.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use zerocopy::{Immutable, IntoBytes};

/// `BPF_LINK_CREATE`, `BPF_ITER_CREATE` and `BPF_TRACE_ITER` of include/uapi/linux/bpf.h.
const LINK_CREATE: libc::c_long = 28;
const ITER_CREATE: libc::c_long = 33;
const TRACE_ITER: u32 = 28;
/// `BPF_PROG_TEST_RUN`.
const TEST_RUN: libc::c_long = 10;
/// `BPF_OBJ_GET_INFO_BY_FD`.
const GET_INFO: libc::c_long = 15;

/// `union bpf_attr`, the part for `BPF_LINK_CREATE` with an iterator.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    reserved: u32,
}

/// `union bpf_attr`, the part for `BPF_ITER_CREATE`.
#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

/// `union bpf_attr`, the part for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct GetInfo {
    fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_prog_info` up to `recursion_misses`, its last member in Linux 5.12.
#[repr(C)]
struct ProgramInfo {
    before: [u64; 24],
    run_time_ns: u64,
    run_count: u64,
    recursion_misses: u64,
}

/// Its size, as the call wants it. A kernel that knows less leaves the rest as it is.
const PROGRAM_INFO_BYTES: u32 = 216;
const _: () = assert!(size_of::<ProgramInfo>() == PROGRAM_INFO_BYTES as usize);

/// What the kernel has counted of a program's runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs {
    /// While somebody has asked for statistics.
    pub(super) count: u64,
    /// Likewise. Unit: nanoseconds.
    pub(super) time_ns: u64,
    /// How often it was to run and did not, because it or, for kprobes, any other one was
    /// running on that CPU (since Linux 5.12). 0 where the kernel does not tell.
    pub(super) skipped: u64,
}

pub(super) fn runs(program: BorrowedFd<'_>) -> io::Result<Runs> {
    let mut info =
        ProgramInfo { before: [0; 24], run_time_ns: 0, run_count: 0, recursion_misses: 0 };
    let attr =
        GetInfo { fd: raw(program), info_len: PROGRAM_INFO_BYTES, info: &raw mut info as u64 };
    get_info(&attr)?;
    // SAFETY: whole integers of a local; volatile, because the call has written them through
    // an address that the compiler took for a number.
    #[expect(unsafe_code, reason = "the kernel has written it")]
    let runs = unsafe {
        Runs {
            count: std::ptr::read_volatile(&raw const info.run_count),
            time_ns: std::ptr::read_volatile(&raw const info.run_time_ns),
            skipped: std::ptr::read_volatile(&raw const info.recursion_misses),
        }
    };
    Ok(runs)
}

/// `union bpf_attr`, the part for `BPF_PROG_TEST_RUN`.
#[repr(C)]
struct TestRun {
    prog_fd: u32,
    result: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
}

/// Runs a loaded program of a raw tracepoint once, on this CPU; `asked` is its context. For
/// such programs since Linux 5.10.
#[expect(unsafe_code, reason = "aya has no call for this")]
pub(super) fn test_run<T: IntoBytes + Immutable>(
    program: BorrowedFd<'_>,
    asked: &T,
) -> io::Result<()> {
    let context = asked.as_bytes();
    let attr = TestRun {
        prog_fd: raw(program),
        result: 0,
        data_size_in: 0,
        data_size_out: 0,
        data_in: 0,
        data_out: 0,
        repeat: 0,
        duration: 0,
        context_size_in: u32::try_from(context.len()).map_err(io::Error::other)?,
        context_size_out: 0,
        context_in: context.as_ptr() as u64,
        context_out: 0,
        flags: 0,
        cpu: 0,
    };
    // SAFETY: `attr` is valid for its size for the time of the call, and names a context of the
    // length it says, which the kernel copies. It writes its answer into `attr`, which nobody
    // looks at after it.
    let result = unsafe {
        let mut attr = attr;
        libc::syscall(libc::SYS_bpf, TEST_RUN, &raw mut attr, size_of::<TestRun>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[expect(unsafe_code, reason = "aya has no call for this")]
fn get_info(attr: &GetInfo) -> io::Result<()> {
    // SAFETY: `attr` is valid for its size for the time of the call, and names a buffer
    // of the length it says.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, GET_INFO, std::ptr::from_ref(attr), size_of::<GetInfo>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A program bound to what it iterates over; each [`BoundIterator::open`] is a pass.
#[derive(Debug)]
pub(super) struct BoundIterator {
    link: OwnedFd,
}

impl BoundIterator {
    /// Binds an `iter/task_file` program, or one of its like, to all there is.
    pub(super) fn over_all(program: BorrowedFd<'_>) -> io::Result<Self> {
        let attr = LinkCreate {
            prog_fd: raw(program),
            target_fd: 0,
            attach_type: TRACE_ITER,
            flags: 0,
            iter_info: 0,
            iter_info_len: 0,
            reserved: 0,
        };
        Ok(Self { link: bpf(LINK_CREATE, &attr)? })
    }

    /// A file whose content is what the program writes for each element now.
    pub(super) fn open(&self) -> io::Result<File> {
        let attr = IterCreate { link_fd: self.link.as_raw_fd().cast_unsigned(), flags: 0 };
        Ok(File::from(bpf(ITER_CREATE, &attr)?))
    }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

#[expect(unsafe_code, reason = "aya has no call for this")]
fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is valid for its size for the time of the call, and both
    // commands only read it.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
