//! Small things a guest needs before a test can run: loopback and limits.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Brings `lo` up; the kernel then gives it its addresses by itself.
pub(crate) fn loopback() -> io::Result<()> {
    // SAFETY: plain values in, a new descriptor or -1 out.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: ifreq is plain C data (bytes, integers, a pointer); zero is valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = flags(libc::IFF_UP | libc::IFF_RUNNING);
    // SAFETY: the request is a valid ifreq with a terminated name; the kernel
    // only reads it for this call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The interface flags fit the 16 bits that the ioctl has for them.
fn flags(flags: libc::c_int) -> libc::c_short {
    libc::c_short::try_from(flags).unwrap_or(0)
}

/// Raises the limits that many sockets (files) and old kernels' maps (locked
/// memory, before 5.11 accounts maps to the cgroup) run into.
pub(crate) fn limits() -> io::Result<()> {
    limit(libc::RLIMIT_NOFILE, OPEN_FILES)?;
    limit(libc::RLIMIT_MEMLOCK, libc::RLIM_INFINITY)
}

/// The kernel's default ceiling (`fs.nr_open`).
const OPEN_FILES: libc::rlim_t = 1 << 20;

fn limit(resource: libc::__rlimit_resource_t, value: libc::rlim_t) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the kernel reads one valid rlimit.
    let result = unsafe { libc::setrlimit(resource, &raw const limit) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
