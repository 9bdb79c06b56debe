//! What tcpq says of one listener group: the claim that is held against the
//! kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use anyhow::{Context as _, Result};

use crate::{
    exposition::{Metrics, Sample},
    netns::Netns,
};

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

/// One series of a listener group that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Count {
    /// A SYN met a full accept queue.
    OverflowSyn,
    /// A final ACK did.
    OverflowAck,
    /// A returned cookie did.
    OverflowCookie,
    /// `ListenDrops` of this listener.
    ListenDrops,
    /// SYNs that reached it.
    SynsReceived,
    /// A SYN met a full SYN queue.
    DropQueueFull,
    /// A SYN met one so full that only known clients are let in.
    DropBacklogPressure,
    /// There was no memory for a request.
    DropNoMemory,
    /// There is no way back to the client, or a rule was against it.
    DropRejected,
    /// It was sent to more than one.
    DropNotUnicast,
    /// The client never answered the SYN-ACK.
    LostTimeout,
    /// The client reset it.
    LostReset,
    /// The network said that the client cannot be reached.
    LostIcmp,
    /// The listener closed first.
    LostListenerClosed,
    /// The listener, or an administrator, aborted it.
    LostAborted,
    /// SYNs answered by a cookie.
    CookiesSent,
    /// Cookies that came back valid.
    CookiesValidated,
    /// And invalid.
    CookiesFailed,
    /// SYN-ACKs sent again.
    SynAckRetransmits,
    /// Queued by the last step of a handshake.
    EnqueuedHandshake,
    /// Queued by a returned cookie.
    EnqueuedCookie,
    /// Queued by a SYN with data.
    EnqueuedFastOpen,
    /// Taken over from a listener that closed.
    EnqueuedMigration,
    /// Queued, and the backend cannot tell how.
    EnqueuedUnknown,
    /// Accepted.
    Accepts,
    /// Lost because the listener closed.
    Abandoned,
}

/// Where a [`Count`] is found.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// The metric family.
    pub family: &'static str,
    /// Its own label, where it has one.
    pub label: Option<(&'static str, &'static str)>,
    /// The signal whose hook feeds it.
    pub signal: &'static str,
}

const fn series(
    family: &'static str,
    label: Option<(&'static str, &'static str)>,
    signal: &'static str,
) -> Series {
    Series { family, label, signal }
}

impl Count {
    /// Every one.
    pub const ALL: [Self; 26] = [
        Self::OverflowSyn,
        Self::OverflowAck,
        Self::OverflowCookie,
        Self::ListenDrops,
        Self::SynsReceived,
        Self::DropQueueFull,
        Self::DropBacklogPressure,
        Self::DropNoMemory,
        Self::DropRejected,
        Self::DropNotUnicast,
        Self::LostTimeout,
        Self::LostReset,
        Self::LostIcmp,
        Self::LostListenerClosed,
        Self::LostAborted,
        Self::CookiesSent,
        Self::CookiesValidated,
        Self::CookiesFailed,
        Self::SynAckRetransmits,
        Self::EnqueuedHandshake,
        Self::EnqueuedCookie,
        Self::EnqueuedFastOpen,
        Self::EnqueuedMigration,
        Self::EnqueuedUnknown,
        Self::Accepts,
        Self::Abandoned,
    ];

    /// Its series.
    pub const fn series(self) -> Series {
        const OVERFLOWS: &str = "tcpq_accept_queue_overflows_total";
        const DROPS: &str = "tcpq_syn_drops_total";
        const LOST: &str = "tcpq_requests_lost_total";
        const ENQUEUED: &str = "tcpq_accept_queue_enqueued_total";
        match self {
            Self::OverflowSyn => series(OVERFLOWS, Some(("stage", "syn")), "overflow_syn"),
            Self::OverflowAck => series(OVERFLOWS, Some(("stage", "ack")), "overflow_ack"),
            Self::OverflowCookie => series(OVERFLOWS, Some(("stage", "cookie")), "overflow_cookie"),
            Self::ListenDrops => series("tcpq_listen_drops_total", None, "listen_drops"),
            Self::SynsReceived => series("tcpq_syns_received_total", None, "syns_received"),
            Self::DropQueueFull => series(DROPS, Some(("reason", "queue_full")), "syn_drops"),
            Self::DropBacklogPressure => {
                series(DROPS, Some(("reason", "backlog_pressure")), "syn_drops")
            }
            Self::DropNoMemory => series(DROPS, Some(("reason", "no_memory")), "syn_drops"),
            Self::DropRejected => series(DROPS, Some(("reason", "rejected")), "syn_drops"),
            Self::DropNotUnicast => series(DROPS, Some(("reason", "not_unicast")), "syn_drops"),
            Self::LostTimeout => series(LOST, Some(("reason", "timeout")), "requests_lost"),
            Self::LostReset => series(LOST, Some(("reason", "reset")), "requests_lost"),
            Self::LostIcmp => series(LOST, Some(("reason", "icmp")), "requests_lost"),
            Self::LostListenerClosed => {
                series(LOST, Some(("reason", "listener_closed")), "requests_lost")
            }
            Self::LostAborted => series(LOST, Some(("reason", "aborted")), "requests_lost"),
            Self::CookiesSent => series("tcpq_syn_cookies_sent_total", None, "cookies_sent"),
            Self::CookiesValidated => {
                series("tcpq_syn_cookies_validated_total", None, "cookies_checked")
            }
            Self::CookiesFailed => series("tcpq_syn_cookies_failed_total", None, "cookies_checked"),
            Self::SynAckRetransmits => {
                series("tcpq_synack_retransmits_total", None, "synack_retransmits")
            }
            Self::EnqueuedHandshake => series(ENQUEUED, Some(("path", "handshake")), "enqueued"),
            Self::EnqueuedCookie => series(ENQUEUED, Some(("path", "cookie")), "enqueued"),
            Self::EnqueuedFastOpen => series(ENQUEUED, Some(("path", "fastopen")), "enqueued"),
            Self::EnqueuedMigration => series(ENQUEUED, Some(("path", "migration")), "enqueued"),
            Self::EnqueuedUnknown => series(ENQUEUED, Some(("path", "unknown")), "enqueued"),
            Self::Accepts => series("tcpq_accepts_total", None, "accepts"),
            Self::Abandoned => series("tcpq_accept_queue_abandoned_total", None, "abandoned"),
        }
    }

