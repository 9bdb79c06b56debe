//! From two views of a group, and what was seen meanwhile, to the evidence of one incident.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use tcpq_common::totals::{AcceptError, RequestLost, SynDrop};

use crate::{
    engine::incidents::{
        changes::{entered_at_most, spread},
        clients::{Crowd, Whose},
        looks::Looks,
        shape::accept_gap,
    },
    model::{
        counts::{Counts, Overflows},
        group::{GroupView, Member, NetnsSettings},
        hooks::{Exactness, Signal, SignalPlan},
        ids::Place,
        incident::{
            evidence::{Clients, Evidence, Losses, SocketFigures, Totals},
            moment::Moment,
            timeline::Second,
        },
        limit::Limit,
        observations::Observations,
    },
};

/// Sockets that are told.
const SOCKETS: usize = 16;

/// What the evidence is made of.
pub(super) struct Sources<'a> {
    pub(super) plan: &'a [SignalPlan],
    /// At the reading before the first trouble.
    pub(super) before: &'a GroupView,
    /// At the last reading with trouble.
    pub(super) last: &'a GroupView,
    /// At the last reading at which one of its sockets was full, or the same.
    pub(super) full: &'a GroupView,
    pub(super) settings: Option<&'a NetnsSettings>,
    pub(super) crowd: &'a Crowd,
    pub(super) looks: &'a Looks,
    pub(super) seconds: &'a [Second],
    pub(super) losses: Losses,
}

/// All of it.
pub(super) fn evidence(sources: &Sources<'_>) -> Evidence {
    let Sources { plan, before, last, full, settings, crowd, looks, seconds, losses } = *sources;
    let told: Vec<_> = plan
        .iter()
        .filter(|plan| plan.exactness != Exactness::Absent)
        .map(|plan| plan.signal)
        .collect();
    let tells = |signal| told.contains(&signal);
    let still_there = pairs(&before.members, &last.members);
    let still_there = still_there.iter().filter(|(_, before)| before.is_some()).count() as u64;
    let somaxconn = settings.map(|settings| settings.somaxconn);
    let limit = worst(full)
        .map(|worst| Limit::new(worst.accept_queue.limit, worst.backlog_requested, somaxconn));
    let newest = last.members.iter().filter_map(|member| member.started).max();
    let mut not_seen = looks.failures().to_vec();
    if looks.is_empty() {
        not_seen.push("the owner was not looked at".to_owned());
    }
    Evidence {
        totals: totals(&last.counts.since(*before.counts), &told),
        accept_wait: spread(Some(before), last, Observations::accept_wait),
        entered_at_most: tells(Signal::AcceptQueueFill)
            .then(|| entered_at_most(before, last))
            .flatten(),
        handshake: spread(Some(before), last, Observations::handshake),
        limit: limit.filter(|_| matches!(last.key.place, Place::Address { .. })),
        settings: settings.cloned(),
        // A socket that is accepted from again is empty at once: what it was is told.
        sockets: sockets(&pairs(&before.members, &full.members), &told),
        sockets_open: last.sockets,
        sockets_closed: (before.members.len() as u64).saturating_sub(still_there),
        newest_listen: newest.map(Moment::from),
        clients: clients(crowd, last, &told),
        accept_gap: accept_gap(seconds).filter(|_| tells(Signal::Accepts)),
        processes: looks.processes(),
        cgroup: looks.cgroup(),
        host_pressure: looks.host(),
        looked_ms: looks.ms(),
        defer_accept: last.members.iter().map(|member| member.defer_accept).max(),
        losses,
        not_seen,
        told,
    }
}

/// The socket to speak of: the one that is full, with most overflows.
pub(super) fn worst(view: &GroupView) -> Option<&Member> {
    view.members.iter().max_by_key(|member| {
        let queue = member.accept_queue;
        let share = queue.length.saturating_mul(1000) / (queue.limit + 1);
        (share, member.counts.overflows.total())
    })
}

