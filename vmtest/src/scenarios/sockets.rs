//! Listeners of the kinds that only some rows need.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    netns::Netns,
    sockets::{Listener, bind_to, set_option},
};

/// Lets SYNs bring data, for so many connections at once.
pub(super) fn fast_open(listener: &Listener, limit: i32) -> Result<()> {
    let shared = listener.share()?;
    set_option(shared.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN, limit)
        .context("cannot set TCP_FASTOPEN")
}

/// One that speaks MPTCP to those who ask for it.
pub(crate) fn multipath(netns: &Netns, bind: SocketAddr, backlog: i32) -> Result<Listener> {
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
    attach(group, libc::SO_ATTACH_REUSEPORT_CBPF, member)
        .context("cannot choose a member of a group")
}

/// Has the socket throw away every packet before it looks at it.
pub(super) fn drop_everything(listener: &Listener) -> Result<()> {
    attach(listener, libc::SO_ATTACH_FILTER, 0).context("cannot attach a filter")
}

/// Attaches the shortest of programs: return a constant.
fn attach(listener: &Listener, option: i32, constant: u32) -> Result<()> {
    let code = u16::try_from(libc::BPF_RET | libc::BPF_K)?;
    let mut code = [libc::sock_filter { code, jt: 0, jf: 0, k: constant }];
    let program = libc::sock_fprog { len: 1, filter: code.as_mut_ptr() };
    let shared = listener.share()?;
    // SAFETY: the kernel reads the program and its one instruction, which both outlive
    // the call.
    let answer = unsafe {
        libc::setsockopt(
            shared.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const program).cast(),
            libc::socklen_t::try_from(size_of::<libc::sock_fprog>())?,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error().into()) }
}

/// Makes this machine one of those that have the address, while the socket is open.
pub(super) fn join_anycast(netns: &Netns, address: Ipv6Addr) -> Result<Socket> {
    /// `struct ipv6_mreq`
    #[repr(C)]
    struct Membership {
        address: [u8; 16],
        interface: libc::c_int,
    }
    const LOOPBACK: libc::c_int = 1;
    let join = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
        let membership = Membership { address: address.octets(), interface: LOOPBACK };
        let size = libc::socklen_t::try_from(size_of::<Membership>()).map_err(io::Error::other)?;
        // SAFETY: the pointer and size are those of a live `struct ipv6_mreq`.
        let answer = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IPV6,
                IPV6_JOIN_ANYCAST,
                (&raw const membership).cast(),
                size,
            )
        };
        if answer == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
    };
    netns.run(|| join().context("cannot join an anycast address"))
}

/// Of `linux/in6.h`.
const IPV6_JOIN_ANYCAST: libc::c_int = 27;

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
        bind_to(&socket, bind)?;
        socket.listen(backlog)?;
        Ok(socket)
    };
    let socket = netns.run(|| open().with_context(|| format!("cannot listen on {bind}")))?;
    Listener::adopt(socket)
}

/// Clients of the kernel's own that ask for MPTCP, connected.
pub(crate) fn multipath_clients(
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
