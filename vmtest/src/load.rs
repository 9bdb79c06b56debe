//! Clients that fill and overflow a listener, over plain sockets.
//!
//! On loopback a SYN is answered, or refused, before `connect()` returns. So a
//! non-blocking connect that is closed at once is one SYN and never a second.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{kernel_counters::KernelCounters, netns::Netns, sockets::Listener, wait};

/// Overflows that the exactness cases force at each stage, at least.
pub const ENOUGH: u64 = 1_000;

/// Clients of one overflow at the final ACK. Times the ten segments that a new
/// connection may have in flight this is more than [`ENOUGH`].
const ACK_CLIENTS: usize = 150;

/// Backlog under which all [`ACK_CLIENTS`] requests fit into the SYN queue.
const ACK_BACKLOG: i32 = 200;

/// `TCP_DEFER_ACCEPT` for longer than any case, so that no deferred request times out under it.
pub const DEFER_SECONDS: i32 = 120;

/// Loopback answers at once, and a refused SYN is sent again after a second.
const NO_ANSWER: Duration = Duration::from_millis(500);

/// A slow guest may need this long for what takes a moment elsewhere.
const PATIENCE: Duration = Duration::from_mins(1);

/// Established (as they see it) clients of one listener.
#[derive(Debug)]
pub struct Clients {
    sockets: Vec<Socket>,
}

impl Clients {
    /// Connects `count` clients one after the other; each must succeed.
    pub fn connect(netns: &Netns, to: SocketAddr, count: usize) -> Result<Self> {
        let sockets = netns.run(|| (0..count).map(|_| connect(to)).collect())?;
        Ok(Self { sockets })
    }

    /// Connects clients until one gets no answer, which must happen before there
    /// are `fewer_than`.
    pub fn connect_until_refused(netns: &Netns, to: SocketAddr, fewer_than: usize) -> Result<Self> {
        netns.run(|| {
            let mut sockets = Vec::new();
            while sockets.len() < fewer_than {
                let socket = client(to)?;
                match socket.connect_timeout(&to.into(), NO_ANSWER) {
                    Ok(()) => sockets.push(socket),
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        return Ok(Self { sockets });
                    }
                    Err(error) => return Err(error).context("a client failed otherwise"),
                }
            }
            bail!("{fewer_than} clients were answered")
        })
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Each sends one segment of one byte.
    pub fn send_one_byte_each(&mut self) -> Result<()> {
        for socket in &mut self.sockets {
            socket.write_all(b"x").context("a client cannot send")?;
        }
        Ok(())
    }

    /// Ends them by RST, so that nothing of them is sent again later.
    pub fn reset(self) -> Result<()> {
        for socket in &self.sockets {
            socket.set_linger(Some(Duration::ZERO)).context("cannot set SO_LINGER")?;
        }
        Ok(())
    }
}

/// `count` clients that come and go, one after the other: to a listener whose
/// accept queue is full, each is one SYN.
pub fn syns(netns: &Netns, to: SocketAddr, count: u64) -> Result<()> {
    netns.run(|| (0..count).try_for_each(|_| one_attempt(to)))
}

/// One client that comes and, whatever became of it, is gone again at once. To
/// be called on a thread inside the listener's namespace.
pub fn one_attempt(to: SocketAddr) -> Result<()> {
    attempt(to).map(drop)
}

/// As [`one_attempt`], but a client that was answered sends a byte before it goes: a
/// listener that defers accept() takes no notice of others.
pub fn one_attempt_with_data(to: SocketAddr) -> Result<()> {
    let mut socket = attempt(to)?;
    match socket.write(b"x") {
        Ok(_) => Ok(()),
        // Not answered, or refused.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error).context("a client cannot send"),
    }
}

/// A client that has sent its SYN and will leave by RST.
fn attempt(to: SocketAddr) -> Result<Socket> {
    let socket = client(to)?;
    socket.set_nonblocking(true).context("cannot set a client non-blocking")?;
    // A reset leaves no TIME_WAIT behind: thousands of attempts need no more ports.
    socket.set_linger(Some(Duration::ZERO)).context("cannot set SO_LINGER")?;
    begin(&socket, to)?;
    Ok(socket)
}

/// Sends the SYN of a socket that does not block.
pub fn begin(socket: &Socket, to: SocketAddr) -> Result<()> {
    match socket.connect(&to.into()) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot connect to {to}")),
    }
}

/// Fills the accept queue of `listener`: its limit and one.
pub fn fill(netns: &Netns, listener: &Listener, to: SocketAddr) -> Result<Clients> {
    let queue = listener.accept_queue()?;
    let room = usize::try_from(queue.limit + 1 - queue.length).context("queue too long")?;
    let clients = Clients::connect(netns, to, room)?;
    // A client is connected when it has sent its ACK; the listener's side of that may
    // wait for ksoftirqd.
    wait::until_true("the accept queue is full", PATIENCE, || {
        Ok(listener.accept_queue()?.length == queue.limit + 1)
    })?;
    Ok(clients)
}

/// Opens a listener with clients in its SYN queue that believe themselves
/// connected and have no place in its accept queue. See [`AckStage::overflow`].
#[derive(Debug)]
pub struct AckStage {
    clients: Clients,
}

impl AckStage {
    /// Number of requests it leaves in the SYN queue.
    pub const REQUESTS: u64 = ACK_CLIENTS as u64;

    /// Connects the clients. With `TCP_DEFER_ACCEPT` the kernel drops a bare ACK,
    /// so that all of them stay in the SYN queue; the listener's backlog is
    /// changed, and its accept queue has to be empty.
    pub fn connect(netns: &Netns, listener: &Listener, to: SocketAddr) -> Result<Self> {
        Self::connect_some(netns, listener, to, ACK_CLIENTS)
    }

    /// As [`AckStage::connect`], with another number of clients.
    pub fn connect_some(
        netns: &Netns,
        listener: &Listener,
        to: SocketAddr,
        count: usize,
    ) -> Result<Self> {
        listener.defer_accept(DEFER_SECONDS)?;
        listener.listen_again(ACK_BACKLOG)?;
        let clients = Clients::connect(netns, to, count)?;
        ensure!(listener.accept_queue()?.length == 0, "a deferred client was queued at once");
        Ok(Self { clients })
    }

    /// Shrinks the accept queue to one place and has every client send data until
    /// the kernel has counted `at_least` more overflows: each segment is an ACK
    /// that would complete its handshake, and is refused.
    pub fn overflow(&mut self, netns: &Netns, listener: &Listener, at_least: u64) -> Result<()> {
        let before = KernelCounters::read(netns)?;
        let reached = || {
            let now = KernelCounters::read(netns)?.since(before);
            Ok(now.listen_overflows >= at_least)
        };
        listener.listen_again(0)?;
        // A new connection may have ten segments in flight; more would only wait.
        for _ in 0..9 {
            self.clients.send_one_byte_each()?;
            if reached()? {
                return Ok(());
            }
        }
        wait::until_true("retransmissions complete the overflows", PATIENCE, reached)
    }

    /// Ends the clients; nothing is retransmitted from here on.
    pub fn end(self) -> Result<()> {
        self.clients.reset()
    }
}

/// One client, connected. To be called on a thread inside the listener's namespace.
pub fn connect(to: SocketAddr) -> Result<Socket> {
    let socket = client(to)?;
    socket
        .connect_timeout(&to.into(), PATIENCE)
        .with_context(|| format!("cannot connect to {to}"))?;
    Ok(socket)
}

fn client(to: SocketAddr) -> Result<Socket> {
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        Ok(socket)
    };
    open().context("cannot make a client socket")
}
