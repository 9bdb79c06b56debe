//! The JSON of `/api/v1/listeners` and `tcpq list --json`: one shape, stable.

mod distribution;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tcpq_common::{
    histogram::{Fills, Times},
    totals::{AcceptError, RequestLost, SynDrop},
};

use crate::model::{
    audit::NetnsAudit,
    counts::{Counts, Overflows},
    group::{GroupView, Holder, Member, NetnsSettings, Queue, unix_seconds},
    hooks::{Exactness, Signal, SignalPlan},
    ids::Place,
    observations::Observations,
    owner::Owner,
    snapshot::Snapshot,
};

pub use distribution::DistributionDto;

/// Holders that are told of one socket: a server may have thousands of workers.
const MOST_HOLDERS: usize = 16;

/// All listener groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ListenersDto {
    /// Ordered by namespace, address and port.
    pub listeners: Vec<ListenerDto>,
    /// The kernel's own counters beside the sums over the listeners, by namespace.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub audit: Vec<NetnsAudit>,
    /// The settings of each namespace that has listeners.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub namespaces: Vec<NetnsSettings>,
}

/// One listener group. A figure that is not available is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ListenerDto {
    /// The namespace's name, `host`, or its inode number.
    pub netns: String,
    /// Local address.
    pub address: String,
    /// Local port; absent for a group of many.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// Why the group is of many addresses and ports.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub folded: Option<FoldedInto>,
    /// Who answers for its sockets, distinct; after the last one closed, who did. Of a folded
    /// group at most 64 are told.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub owners: Vec<Owner>,
    /// When the oldest socket's listen() was, if that of all was seen. Unit: seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started: Option<f64>,
    /// Sum of the backlogs that listen() was asked for, if all were seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backlog_requested: Option<u64>,
    /// Listening sockets in the group.
    pub sockets: u64,
    /// Connections that wait for accept().
    pub accept_queue: QueueDto,
    /// Connections in the handshake.
    pub syn_queue: QueueDto,
    /// Overflows by stage.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub overflows: Option<OverflowsDto>,
    /// ListenDrops.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub listen_drops: Option<u64>,
    /// Dropped SYNs that are no overflows, by reason.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub syn_drops: Option<BTreeMap<String, u64>>,
    /// Requests that left the SYN queue without completing, by reason.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub requests_lost: Option<BTreeMap<String, u64>>,
    /// SYN cookies sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cookies_sent: Option<u64>,
    /// SYN cookies that came back valid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cookies_validated: Option<u64>,
    /// ACKs taken for a SYN cookie's that were not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cookies_failed: Option<u64>,
    /// SYN-ACKs sent again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub synack_retransmits: Option<u64>,
    /// SYNs that reached the listener.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub syns_received: Option<u64>,
    /// Connections that entered the accept queue.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub enqueued: Option<u64>,
    /// Connections that accept() took.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accepts: Option<u64>,
    /// Calls of accept() that failed, by error.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accept_errors: Option<BTreeMap<String, u64>>,
    /// Connections lost in the queue when a listener closed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub abandoned: Option<u64>,
    /// How long connections waited for accept().
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accept_wait: Option<DistributionDto>,
    /// How long handshakes took.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handshake: Option<DistributionDto>,
    /// How full the accept queue was, with each connection that entered it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accept_queue_fill: Option<DistributionDto>,
    /// How full the SYN queue was, with each request that entered it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub syn_queue_fill: Option<DistributionDto>,
    /// Its live sockets; of a folded group at most 64 are told.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub members: Vec<MemberDto>,
}

/// Why a group is of many addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum FoldedInto {
    /// Ephemeral ports of one process's name.
    Ephemeral,
    /// Groups beyond the limit.
    Other,
}

