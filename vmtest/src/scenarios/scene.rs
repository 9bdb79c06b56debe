//! Where a row plays: a fresh namespace, its far end, a daemon that watches.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, ensure};

use super::{kernel_view, span::Span};
use crate::{
    bench::{Bench, Target},
    daemon::Daemon,
    expect::Expected,
    ledger::Reading,
    netns::Netns,
    raw::{Peer, Wire},
    sockets::{Family, Listener},
    wait,
};

/// What loopback does at once may have to wait for `ksoftirqd` on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the client's packets reach the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    V4,
    V6,
    /// IPv4 to a socket of IPv6.
    Mapped,
}

impl Via {
    /// A client's address that can be cut off without the others.
    pub(super) fn beyond(self) -> IpAddr {
        match self {
            Self::V4 | Self::Mapped => Ipv4Addr::new(10, 99, 0, 1).into(),
            Self::V6 => Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1).into(),
        }
    }

    /// The prefix of a route to one address.
    pub(super) fn host_prefix(self) -> u8 {
        match self {
            Self::V4 | Self::Mapped => 32,
            Self::V6 => 128,
        }
    }
}

/// A listener, and the address its clients use.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: Listener,
    pub(super) to: SocketAddr,
}

impl Door {
    /// The way to a listener.
    pub(super) fn to(listener: Listener, via: Via) -> Self {
        let port = listener.address().port();
        let to = match via {
            Via::V4 | Via::Mapped => Family::V4.loopback_at(port),
            Via::V6 => Family::V6.loopback_at(port),
        };
        Self { listener, to }
    }

    /// The address tcpq lists it by.
    pub(super) fn address(&self) -> SocketAddr {
        self.listener.address()
    }
}

/// What a row works with.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) netns: Netns,
    pub(super) wire: Wire,
    pub(super) plan: Vec<Expected>,
    target: Target,
    daemon: Arc<Daemon>,
    neighbour: Listener,
}

impl Scene {
    pub(super) fn new(bench: &Bench, plan: Vec<Expected>) -> Result<Self> {
        let daemon = bench.daemon()?;
        let netns = Netns::new()?;
        let wire = Wire::new(&netns)?;
        // Nothing happens to it, whatever happens to the other.
        let neighbour = Listener::open(&netns, Family::V4.loopback(), 4)?;
        Ok(Self { netns, wire, plan, target: bench.target(), daemon, neighbour })
    }

    pub(super) fn target(&self) -> Target {
        self.target
    }

    pub(super) fn neighbour(&self) -> SocketAddr {
        self.neighbour.address()
    }

    pub(super) fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.netns.set_sysctl(name, value)
    }

    pub(super) fn listen(&self, via: Via, backlog: i32) -> Result<Door> {
        let bind = match via {
            Via::V4 => Family::V4.loopback(),
            Via::V6 => Family::V6.loopback(),
            Via::Mapped => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        Ok(Door::to(Listener::open(&self.netns, bind, backlog)?, via))
    }

    /// Both sides' figures of now; what is done from here on is the row's subject.
    pub(super) fn watch<'s>(&'s self, door: &Door, sockets: &[&'s Listener]) -> Result<Span<'s>> {
        Span::start(self, door.address(), sockets)
    }

    pub(super) fn reading(&self) -> Result<Reading> {
        Reading::take(&self.netns, &self.daemon)
    }

    /// Clients that have done nothing yet.
    pub(super) fn peers(&self, door: &Door, count: usize) -> Vec<Peer<'_>> {
        (0..count).map(|_| self.wire.peer(door.to)).collect()
    }

    /// Clients that have sent their SYN, and no more.
    pub(super) fn syns(&self, door: &Door, count: usize) -> Result<Vec<Peer<'_>>> {
        let mut peers = self.peers(door, count);
        peers.iter_mut().try_for_each(Peer::syn)?;
        Ok(peers)
    }

    /// Clients whose SYN was answered, by a request or by a cookie.
    pub(super) fn answered(&self, door: &Door, count: usize) -> Result<Vec<Peer<'_>>> {
        let mut peers = self.peers(door, count);
        for peer in &mut peers {
            peer.syn()?;
            peer.answered()?;
        }
        Ok(peers)
    }

    /// Clients in the accept queue.
    pub(super) fn connected(&self, door: &Door, count: usize) -> Result<Vec<Peer<'_>>> {
        let before = self.queued(door)?;
        let peers = self.answered(door, count)?;
        peers.iter().try_for_each(Peer::ack)?;
        self.wait_queued(door, before + u64::try_from(count)?)?;
        Ok(peers)
    }

    /// Leaves the accept queue with one place, which is taken.
    pub(super) fn shut(&self, door: &Door) -> Result<()> {
        self.connected(door, 1)?;
        door.listener.listen_again(0)
    }

    pub(super) fn queued(&self, door: &Door) -> Result<u64> {
        kernel_view::queued(&self.netns, door.to)
    }

    pub(super) fn wait_queued(&self, door: &Door, count: u64) -> Result<()> {
        wait::until_true(&format!("{count} are in the accept queue"), PATIENCE, || {
            Ok(self.queued(door)? == count)
        })
    }

    pub(super) fn wait_requests(&self, door: &Door, count: usize) -> Result<()> {
        self.wait_requests_at(door.to, count)
    }

    /// Also once the listener is closed.
    pub(super) fn wait_no_requests_at(&self, to: SocketAddr) -> Result<()> {
        self.wait_requests_at(to, 0)
    }

    fn wait_requests_at(&self, to: SocketAddr, count: usize) -> Result<()> {
        wait::until_true(&format!("{count} requests are in the SYN queue"), PATIENCE, || {
            Ok(kernel_view::requests(&self.netns, to)? == count)
        })
    }

    /// The daemon must say of these signals what the plan says.
    pub(super) fn said_as_planned(&self, signals: &[&str]) -> Result<()> {
        let metrics = self.daemon.scrape()?;
        for expected in self.plan.iter().filter(|expected| signals.contains(&expected.signal)) {
            let labels = [
                ("signal", expected.signal),
                ("backend", expected.backend),
                ("exactness", expected.exactness),
            ];
            ensure!(
                metrics.select("tcpq_hook_info", &labels).next().is_some(),
                "tcpq_hook_info does not say that {} is {} by {}",
                expected.signal,
                expected.exactness,
                expected.backend
            );
        }
        Ok(())
    }
}
