//! What tcpq says of one listener group: the claim that is held against the
//! kernel.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use crate::{exposition::Metrics, netns::Netns};

/// Every figure of one (netns, address, port). `None`: the series is absent,
/// which is how a backend says that it cannot tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// `tcpq_listener_sockets`
    pub sockets: Option<u64>,
    /// `tcpq_accept_queue_length`
    pub accept_queue_length: Option<u64>,
    /// `tcpq_accept_queue_limit`
    pub accept_queue_limit: Option<u64>,
    /// `tcpq_syn_queue_length`
    pub syn_queue_length: Option<u64>,
    /// `tcpq_syn_queue_limit`
    pub syn_queue_limit: Option<u64>,
    /// `tcpq_accept_queue_overflows_total{stage="syn"}`
    pub overflows_syn: Option<u64>,
    /// `tcpq_accept_queue_overflows_total{stage="ack"}`
    pub overflows_ack: Option<u64>,
    /// `tcpq_accept_queue_overflows_total{stage="cookie"}`
    pub overflows_cookie: Option<u64>,
    /// `tcpq_listen_drops_total`
    pub listen_drops: Option<u64>,
    /// `tcpq_syns_received_total`
    pub syns_received: Option<u64>,
    /// `tcpq_accept_queue_enqueued_total`, all paths
    pub enqueued: Option<u64>,
    /// `tcpq_accepts_total`
    pub accepts: Option<u64>,
    /// `tcpq_accept_queue_abandoned_total`
    pub abandoned: Option<u64>,
}

impl Figures {
    /// Picks one group out of a scrape.
    pub fn of(metrics: &Metrics, netns: &str, listener: SocketAddr) -> Result<Self> {
        let (address, port) = (listener.ip().to_string(), listener.port().to_string());
        let group = [("netns", netns), ("address", &address), ("port", &port)];
        let figure = |name: &str| metrics.sum(name, &group);
        let stage = |stage: &str| {
            let labels: Vec<_> = group.iter().copied().chain([("stage", stage)]).collect();
            metrics.sum("tcpq_accept_queue_overflows_total", &labels)
        };
        Ok(Self {
            sockets: figure("tcpq_listener_sockets")?,
            accept_queue_length: figure("tcpq_accept_queue_length")?,
            accept_queue_limit: figure("tcpq_accept_queue_limit")?,
            syn_queue_length: figure("tcpq_syn_queue_length")?,
            syn_queue_limit: figure("tcpq_syn_queue_limit")?,
            overflows_syn: stage("syn")?,
            overflows_ack: stage("ack")?,
            overflows_cookie: stage("cookie")?,
            listen_drops: figure("tcpq_listen_drops_total")?,
            syns_received: figure("tcpq_syns_received_total")?,
            enqueued: figure("tcpq_accept_queue_enqueued_total")?,
            accepts: figure("tcpq_accepts_total")?,
            abandoned: figure("tcpq_accept_queue_abandoned_total")?,
        })
    }

    /// `ListenOverflows` of this group: all stages that the backend can see.
    pub fn overflows(&self) -> u64 {
        [self.overflows_syn, self.overflows_ack, self.overflows_cookie].into_iter().flatten().sum()
    }
}

/// Both of the kernel's counters as tcpq has them: the sums over a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetnsSums {
    /// Sum of `tcpq_accept_queue_overflows_total`, every listener and stage.
    pub overflows: u64,
    /// Sum of `tcpq_listen_drops_total`.
    pub listen_drops: u64,
}

impl NetnsSums {
    /// Adds up one namespace of a scrape; nothing to add is zero.
    pub fn of(metrics: &Metrics, netns: &str) -> Result<Self> {
        let labels = [("netns", netns)];
        let sum = |name| Ok::<_, anyhow::Error>(metrics.sum(name, &labels)?.unwrap_or(0));
        Ok(Self {
            overflows: sum("tcpq_accept_queue_overflows_total")?,
            listen_drops: sum("tcpq_listen_drops_total")?,
        })
    }

    /// What was added since `earlier`; a counter that went back is an error.
    pub fn since(self, earlier: Self) -> Result<Self> {
        let less = |name: &str, now: u64, then: u64| {
            now.checked_sub(then).with_context(|| format!("{name} went back: {then} to {now}"))
        };
        Ok(Self {
            overflows: less("overflows", self.overflows, earlier.overflows)?,
            listen_drops: less("listen drops", self.listen_drops, earlier.listen_drops)?,
        })
    }
}

/// The groups that tcpq lists in one namespace.
pub fn groups_in(metrics: &Metrics, netns: &Netns) -> usize {
    metrics.select("tcpq_listener_sockets", &[("netns", &netns.label())]).count()
}
