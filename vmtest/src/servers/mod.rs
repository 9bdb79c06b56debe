//! Real servers, each started under a control group of its own, and ended for certain.
//!
//! A [`Puppet`] starts each of them: it ends when the tests do, however they do, and ends
//! its server with all that is the server's before that.

mod podman;
mod programs;

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};

pub use self::{
    podman::{Container, Network, Podman},
    programs::Program,
};
use crate::{
    cgroups::Cgroup,
    claims::Truth,
    helper::Home,
    netns::Netns,
    processes,
    puppet::{Given, Puppet, Service},
    scratch::Scratch,
    wait,
};

/// From its start until a server accepts, on a machine with other things to do.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// Who calls `listen()` for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It does itself.
    ByServer,
    /// A service manager does, and passes the socket on.
    ByManager,
}

/// Where a server is to live.
#[derive(Debug)]
pub struct Place<'a> {
    /// Its network namespace.
    pub netns: &'a Netns,
    /// Where it is to listen.
    pub address: SocketAddr,
    /// Its pid namespace.
    pub home: Home,
    /// Who calls `listen()`.
    pub opening: Opening,
}

/// A running server.
#[derive(Debug)]
pub struct Server<'a> {
    what: String,
    place: Place<'a>,
    service: Service,
    pid: u32,
    keeper: Puppet,
    /// After the keeper: a group is removed when nothing is left in it.
    cgroup: Cgroup,
    _managers: Option<Cgroup>,
}

impl<'a> Server<'a> {
    /// Starts one and waits until it can be connected to.
    pub fn start(
        what: &str,
        program: Program,
        place: Place<'a>,
        scratch: &Scratch,
    ) -> Result<Self> {
        let cgroup = Cgroup::new(what.as_ref())?;
        let given = match place.opening {
            Opening::ByServer => Given::Nothing,
            Opening::ByManager => Given::Listener,
        };
        let service = Service {
            program: program.path()?,
            arguments: program.arguments(what, place.address, scratch)?,
            home: place.home,
            doors: cgroup.doors(),
            given,
            log: scratch.path().join(format!("{what}.log")),
        };
        let stage = Puppet::stage().netns(place.netns);
        let (mut keeper, managers) = match place.opening {
            Opening::ByServer => (stage.start()?, None),
            Opening::ByManager => {
                let managers = Cgroup::new(format!("{what}-manager").as_ref())?;
                let mut manager = stage.cgroup(&managers).start()?.with_name(b"systemd")?;
                manager.listen(place.address, 64)?;
                (manager, Some(managers))
            }
        };
        let pid = keeper.start(&service)?;
        let what = what.to_owned();
        let mut new = Self { what, place, service, pid, keeper, cgroup, _managers: managers };
        new.wait_up()?;
        Ok(new)
    }

    /// Ends it, and starts another on the same address.
    pub fn restart(&mut self) -> Result<()> {
        self.keeper.stop()?;
        self.pid = self.keeper.start(&self.service)?;
        self.wait_up()
    }

    /// The owner of its listener, as the kernel knows it.
    pub fn truth(&self) -> Result<Truth> {
        Ok(Truth {
            what: self.what.clone(),
            netns: self.place.netns.label_by_name()?,
            address: self.place.address,
            process: String::from_utf8(processes::name(self.pid)?)?,
            pid: self.pid,
            executable: path_text(&processes::executable(self.pid)?)?,
            cgroup: Some(path_text(self.cgroup.path())?),
            container: None,
        })
    }

    /// Its process id, as we see it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    fn wait_up(&mut self) -> Result<()> {
        wait_for(self.place.netns, self.place.address)
            .with_context(|| format!("{} does not come up", self.what))?;
        if self.place.opening == Opening::ByManager {
            // The manager's socket takes a client before there is a server.
            let program = self.service.program.clone();
            let name = processes::name_of(&program);
            wait::until_true("the server is executed", UP_WITHIN, || {
                Ok(processes::name(self.pid)? == name)
            })?;
        }
        Ok(())
    }
}

/// Waits until somebody accepts there.
fn wait_for(netns: &Netns, address: SocketAddr) -> Result<()> {
    wait::until_true("a server can be connected to", UP_WITHIN, || {
        netns.run(|| Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()))
    })
}

fn path_text(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is no text", path.display()))?;
    Ok(text.to_owned())
}
