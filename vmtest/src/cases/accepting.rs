//! Every way to accept, and the ways not to: one observation per connection in each.

use std::{
    fs, io,
    net::{Shutdown, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use socket2::Socket;

use super::{path_delay::HANDSHAKE, plan::ON_6_12, waits::WAIT};
use crate::{
    bench::{Bench, Case, Held, Target},
    beside,
    daemon::{Backend, Daemon},
    histogram::{Histogram, Spans},
    ledger::{Checks, Reading},
    load::{self, Clients},
    netns::Netns,
    scenarios::sockets::{multipath, multipath_clients},
    sockets::{self, Family, Listener},
    uring::Ring,
    wait,
};

const ABANDONED: &str = "tcpq_accept_queue_abandoned_wait_seconds";

const NO_TIMES: &str = "the tracepoint backend tells no times: accept_wait_absent";

pub(super) const CASES: &[Case] = &[
    Case::new(
        "accepting",
        |bench| each(&*bench.daemon()?, WAYS),
        Held::NotOn(&[Target::Host], NO_TIMES),
    ),
    Case::new("accepting_kprobe", by_kprobe, ON_6_12),
    Case::new(
        "accepting_io_uring",
        |bench| each(&*bench.daemon()?, &[IO_URING]),
        Held::NotOn(&[Target::Host], NO_TIMES),
    ),
    Case::new(
        "accepting_mptcp",
        |bench| each(&*bench.daemon()?, &[MPTCP]),
        Held::NotOn(
            &[Target::Host, Target::V5_10],
            "the host's tracepoint backend tells no times, and Debian built 5.10 without MPTCP",
        ),
    ),
];

/// Connections of each way, unless it says otherwise.
const COUNT: usize = 50;
const PATIENCE: Duration = Duration::from_secs(20);

/// One way.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    play: fn(&Netns) -> Result<Played>,
}

/// A listener, how many of its connections were accepted, and how long the lost ones waited.
struct Played {
    listener: Listening,
    accepted: u64,
    abandoned: Spans,
    handshakes: u64,
}

/// It may be closed already.
enum Listening {
    Open(Listener),
    Closed(SocketAddr),
}

impl Played {
    /// All were accepted, after a handshake without cookies.
    fn all(listener: Listener, accepted: usize) -> Self {
        let accepted = accepted as u64;
        let listener = Listening::Open(listener);
        Self { listener, accepted, abandoned: Spans::default(), handshakes: accepted }
    }
}

const WAYS: &[Way] = &[
    Way { name: "blocking accept()", play: blocking },
    Way { name: "64 threads in accept()", play: many_threads },
    Way { name: "epoll and accept4()", play: epoll },
    Way { name: "by SYN cookie", play: cookies },
    Way { name: "closed with 50 in the queue", play: closed },
];
const IO_URING: Way = Way { name: "io_uring", play: io_uring };
const MPTCP: Way = Way { name: "MPTCP", play: mptcp };

fn by_kprobe(bench: &Bench) -> Result<()> {
    each(&bench.daemon_with(Backend::Kprobe)?, &[WAYS, &[IO_URING, MPTCP]].concat())
}

/// Plays them in one namespace, each at a listener of its own.
fn each(daemon: &Daemon, ways: &[Way]) -> Result<()> {
    let netns = Netns::new()?;
    let start = Reading::take(&netns, daemon)?;
    let beginning = Instant::now();
    let played = ways.iter().map(|way| (way.play)(&netns).context(way.name));
    let played = played.collect::<Result<Vec<_>>>()?;
    let longest = beginning.elapsed();

    let end = Reading::take(&netns, daemon)?;
    end.agrees_since(&start)?;
    let mut checks = Checks::default();
    for (way, played) in ways.iter().zip(&played) {
        let to = match &played.listener {
            Listening::Open(listener) => listener.address(),
            Listening::Closed(address) => *address,
        };
        let histogram = |family| Histogram::of(&end.metrics, family, &netns.label(), to);
        let count = |family| -> Result<Option<u64>> {
            Ok(histogram(family)?.map(|histogram| histogram.count))
        };
        let name = way.name;
        let figures = end.figures(to)?;
        checks.equal(&format!("{name}: accepts"), figures.accepts, played.accepted);
        if played.accepted == 0 {
            checks.nothing(&format!("{name}: waits"), count(WAIT)?);
        } else {
            let mut waits = Spans::default();
            (0..played.accepted).for_each(|_| waits.add(Duration::ZERO, longest));
            waits.hold(&format!("{name}: waits"), histogram(WAIT)?.as_ref(), &mut checks);
        }
        if played.abandoned.count() == 0 {
            checks.nothing(&format!("{name}: waits of the lost"), count(ABANDONED)?);
        } else {
            let lost = histogram(ABANDONED)?;
            played.abandoned.hold(&format!("{name}: of the lost"), lost.as_ref(), &mut checks);
            checks.equal(
                &format!("{name}: abandoned"),
                figures.abandoned,
                played.abandoned.count(),
            );
        }
        match played.handshakes {
            0 => checks.nothing(&format!("{name}: handshakes"), count(HANDSHAKE)?),
            many => checks.equal(&format!("{name}: handshakes"), count(HANDSHAKE)?, many),
        }
    }
    checks.end()
}

fn listener(netns: &Netns) -> Result<Listener> {
    Listener::open(netns, Family::V4.loopback(), 256)
}

/// The same socket, whose accept() blocks, but not for ever.
fn blocking_side(listener: &Listener) -> Result<Socket> {
    let socket = Socket::from(listener.share()?);
    socket.set_nonblocking(false).context("cannot set a listener blocking")?;
    socket.set_read_timeout(Some(PATIENCE)).context("cannot set SO_RCVTIMEO")?;
    Ok(socket)
}

/// Each client comes while accept() waits, or before it does.
fn blocking(netns: &Netns) -> Result<Played> {
    let listener = listener(netns)?;
    let server = blocking_side(&listener)?;
    let serve: beside::Work<'_> = Box::new(|over| {
        let accept = || Ok(server.accept().context("accept() failed")?.0);
        end(&(0..COUNT).map(|_| accept()).collect::<Result<Vec<_>>>()?, over)
    });
    beside::beside(vec![serve], || Clients::connect(netns, listener.address(), COUNT))?;
    Ok(Played::all(listener, COUNT))
}