/// One live socket of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MemberDto {
    /// Its namespace's name, `host`, or its inode number.
    pub netns: String,
    /// Local address.
    pub address: String,
    /// Local port.
    pub port: u16,
    /// When its listen() was, if that was seen. Unit: seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started: Option<f64>,
    /// Who answers for it.
    pub owner: Owner,
    /// Who has it open; at most 16 are told.
    pub holders: Vec<Holder>,
    /// Connections that wait for accept().
    pub accept_queue: QueueDto,
    /// Connections in the handshake.
    pub syn_queue: QueueDto,
    /// The backlog that listen() was asked for, if that was seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backlog_requested: Option<i32>,
    /// Overflows by stage.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub overflows: Option<OverflowsDto>,
    /// Connections that entered the accept queue.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub enqueued: Option<u64>,
    /// Connections that accept() took.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accepts: Option<u64>,
}

/// Length and limit of a queue. Shape: connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct QueueDto {
    /// Connections in it.
    pub length: u64,
    /// The kernel's limit.
    pub limit: u64,
}

/// Overflows by stage; a stage that this kernel cannot tell is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OverflowsDto {
    /// A SYN was refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub syn: Option<u64>,
    /// A final ACK was refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ack: Option<u64>,
    /// A SYN cookie's ACK was refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cookie: Option<u64>,
}

impl ListenersDto {
    /// From a daemon: with the counters that its plan yields.
    pub fn of_daemon(snapshot: &Snapshot) -> Self {
        let told = Told { plan: &snapshot.plan };
        let listeners = snapshot.groups.iter().map(|group| ListenerDto::counted(group, &told));
        Self {
            listeners: listeners.collect(),
            audit: snapshot.audit.clone(),
            namespaces: snapshot.namespaces.clone(),
        }
    }

    /// Without a daemon nothing was counted: only what is true now.
    pub fn of_a_look(snapshot: &Snapshot) -> Self {
        let listeners = snapshot.groups.iter().map(|group| ListenerDto::now(group)).collect();
        Self { listeners, audit: Vec::new(), namespaces: snapshot.namespaces.clone() }
    }
}

/// Which counters mean something.
struct Told<'a> {
    plan: &'a [SignalPlan],
}

impl Told<'_> {
    fn tells(&self, signal: Signal) -> bool {
        self.plan.iter().any(|plan| plan.signal == signal && plan.exactness != Exactness::Absent)
    }

    fn told<T>(&self, signal: Signal, value: T) -> Option<T> {
        self.tells(signal).then_some(value)
    }

    fn overflows(&self, Overflows { syn, ack, cookie }: Overflows) -> OverflowsDto {
        OverflowsDto {
            syn: self.told(Signal::OverflowSyn, syn),
            ack: self.told(Signal::OverflowAck, ack),
            cookie: self.told(Signal::OverflowCookie, cookie),
        }
    }
}

impl ListenerDto {
    fn counted(group: &GroupView, told: &Told<'_>) -> Self {
        let counts = &group.counts;
        let members = group.members.iter().map(|member| MemberDto::counted(member, told));
        let observed = group.histograms.as_deref();
        let times = |of: fn(&Observations) -> &Times| DistributionDto::of_times(observed.map(of));
        let fills = |of: fn(&Observations) -> &Fills| DistributionDto::of_fills(observed.map(of));
        Self {
            overflows: Some(told.overflows(counts.overflows)),
            listen_drops: told.told(Signal::ListenDrops, counts.listen_drops),
            syn_drops: told
                .tells(Signal::SynDrops)
                .then(|| by_reason(SynDrop::ALL.map(SynDrop::label), counts.syn_drops)),
            requests_lost: told
                .tells(Signal::RequestsLost)
                .then(|| by_reason(RequestLost::ALL.map(RequestLost::label), counts.requests_lost)),
            cookies_sent: told.told(Signal::CookiesSent, counts.cookies.sent),
            cookies_validated: told.told(Signal::CookiesChecked, counts.cookies.validated),
            cookies_failed: told.told(Signal::CookiesChecked, counts.cookies.failed),
            synack_retransmits: told.told(Signal::SynackRetransmits, counts.synack_retransmits),
            syns_received: told.told(Signal::SynsReceived, counts.syns_received),
            enqueued: told.told(Signal::Enqueued, counts.enqueued.total()),
            accepts: told.told(Signal::Accepts, counts.accepts),
            accept_errors: told
                .tells(Signal::AcceptErrors)
                .then(|| by_reason(AcceptError::ALL.map(AcceptError::label), counts.accept_errors)),
            abandoned: told.told(Signal::Abandoned, counts.abandoned),
            accept_wait: told.tells(Signal::AcceptWait).then(|| times(Observations::accept_wait)),
            handshake: told.tells(Signal::HandshakeTime).then(|| times(Observations::handshake)),
            accept_queue_fill: told
                .tells(Signal::AcceptQueueFill)
                .then(|| fills(Observations::accept_fill)),
            syn_queue_fill: told.tells(Signal::SynQueueFill).then(|| fills(Observations::syn_fill)),
            members: members.collect(),
            ..Self::facts(group)
        }
    }

