//! What a puppet can be told to do, and what it answers: a line of JSON each.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::attempts::{Attempts, Outcomes};
use crate::helper::Home;

/// One thing to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Take another name: up to 15 bytes, whatever they are.
    Name(Vec<u8>),
    /// Open a listener.
    Listen {
        /// Where; port 0 is any.
        address: SocketAddr,
        /// As `listen()` is asked.
        backlog: i32,
        /// With others.
        sharing: Sharing,
    },
    /// Open so many listeners, on consecutive ports.
    ListenMany {
        /// The first.
        address: SocketAddr,
        /// How many.
        count: u16,
        /// Of each.
        backlog: i32,
    },
    /// `listen()` once more on the last listener.
    ListenAgain(i32),
    /// Accept and close what waits in the last listener's queue.
    Accept,
    /// Call accept() on the last listener, so that it fails.
    Attempt(Attempts),
    /// Set `TCP_DEFER_ACCEPT` on the last listener, to so many seconds.
    Defer(i32),
    /// Have so many files at most.
    LimitFiles(u64),
    /// From now on accept what comes to the last listener.
    Serve(Manner),
    /// Send the last listener to whoever has the other end of the channel, and close it.
    Send,
    /// Take a listener from the channel.
    Receive,
    /// Have a child that holds the same listeners, and does nothing else.
    Fork,
    /// Have a child that does as it is told from now on; the parent is gone.
    Bequeath,
    /// Execute this program, which holds the listeners and does nothing else.
    Become(PathBuf),
    /// Start a program.
    Start(Service),
    /// End the programs that were started.
    Stop,
}

/// How a single thread serves who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manner {
    /// It closes each connection at once.
    Quick,
    /// It waits so long for something else with each before it takes the next.
    Waiting(Duration),
    /// It computes so long for each: CPU time, however long that takes.
    Computing(Duration),
    /// It closes none.
    Keeping,
}

/// Whether others may have the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// No.
    Alone,
    /// `SO_REUSEPORT`.
    Port,
}

/// A program that a puppet starts and ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Service {
    /// Which.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// In which pid namespace.
    pub home: Home,
    /// The `cgroup.procs` files of its control group; none leaves it in the puppet's.
    pub doors: Vec<PathBuf>,
    /// What it is given.
    pub given: Given,
    /// What it writes goes here.
    pub log: PathBuf,
}

/// What a started program is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Given {
    /// Nothing: it opens its sockets by itself.
    Nothing,
    /// The last listener as descriptor 3, announced by `LISTEN_FDS`, as systemd does.
    Listener,
}

/// What came of an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It is done.
    Done,
    /// It is done, here.
    Address(SocketAddr),
    /// It is done by this process, as the puppet sees it.
    Pid(u32),
    /// It is done, and this came of it.
    Outcomes(Outcomes),
    /// It could not be done.
    Failed(String),
}
