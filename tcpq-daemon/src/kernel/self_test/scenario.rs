//! What is forced: per address family one listener, two handshakes with their
//! accept(), an accept() that fails, an overflow at the SYN and one at the final ACK.
//!
//! A backlog of n holds n + 1 connections. The SYN queue has the same limit, and older
//! kernels mean n there: with n = 0 they answer every SYN with a cookie, and warn of a
//! flood. So SYNs come while n is 1 or 2, and n is 0 only for the ACKs.
//!
//! TCP_DEFER_ACCEPT drops the bare ACK of a client, who is connected already for his
//! own part: his first byte is then the final ACK, at a moment of our choosing.
//!
//! What is refused comes again, a SYN after 1 s and data after 0.2 s. Both clients are
//! gone by then, or the run was disturbed and says so.

use std::{
    fmt,
    io::{self, Write as _},
    mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    ptr,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use crate::kernel::self_test::netstat::{self, Counters};

/// How long each thing may take. All of it takes milliseconds; a machine that stands
/// still for so long is no place for a test.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks at what another CPU may be doing.
const PAUSE: Duration = Duration::from_micros(200);

/// The address family of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 127.0.0.1
    V4,
    /// `::1`
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// What happened to one listener, as its script wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forced {
    /// Its family.
    pub family: Family,
    /// SYNs sent to it.
    pub syns: u64,
    /// SYNs refused for its full accept queue.
    pub overflows_syn: u64,
    /// Final ACKs refused for its full accept queue.
    pub overflows_ack: u64,
    /// Requests that a reset ended.
    pub resets: u64,
    /// Handshakes completed into its accept queue.
    pub enqueued: u64,
    /// Of them, taken by accept().
    pub accepts: u64,
    /// Calls of accept() that failed.
    pub accept_errors: u64,
    /// Of them, still in the queue.
    pub queued: u64,
}

impl Forced {
    pub(super) const fn by_script(family: Family) -> Self {
        Self {
            family,
            syns: 5,
            overflows_syn: 1,
            overflows_ack: 1,
            resets: 1,
            enqueued: 3,
            accepts: 2,
            accept_errors: 1,
            queued: 1,
        }
    }
}

/// Why there is nothing to judge.
#[derive(Debug, Error)]
pub enum Unfit {
    /// The kernel's own counters say that something else happened, too: a client came
    /// again. Another run may be clean.
    #[error("the kernel counted {counted:?} where {forced:?} was forced: this machine is too slow")]
    Disturbed {
        /// By the kernel.
        counted: Box<Counters>,
        /// By the script.
        forced: Box<Counters>,
    },
    /// It did not get through.
    #[error("{step}: {source}")]
    Stuck {
        /// At what.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// All of it has happened; each listener still holds one connection.
#[derive(Debug)]
pub struct Staged {
    listeners: Vec<Staging>,
}

/// One listener after its script.
#[derive(Debug)]
struct Staging {
    forced: Forced,
    listener: Socket,
    address: SocketAddr,
    /// The client of the connection that is queued.
    queued: Socket,
}

impl Staged {
    /// What was forced, and on which port.
    pub fn forced(&self) -> impl Iterator<Item = (Forced, SocketAddr)> {
        self.listeners.iter().map(|staging| (staging.forced, staging.address))
    }

    /// Takes and ends what is queued, then closes the listeners: nothing is pending.
    pub fn finish(self) -> Result<(), Unfit> {
        for Staging { listener, queued, .. } in self.listeners {
            accept(&listener).at("accept() of the last connection")?;
            drop(queued);
        }
        Ok(())
    }
}

/// Runs the script for each family that this kernel has. The calling thread is in the
/// test's namespace.
pub fn run(procfs: &Path) -> Result<Staged, Unfit> {
    let netstat = netstat::path(procfs);
    let counters = || netstat::read(&netstat).at("reading the kernel's counters");
    let start = counters()?;
    let mut kernel = Kernel { path: netstat.clone(), now: start };
    let mut listeners = vec![script(Family::V4, &mut kernel)?];
    if let Some(v6) = has_v6().then(|| script(Family::V6, &mut kernel)) {
        listeners.push(v6?);
    }
    let staged = Staged { listeners };
    let counted = counters()?.since(start);
    let forced = staged.counted();
    if counted != forced {
        return Err(Unfit::Disturbed { counted: counted.into(), forced: forced.into() });
    }
    Ok(staged)
}

impl Staged {
    /// What the kernel must have counted.
    fn counted(&self) -> Counters {
        let sum =
            |of: fn(&Forced) -> u64| self.listeners.iter().map(|staging| of(&staging.forced)).sum();
        Counters {
            listen_overflows: sum(|forced| forced.overflows_syn + forced.overflows_ack),
            listen_drops: sum(|forced| forced.overflows_syn + forced.overflows_ack),
            embryonic_resets: sum(|forced| forced.resets),
        }
    }
}

/// Without `ipv6.disable=1` and the like.
fn has_v6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, None)
        .and_then(|socket| socket.bind(&loopback(Family::V6).into()))
        .is_ok()
}

