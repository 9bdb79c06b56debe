//! Whom tcpq names as the owner of a listener, in its API and in its metrics: the claim
//! that is held against the kernel.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{
    daemon::{self, Daemon},
    exposition::Metrics,
    http,
    ledger::Checks,
    wait,
};

/// `/api/v1/listeners`, as much of it as the cases ask for.
#[derive(Clone, Debug, Deserialize)]
pub struct Listeners {
    /// Every group.
    pub listeners: Vec<Group>,
    /// The settings of every namespace.
    #[serde(default)]
    pub namespaces: Vec<Settings>,
}

/// One group.
#[derive(Clone, Debug, Deserialize)]
pub struct Group {
    /// As in the label.
    pub netns: String,
    /// As in the label.
    pub address: String,
    /// Absent if it is of many.
    #[serde(default)]
    pub port: Option<u16>,
    /// Why it is of many.
    #[serde(default)]
    pub folded: Option<String>,
    /// Distinct.
    #[serde(default)]
    pub owners: Vec<Owner>,
    /// Seconds since 1970.
    #[serde(default)]
    pub started: Option<f64>,
    /// Sum.
    #[serde(default)]
    pub backlog_requested: Option<i64>,
    /// How many.
    pub sockets: u64,
    /// Sum.
    pub accept_queue: Queue,
    /// Sum.
    #[serde(default)]
    pub overflows: Option<Overflows>,
    /// One for each live socket.
    #[serde(default)]
    pub members: Vec<Member>,
}

/// One live socket.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    /// Local port.
    pub port: u16,
    /// Seconds since 1970.
    #[serde(default)]
    pub started: Option<f64>,
    /// Who answers for it.
    pub owner: Owner,
    /// Who has it open.
    pub holders: Vec<Holder>,
    /// Its own.
    pub accept_queue: Queue,
    /// What `listen()` was asked for.
    #[serde(default)]
    pub backlog_requested: Option<i64>,
    /// Its own.
    #[serde(default)]
    pub overflows: Option<Overflows>,
}

/// An owner; what is not known is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// Its name.
    pub process: Option<String>,
    /// Its number, as the daemon sees it.
    pub pid: Option<u32>,
    /// What it executes.
    pub executable: Option<String>,
    /// Its control group.
    pub cgroup: Option<String>,
    /// Its container.
    pub container: Option<Container>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Container {
    /// In full.
    pub id: String,
    /// Who runs it.
    pub runtime: String,
}

/// Who has a socket open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Holder {
    /// Its number, as the daemon sees it.
    pub pid: u32,
    /// Its name.
    pub process: String,
    /// The descriptor.
    pub fd: u32,
}

/// A queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Queue {
    /// Connections in it.
    pub length: u64,
    /// The kernel's limit.
    pub limit: u64,
}

/// By stage; what the backend cannot tell is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Overflows {
    /// A SYN was refused.
    pub syn: Option<u64>,
    /// A final ACK was.
    pub ack: Option<u64>,
    /// A cookie's was.
    pub cookie: Option<u64>,
}

impl Overflows {
    /// Of all stages.
    pub fn sum(self) -> u64 {
        [self.syn, self.ack, self.cookie].into_iter().flatten().sum()
    }
}

/// The settings of a namespace.
#[derive(Clone, Debug, Deserialize)]
pub struct Settings {
    /// As in the label.
    pub netns: String,
    /// Its number.
    pub inode: u64,
    /// `net.core.somaxconn`
    pub somaxconn: u32,
    /// `net.ipv4.ip_local_port_range`
    pub ephemeral_ports: [u16; 2],
}

impl Listeners {
    /// Asks a daemon.
    pub fn of(daemon: &Daemon) -> Result<Self> {
        Self::at(daemon.address())
    }

    /// Asks the daemon that serves there.
    pub fn at(address: SocketAddr) -> Result<Self> {
        let text = http::get_ok(address, "/api/v1/listeners", "application/json")?;
        serde_json::from_str(&text).with_context(|| format!("not understood: {text:.2000}"))
    }

    /// The group of one address and port.
    pub fn find(&self, netns: &str, listener: SocketAddr) -> Option<&Group> {
        let address = listener.ip().to_string();
        self.listeners.iter().find(|group| {
            group.netns == netns && group.address == address && group.port == Some(listener.port())
        })
    }

    /// The same, which must be there.
    pub fn group(&self, netns: &str, listener: SocketAddr) -> Result<&Group> {
        self.find(netns, listener).with_context(|| format!("no group of {listener} in {netns}"))
    }
}

