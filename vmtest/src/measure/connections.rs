//! Complete connections, one after the other: SYN, handshake, accept(), both ends closed.
//!
//! All of it happens on one thread: on loopback the kernel answers a segment before the
//! system call that sent it returns, so that nothing ever waits.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    netns::Netns,
    sockets::{Family, Listener},
};

/// A listener, and the clients it is going to have, in a namespace of their own. What has
/// closed lingers there in TIME_WAIT for a minute, and is gone with the namespace: it would
/// end in the middle of what is measured next.
pub(super) struct Connections {
    netns: Netns,
    listener: Listener,
    /// The same socket.
    acceptor: TcpListener,
}

const BACKLOG: i32 = 128;

impl Connections {
    pub(super) fn open() -> Result<Self> {
        let netns = Netns::passing()?;
        let listener = Listener::open(&netns, Family::V4.loopback(), BACKLOG)?;
        let acceptor = TcpListener::from(listener.share()?);
        Ok(Self { netns, listener, acceptor })
    }

    pub(super) fn netns(&self) -> &Netns {
        &self.netns
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Makes so many, and says how long that took.
    pub(super) fn make(&self, count: u32) -> Result<Duration> {
        let to = self.address();
        self.netns.run(|| {
            let start = Instant::now();
            for _ in 0..count {
                let client = TcpStream::connect(to).context("connect()")?;
                let (server, _) = self.acceptor.accept().context("accept()")?;
                // The client goes first, so that the server's side is closed for good.
                drop(client);
                drop(server);
            }
            Ok(start.elapsed())
        })
    }
}
