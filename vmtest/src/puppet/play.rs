//! The inside of a puppet: does as it is told until nobody tells it any more.

use std::{
    fs::File,
    io::{self, BufRead as _, Write as _},
    net::SocketAddr,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use socket2::Socket;

use super::{
    attempts,
    orders::{Given, Manner, Order, Reply, Service, Sharing},
    parcel, serving,
};
use crate::{
    cgroups,
    daemon::spawn_in_pid_namespace,
    helper::{self, Home},
    limits, processes,
    sockets::Listener,
    wait,
};

/// A server that was asked to end is killed after this.
const END_WITHIN: Duration = Duration::from_secs(5);

/// The first descriptor that systemd passes.
const FIRST_PASSED: libc::c_int = 3;

/// Plays until stdin ends.
pub(super) fn play(channel: Option<OwnedFd>) -> Result<()> {
    limits::allow_open_files()?;
    let mut puppet = Inside { channel, listeners: Vec::new(), services: Vec::new() };
    for line in io::stdin().lock().lines() {
        let order = serde_json::from_str(&line.context("cannot read an order")?)
            .context("an order is not understood")?;
        let reply = puppet.obey(order).unwrap_or_else(|error| Reply::Failed(format!("{error:#}")));
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &reply).context("cannot reply")?;
        out.write_all(b"\n").and_then(|()| out.flush()).context("cannot reply")?;
    }
    puppet.stop()
}

struct Inside {
    channel: Option<OwnedFd>,
    listeners: Vec<Listener>,
    services: Vec<(Child, Home)>,
}

impl Inside {
    fn obey(&mut self, order: Order) -> Result<Reply> {
        match order {
            Order::Name(name) => rename(&name)?,
            Order::Listen { address, backlog, sharing } => {
                return self.listen(address, backlog, sharing).map(Reply::Address);
            }
            Order::ListenMany { mut address, count, backlog } => {
                for _ in 0..count {
                    self.listen(address, backlog, Sharing::Alone)?;
                    address.set_port(address.port() + 1);
                }
            }
            Order::ListenAgain(backlog) => self.last()?.listen_again(backlog)?,
            Order::Accept => {
                self.last()?.accept_all()?;
            }
            Order::Attempt(attempts) => {
                return attempts::make(self.last()?, attempts).map(Reply::Outcomes);
            }
            Order::Defer(seconds) => self.last()?.defer_accept(seconds)?,
            Order::LimitFiles(files) => limits::limit_open_files(files)?,
            Order::Serve(manner) => self.serve(manner)?,
            Order::Send => {
                let listener = self.listeners.pop().context("no listener to send")?;
                parcel::send(self.channel()?, &listener.share()?)?;
            }
            Order::Receive => {
                let socket = Socket::from(parcel::receive(self.channel()?)?);
                self.listeners.push(Listener::adopt(socket)?);
            }
            Order::Fork => {
                let child = fork()?;
                if child == 0 {
                    idle();
                }
                return Ok(Reply::Pid(child));
            }
            Order::Bequeath => {
                if fork()? != 0 {
                    // SAFETY: ends this process at once; all that it has is its heir's.
                    unsafe { libc::_exit(0) };
                }
                return Ok(Reply::Pid(std::process::id()));
            }
            Order::Become(program) => {
                let mut command = Command::new(program);
                command.arg(helper::HOLD);
                let shared =
                    self.listeners.iter().map(Listener::share).collect::<Result<Vec<_>>>()?;
                for listener in &shared {
                    helper::inherit(&mut command, listener);
                }
                let error = command.exec();
                bail!("cannot become another program: {error}");
            }
            Order::Start(service) => {
                let child = self.start(&service)?;
                let pid = child.id();
                self.services.push((child, service.home));
                return Ok(Reply::Pid(pid));
            }
            Order::Stop => self.stop()?,
        }
        Ok(Reply::Done)
    }

    fn listen(
        &mut self,
        address: SocketAddr,
        backlog: i32,
        sharing: Sharing,
    ) -> Result<SocketAddr> {
        let listener = match sharing {
            Sharing::Alone => Listener::open_here(address, backlog),
            Sharing::Port => Listener::open_shared_here(address, backlog),
        }?;
        let address = listener.address();
        self.listeners.push(listener);
        Ok(address)
    }

    fn last(&self) -> Result<&Listener> {
        self.listeners.last().context("no listener")
    }

    fn channel(&self) -> Result<&OwnedFd> {
        self.channel.as_ref().context("this puppet has no channel")
    }

