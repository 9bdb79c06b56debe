//! Listeners of the kinds that only some rows need.

use std::{io, net::SocketAddr, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    netns::Netns,
    sockets::{Listener, set_option},
};

/// Lets SYNs bring data, for so many connections at once.
pub(super) fn fast_open(listener: &Listener, limit: i32) -> Result<()> {
    let shared = listener.share()?;
    set_option(shared.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN, limit)
        .context("cannot set TCP_FASTOPEN")
}

/// One that speaks MPTCP to those who ask for it.
pub(super) fn multipath(netns: &Netns, bind: SocketAddr, backlog: i32) -> Result<Listener> {
    let protocol = Protocol::from(libc::IPPROTO_MPTCP);
    open(netns, bind, backlog, protocol, |_| Ok(()))
}

/// One of several on the same port.
pub(super) fn member(netns: &Netns, bind: SocketAddr, backlog: i32) -> Result<Listener> {
    open(netns, bind, backlog, Protocol::TCP, |socket| {
        set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
    })
}

/// Has the kernel choose this member, by its place in the group, for every SYN.
pub(super) fn choose(group: &Listener, member: u32) -> Result<()> {
    // The shortest of programs: return a constant.
    let mut code = [libc::sock_filter {
        code: u16::try_from(libc::BPF_RET | libc::BPF_K)?,
        jt: 0,
        jf: 0,
        k: member,
    }];
    let program = libc::sock_fprog { len: 1, filter: code.as_mut_ptr() };
    let shared = group.share()?;
    // SAFETY: the kernel reads the program and its one instruction, which both outlive
    // the call.
    let answer = unsafe {
        libc::setsockopt(
            shared.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            libc::socklen_t::try_from(size_of::<libc::sock_fprog>())?,
        )
    };
    if answer == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error()).context("cannot choose a member of a group")
}

fn open(
    netns: &Netns,
    bind: SocketAddr,
    backlog: i32,
    protocol: Protocol,
    prepare: impl Fn(&Socket) -> io::Result<()> + Sync,
) -> Result<Listener> {
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(bind), Type::STREAM, Some(protocol))?;
        prepare(&socket)?;
        socket.bind(&bind.into())?;
        socket.listen(backlog)?;
        Ok(socket)
    };
    let socket = netns.run(|| open().with_context(|| format!("cannot listen on {bind}")))?;
    Listener::adopt(socket)
}

/// Clients of the kernel's own that ask for MPTCP, connected.
pub(super) fn multipath_clients(
    netns: &Netns,
    to: SocketAddr,
    count: usize,
) -> Result<Vec<Socket>> {
    let connect = || -> io::Result<Socket> {
        let protocol = Protocol::from(libc::IPPROTO_MPTCP);
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(protocol))?;
        socket.connect(&to.into())?;
        Ok(socket)
    };
    netns.run(|| {
        (0..count)
            .map(|_| connect().with_context(|| format!("cannot connect to {to} by MPTCP")))
            .collect()
    })
}
