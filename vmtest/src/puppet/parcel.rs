//! `SCM_RIGHTS`: a descriptor sent over a unix socket.

use std::{
    io,
    mem::{size_of, zeroed},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    ptr,
};

use anyhow::{Context as _, Result, bail};

/// The size of a descriptor.
const SIZE: libc::c_uint = 4;
const _: () = assert!(size_of::<RawFd>() == 4);

/// Room for one descriptor's control message, aligned as its header has to be.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends a descriptor. Until it is received nobody has it open.
pub(super) fn send(channel: &OwnedFd, parcel: &OwnedFd) -> Result<()> {
    let mut control = Control([0; 64]);
    let mut byte = *b"x";
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let fd = parcel.as_raw_fd();
    // SAFETY: the message's pointers are to `part` and `control`, which outlive the call;
    // one descriptor's control message fits into the latter.
    let sent = unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(SIZE) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(SIZE) as _;
        ptr::write_unaligned(libc::CMSG_DATA(header).cast::<RawFd>(), fd);
        libc::sendmsg(channel.as_raw_fd(), &raw const message, 0)
    };
    if sent == 1 {
        Ok(())
    } else {
        Err(io::Error::last_os_error()).context("cannot send a descriptor")
    }
}

/// Waits for a descriptor.
pub(super) fn receive(channel: &OwnedFd) -> Result<OwnedFd> {
    let mut control = Control([0; 64]);
    let mut byte = [0_u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: as above; the kernel writes no more than it was given room for, and the
    // header is looked at only if there is one.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        let received = libc::recvmsg(channel.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC);
        if received < 0 {
            return Err(io::Error::last_os_error()).context("cannot receive a descriptor");
        }
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
            bail!("received {received} bytes without a descriptor");
        }
        let fd = ptr::read_unaligned(libc::CMSG_DATA(header).cast::<RawFd>());
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Write as _},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn what_was_sent_is_received() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut reader, mut writer) = io::pipe().unwrap();
        let end = OwnedFd::from(writer.try_clone().unwrap());
        send(&here.into(), &end).unwrap();
        drop(end);
        let received = receive(&there.into()).unwrap();
        writer.write_all(b"a").unwrap();
        drop(writer);
        File::from(received).write_all(b"b").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ab");
    }
}
