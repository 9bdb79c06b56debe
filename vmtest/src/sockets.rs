//! Listening sockets of the tests, and what the kernel says of them when asked
//! directly. None of it passes through tcpq.

use std::{
    io,
    mem::size_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// Which addresses a case uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 127.0.0.1
    V4,
    /// `::1`
    V6,
}

impl Family {
    /// Its loopback address with any port.
    pub fn loopback(self) -> SocketAddr {
        self.loopback_at(0)
    }

    /// Its loopback address with this port.
    pub fn loopback_at(self, port: u16) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::LOCALHOST, port).into(),
            Self::V6 => (Ipv6Addr::LOCALHOST, port).into(),
        }
    }
}

/// How full an accept queue is, as `TCP_INFO` of the listener tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptQueue {
    /// `sk_ack_backlog`.
    pub length: u64,
    /// `sk_max_ack_backlog`; one more than this fits.
    pub limit: u64,
}

/// A listening socket that accepts only when told to.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: SocketAddr,
}

impl Listener {
    /// Opens one inside `netns`; port 0 is any that is free.
    pub fn open(netns: &Netns, bind: SocketAddr, backlog: i32) -> Result<Self> {
        netns.run(|| Self::open_here(bind, backlog))
    }

    /// Opens one in the calling thread's namespace. An address of `::` also
    /// takes IPv4 clients.
    pub fn open_here(bind: SocketAddr, backlog: i32) -> Result<Self> {
        Self::open_prepared(bind, backlog, |_| Ok(()))
    }

    /// As [`Listener::open_here`], and others that are opened so may have the same port.
    pub fn open_shared_here(bind: SocketAddr, backlog: i32) -> Result<Self> {
        Self::open_prepared(bind, backlog, |socket| {
            set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
        })
    }

