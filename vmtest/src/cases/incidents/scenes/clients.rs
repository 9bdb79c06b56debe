//! Clients that are many, far away, silent, or cut off.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};

use super::super::causes::{Scene, Told};
use crate::{
    bench::{Bench, Target},
    load, modules, netem,
    netns::Netns,
    puppet::{Manner, Puppet},
    raw::{Peer, Wire},
    sockets::{self, Family},
};

pub(super) fn all(bench: &Bench) -> Result<Vec<(&'static str, Box<dyn Scene>)>> {
    let mut all: Vec<(_, Box<dyn Scene>)> = vec![
        ("deferred accept", Box::new(Crowd::new(Kind::Silent)?)),
        ("far clients", Box::new(Crowd::new(Kind::Far)?)),
        ("clients that ICMP cuts off", Box::new(Crowd::new(Kind::CutOff)?)),
        ("500 clients after a restart", Box::new(Crowd::new(Kind::Returning)?)),
        ("bursts that fit", Box::new(Crowd::new(Kind::Bursts)?)),
    ];
    // Others tell no times, or have no modules.
    if bench.target() == Target::V6_12 {
        modules::load("sch_netem")?;
        all.push(("clients behind a slow path", Box::new(Crowd::new(Kind::Distant)?)));
    }
    Ok(all)
}

/// What they are like.
#[derive(Clone, Copy)]
enum Kind {
    /// They connect and say nothing, to a listener that waits for them to speak.
    Silent,
    /// Each answers a SYN-ACK 800 ms later.
    Far,
    /// Of them a router says that they cannot be reached.
    CutOff,
    /// They had been connected to a program that was started anew.
    Returning,
    /// 100 in a moment, to a queue of 511.
    Bursts,
    /// Packets take 400 ms each way.
    Distant,
}

impl Kind {
    fn port(self) -> u16 {
        9_411 + self as u16
    }

    fn backlog(self) -> i32 {
        match self {
            Self::Silent => 16,
            Self::Far => 32,
            Self::CutOff => 64,
            Self::Distant | Self::Returning => 128,
            Self::Bursts => 511,
        }
    }

    fn manner(self) -> Manner {
        match self {
            Self::Returning => Manner::Keeping,
            _ => Manner::Quick,
        }
    }
}

/// Clients of one program.
struct Crowd {
    kind: Kind,
    netns: Netns,
    address: SocketAddr,
    puppet: Puppet,
}

impl Crowd {
    fn new(kind: Kind) -> Result<Self> {
        let netns = Netns::new()?;
        let (puppet, address) = open(kind, &netns)?;
        Ok(Self { kind, netns, address, puppet })
    }
}

fn open(kind: Kind, netns: &Netns) -> Result<(Puppet, SocketAddr)> {
    let mut puppet = Puppet::stage().netns(netns).start()?;
    let address = puppet.listen(Family::V4.loopback_at(kind.port()), kind.backlog())?;
    if matches!(kind, Kind::Silent) {
        puppet.defer_accept(load::DEFER_SECONDS)?;
    }
    puppet.serve_in(kind.manner())?;
    Ok((puppet, address))
}

impl Scene for Crowd {
    fn told(&self) -> Told {
        match self.kind {
            Kind::Silent => Told::Cause("deferred_accept"),
            // It does not tell how long handshakes take.
            Kind::Far | Kind::Distant => Told::NotByTracepoints("syn_queue_by_round_trip"),
            // It takes such a drop for an overflow.
            Kind::CutOff => Told::NotByTracepoints("not_the_listener"),
            Kind::Returning => Told::Cause("reconnect_herd"),
            Kind::Bursts => Told::Nothing,
        }
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn play(&mut self) -> Result<()> {
        match self.kind {
            Kind::Silent => self.silent(),
            Kind::Far => self.far(),
            Kind::CutOff => self.cut_off(),
            Kind::Returning => self.returning(),
            Kind::Bursts => self.bursts(),
            Kind::Distant => self.distant(),
        }
    }
}

impl Crowd {
    fn silent(&self) -> Result<()> {
        let mut all = Vec::new();
        for second in 0..13 {
            // The first fill the SYN queue; of the others cookies come back, and fit in.
            for number in 0..if second == 0 { 20 } else { 8 } {
                let client = self.client(second * 100 + number)?;
                load::begin(&client, self.address)?;
                all.push(client);
            }
            thread::sleep(Duration::from_secs(1));
        }
        all.iter().try_for_each(sockets::end)
    }