/// Who a listener's owner is by the kernel.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Which listener, for messages.
    pub what: String,
    /// The label of its namespace.
    pub netns: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The owner's name, as tcpq shows it.
    pub process: String,
    /// Its number, as the daemon sees it.
    pub pid: u32,
    /// What it executes.
    pub executable: String,
    /// Its control group, where the case has one for it.
    pub cgroup: Option<String>,
    /// The id of its container.
    pub container: Option<String>,
}

impl Truth {
    /// Holds the API's and the metrics' answer against it.
    pub fn check(&self, api: &Listeners, metrics: &Metrics, checks: &mut Checks) {
        let what = &self.what;
        let Some(group) = api.find(&self.netns, self.address) else {
            checks
                .hold(&format!("{what}: the API has no {} in {}", self.address, self.netns), false);
            return;
        };
        checks.hold(
            &format!("{what}: the owners are {:?}, not {self:?}", group.owners),
            matches!(group.owners.as_slice(), [owner] if self.is(owner)),
        );
        for member in &group.members {
            checks.hold(
                &format!("{what}: a member's owner is {:?}, not {self:?}", member.owner),
                self.is(&member.owner),
            );
            checks.hold(
                &format!("{what}: its owner {} is not among {:?}", self.pid, member.holders),
                member
                    .holders
                    .iter()
                    .any(|holder| holder.pid == self.pid && holder.process == self.process),
            );
        }
        checks.equal(&format!("{what}: members"), group.members.len() as u64, group.sockets);
        let said = infos(metrics, &self.netns, self.address);
        let expected = [
            ("process", self.process.as_str()),
            ("container_id", self.container.as_deref().unwrap_or_default()),
        ];
        let one = match said.as_slice() {
            [one] => {
                let label = |name: &str| one.iter().find(|(key, _)| key == name);
                let is = |name: &str, value: &str| label(name).is_some_and(|(_, v)| v == value);
                expected.iter().all(|(name, value)| is(name, value))
                    && self.cgroup.as_ref().is_none_or(|cgroup| is("cgroup", cgroup))
            }
            _ => false,
        };
        checks.hold(&format!("{what}: tcpq_listener_info is {said:?}, not of {self:?}"), one);
    }

    fn is(&self, owner: &Owner) -> bool {
        owner.process.as_ref() == Some(&self.process)
            && owner.pid == Some(self.pid)
            && owner.executable.as_ref() == Some(&self.executable)
            && (self.cgroup.is_none() || owner.cgroup == self.cgroup)
            && owner.container.as_ref().map(|container| &container.id) == self.container.as_ref()
    }
}

/// The labels of each `tcpq_listener_info` of a group.
pub fn infos(
    metrics: &Metrics,
    netns: &str,
    listener: SocketAddr,
) -> Vec<BTreeSet<(String, String)>> {
    let (address, port) = (listener.ip().to_string(), listener.port().to_string());
    let group = [("netns", netns), ("address", &address), ("port", &port)];
    let samples = metrics.select("tcpq_listener_info", &group);
    samples.map(|sample| sample.labels.clone().into_iter().collect()).collect()
}

/// Asks a daemon again and again until every check holds. An error tells those that did
/// not at last.
pub fn until_so(
    daemon: &Daemon,
    deadline: Duration,
    check: impl FnMut(&Listeners, &Metrics, &mut Checks) -> Result<()>,
) -> Result<()> {
    until_so_at(daemon.address(), deadline, check)
}

/// As [`until_so`], of the daemon that serves there.
pub fn until_so_at(
    address: SocketAddr,
    deadline: Duration,
    mut check: impl FnMut(&Listeners, &Metrics, &mut Checks) -> Result<()>,
) -> Result<()> {
    let mut last = String::new();
    let so = wait::until_true("tcpq says it as it is", deadline, || {
        let (api, metrics) = (Listeners::at(address)?, daemon::scrape(address)?);
        let mut checks = Checks::default();
        // What is not there yet may come.
        match check(&api, &metrics, &mut checks).and_then(|()| checks.end()) {
            Ok(()) => Ok(true),
            Err(error) => {
                last = format!("{error:#}");
                Ok(false)
            }
        }
    });
    so.with_context(|| last.clone())
}

/// As [`until_so`], for an owner whom only a walk over all processes can find: the
/// daemon makes one every ten seconds or, where that would cost it more than a thousandth
/// of a core, less often.
pub const BY_A_WALK: Duration = Duration::from_mins(5);

/// As [`until_so`], for what the daemon learns from an event.
pub const BY_AN_EVENT: Duration = Duration::from_secs(15);
