//! Which listener is meant.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use thiserror::Error;

use crate::{
    cli::{
        explain::target::Target,
        list::columns::{endpoint, folded},
    },
    engine::advice::quoted,
    model::{owner::Owner, text::printable},
    serve::api::{FoldedInto, ListenerDto, ListenersDto, MemberDto, OverflowsDto, QueueDto},
};

/// Candidates shown at most.
const SHOWN: usize = 10;

/// `comm` is cut to this many bytes by the kernel.
const COMM: usize = 15;

/// What stays the same of a listener from one answer to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    netns: String,
    address: String,
    port: Option<u16>,
    folded: Option<FoldedInto>,
}

/// The listener that is meant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) listener: ListenerDto,
    /// If it is another one than was named: why.
    pub(super) instead: Option<String>,
}

/// Not one listener is meant.
#[derive(Debug, Error)]
pub(in crate::cli) enum NotOne {
    /// None.
    #[error("no listener fits {looked_for}{near}")]
    None { looked_for: String, near: Near },
    /// Several.
    #[error("{} listeners fit {looked_for}; pick one:{candidates}", .candidates.0.len())]
    Several { looked_for: String, candidates: Candidates },
}

/// How to ask for each.
#[derive(Debug)]
pub(in crate::cli) struct Candidates(Vec<String>);

/// What comes next to what was asked for.
#[derive(Debug)]
pub(in crate::cli) struct Near(Candidates);

/// The one listener that fits.
pub(super) fn find(
    all: &ListenersDto,
    target: &Target,
    netns: Option<&str>,
) -> Result<Found, NotOne> {
    let all = everything(all);
    let within: Vec<_> =
        all.iter().filter(|it| netns.is_none_or(|netns| it.netns == netns)).collect();
    let (mut fit, instead) = fitting(&within, target);
    // A closed one is kept for its counters; one that lives is meant first.
    if fit.iter().any(|listener| listener.sockets > 0) {
        fit.retain(|listener| listener.sockets > 0);
    }
    let looked_for = match netns {
        Some(netns) => format!("{target} in namespace {}", printable(netns)),
        None => target.to_string(),
    };
    match fit.as_slice() {
        [] => {
            let near: Vec<_> = all.iter().filter(|it| is_near(it, target)).collect();
            Err(NotOne::None { looked_for, near: Near(Candidates::of(&near)) })
        }
        [one] => Ok(Found { listener: (*one).clone(), instead }),
        several => Err(NotOne::Several { looked_for, candidates: Candidates::of(several) }),
    }
}

impl Key {
    pub(super) fn of(listener: &ListenerDto) -> Self {
        Self {
            netns: listener.netns.clone(),
            address: listener.address.clone(),
            port: listener.port,
            folded: listener.folded,
        }
    }

    /// The same listener in another answer.
    pub(super) fn again(&self, all: &ListenersDto) -> Option<ListenerDto> {
        everything(all).into_iter().find(|listener| Self::of(listener) == *self)
    }
}

/// All groups, and what groups of many consist of.
fn everything(all: &ListenersDto) -> Vec<ListenerDto> {
    let parts = all.listeners.iter().filter(|it| it.port.is_none()).flat_map(parts);
    all.listeners.iter().cloned().chain(parts).collect()
}

/// The sockets of a group of many, by namespace, address and port. What is counted only per group is
/// not told of them.
fn parts(group: &ListenerDto) -> Vec<ListenerDto> {
    let mut parts: BTreeMap<_, Vec<MemberDto>> = BTreeMap::new();
    for member in &group.members {
        let place = (member.netns.clone(), member.address.clone(), member.port);
        parts.entry(place).or_default().push(member.clone());
    }
    parts.into_iter().map(|(place, members)| part(place, members)).collect()
}

fn part((netns, address, port): (String, String, u16), members: Vec<MemberDto>) -> ListenerDto {
    let queue = |of: fn(&MemberDto) -> QueueDto| QueueDto {
        length: members.iter().map(|it| of(it).length).sum(),
        limit: members.iter().map(|it| of(it).limit).sum(),
    };
    let stage = |of: fn(OverflowsDto) -> Option<u64>| {
        members.iter().map(|member| member.overflows.and_then(of)).sum()
    };
    let mut owners: Vec<_> = members.iter().map(|member| member.owner.clone()).collect();
    owners.sort();
    owners.dedup();
    ListenerDto {
        netns,
        address,
        port: Some(port),
        folded: None,
        owners,
        started: None,
        backlog_requested: None,
        sockets: members.len() as u64,
        accept_queue: queue(|member| member.accept_queue),
        syn_queue: queue(|member| member.syn_queue),
        overflows: members.iter().all(|member| member.overflows.is_some()).then(|| OverflowsDto {
            syn: stage(|it| it.syn),
            ack: stage(|it| it.ack),
            cookie: stage(|it| it.cookie),
        }),
        listen_drops: None,
        syn_drops: None,
        requests_lost: None,
        cookies_sent: None,
        cookies_validated: None,
        cookies_failed: None,
        synack_retransmits: None,
        syns_received: None,
        enqueued: members.iter().map(|member| member.enqueued).sum(),
        accepts: members.iter().map(|member| member.accepts).sum(),
        accept_errors: None,
        abandoned: None,
        accept_wait: None,
        handshake: None,
        accept_queue_fill: None,
        syn_queue_fill: None,
        members,
    }
}