    /// On a thread of its own, which ends with the process.
    fn serve(&self, manner: Manner) -> Result<()> {
        let listener = Listener::adopt(Socket::from(self.last()?.share()?))?;
        thread::spawn(move || serving::serve(&listener, manner));
        Ok(())
    }

    fn start(&self, service: &Service) -> Result<Child> {
        let Service { program, arguments, home, doors, given, log } = service;
        let mut command = match given {
            Given::Nothing => Command::new(program),
            Given::Listener => {
                let mut command = Command::new("/bin/sh");
                // Only the process itself can say which number it has.
                command.args(["-c", "export LISTEN_PID=$$; exec \"$@\"", "sh"]).arg(program);
                command.env("LISTEN_FDS", "1");
                pass(&mut command, self.last()?.share()?);
                command
            }
        };
        let log = File::create(log).context("cannot make a server's log")?;
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share a server's log")?)
            .stderr(log)
            // So that its own children can be ended with it.
            .process_group(0);
        cgroups::join(&mut command, doors)?;
        match home {
            Home::SamePidNamespace => command.spawn(),
            Home::OwnPidNamespace => spawn_in_pid_namespace(command),
        }
        .with_context(|| format!("cannot start {}", program.display()))
    }

    fn stop(&mut self) -> Result<()> {
        self.services.drain(..).try_for_each(|(child, home)| end(child, home))
    }
}

/// Asks a server to end, and then ends it and its children.
fn end(mut service: Child, home: Home) -> Result<()> {
    let pid = i32::try_from(service.id()).context("a pid out of range")?;
    // Until it is waited for, neither its number nor its group's is another's.
    let signal = match home {
        Home::SamePidNamespace => libc::SIGTERM,
        // The first process of a namespace is deaf to what it does not handle.
        Home::OwnPidNamespace => libc::SIGKILL,
    };
    processes::signal(pid, signal).context("cannot ask a server to end")?;
    let ended = wait::until_true("a server ends", END_WITHIN, || {
        has_ended(pid).context("cannot look after a server")
    });
    let rest = processes::signal(-pid, libc::SIGKILL);
    service.wait().context("cannot wait for a server")?;
    if let Err(error) = ended {
        eprintln!("{error:#}: it was killed");
    }
    match rest {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
            Err(error).context("cannot end a server's children")
        }
        _ => Ok(()),
    }
}

/// Whether a child has ended; it stays to be waited for.
fn has_ended(pid: i32) -> io::Result<bool> {
    // SAFETY: `siginfo_t` is plain integers, for which all-zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel writes one siginfo, which outlives the call.
    let answer = unsafe { libc::waitid(libc::P_PID, pid.cast_unsigned(), &raw mut info, flags) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled by waitid(), or all zero if it has not ended.
    Ok(unsafe { info.si_pid() } == pid)
}

/// Has a command's process find this as the first descriptor that is passed.
fn pass(command: &mut Command, listener: OwnedFd) {
    // SAFETY: system calls only, on a descriptor that the closure owns.
    unsafe {
        command.pre_exec(move || {
            let fd = listener.as_raw_fd();
            let done = if fd == FIRST_PASSED {
                libc::fcntl(fd, libc::F_SETFD, 0)
            } else {
                libc::dup2(fd, FIRST_PASSED)
            };
            if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

fn rename(name: &[u8]) -> Result<()> {
    let mut buffer = [0_u8; 16];
    let space = buffer.get_mut(..name.len().min(15)).context("a name too long")?;
    space.copy_from_slice(name.get(..15).unwrap_or(name));
    // SAFETY: the kernel reads up to 16 bytes, of which the last is zero.
    if unsafe { libc::prctl(libc::PR_SET_NAME, buffer.as_ptr()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error()).context("cannot take another name")
    }
}

/// The child's number, or 0 in the child.
fn fork() -> Result<u32> {
    // SAFETY: this process has but one thread, unless it serves, and then it is not told
    // to fork.
    let pid = unsafe { libc::fork() };
    u32::try_from(pid).map_err(|_negative| io::Error::last_os_error()).context("cannot fork")
}

/// Does nothing, and ends with the process that made it.
fn idle() -> ! {
    // SAFETY: no memory is involved.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        loop {
            libc::pause();
        }
    }
}

/// The channel, if the command line names one.
pub(super) fn channel(argument: Option<&str>) -> Result<Option<OwnedFd>> {
    let Some(number) = argument else {
        return Ok(None);
    };
    let fd = number.parse().with_context(|| format!("{number} is no descriptor"))?;
    // SAFETY: whoever started this process has left it open for this, and nothing else
    // in here knows of it.
    let channel = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: one system call on an open descriptor.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error()).context("the channel is not open");
    }
    Ok(Some(channel))
}
