//! Another process that does with listeners what it is told: opens them under any name,
//! hands them on, and starts real servers. It is this program, run again.
//!
//! It ends when its stdin does, and so with the tests however these end; what it has
//! started ends before it does.

mod attempts;
mod orders;
mod parcel;
mod play;
mod serving;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use self::orders::{Order, Reply};
pub use self::{
    attempts::{Attempts, Outcomes, Shortage, Way},
    orders::{Given, Manner, Service, Sharing},
};
use crate::{
    cgroups::{self, Cgroup},
    helper::inherit,
    netns::Netns,
    processes, wait,
};

/// The first argument that makes this program a puppet.
const PLAY: &str = "play-until-stdin-ends";

/// With the time that its servers have to end.
const END_WITHIN: Duration = Duration::from_secs(15);

/// Becomes a puppet if the command line says so; to be called first in `main`.
pub fn maybe_play() -> bool {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(PLAY) {
        return false;
    }
    let channel = play::channel(arguments.next().as_deref());
    if let Err(error) = channel.and_then(play::play) {
        eprintln!("a puppet: {error:#}");
    }
    true
}

/// Where a puppet is to live.
#[derive(Debug, Default)]
pub struct Stage<'a> {
    netns: Option<&'a Netns>,
    doors: Vec<PathBuf>,
    channel: Option<OwnedFd>,
}

impl<'a> Stage<'a> {
    /// In this network namespace.
    #[must_use]
    pub fn netns(mut self, netns: &'a Netns) -> Self {
        self.netns = Some(netns);
        self
    }

    /// In this control group.
    #[must_use]
    pub fn cgroup(self, cgroup: &Cgroup) -> Self {
        self.doors(cgroup.doors())
    }

    /// In the control group with these `cgroup.procs` files.
    #[must_use]
    pub fn doors(mut self, doors: Vec<PathBuf>) -> Self {
        self.doors = doors;
        self
    }

    /// With this end of a unix socket to send listeners over.
    #[must_use]
    pub fn channel(mut self, channel: OwnedFd) -> Self {
        self.channel = Some(channel);
        self
    }

    /// Starts it; it has no listener yet.
    pub fn start(self) -> Result<Puppet> {
        let program = std::env::current_exe().context("cannot tell where this program is")?;
        let mut command = Command::new(program);
        command.arg(PLAY).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(channel) = &self.channel {
            command.arg(channel.as_raw_fd().to_string());
            inherit(&mut command, channel);
        }
        cgroups::join(&mut command, &self.doors)?;
        let mut spawn = || command.spawn().context("cannot start a puppet");
        let mut child = match self.netns {
            Some(netns) => netns.run(spawn),
            None => spawn(),
        }?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = BufReader::new(output.context("a puppet without an output")?);
        let pid = child.id();
        Ok(Puppet { child, input, output, pid, servers: Servers::None })
    }
}

/// Whether a puppet has something to end before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Servers {
    None,
    Some,
}

/// A puppet; it ends when this is dropped.
#[derive(Debug)]
pub struct Puppet {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pid: u32,
    servers: Servers,
}

impl Puppet {
    /// Where it is to live.
    pub fn stage<'a>() -> Stage<'a> {
        Stage::default()
    }

    /// One that lives where we do, under this name.
    pub fn named(name: &[u8]) -> Result<Self> {
        Self::stage().start()?.with_name(name)
    }

    /// Under this name.
    pub fn with_name(mut self, name: &[u8]) -> Result<Self> {
        self.done(&Order::Name(name.to_vec()))?;
        Ok(self)
    }

    /// Its process id, as we see it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Opens a listener.
    pub fn listen(&mut self, address: SocketAddr, backlog: i32) -> Result<SocketAddr> {
        self.open(address, backlog, Sharing::Alone)
    }

    /// Opens a listener on a port that others may have, too.
    pub fn listen_shared(&mut self, address: SocketAddr, backlog: i32) -> Result<SocketAddr> {
        self.open(address, backlog, Sharing::Port)
    }

    fn open(&mut self, address: SocketAddr, backlog: i32, sharing: Sharing) -> Result<SocketAddr> {
        match self.ask(&Order::Listen { address, backlog, sharing })? {
            Reply::Address(address) => Ok(address),
            other => bail!("a puppet answered {other:?}"),
        }
    }

    /// Opens many, on consecutive ports.
    pub fn listen_many(&mut self, address: SocketAddr, count: u16, backlog: i32) -> Result<()> {
        self.done(&Order::ListenMany { address, count, backlog })
    }

    /// `listen()` once more on its last listener.
    pub fn listen_again(&mut self, backlog: i32) -> Result<()> {
        self.done(&Order::ListenAgain(backlog))
    }