/// Ends connections, when all clients are connected: one that is reset before it knows that it
/// was answered has failed.
fn end(connections: &[Socket], over: &beside::Over) -> Result<()> {
    while !over.is_so() {
        wait::pace();
    }
    connections.iter().try_for_each(sockets::end)
}

/// All of them sleep in accept() when the first client comes.
fn many_threads(netns: &Netns) -> Result<Played> {
    const THREADS: usize = 64;
    const EACH: usize = 3;
    let listener = listener(netns)?;
    let server = blocking_side(&listener)?;
    let threads: Vec<_> = (0..THREADS).map(|_| AtomicI32::new(0)).collect();
    let accepted = AtomicU64::new(0);
    let works = (0..THREADS).map(|number| -> beside::Work<'_> {
        let (threads, accepted, server) = (&threads, &accepted, &server);
        Box::new(move |over| {
            // SAFETY: asks for a number.
            threads[number].store(unsafe { libc::gettid() }, Ordering::Release);
            let accept = || {
                let (connection, _) = server.accept().context("accept() failed")?;
                accepted.fetch_add(1, Ordering::Relaxed);
                Ok(connection)
            };
            end(&(0..EACH).map(|_| accept()).collect::<Result<Vec<_>>>()?, over)
        })
    });
    beside::beside(works.collect(), || {
        wait::until_true("all threads sleep in accept()", PATIENCE, || {
            Ok(threads.iter().all(|thread| sleeps(thread.load(Ordering::Acquire))))
        })?;
        Clients::connect(netns, listener.address(), THREADS * EACH)
    })?;
    ensure!(accepted.into_inner() == (THREADS * EACH) as u64, "not all were accepted");
    Ok(Played::all(listener, THREADS * EACH))
}

/// Whether a thread of ours, that has nothing to wait for but one thing, waits for it.
fn sleeps(thread: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat"));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
}

/// As an event loop does it: until there is nobody left, then wait for the next.
fn epoll(netns: &Netns) -> Result<Played> {
    let listener = listener(netns)?;
    let poll = Poll::of(&listener)?;
    let serve: beside::Work<'_> = Box::new(|over| {
        let mut connections = Vec::new();
        while connections.len() < COUNT {
            poll.wait()?;
            // One more than there are, each time: EAGAIN is no error.
            while let Some(connection) = listener.accept()? {
                connections.push(connection);
            }
        }
        end(&connections, over)
    });
    beside::beside(vec![serve], || Clients::connect(netns, listener.address(), COUNT))?;
    Ok(Played::all(listener, COUNT))
}

/// Waits for a listener to have something.
struct Poll(OwnedFd);