    fn open_prepared(
        bind: SocketAddr,
        backlog: i32,
        prepare: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let socket = Socket::new(Domain::for_address(bind), Type::STREAM, Some(Protocol::TCP))?;
            // So that a case can open the same port again while old connections linger.
            socket.set_reuse_address(true)?;
            if bind.is_ipv6() {
                socket.set_only_v6(!bind.ip().is_unspecified())?;
            }
            prepare(&socket)?;
            bind_to(&socket, bind)?;
            socket.listen(backlog)?;
            socket.set_nonblocking(true)?;
            let address = socket
                .local_addr()?
                .as_socket()
                .ok_or_else(|| io::Error::other("the listener's address is not IP"))?;
            Ok(Self { socket, address })
        };
        open().with_context(|| format!("cannot listen on {bind}"))
    }

    /// The address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `listen()` again: changes the limit of the live queue.
    pub fn listen_again(&self, backlog: i32) -> Result<()> {
        self.socket.listen(backlog).context("cannot listen() again")
    }

    /// `TCP_DEFER_ACCEPT`: a client's bare ACK is dropped and its request stays
    /// in the SYN queue until the client sends data.
    pub fn defer_accept(&self, seconds: i32) -> Result<()> {
        set_option(self.socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)
            .context("cannot set TCP_DEFER_ACCEPT")
    }

    /// Accepts and closes whatever waits; how many `accept()` calls succeeded.
    ///
    /// They are closed by RST: a connection in TIME_WAIT would answer in the
    /// listener's stead when thousands of clients come to use its port again.
    pub fn accept_all(&self) -> Result<u64> {
        self.accept_at_most(u64::MAX)
    }

    /// As [`Listener::accept_all`], but only so many.
    pub fn accept_at_most(&self, most: u64) -> Result<u64> {
        let mut accepted = 0;
        while accepted < most {
            let Some(connection) = self.accept()? else { break };
            end(&connection)?;
            accepted += 1;
        }
        Ok(accepted)
    }

    /// One `accept()`; `None` if nobody waits.
    pub fn accept(&self) -> Result<Option<Socket>> {
        Ok(self.accept_from()?.map(|(connection, _)| connection))
    }

    /// As [`Listener::accept`], and whose connection it is.
    pub fn accept_from(&self) -> Result<Option<(Socket, SocketAddr)>> {
        match self.socket.accept() {
            Ok((connection, peer)) => {
                let peer = peer.as_socket().context("a peer whose address is not IP")?;
                Ok(Some((connection, peer)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("accept() failed"),
        }
    }

    /// The accept queue as the kernel tells it.
    pub fn accept_queue(&self) -> Result<AcceptQueue> {
        // SAFETY: `tcp_info` is plain integers, for which all-zero is valid.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        get_option(self.socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)
            .context("cannot read TCP_INFO")?;
        // For a socket in LISTEN the kernel puts the queue in these two fields.
        Ok(AcceptQueue { length: info.tcpi_unacked.into(), limit: info.tcpi_sacked.into() })
    }

    /// `sk_drops` of the socket.
    pub fn socket_drops(&self) -> Result<u64> {
        let mut memory = [0_u32; MEMINFO_FIELDS];
        get_option(self.socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, &mut memory)
            .context("cannot read SO_MEMINFO")?;
        Ok(memory[MEMINFO_DROPS].into())
    }

    /// Another descriptor of the same socket, to be handed to another process.
    pub fn share(&self) -> Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned().context("cannot duplicate a listener")
    }

    /// Takes a socket that listens already, however it was opened.
    pub fn adopt(socket: Socket) -> Result<Self> {
        socket.set_nonblocking(true).context("cannot set a listener non-blocking")?;
        let address = socket.local_addr().context("a listener without an address")?;
        let address = address.as_socket().context("the listener's address is not IP")?;
        Ok(Self { socket, address })
    }
}

/// Where a listener is put that may be anywhere: above the ports that cases name, and
/// below those that the kernel gives to clients, which tcpq takes for passing ones.
const PORTS: RangeInclusive<u16> = 17_000..=32_000;

/// Binds a socket; port 0 stands for any that is free, and each time for another.
pub(crate) fn bind_to(socket: &Socket, mut bind: SocketAddr) -> io::Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if bind.port() != 0 {
        return socket.bind(&bind.into());
    }
    let mut last = None;
    for _ in PORTS {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % u32::from(PORTS.end() - PORTS.start());
        bind.set_port(PORTS.start() + u16::try_from(number).map_err(io::Error::other)?);
        match socket.bind(&bind.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
            bound => return bound,
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// An address inside `netns` that nobody has just now.
pub fn free_address(netns: &Netns, ip: IpAddr) -> Result<SocketAddr> {
    netns.run(|| {
        let any = (ip, 0).into();
        let find = || {
            let socket = Socket::new(Domain::for_address(any), Type::STREAM, Some(Protocol::TCP))?;
            bind_to(&socket, any)?;
            socket.local_addr()
        };
        let found = find().context("no free port")?;
        found.as_socket().context("an address that is not IP")
    })
}

/// Has a connection end by RST, when it is closed.
pub fn end(connection: &Socket) -> Result<()> {
    connection.set_linger(Some(Duration::ZERO)).context("cannot set SO_LINGER")
}

/// `SK_MEMINFO_VARS` and `SK_MEMINFO_DROPS` of `linux/sock_diag.h`, ABI since 4.12.
const MEMINFO_FIELDS: usize = 9;
const MEMINFO_DROPS: usize = 8;

/// Sets an option that is an `int`.
pub(crate) fn set_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    let answer = unsafe {
        libc::setsockopt(fd, level, name, (&raw const value).cast(), option_size::<i32>())
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option into a plain C value; the kernel may fill less than all of it.
fn get_option<T: Copy>(fd: RawFd, level: i32, name: i32, value: &mut T) -> io::Result<()> {
    let mut size = option_size::<T>();
    // SAFETY: the pointer and length describe `value`; every caller passes a
    // type made of integers only, so any bytes the kernel writes are valid.
    let answer =
        unsafe { libc::getsockopt(fd, level, name, (&raw mut *value).cast(), &raw mut size) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn option_size<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}