    /// Accepts and closes what waits in its last listener's queue.
    pub fn accept(&mut self) -> Result<()> {
        self.done(&Order::Accept)
    }

    /// Calls accept() on its last listener, so that it fails.
    pub fn attempt(&mut self, attempts: Attempts) -> Result<Outcomes> {
        match self.ask(&Order::Attempt(attempts))? {
            Reply::Outcomes(outcomes) => Ok(outcomes),
            other => bail!("a puppet answered {other:?}"),
        }
    }

    /// Accepts from now on what comes to its last listener, and closes it.
    pub fn serve(&mut self) -> Result<()> {
        self.serve_in(Manner::Quick)
    }

    /// Serves its last listener from now on, in this manner.
    pub fn serve_in(&mut self, manner: Manner) -> Result<()> {
        self.done(&Order::Serve(manner))
    }

    /// Has its last listener defer accept() until data comes, for so many seconds.
    pub fn defer_accept(&mut self, seconds: i32) -> Result<()> {
        self.done(&Order::Defer(seconds))
    }

    /// Has it open so many files at most.
    pub fn limit_files(&mut self, files: u64) -> Result<()> {
        self.done(&Order::LimitFiles(files))
    }

    /// Sends its last listener away over its channel.
    pub fn send(&mut self) -> Result<()> {
        self.done(&Order::Send)
    }

    /// Takes a listener from its channel.
    pub fn receive(&mut self) -> Result<()> {
        self.done(&Order::Receive)
    }

    /// Has a child that holds the same listeners until this puppet ends; its process id.
    pub fn fork(&mut self) -> Result<u32> {
        self.pid_of(&Order::Fork)
    }

    /// Leaves all to a child, and ends. The child is the puppet from now on.
    pub fn bequeath(&mut self) -> Result<()> {
        self.pid = self.pid_of(&Order::Bequeath)?;
        self.child.wait().context("cannot wait for a puppet")?;
        Ok(())
    }

    /// Executes another program, which holds its listeners and takes no orders. It must
    /// be this one by another name.
    pub fn become_program(&mut self, program: &Path) -> Result<()> {
        self.tell(&Order::Become(program.to_owned()))?;
        let name = processes::name_of(program);
        wait::until_true("a puppet has become another program", END_WITHIN, || {
            Ok(processes::name(self.pid)? == name)
        })
    }

    /// Starts a server; its process id.
    pub fn start(&mut self, service: &Service) -> Result<u32> {
        self.servers = Servers::Some;
        self.pid_of(&Order::Start(service.clone()))
    }

    /// Ends all its servers.
    pub fn stop(&mut self) -> Result<()> {
        self.done(&Order::Stop)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        let pid = i32::try_from(self.pid).context("a pid out of range")?;
        processes::signal(pid, signal).context("cannot signal a puppet")
    }

    fn pid_of(&mut self, order: &Order) -> Result<u32> {
        match self.ask(order)? {
            Reply::Pid(pid) => Ok(pid),
            other => bail!("a puppet answered {other:?}"),
        }
    }

    fn done(&mut self, order: &Order) -> Result<()> {
        match self.ask(order)? {
            Reply::Done => Ok(()),
            other => bail!("a puppet answered {other:?}"),
        }
    }

    fn tell(&mut self, order: &Order) -> Result<()> {
        let mut line = serde_json::to_vec(order).context("an order that cannot be written")?;
        line.push(b'\n');
        let input = self.input.as_mut().context("this puppet takes no orders any more")?;
        input.write_all(&line).context("a puppet takes no orders")
    }

    fn ask(&mut self, order: &Order) -> Result<Reply> {
        self.tell(order)?;
        let mut line = String::new();
        self.output.read_line(&mut line).context("a puppet does not answer")?;
        match serde_json::from_str(&line) {
            Ok(Reply::Failed(why)) => bail!("a puppet could not: {why}"),
            Ok(reply) => Ok(reply),
            Err(_) => bail!("a puppet ended at {order:?}, saying {line:?}"),
        }
    }

    fn end(&mut self) -> Result<()> {
        drop(self.input.take());
        if self.pid != self.child.id() {
            // Not our child: it ends at the end of its stdin, and closes its stdout.
            self.output.read_to_end(&mut Vec::new()).context("cannot wait for a puppet")?;
        } else if self.servers == Servers::Some {
            let ended = wait::until("a puppet ends its servers", END_WITHIN, || {
                self.child.try_wait().context("cannot wait for a puppet")
            });
            if ended.is_err() {
                self.child.kill().context("cannot end a puppet")?;
            }
        } else {
            // It may be stopped, and is then deaf to all else.
            self.child.kill().context("cannot end a puppet")?;
        }
        self.child.wait().context("cannot wait for a puppet")?;
        Ok(())
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}