impl Poll {
    fn of(listener: &Listener) -> Result<Self> {
        let shared = listener.share()?;
        let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 0 };
        // SAFETY: the result is checked before it is owned; the kernel reads one event.
        unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            ensure!(fd >= 0, "no epoll: {}", io::Error::last_os_error());
            let poll = OwnedFd::from_raw_fd(fd);
            let added =
                libc::epoll_ctl(fd, libc::EPOLL_CTL_ADD, shared.as_raw_fd(), &raw mut event);
            ensure!(added == 0, "cannot add to epoll: {}", io::Error::last_os_error());
            // Its registration lasts as long as the socket, which others have too.
            Ok(Self(poll))
        }
    }

    fn wait(&self) -> Result<()> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let patience = i32::try_from(PATIENCE.as_millis())?;
        // SAFETY: the kernel writes one event at most.
        let ready = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, patience) };
        ensure!(ready == 1, "epoll_wait() answered {ready}");
        Ok(())
    }
}

/// A connection made of a cookie has no handshake that the kernel remembers, and waits as
/// any other.
fn cookies(netns: &Netns) -> Result<Played> {
    let listener = listener(netns)?;
    netns.set_sysctl("net.ipv4.tcp_syncookies", "2")?;
    let clients = Clients::connect(netns, listener.address(), COUNT)?;
    netns.set_sysctl("net.ipv4.tcp_syncookies", "1")?;
    accept_all(&listener, COUNT)?;
    clients.reset()?;
    Ok(Played { handshakes: 0, ..Played::all(listener, COUNT) })
}

/// The server goes away while they wait.
fn closed(netns: &Netns) -> Result<Played> {
    const DELAY: Duration = Duration::from_millis(300);
    let listener = listener(netns)?;
    let to = listener.address();
    let mut queued = Vec::new();
    let mut clients = Vec::new();
    netns.run(|| {
        for number in 1..=COUNT as u64 {
            let earliest = Instant::now();
            clients.push(load::connect(to)?);
            while listener.accept_queue()?.length != number {
                ensure!(earliest.elapsed() < PATIENCE, "a client is not queued");
                thread::yield_now();
            }
            queued.push((earliest, Instant::now()));
        }
        Ok(())
    })?;
    thread::sleep(DELAY);
    let before = Instant::now();
    drop(listener);
    let after = Instant::now();
    let mut abandoned = Spans::default();
    for (earliest, latest) in queued {
        abandoned.add(before - latest, after - earliest);
    }
    let (listener, handshakes) = (Listening::Closed(to), COUNT as u64);
    Ok(Played { listener, accepted: 0, abandoned, handshakes })
}

/// Half of them come before the kernel is told to accept, half when it waits.
fn io_uring(netns: &Netns) -> Result<Played> {
    let listener = listener(netns)?;
    let server = blocking_side(&listener)?;
    let half = Clients::connect(netns, listener.address(), COUNT / 2)?;
    let accepted = AtomicUsize::new(0);
    let serve: beside::Work<'_> = Box::new(|over| {
        let mut ring = Ring::new()?;
        let mut connections = Vec::new();
        while connections.len() < COUNT {
            connections.push(Socket::from(ring.accept(server.as_raw_fd())?));
            accepted.fetch_add(1, Ordering::Relaxed);
        }
        end(&connections, over)
    });
    beside::beside(vec![serve], || {
        let come = || -> Result<()> {
            wait::until_true("the first half is accepted", PATIENCE, || {
                Ok(accepted.load(Ordering::Relaxed) == COUNT / 2)
            })?;
            Clients::connect(netns, listener.address(), COUNT - COUNT / 2).map(drop)
        };
        // Nothing else ends the ring's wait.
        come().inspect_err(|_| drop(server.shutdown(Shutdown::Both)))
    })?;
    half.reset()?;
    Ok(Played::all(listener, COUNT))
}

/// The kernel accepts for the socket that the server has.
fn mptcp(netns: &Netns) -> Result<Played> {
    let listener = multipath(netns, Family::V4.loopback(), 256)?;
    let clients = multipath_clients(netns, listener.address(), COUNT)?;
    accept_all(&listener, COUNT)?;
    drop(clients);
    Ok(Played::all(listener, COUNT))
}

fn accept_all(listener: &Listener, count: usize) -> Result<()> {
    let mut left = count as u64;
    wait::until_true("all are accepted", PATIENCE, || {
        left -= listener.accept_at_most(left)?;
        Ok(left == 0)
    })
}
