//! An option of another process's socket.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// `TCP_DEFER_ACCEPT`: for so long a request waits for data. 0: it does not. Unit: seconds.
///
/// The descriptor is copied for the time of the call; from Linux 5.6 on.
pub fn defer_accept(pid: u32, fd: u32) -> io::Result<u32> {
    let number = |number: u32| i32::try_from(number).map_err(io::Error::other);
    let pid = Pid::from_raw(number(pid)?).ok_or_else(|| io::Error::other("no process"))?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let socket = pidfd_getfd(process, number(fd)?, PidfdGetfdFlags::empty())?;
    option(&socket)
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
    }
}