fn script(family: Family, kernel: &mut Kernel) -> Result<Staging, Unfit> {
    let (listener, address) = listen(family).at("listen()")?;

    // Two handshakes fill the queue of one and one more; a third client is refused.
    let first = connect(address).at("connect()")?;
    let second = connect(address).at("connect()")?;
    wait_queued(&listener, 2).at("waiting for connections to be queued")?;
    let refused = client(address).at("socket()")?;
    refused.set_nonblocking(true).at("socket()")?;
    match refused.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error).at("connect() to a full queue"),
        Ok(()) => return Err(io::Error::other("it was let in")).at("connect() to a full queue"),
    }
    kernel.wait_for(|counters| &mut counters.listen_overflows)?;
    drop(refused);
    for _ in 0..2 {
        accept(&listener).at("accept()")?;
    }
    drop((first, second));
    fail_to_accept(&listener).at("accept4() with unknown flags")?;

    // Two clients are connected for their own part. The first one's byte completes his
    // handshake, which fills the queue of none and one more; the second one's is refused.
    defer_accept(&listener).at("TCP_DEFER_ACCEPT")?;
    listener.listen(2).at("listen() again")?;
    let queued = connect(address).at("connect()")?;
    let refused = connect(address).at("connect()")?;
    listener.listen(0).at("listen() again")?;
    (&queued).write_all(b"a").at("sending a final ACK")?;
    wait_queued(&listener, 1).at("waiting for a connection to be queued")?;
    (&refused).write_all(b"b").at("sending a final ACK")?;
    kernel.wait_for(|counters| &mut counters.listen_overflows)?;
    // Its reset ends the request, so that no timer of it is left.
    drop(refused);
    kernel.wait_for(|counters| &mut counters.embryonic_resets)?;

    Ok(Staging { forced: Forced::by_script(family), listener, address, queued })
}

/// The kernel's counters, as they move.
struct Kernel {
    path: PathBuf,
    now: Counters,
}

impl Kernel {
    /// Waits until a counter is one more than it was.
    fn wait_for(&mut self, counter: fn(&mut Counters) -> &mut u64) -> Result<(), Unfit> {
        let start = Instant::now();
        let mut was = self.now;
        loop {
            let mut now = netstat::read(&self.path).at("reading the kernel's counters")?;
            if *counter(&mut now) > *counter(&mut was) {
                // What else has moved in the meantime is seen in the end.
                self.now = now;
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into()).at("waiting for the kernel's counters");
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn loopback(family: Family) -> SocketAddr {
    match family {
        Family::V4 => (Ipv4Addr::LOCALHOST, 0).into(),
        Family::V6 => (Ipv6Addr::LOCALHOST, 0).into(),
    }
}

fn listen(family: Family) -> io::Result<(Socket, SocketAddr)> {
    let address = loopback(family);
    let listener = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    listener.bind(&address.into())?;
    listener.listen(1)?;
    listener.set_read_timeout(Some(PATIENCE))?;
    let address = listener.local_addr()?.as_socket();
    Ok((listener, address.ok_or_else(|| io::Error::other("the listener has no address"))?))
}

/// A client who leaves by a reset: nothing stays in TIME_WAIT.
fn client(address: SocketAddr) -> io::Result<Socket> {
    let client = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    client.set_linger(Some(Duration::ZERO))?;
    client.set_tcp_nodelay(true)?;
    Ok(client)
}

fn connect(address: SocketAddr) -> io::Result<Socket> {
    let client = client(address)?;
    client.connect_timeout(&address.into(), PATIENCE)?;
    Ok(client)
}

/// Takes a connection and ends it.
fn accept(listener: &Socket) -> io::Result<()> {
    let (connection, _) = listener.accept()?;
    connection.set_linger(Some(Duration::ZERO))
}

/// accept4() refuses flags that it does not know, before it looks for a connection.
#[expect(unsafe_code, reason = "socket2 has no call for this")]
fn fail_to_accept(listener: &Socket) -> io::Result<()> {
    let unknown: libc::c_int = 1;
    let fd = listener.as_raw_fd();
    // SAFETY: both pointers are null, which is allowed: nobody's address is wanted.
    let answer = unsafe { libc::accept4(fd, ptr::null_mut(), ptr::null_mut(), unknown) };
    match io::Error::last_os_error() {
        error if answer < 0 && error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        error if answer < 0 => Err(error),
        _ => Err(io::Error::other("it was let in")),
    }
}

#[expect(unsafe_code, reason = "socket2 has no call for this")]
fn defer_accept(listener: &Socket) -> io::Result<()> {
    let seconds: libc::c_int = 1;
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT);
    let bytes = libc::socklen_t::try_from(size_of_val(&seconds)).map_err(io::Error::other)?;
    let fd = listener.as_raw_fd();
    // SAFETY: the pointer and the length describe `seconds`, which outlives the call.
    let answer = unsafe { libc::setsockopt(fd, level, name, (&raw const seconds).cast(), bytes) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until the accept queue has a length.
fn wait_queued(listener: &Socket, length: u32) -> io::Result<()> {
    let start = Instant::now();
    while queued(listener)? != length {
        if start.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// The accept queue's length, as `TCP_INFO` of a listener tells it.
#[expect(unsafe_code, reason = "socket2 has no call for this")]
fn queued(listener: &Socket) -> io::Result<u32> {
    // SAFETY: `tcp_info` is plain integers, for which all-zero is valid.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut bytes = libc::socklen_t::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    let fd = listener.as_raw_fd();
    // SAFETY: the pointer and the length describe `info`, which outlives the call.
    let answer =
        unsafe { libc::getsockopt(fd, level, name, (&raw mut info).cast(), &raw mut bytes) };
    // The kernel puts the two lengths of a listener in fields that it has no use for.
    if answer == 0 { Ok(info.tcpi_unacked) } else { Err(io::Error::last_os_error()) }
}

/// Says at which step an error came.
trait At<T> {
    fn at(self, step: &'static str) -> Result<T, Unfit>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, step: &'static str) -> Result<T, Unfit> {
        self.map_err(|source| Unfit::Stuck { step, source })
    }
}
