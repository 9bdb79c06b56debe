//! Calls of accept() that are meant to fail.

use std::{
    collections::BTreeMap,
    io, mem,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    ptr,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{limits, sockets::Listener, uring::Ring};

/// So many calls, made like this.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Attempts {
    /// How each is made.
    pub way: Way,
    /// How many.
    pub calls: u32,
    /// What there is not enough of meanwhile.
    pub shortage: Shortage,
}

/// A way to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// accept() on a socket that blocks. Something must be in the queue, or missing.
    Blocking,
    /// accept4() on one that does not.
    Polling,
    /// accept4() once epoll has said that there is something.
    Epoll,
    /// By io_uring, on a socket that blocks.
    Uring,
    /// accept() on a socket that blocks, with a signal that comes meanwhile.
    Interrupted,
    /// accept4() with flags that no kernel knows.
    UnknownFlags,
    /// accept() on a unix socket, beside the listener.
    Unix,
    /// accept() after a shutdown(), which ends the listener.
    ShutDown,
}

/// What there is not enough of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shortage {
    /// Nothing.
    None,
    /// Descriptors of this process: `RLIMIT_NOFILE`.
    Descriptors,
    /// Privilege to exceed `fs.file-max`, which somebody else has to lower.
    Files,
}

/// What came of calls, by errno; 0 is a connection.
pub type Outcomes = BTreeMap<i32, u64>;

/// Makes them.
pub(super) fn make(listener: &Listener, attempts: Attempts) -> Result<Outcomes> {
    let mut stand = Stand::new(listener, attempts.way)?;
    let scarce = Scarce::begin(attempts.shortage)?;
    let mut outcomes = Outcomes::new();
    for _ in 0..attempts.calls {
        let errno = match stand.call()? {
            Ok(connection) => {
                drop(connection);
                0
            }
            Err(errno) => errno,
        };
        *outcomes.entry(errno).or_default() += 1;
    }
    drop(scarce);
    // As it was: the file is the listener's, too.
    set_blocking(&listener.share()?, false)?;
    Ok(outcomes)
}

/// Everything that the calls need, opened before they may fail.
struct Stand {
    socket: OwnedFd,
    means: Means,
    _alarm: Option<Alarm>,
}

enum Means {
    Plain(libc::c_int),
    Epoll(OwnedFd),
    Ring(Ring),
}

impl Stand {
    fn new(listener: &Listener, way: Way) -> Result<Self> {
        let socket = listener.share()?;
        let means = match way {
            Way::Epoll => Means::Epoll(epoll(&socket)?),
            Way::Uring => Means::Ring(Ring::new()?),
            Way::UnknownFlags => Means::Plain(1),
            Way::Blocking | Way::Polling | Way::Interrupted | Way::Unix | Way::ShutDown => {
                Means::Plain(0)
            }
        };
        let socket = if way == Way::Unix { unix_listener()? } else { socket };
        let blocks = !matches!(way, Way::Polling | Way::Epoll | Way::UnknownFlags);
        set_blocking(&socket, blocks)?;
        if way == Way::ShutDown {
            shut_down(&socket)?;
        }
        let alarm = (way == Way::Interrupted).then(Alarm::new).transpose()?;
        Ok(Self { socket, means, _alarm: alarm })
    }

    /// A connection, or the errno.
    fn call(&mut self) -> Result<Result<OwnedFd, i32>> {
        let fd = self.socket.as_raw_fd();
        Ok(match &mut self.means {
            Means::Plain(flags) => accept4(fd, *flags),
            Means::Epoll(epoll) => {
                wait(epoll)?;
                accept4(fd, libc::SOCK_CLOEXEC)
            }
            Means::Ring(ring) => match ring.accept(fd) {
                Ok(connection) => Ok(connection),
                Err(error) => {
                    let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
                    Err(errno.context(error)?)
                }
            },
        })
    }
}

fn accept4(fd: RawFd, flags: libc::c_int) -> Result<OwnedFd, i32> {
    // SAFETY: nobody's address is wanted: both pointers may be null.
    let connection = unsafe { libc::accept4(fd, ptr::null_mut(), ptr::null_mut(), flags) };
    if connection < 0 {
        return Err(io::Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(connection) })
}

