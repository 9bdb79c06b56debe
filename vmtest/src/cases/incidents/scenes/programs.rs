//! Programs that do not take what comes, and one that does.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::super::causes::{Scene, Told};
use crate::{
    bench::{Bench, Target},
    cases::stall::{Stopped, worker},
    cgroups::Cgroup,
    flood::Flood,
    helper::Home,
    load,
    netns::Netns,
    puppet::{Manner, Puppet},
    servers::{Opening, Place, Program, Server},
    sockets::{self, Family},
};

/// Where a real nginx is, beside this machine's.
const HAS_NGINX: [Target; 2] = [Target::Host, Target::V6_12];

pub(super) fn all(bench: &Bench) -> Result<Vec<(&'static str, Box<dyn Scene>)>> {
    let slow = Manner::Waiting(Duration::from_millis(50));
    let brief = Manner::Waiting(Duration::from_millis(1));
    let mut scenes: Vec<(&'static str, Box<dyn Scene>)> = vec![
        ("slow handler", Box::new(Loaded::new(9_401, 16, slow, MANY)?)),
        ("out of files", Box::new(Loaded::out_of_files()?)),
        ("CPU quota", Box::new(Loaded::throttled()?)),
        ("busy", Box::new(Loaded::new(9_404, 511, brief, BEARABLE)?)),
        ("stopped and flooded", Box::new(Mixed::new()?)),
    ];
    if HAS_NGINX.contains(&bench.target()) {
        scenes.push(("nginx stopped", Box::new(NginxStopped::new(bench)?)));
    }
    Ok(scenes)
}

/// Clients that come, so many at a time, and what has to be told.
#[derive(Clone, Copy)]
struct Load {
    told: Told,
    clients: u64,
    every: Duration,
    seconds: u64,
}

const fn come(told: Told, clients: u64, every: u64, seconds: u64) -> Load {
    Load { told, clients, every: Duration::from_millis(every), seconds }
}

/// Five times as many as it can serve at 50 ms each.
const MANY: Load = come(Told::Cause("application_too_slow"), 10, 100, 12);

/// Less than half of what a queue of 511 holds and what can be served at 1 ms each.
const BEARABLE: Load = come(Told::Nothing, 200, 1000, 12);

/// A single-threaded program, and clients that come evenly.
struct Loaded {
    netns: Netns,
    address: SocketAddr,
    load: Load,
    puppet: Option<Puppet>,
    /// After who is in it.
    _cgroup: Option<Cgroup>,
}

impl Loaded {
    fn new(port: u16, backlog: i32, manner: Manner, load: Load) -> Result<Self> {
        Self::with(port, backlog, manner, load, None, |_| Ok(()))
    }

    /// It closes nothing, and may have 40 files.
    fn out_of_files() -> Result<Self> {
        let load = come(Told::Cause("out_of_files"), 5, 100, 10);
        Self::with(9_402, 16, Manner::Keeping, load, None, |puppet| puppet.limit_files(40))
    }

    /// It needs a third of a CPU for what comes, and has a tenth.
    fn throttled() -> Result<Self> {
        let cgroup = Cgroup::new("throttled".as_ref())?;
        cgroup.limit_cpu(100)?;
        let manner = Manner::Computing(Duration::from_millis(10));
        let load = come(Told::Cause("cpu_throttled"), 3, 100, 12);
        Self::with(9_403, 16, manner, load, Some(cgroup), |_| Ok(()))
    }

    fn with(
        port: u16,
        backlog: i32,
        manner: Manner,
        load: Load,
        cgroup: Option<Cgroup>,
        prepare: impl FnOnce(&mut Puppet) -> Result<()>,
    ) -> Result<Self> {
        let netns = Netns::new()?;
        let mut stage = Puppet::stage().netns(&netns);
        if let Some(cgroup) = &cgroup {
            stage = stage.cgroup(cgroup);
        }
        let mut puppet = stage.start()?;
        let address = puppet.listen(Family::V4.loopback_at(port), backlog)?;
        prepare(&mut puppet)?;
        puppet.serve_in(manner)?;
        Ok(Self { netns, address, load, puppet: Some(puppet), _cgroup: cgroup })
    }
}

