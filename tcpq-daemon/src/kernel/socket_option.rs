//! An option of another process's socket.

use std::{
    fs, io,
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use rustix::{
    net::{SocketAddrAny, getsockname, sockopt::socket_acceptconn},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

/// Descriptors of one process that are tried.
const TRIED: usize = 1024;

/// `TCP_DEFER_ACCEPT`: for so long a request waits for data. 0: it does not. Unit: seconds.
///
/// The descriptor is copied for the time of the call; from Linux 5.6 on.
pub fn defer_accept(pid: u32, fd: u32) -> io::Result<u32> {
    option(&copy(&process(pid)?, fd)?)
}

/// The same of a listener that is known by its port only, of a process whose descriptors are in
/// this folder.
pub fn defer_accept_on_port(folder: &Path, pid: u32, port: u16) -> io::Result<u32> {
    let process = process(pid)?;
    for entry in fs::read_dir(folder)?.take(TRIED) {
        let entry = entry?;
        let is_socket = fs::read_link(entry.path())
            .is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // What is closed meanwhile is not it.
        if is_socket
            && let Ok(socket) = copy(&process, fd)
            && socket_acceptconn(&socket).unwrap_or(false)
            && getsockname(&socket).is_ok_and(|at| port_of(at) == Some(port))
        {
            return option(&socket);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "it has none that listens there"))
}

fn port_of(address: SocketAddrAny) -> Option<u16> {
    SocketAddr::try_from(address).ok().map(|address| address.port())
}

fn process(pid: u32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(number(pid)?).ok_or_else(|| io::Error::other("no process"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn copy(process: &OwnedFd, fd: u32) -> io::Result<OwnedFd> {
    Ok(pidfd_getfd(process, number(fd)?, PidfdGetfdFlags::empty())?)
}

fn number(number: u32) -> io::Result<i32> {
    i32::try_from(number).map_err(io::Error::other)
}

#[expect(unsafe_code, reason = "no library has this option")]
fn option(socket: &OwnedFd) -> io::Result<u32> {
    let mut value: libc::c_int = 0;
    let mut length =
        libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
    // SAFETY: both pointers are to locals that outlive the call, and `length` is the size of
    // what the first one points to.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    u32::try_from(value).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd as _};

    use super::*;

    #[test]
    fn the_option_of_a_listener_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = listener.as_raw_fd().cast_unsigned();
        assert_eq!(defer_accept(std::process::id(), fd).unwrap(), 0);
        assert!(defer_accept(std::process::id(), 9999).is_err());
        let (folder, pid) = (Path::new("/proc/self/fd"), std::process::id());
        let port = listener.local_addr().unwrap().port();
        assert_eq!(defer_accept_on_port(folder, pid, port).unwrap(), 0);
        drop(listener);
        assert!(defer_accept_on_port(folder, pid, port).is_err());
    }
}