    fn now(group: &GroupView) -> Self {
        Self { members: group.members.iter().map(MemberDto::now).collect(), ..Self::facts(group) }
    }

    /// All but counters and members.
    fn facts(group: &GroupView) -> Self {
        Self {
            netns: group.netns.to_string(),
            address: group.key.place.address(),
            port: match group.key.place {
                Place::Address { port, .. } => Some(port),
                Place::Ephemeral { .. } | Place::Other => None,
            },
            folded: match group.key.place {
                Place::Address { .. } => None,
                Place::Ephemeral { .. } => Some(FoldedInto::Ephemeral),
                Place::Other => Some(FoldedInto::Other),
            },
            owners: group.owners.iter().map(|owner| Owner::clone(owner)).collect(),
            started: group.started.map(unix_seconds),
            backlog_requested: group.backlog_requested,
            members: Vec::new(),
            sockets: group.sockets,
            accept_queue: group.accept_queue.into(),
            syn_queue: group.syn_queue.into(),
            overflows: None,
            listen_drops: None,
            syn_drops: None,
            requests_lost: None,
            cookies_sent: None,
            cookies_validated: None,
            cookies_failed: None,
            synack_retransmits: None,
            syns_received: None,
            enqueued: None,
            accepts: None,
            accept_errors: None,
            abandoned: None,
            accept_wait: None,
            handshake: None,
            accept_queue_fill: None,
            syn_queue_fill: None,
        }
    }
}

impl MemberDto {
    fn counted(member: &Member, told: &Told<'_>) -> Self {
        let Counts { overflows, enqueued, accepts, .. } = *member.counts;
        Self {
            overflows: Some(told.overflows(overflows)),
            enqueued: told.told(Signal::Enqueued, enqueued.total()),
            accepts: told.told(Signal::Accepts, accepts),
            ..Self::now(member)
        }
    }

    fn now(member: &Member) -> Self {
        Self {
            netns: member.netns.to_string(),
            address: member.address.to_string(),
            port: member.port,
            started: member.started.map(unix_seconds),
            owner: Owner::clone(&member.owner),
            holders: member.holders.iter().take(MOST_HOLDERS).cloned().collect(),
            accept_queue: member.accept_queue.into(),
            syn_queue: member.syn_queue.into(),
            backlog_requested: member.backlog_requested,
            overflows: None,
            enqueued: None,
            accepts: None,
        }
    }
}

fn by_reason<const N: usize>(labels: [&str; N], counts: [u64; N]) -> BTreeMap<String, u64> {
    labels.into_iter().map(str::to_owned).zip(counts).collect()
}

impl From<Queue> for QueueDto {
    fn from(Queue { length, limit }: Queue) -> Self {
        Self { length, limit }
    }
}

#[cfg(test)]
mod tests;
