//! A network namespace for the calling thread, and nobody else.

use std::{
    fs, io, mem,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use socket2::{Domain, Socket, Type};

use crate::model::ids::NetnsInode;

/// Moves the calling thread into a new network namespace, for good, and brings the
/// loopback interface up. The namespace ends with the thread and the sockets made in
/// it. The process stays where it is.
pub fn enter(procfs: &Path) -> Result<NetnsInode, String> {
    unshare().map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => "a new network namespace needs CAP_SYS_ADMIN, and a seccomp filter \
                              or RestrictNamespaces= may forbid it"
            .to_owned(),
        Some(libc::ENOSPC) => "there are as many network namespaces as user.max_net_namespaces \
                               allows"
            .to_owned(),
        _ => format!("no new network namespace: {error}"),
    })?;
    loopback_up().map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => "its loopback interface needs CAP_NET_ADMIN".to_owned(),
        _ => format!("its loopback interface cannot be used: {error}"),
    })?;
    // Not /proc/self: that is the main thread's namespace.
    let path = procfs.join("thread-self/ns/net");
    let inode = fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?.ino();
    u32::try_from(inode).map(NetnsInode).map_err(|error| format!("{}: {error}", path.display()))
}

#[expect(unsafe_code, reason = "std has no call for this")]
fn unshare() -> io::Result<()> {
    // SAFETY: no memory is involved; only the calling thread moves.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

#[expect(unsafe_code, reason = "std has no call for this")]
fn loopback_up() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: all-zero is a valid `ifreq`, which is plain integers and bytes.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = IFF_UP;
    // SAFETY: `request` outlives the call, which only reads it; its name ends in a zero.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
}

/// `IFF_UP` in the width that `ifru_flags` has.
const IFF_UP: libc::c_short = 1;

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