fn clients(crowd: &Crowd, view: &GroupView, told: &[Signal]) -> Clients {
    if !crowd.is_empty() {
        let sees_syns = told.contains(&Signal::SynsReceived);
        return crowd.told(if sees_syns { Whose::All } else { Whose::FinalAcks });
    }
    let why = match view.key.place {
        Place::Address { .. } if !told.contains(&Signal::SynsReceived) => {
            "this kernel's hooks do not tell the client of a refused SYN"
        }
        Place::Address { .. } => "no record named a client",
        Place::Ephemeral { .. } | Place::Other => {
            "the group is of many addresses and ports, and records are of one"
        }
    };
    Clients::No { why: why.to_owned() }
}

fn totals(counts: &Counts, told: &[Signal]) -> Totals {
    let tells = |signal| told.contains(&signal);
    let is = |signal, count| tells(signal).then_some(count);
    let Overflows { syn, ack, cookie } = counts.overflows;
    let overflows = [
        ("syn", Signal::OverflowSyn, syn),
        ("ack", Signal::OverflowAck, ack),
        ("cookie", Signal::OverflowCookie, cookie),
    ];
    let overflows = overflows.into_iter().filter(|(_, signal, _)| tells(*signal));
    Totals {
        overflows: overflows.map(|(stage, _, count)| (stage.to_owned(), count)).collect(),
        drops: is(Signal::ListenDrops, counts.listen_drops),
        syn_drops: tells(Signal::SynDrops)
            .then(|| by_name(SynDrop::ALL.map(SynDrop::label), counts.syn_drops)),
        requests_lost: tells(Signal::RequestsLost)
            .then(|| by_name(RequestLost::ALL.map(RequestLost::label), counts.requests_lost)),
        syns: is(Signal::SynsReceived, counts.syns_received),
        cookies_sent: is(Signal::CookiesSent, counts.cookies.sent),
        cookies_validated: is(Signal::CookiesChecked, counts.cookies.validated),
        synack_retransmits: is(Signal::SynackRetransmits, counts.synack_retransmits),
        enqueued: is(Signal::Enqueued, counts.enqueued.total()),
        accepts: is(Signal::Accepts, counts.accepts),
        accept_errors: tells(Signal::AcceptErrors)
            .then(|| by_name(AcceptError::ALL.map(AcceptError::label), counts.accept_errors)),
        abandoned: is(Signal::Abandoned, counts.abandoned),
    }
}

fn by_name<const N: usize>(names: [&str; N], counts: [u64; N]) -> BTreeMap<String, u64> {
    names.into_iter().map(str::to_owned).zip(counts).collect()
}

/// Each socket, and what it was before.
fn pairs<'a>(before: &'a [Member], last: &'a [Member]) -> Vec<(&'a Member, Option<&'a Member>)> {
    let known: HashMap<_, _> = before.iter().map(|member| (member.key, member)).collect();
    last.iter().map(|member| (member, known.get(&member.key).copied())).collect()
}

fn sockets(pairs: &[(&Member, Option<&Member>)], told: &[Signal]) -> Vec<SocketFigures> {
    let mut sockets: Vec<_> = pairs
        .iter()
        .map(|(member, before)| {
            let change = before.map(|before| member.counts.since(*before.counts));
            let is = |signal, count: fn(&Counts) -> u64| {
                change.as_ref().filter(|_| told.contains(&signal)).map(count)
            };
            SocketFigures {
                process: member.owner.process.clone(),
                pid: member.owner.pid,
                fd: member.holders.first().map(|holder| holder.fd),
                accept_queue: member.accept_queue,
                overflows: is(Signal::OverflowSyn, |counts| counts.overflows.total()),
                accepts: is(Signal::Accepts, |counts| counts.accepts),
            }
        })
        .collect();
    sockets.sort_by_key(|it| Reverse((it.is_full(), it.overflows, it.accept_queue.length)));
    sockets.truncate(SOCKETS);
    sockets
}
