//! One accept() by io_uring: the kernel does it, and tells when it has.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};

/// `IORING_OP_ACCEPT`.
const ACCEPT: u8 = 13;
/// `IORING_ENTER_GETEVENTS`.
const GET_EVENTS: u32 = 1;
/// `IORING_FEAT_SINGLE_MMAP`: both rings are in one mapping (Linux 5.4).
const SINGLE_MAPPING: u32 = 1;
/// `IORING_OFF_SQES`.
const ENTRIES_AT: libc::off_t = 0x1000_0000;

/// `struct io_sqring_offsets`, and `struct io_cqring_offsets`, which is as long.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Offsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    /// Of submissions: flags, dropped, array. Of completions: overflow, entries, flags.
    others: [u32; 3],
    reserved: u32,
    user: u64,
}

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Parameters {
    submissions: u32,
    completions: u32,
    flags: u32,
    cpu: u32,
    idle: u32,
    features: u32,
    queue: u32,
    reserved: [u32; 3],
    submitting: Offsets,
    completing: Offsets,
}

/// `struct io_uring_sqe`, as far as an accept() needs it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Submission {
    operation: u8,
    flags: u8,
    priority: u16,
    fd: RawFd,
    rest: [u64; 7],
}

/// `struct io_uring_cqe`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Completion {
    user: u64,
    result: i32,
    flags: u32,
}

/// A ring with one operation in it at a time.
#[derive(Debug)]
pub struct Ring {
    fd: OwnedFd,
    rings: Mapping,
    entries: Mapping,
    parameters: Parameters,
}

impl Ring {
    /// Asks the kernel for one.
    pub fn new() -> Result<Self> {
        let mut parameters = Parameters::default();
        // SAFETY: the kernel reads and writes one `struct io_uring_params`; the result is
        // checked before it is owned.
        let fd = unsafe {
            let fd = libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut parameters);
            if fd < 0 {
                return Err(io::Error::last_os_error()).context("cannot make a ring");
            }
            OwnedFd::from_raw_fd(RawFd::try_from(fd)?)
        };
        ensure!(parameters.features & SINGLE_MAPPING != 0, "a ring of two mappings");
        let Parameters { submitting, completing, .. } = parameters;
        let ends = [
            submitting.others[2] as usize + parameters.submissions as usize * size_of::<u32>(),
            completing.others[1] as usize
                + parameters.completions as usize * size_of::<Completion>(),
        ];
        let rings = Mapping::new(&fd, ends[0].max(ends[1]), 0)?;
        let length = parameters.submissions as usize * size_of::<Submission>();
        let entries = Mapping::new(&fd, length, ENTRIES_AT)?;
        Ok(Self { fd, rings, entries, parameters })
    }

    /// Accepts the next connection of a listener that blocks, however long that takes.
    pub fn accept(&mut self, listener: RawFd) -> Result<OwnedFd> {
        let Parameters { submitting, completing, .. } = self.parameters;
        let rest = [0; 7];
        let accept = Submission { operation: ACCEPT, flags: 0, priority: 0, fd: listener, rest };
        // SAFETY: the entries begin with one that is ours, for nothing is under way.
        unsafe { self.entries.at::<Submission>(0).write(accept) };
        // SAFETY: the kernel gave these offsets; each is of an aligned u32 of the mapping,
        // and lives as long as `self`. The array's first element is the entry's number.
        let (tail, index) = unsafe {
            let index = self.rings.at::<AtomicU32>(submitting.others[2]);
            (&*self.rings.at::<AtomicU32>(submitting.tail), &*index)
        };
        index.store(0, Ordering::Relaxed);
        tail.fetch_add(1, Ordering::Release);
        // SAFETY: numbers and a null pointer.
        let done = unsafe {
            let none = ptr::null::<libc::sigset_t>();
            let ring = self.fd.as_raw_fd();
            libc::syscall(libc::SYS_io_uring_enter, ring, 1, 1, GET_EVENTS, none, 0)
        };
        if done < 0 {
            return Err(io::Error::last_os_error()).context("cannot enter a ring");
        }
        // SAFETY: as above.
        let (head, tail) = unsafe {
            (
                &*self.rings.at::<AtomicU32>(completing.head),
                &*self.rings.at::<AtomicU32>(completing.tail),
            )
        };
        let at = head.load(Ordering::Relaxed);
        ensure!(at != tail.load(Ordering::Acquire), "a ring returned with nothing done");
        let slot = (at & (self.parameters.completions - 1)) as usize;
        let offset = completing.others[1] as usize + slot * size_of::<Completion>();
        // SAFETY: the kernel has written this completion, which is inside the mapping.
        let result = unsafe { self.rings.at::<Completion>(u32::try_from(offset)?).read().result };
        head.store(at.wrapping_add(1), Ordering::Release);
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result)).context("accept() failed");
        }
        // SAFETY: a new descriptor that nobody else has.
        Ok(unsafe { OwnedFd::from_raw_fd(result) })
    }
}

/// Memory shared with the kernel.
#[derive(Debug)]
struct Mapping {
    start: *mut libc::c_void,
    length: usize,
}

impl Mapping {
    fn new(ring: &OwnedFd, length: usize, offset: libc::off_t) -> Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), length, protection, flags, ring.as_raw_fd(), offset)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("cannot map a ring");
        }
        Ok(Self { start, length })
    }

    /// A place in it. What is there is the caller's business.
    fn at<T>(&self, offset: u32) -> *mut T {
        self.start.cast::<u8>().wrapping_add(offset as usize).cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it any more.
        unsafe { libc::munmap(self.start, self.length) };
    }
}