    fn far(&self) -> Result<()> {
        // Less than after what a SYN-ACK is sent again. Five times as many as fit into the queue are
        // on their way, on a machine that is fast enough.
        const AWAY: Duration = Duration::from_millis(800);
        let wire = Wire::new(&self.netns)?;
        let mut on_their_way: VecDeque<(Instant, Peer<'_>)> = VecDeque::new();
        let start = Instant::now();
        let mut comes = true;
        while comes || !on_their_way.is_empty() {
            comes = start.elapsed() < Duration::from_secs(13);
            for _ in 0..if comes { 2 } else { 0 } {
                let mut peer = wire.peer(self.address);
                peer.syn()?;
                peer.answered()?;
                on_their_way.push_back((Instant::now() + AWAY, peer));
            }
            thread::sleep(Duration::from_millis(10));
            // However late we are, they come one after the other.
            for _ in 0..3 {
                let arrived = on_their_way.pop_front_if(|(arrives, _)| *arrives <= Instant::now());
                if let Some((_, peer)) = arrived {
                    peer.ack()?;
                }
            }
        }
        Ok(())
    }

    fn cut_off(&self) -> Result<()> {
        const HOST_UNREACHABLE: (u8, u8) = (3, 1);
        let wire = Wire::new(&self.netns)?;
        // Shorter than what cannot be a burst.
        for _ in 0..30 {
            load::syns(&self.netns, self.address, 2)?;
            for _ in 0..5 {
                let mut peer = wire.peer(self.address);
                peer.syn()?;
                peer.answered()?;
                peer.icmp(HOST_UNREACHABLE.0, HOST_UNREACHABLE.1, 0)?;
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn returning(&mut self) -> Result<()> {
        let clients: Vec<_> = (0..500).map(|number| self.client(number)).collect::<Result<_>>()?;
        for crowd in clients.chunks(10) {
            crowd.iter().try_for_each(|socket| load::begin(socket, self.address))?;
            thread::sleep(Duration::from_millis(50));
        }
        // All connected, when it ends; they are reset, and come again.
        let again: Vec<_> = (0..500).map(|number| self.client(number)).collect::<Result<_>>()?;
        // One after the other: the port is taken until then.
        self.puppet = Puppet::stage().netns(&self.netns).start()?;
        self.puppet.listen(self.address, self.kind.backlog())?;
        // It has to get ready before it accepts. The queue holds 129.
        let (early, late) = again.split_at(160);
        early.iter().try_for_each(|socket| load::begin(socket, self.address))?;
        self.puppet.serve_in(self.kind.manner())?;
        late.iter().try_for_each(|socket| load::begin(socket, self.address))?;
        drop(clients);
        // Who was refused tries again after one second, and after two more.
        thread::sleep(Duration::from_secs(5));
        Ok(())
    }

    /// Each has an address of its own.
    fn client(&self, number: u16) -> Result<Socket> {
        let [high, low] = number.to_be_bytes();
        let from: SocketAddr = (Ipv4Addr::new(127, 1, high, low.max(1)), 0).into();
        self.netns.run(|| {
            let open = || {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
                socket.set_nonblocking(true)?;
                socket.bind(&from.into())?;
                Ok::<_, std::io::Error>(socket)
            };
            open().context("cannot make a client")
        })
    }

    /// Some more are on their way than the SYN queue holds. The accept queue has room for what
    /// comes in half a second, so that one who emptied it late has not refused anybody.
    fn distant(&self) -> Result<()> {
        netem::delay_loopback(&self.netns, Duration::from_millis(400))?;
        let start = Instant::now();
        self.netns.run(|| {
            let mut there = VecDeque::new();
            while start.elapsed() < Duration::from_secs(13) {
                for _ in 0..12 {
                    let client = Socket::new(Domain::IPV4, Type::STREAM, None)
                        .context("cannot make a client")?;
                    client.set_nonblocking(true).context("cannot set a client non-blocking")?;
                    load::begin(&client, self.address)?;
                    there.push_back((Instant::now(), client));
                }
                thread::sleep(Duration::from_millis(50));
                // Long after their handshakes.
                while let Some((_, client)) =
                    there.pop_front_if(|(came, _)| came.elapsed() >= Duration::from_secs(3))
                {
                    sockets::end(&client)?;
                }
            }
            Ok(())
        })
    }

    fn bursts(&self) -> Result<()> {
        for _ in 0..12 {
            load::syns(&self.netns, self.address, 100)?;
            thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }
}