fn epoll(socket: &OwnedFd) -> Result<OwnedFd> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 0 };
    // SAFETY: the kernel reads one event; the result is checked before it is owned.
    unsafe {
        let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        ensure!(fd >= 0, "cannot make an epoll: {}", io::Error::last_os_error());
        let epoll = OwnedFd::from_raw_fd(fd);
        let added = libc::epoll_ctl(fd, libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event);
        ensure!(added == 0, "cannot watch a listener: {}", io::Error::last_os_error());
        Ok(epoll)
    }
}

fn wait(epoll: &OwnedFd) -> Result<()> {
    const MILLISECONDS: libc::c_int = 10_000;
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: the kernel writes one event at most.
    let ready = unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, MILLISECONDS) };
    ensure!(ready == 1, "epoll found nothing to accept");
    Ok(())
}

/// With an address that no file system has.
fn unix_listener() -> Result<OwnedFd> {
    let name = format!("tcpq-truth-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).context("no name for a unix socket")?;
    let listener = UnixListener::bind_addr(&address).context("cannot listen on a unix socket")?;
    Ok(listener.into())
}

fn shut_down(socket: &OwnedFd) -> Result<()> {
    // SAFETY: one system call on a descriptor that is open.
    if unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot shut a listener down");
    }
    Ok(())
}

fn set_blocking(socket: &OwnedFd, blocks: bool) -> Result<()> {
    let off = libc::c_int::from(!blocks);
    // SAFETY: the kernel reads one int.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONBIO, &raw const off) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot set whether a socket blocks");
    }
    Ok(())
}

/// A shortage, until it is dropped.
struct Scarce(Undo);

enum Undo {
    Nothing,
    Limit(libc::rlimit),
    User,
}

/// Nobody: has no privilege.
const NOBODY: libc::uid_t = 65_534;

impl Scarce {
    fn begin(shortage: Shortage) -> Result<Self> {
        Ok(Self(match shortage {
            Shortage::None => Undo::Nothing,
            Shortage::Descriptors => Undo::Limit(limits::no_more_files()?),
            Shortage::Files => {
                become_user(NOBODY)?;
                Undo::User
            }
        }))
    }
}

impl Drop for Scarce {
    fn drop(&mut self) {
        let undone = match self.0 {
            Undo::Nothing => Ok(()),
            Undo::Limit(limit) => limits::set_open_files(limit),
            Undo::User => become_user(0),
        };
        if let Err(error) = undone {
            eprintln!("{error:#}");
        }
    }
}

/// With the privileges of that user, and root's for the way back.
fn become_user(user: libc::uid_t) -> Result<()> {
    // SAFETY: no memory is involved.
    if unsafe { libc::seteuid(user) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot become another user");
    }
    Ok(())
}

/// A signal every 20 ms, whose handler does not have calls restarted.
struct Alarm {
    before: libc::sigaction,
}

/// Long against the way into accept(), so that the signal finds it there.
const BETWEEN: libc::timeval = libc::timeval { tv_sec: 0, tv_usec: 20_000 };

extern "C" fn ignore(_signal: libc::c_int) {}

impl Alarm {
    fn new() -> Result<Self> {
        // SAFETY: all-zero is a valid `sigaction`: no flags, an empty mask. The handler does
        // nothing.
        let before = unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            let mut before: libc::sigaction = mem::zeroed();
            action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
            if libc::sigaction(libc::SIGALRM, &raw const action, &raw mut before) != 0 {
                bail!("cannot handle a signal: {}", io::Error::last_os_error());
            }
            before
        };
        set_timer(BETWEEN)?;
        Ok(Self { before })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Err(error) = set_timer(libc::timeval { tv_sec: 0, tv_usec: 0 }) {
            eprintln!("{error:#}");
        }
        // SAFETY: what the kernel gave.
        unsafe { libc::sigaction(libc::SIGALRM, &raw const self.before, ptr::null_mut()) };
    }
}

fn set_timer(interval: libc::timeval) -> Result<()> {
    let timer = libc::itimerval { it_interval: interval, it_value: interval };
    // SAFETY: the kernel reads one timer.
    if unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot set a timer");
    }
    Ok(())
}