fn fitting<'a>(all: &[&'a ListenerDto], target: &Target) -> (Vec<&'a ListenerDto>, Option<String>) {
    let fit = |test: &dyn Fn(&ListenerDto) -> bool| -> Vec<&'a ListenerDto> {
        all.iter().copied().filter(|listener| test(listener)).collect()
    };
    match target {
        Target::Port(port) => (fit(&|it| it.port == Some(*port)), None),
        Target::Endpoint(address, port) => at(all, *address, *port),
        Target::Process(name) => {
            // The parts of a group are found by port only: the group is one answer.
            let groups = |test: &dyn Fn(&ListenerDto) -> bool| {
                let own = |it: &ListenerDto| it.port.is_none() || !is_part(all, it);
                fit(&|it| own(it) && test(it))
            };
            let by_group = groups(&|it| it.folded.is_some() && it.address == *name);
            if !by_group.is_empty() {
                return (by_group, None);
            }
            let by_owner = groups(&|it| it.owners.iter().any(|owner| is_named(owner, name)));
            if !by_owner.is_empty() {
                return (by_owner, None);
            }
            let holds = |member: &MemberDto| {
                member.holders.iter().any(|holder| holder.process == comm(name))
            };
            (groups(&|it| it.members.iter().any(holds)), None)
        }
    }
}

/// Whether a listener is one of those that a group of many consists of.
fn is_part(all: &[&ListenerDto], listener: &ListenerDto) -> bool {
    all.iter().filter(|it| it.port.is_none()).flat_map(|group| &group.members).any(|it| {
        Some(it.port) == listener.port
            && it.address == listener.address
            && it.netns == listener.netns
    })
}

/// What listens on an address; else the wildcard that takes its connections, as the kernel
/// looks a listener up.
fn at<'a>(
    all: &[&'a ListenerDto],
    address: IpAddr,
    port: u16,
) -> (Vec<&'a ListenerDto>, Option<String>) {
    let on = |address: &str| -> Vec<&'a ListenerDto> {
        let fits = |it: &&&ListenerDto| it.port == Some(port) && it.address == address;
        all.iter().filter(fits).copied().collect()
    };
    let exact = on(&address.to_string());
    if !exact.is_empty() {
        return (exact, None);
    }
    let wildcards: &[_] = if address.is_ipv4() { &["0.0.0.0", "::"] } else { &["::"] };
    for wildcard in wildcards {
        let fit = on(wildcard);
        if !fit.is_empty() {
            let named = endpoint(&address.to_string(), port);
            let wildcard = endpoint(wildcard, port);
            let unless = if address.is_ipv4() && wildcard.starts_with('[') {
                ", unless it is for IPv6 only (not known)"
            } else {
                ""
            };
            let instead = format!(
                "nothing listens on {named} itself; {wildcard} takes its connections{unless}"
            );
            return (fit, Some(instead));
        }
    }
    (Vec::new(), None)
}

fn is_named(owner: &Owner, name: &str) -> bool {
    let file = owner.executable.as_deref().and_then(|path| path.rsplit('/').next());
    owner.process.as_deref().is_some_and(|process| process == comm(name)) || file == Some(name)
}

/// A name as the kernel keeps it.
fn comm(name: &str) -> &str {
    name.get(..COMM).unwrap_or(name)
}

fn is_near(listener: &ListenerDto, target: &Target) -> bool {
    match target {
        Target::Port(port) | Target::Endpoint(_, port) => listener.port == Some(*port),
        Target::Process(name) => {
            let name = name.trim_start_matches('~').to_lowercase();
            let is_alike = |process: &str| process.to_lowercase().contains(&name);
            !name.is_empty()
                && listener.owners.iter().any(|owner| {
                    owner.process.as_deref().is_some_and(is_alike)
                        || owner.executable.as_deref().is_some_and(is_alike)
                })
        }
    }
}

impl Candidates {
    fn of(listeners: &[&ListenerDto]) -> Self {
        Self(listeners.iter().map(|listener| pick(listener)).collect())
    }
}

/// The command that picks one, and whose it is.
fn pick(listener: &ListenerDto) -> String {
    let target = match listener.port {
        Some(port) => endpoint(&listener.address, port),
        None => quoted(&listener.address).unwrap_or_else(|| folded(listener)),
    };
    let netns = quoted(&listener.netns).unwrap_or_else(|| printable(&listener.netns));
    let process = listener.owners.iter().find_map(|owner| owner.process.as_deref());
    let process = process.map_or_else(String::new, |name| format!("   # {}", printable(name)));
    let closed = if listener.sockets == 0 { "   # closed" } else { "" };
    format!("tcpq explain {target} --netns {netns}{process}{closed}")
}

impl fmt::Display for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for candidate in self.0.iter().take(SHOWN) {
            write!(f, "\n  {candidate}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more: tcpq list"),
        }
    }
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.0.is_empty() {
            return f.write_str("; `tcpq list` shows all there are");
        }
        write!(f, "; nearest:{}", self.0)
    }
}

#[cfg(test)]
mod tests;