    /// Its name in messages.
    pub fn name(self) -> String {
        let Series { family, label, .. } = self.series();
        match label {
            None => family.to_owned(),
            Some((key, value)) => format!("{family}{{{key}={value:?}}}"),
        }
    }
}

/// Every [`Count`] of one (netns, address, port); absent ones are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<Count, u64>);

impl Tally {
    /// Picks one group out of a scrape.
    pub fn of(metrics: &Metrics, netns: &str, listener: SocketAddr) -> Result<Self> {
        let (address, port) = (listener.ip().to_string(), listener.port().to_string());
        let group = [("netns", netns), ("address", &address), ("port", &port)];
        let mut found = BTreeMap::new();
        for count in Count::ALL {
            let Series { family, label, .. } = count.series();
            let labels: Vec<_> = group.iter().copied().chain(label).collect();
            if let Some(value) = metrics.sum(family, &labels)? {
                found.insert(count, value);
            }
        }
        Ok(Self(found))
    }

    /// One of them; `None` if there is no such series.
    pub fn get(&self, count: Count) -> Option<u64> {
        self.0.get(&count).copied()
    }

    /// What was added since `earlier`, in which a series may not have been there yet.
    pub fn since(&self, earlier: &Self) -> Result<Self> {
        let added = |(count, now): (&Count, &u64)| {
            let then = earlier.get(*count).unwrap_or(0);
            let added = now.checked_sub(then);
            let added =
                added.with_context(|| format!("{} went back: {then} to {now}", count.name()))?;
            Ok((*count, added))
        };
        Ok(Self(self.0.iter().map(added).collect::<Result<_>>()?))
    }
}

/// What tcpq says of a namespace as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// `tcpq_netns_listen_overflows_total`
    pub listen_overflows: Option<u64>,
    /// `tcpq_netns_listen_drops_total`
    pub listen_drops: Option<u64>,
    /// `tcpq_netns_unattributed_overflows`, which may be below zero.
    pub unattributed_overflows: Option<i64>,
    /// `tcpq_netns_unattributed_drops`
    pub unattributed_drops: Option<i64>,
}

impl Audit {
    /// Picks one namespace out of a scrape.
    pub fn of(metrics: &Metrics, netns: &str) -> Result<Self> {
        let labels = [("netns", netns)];
        Ok(Self {
            listen_overflows: metrics.sum("tcpq_netns_listen_overflows_total", &labels)?,
            listen_drops: metrics.sum("tcpq_netns_listen_drops_total", &labels)?,
            unattributed_overflows: metrics.gauge("tcpq_netns_unattributed_overflows", &labels)?,
            unattributed_drops: metrics.gauge("tcpq_netns_unattributed_drops", &labels)?,
        })
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

    /// As [`NetnsSums::of`], of the series that are in `later`, too. What is not there any
    /// more had ended long before: the kernel gives a namespace's number to the next one,
    /// and a daemon that tests itself leaves listeners of such a namespace behind.
    pub fn of_those_in(later: &Metrics, metrics: &Metrics, netns: &str) -> Result<Self> {
        let labels = [("netns", netns)];
        let sum = |name: &str| {
            let there: BTreeSet<_> =
                later.select(name, &labels).map(|sample| &sample.labels).collect();
            let then = metrics.select(name, &labels);
            then.filter(|sample| there.contains(&sample.labels))
                .map(Sample::count)
                .sum::<Result<u64>>()
        };
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
