//! The JSON of `/api/v1/listeners` and `tcpq list --json`: one shape, stable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tcpq_common::totals::{RequestLost, SynDrop};

use crate::model::{
    audit::NetnsAudit,
    counts::Overflows,
    group::{GroupView, Holder, NetnsSettings, Queue},
    hooks::{Exactness, Signal},
    ids::Place,
    owner::Owner,
    snapshot::Snapshot,
};

/// All listener groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Who answers for its sockets, distinct.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub owners: Vec<Owner>,
    /// When the oldest socket's listen() was, if that was seen. Unit: seconds since 1970.
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
    /// Connections lost in the queue when a listener closed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub abandoned: Option<u64>,
    /// Its live sockets; of a folded group at most 64 are told.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub members: Vec<MemberDto>,
}

/// Why a group is of many addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FoldedInto {
    /// Ephemeral ports of one process's name.
    Ephemeral,
    /// Groups beyond the limit.
    Other,
}

/// One live socket of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberDto {
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
pub struct QueueDto {
    /// Connections in it.
    pub length: u64,
    /// The kernel's limit.
    pub limit: u64,
}

/// Overflows by stage; a stage that this kernel cannot tell is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
        let tells = |signal: Signal| {
            snapshot
                .plan
                .iter()
                .any(|plan| plan.signal == signal && plan.exactness != Exactness::Absent)
        };
        let listeners = snapshot.groups.iter().map(|group| {
            let counts = &group.counts;
            let Overflows { syn, ack, cookie } = counts.overflows;
            let told = |signal, value: u64| tells(signal).then_some(value);
            ListenerDto {
                overflows: Some(OverflowsDto {
                    syn: told(Signal::OverflowSyn, syn),
                    ack: told(Signal::OverflowAck, ack),
                    cookie: told(Signal::OverflowCookie, cookie),
                }),
                listen_drops: told(Signal::ListenDrops, counts.listen_drops),
                syn_drops: tells(Signal::SynDrops)
                    .then(|| by_reason(SynDrop::ALL.map(SynDrop::label), counts.syn_drops)),
                requests_lost: tells(Signal::RequestsLost).then(|| {
                    by_reason(RequestLost::ALL.map(RequestLost::label), counts.requests_lost)
                }),
                cookies_sent: told(Signal::CookiesSent, counts.cookies.sent),
                cookies_validated: told(Signal::CookiesChecked, counts.cookies.validated),
                cookies_failed: told(Signal::CookiesChecked, counts.cookies.failed),
                synack_retransmits: told(Signal::SynackRetransmits, counts.synack_retransmits),
                syns_received: told(Signal::SynsReceived, counts.syns_received),
                enqueued: told(Signal::Enqueued, counts.enqueued.total()),
                accepts: told(Signal::Accepts, counts.accepts),
                abandoned: told(Signal::Abandoned, counts.abandoned),
                ..ListenerDto::now(group)
            }
        });
        Self {
            listeners: listeners.collect(),
            audit: snapshot.audit.clone(),
            namespaces: snapshot.namespaces.clone(),
        }
    }

    /// Without a daemon nothing was counted: only what is true now.
    pub fn of_a_look(snapshot: &Snapshot) -> Self {
        let listeners = snapshot.groups.iter().map(ListenerDto::now).collect();
        Self { listeners, audit: Vec::new(), namespaces: snapshot.namespaces.clone() }
    }
}

impl ListenerDto {
    fn now(group: &GroupView) -> Self {
        Self {
            netns: group.netns.clone(),
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
            started: None,
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
            abandoned: None,
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
