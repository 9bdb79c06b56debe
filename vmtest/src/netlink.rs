//! Netlink, as far as tests need it: one request of the calling thread's namespace, and
//! whether it was obeyed.

use std::{
    io,
    mem::zeroed,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail};

/// Ends the request of `client` at `listener`, as `ss --kill` does.
pub fn destroy_request(listener: SocketAddr, client: SocketAddr) -> Result<()> {
    const SOCK_DESTROY: u16 = 21;
    let family = if listener.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // `struct inet_diag_req_v2`: any state.
    let mut body = vec![u8::try_from(family)?, u8::try_from(libc::IPPROTO_TCP)?, 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(listener.port().to_be_bytes());
    body.extend(client.port().to_be_bytes());
    for address in [listener.ip(), client.ip()] {
        body.extend(sixteen(address));
    }
    // Any interface, any cookie.
    body.extend(0_u32.to_ne_bytes());
    body.extend(u64::MAX.to_ne_bytes());
    request(libc::NETLINK_SOCK_DIAG, SOCK_DESTROY, 0, &body)
        .with_context(|| format!("cannot destroy the request of {client}"))
}

fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
    }
}

/// Sends one netlink message and reads whether it was obeyed.
pub(crate) fn request(protocol: i32, kind: u16, flags: i32, body: &[u8]) -> Result<()> {
    const HEADER: usize = 16;
    let socket = socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol)?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(u32::try_from(HEADER + body.len())?.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags)?.to_ne_bytes());
    // Sequence number and sender.
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    let mut answer = [0_u8; 1024];
    // SAFETY: all pointers and lengths describe live values; an all-zero address is the
    // kernel's, once it has the family.
    let size = unsafe {
        let mut kernel: libc::sockaddr_nl = zeroed();
        kernel.nl_family = u16::try_from(libc::AF_NETLINK)?;
        let sent = libc::sendto(
            socket.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            0,
            (&raw const kernel).cast(),
            libc::socklen_t::try_from(size_of::<libc::sockaddr_nl>())?,
        );
        if sent < 0 {
            return Err(io::Error::last_os_error()).context("cannot send to netlink");
        }
        libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
    };
    let size = usize::try_from(size).context("netlink did not answer")?;
    let word = |at: usize| -> Option<[u8; 4]> { answer[..size].get(at..at + 4)?.try_into().ok() };
    // `struct nlmsghdr`, then the error of `struct nlmsgerr`.
    match (word(4), word(HEADER)) {
        (Some([low, high, ..]), Some(error))
            if i32::from(u16::from_ne_bytes([low, high])) == libc::NLMSG_ERROR =>
        {
            match i32::from_ne_bytes(error) {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(-error)).context("netlink refused"),
            }
        }
        _ => bail!("netlink answered {:?}", &answer[..size]),
    }
}

/// Appends an attribute to a message.
pub(crate) fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Any socket.
pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: no pointer is passed; the result is checked before it is owned.
    unsafe {
        let fd = libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol);
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("cannot make a socket");
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