impl Scene for Loaded {
    fn told(&self) -> Told {
        self.load.told
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn play(&mut self) -> Result<()> {
        let Load { clients, every, seconds, .. } = self.load;
        evenly(&self.netns, self.address, clients, every, Duration::from_secs(seconds))?;
        if matches!(self.load.told, Told::Cause("out_of_files")) {
            // It would never recover.
            self.puppet = None;
        }
        Ok(())
    }
}

/// Clients that come and go, so many at a time.
fn evenly(
    netns: &Netns,
    to: SocketAddr,
    clients: u64,
    every: Duration,
    lasting: Duration,
) -> Result<()> {
    let start = Instant::now();
    netns.run(|| {
        while start.elapsed() < lasting {
            (0..clients).try_for_each(|_| load::one_attempt(to))?;
            thread::sleep(every);
        }
        Ok(())
    })
}

/// A program that is stopped while spoofed SYNs come.
struct Mixed {
    netns: Netns,
    address: SocketAddr,
    flood: Flood,
    puppet: Puppet,
}

impl Mixed {
    fn new() -> Result<Self> {
        let netns = Netns::new()?;
        // Else what is left of the flood keeps the SYN queue full for a minute.
        netns.set_sysctl("net.ipv4.tcp_synack_retries", "1")?;
        let mut puppet = Puppet::stage().netns(&netns).start()?;
        let address = puppet.listen(Family::V4.loopback_at(9_405), 16)?;
        puppet.serve()?;
        let flood = Flood::new(&netns, SocketAddrV4::new(Ipv4Addr::LOCALHOST, address.port()))?;
        Ok(Self { netns, address, flood, puppet })
    }
}

impl Scene for Mixed {
    fn told(&self) -> Told {
        Told::OneOf(&["application_stalled", "syn_flood"])
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn play(&mut self) -> Result<()> {
        for second in 0..10 {
            if second == 3 {
                self.puppet.signal(libc::SIGSTOP)?;
            }
            self.flood.send(300)?;
            let (every, lasting) = (Duration::from_millis(100), Duration::from_secs(1));
            evenly(&self.netns, self.address, 2, every, lasting)?;
        }
        self.puppet.signal(libc::SIGCONT)
    }
}

/// A real nginx whose only worker is stopped.
struct NginxStopped {
    netns: &'static Netns,
    address: SocketAddr,
    server: Server<'static>,
}

impl NginxStopped {
    fn new(bench: &Bench) -> Result<Self> {
        // A namespace is never given up, anyway.
        let netns: &'static Netns = Box::leak(Box::new(Netns::new()?));
        // It asks for 511, which clients of a slow guest fill too slowly.
        netns.set_sysctl("net.core.somaxconn", "64")?;
        let address = sockets::free_address(netns, Ipv4Addr::LOCALHOST.into())?;
        let (home, opening) = (Home::SamePidNamespace, Opening::ByServer);
        let place = Place { netns, address, home, opening };
        let server = Server::start("nginx-stopped", Program::NginxBrief, place, bench.scratch())?;
        Ok(Self { netns, address, server })
    }
}

impl Scene for NginxStopped {
    fn told(&self) -> Told {
        Told::Cause("application_stalled")
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn play(&mut self) -> Result<()> {
        let every = Duration::from_millis(50);
        evenly(self.netns, self.address, 5, every, Duration::from_secs(2))?;
        let stopped = Stopped::new(worker(self.server.pid())?)?;
        evenly(self.netns, self.address, 20, every, Duration::from_secs(8))?;
        drop(stopped);
        Ok(())
    }
}
