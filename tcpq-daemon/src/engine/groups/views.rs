//! What is shown of the groups.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tcpq_common::{iterator::DropCounters, listener::ListenerKey};

use crate::{
    engine::{
        attribute::Attribute,
        derive::Life,
        groups::{
            Groups, Socket,
            clock::Clock,
            namespaces::Namespaces,
            series::{self, Group},
        },
    },
    model::{
        group::{Folded, GroupView, Holder, Member, NetnsSettings, Queue},
        ids::{NetnsInode, Place},
        owner::{Owner, SharedOwner},
    },
};

impl Groups {
    /// Overflows and drops of all listeners, gone ones included, by namespace.
    pub fn drops_by_netns(&self) -> HashMap<u64, DropCounters> {
        self.namespaces.drops(self.sockets.values())
    }

    /// Sockets without series of their own, since the start.
    pub fn folded(&self) -> Folded {
        self.series.folded
    }

    /// The settings of each namespace that has listeners that are shown.
    pub fn settings(&self, attribution: &mut dyn Attribute) -> Vec<NetnsSettings> {
        let shown = self.listening().filter(|socket| socket.group.is_some());
        let ids: HashSet<_> = shown.map(|socket| socket.netns_id).collect();
        self.namespaces.settings(&ids, |netns| attribution.netns(netns))
    }

    /// Every group, ordered by name.
    pub fn views(&mut self, attribution: &mut dyn Attribute) -> Vec<GroupView> {
        let Self { sockets, series, namespaces, clock, .. } = self;
        let mut names = Names::default();
        let mut by_group: Vec<_> = sockets
            .iter()
            .filter_map(|(key, socket)| Some((socket.group?, *key, socket)))
            .collect();
        // Within a group, the one that was seen first comes first.
        by_group.sort_unstable_by_key(|(group, key, _)| (*group, key.born_ns, key.sk));
        let mut rest = by_group.as_slice();
        let mut views = Vec::with_capacity(series.groups.len());
        for (id, group) in &mut series.groups {
            let ours = rest.partition_point(|(of, ..)| of <= id);
            let sockets;
            (sockets, rest) = rest.split_at(ours);
            let sockets = sockets.iter().map(|(_, key, socket)| (*key, *socket));
            if sockets.clone().any(|(_, socket)| socket.life == Life::Listening)
                && group.key.place != Place::Other
            {
                names.follow(&mut group.netns, group.key.netns, attribution);
            }
            let mut view = view(group, sockets.clone(), *clock, attribution);
            if group.key.place == Place::Other {
                let listening = sockets.filter(|(_, socket)| socket.life != Life::Closed);
                for (member, (_, socket)) in view.members.iter_mut().zip(listening) {
                    if let Some(netns) = names.of(socket, namespaces, attribution) {
                        member.netns = netns;
                    }
                }
            }
            views.push(view);
        }
        merged(views)
    }
}

/// Names of namespaces, asked for once a reading.
#[derive(Default)]
struct Names {
    known: HashMap<NetnsInode, Arc<str>>,
    by_id: HashMap<u64, Option<Arc<str>>>,
}

impl Names {
    /// Brings a name up to date.
    fn follow(&mut self, name: &mut Arc<str>, netns: NetnsInode, attribution: &mut dyn Attribute) {
        let now = self.known.entry(netns).or_insert_with(|| attribution.netns(netns).into());
        if !Arc::ptr_eq(name, now) {
            *name = Arc::clone(now);
        }
    }

    /// The name of one socket's namespace; `None`: nothing was read of it.
    fn of(
        &mut self,
        socket: &Socket,
        namespaces: &Namespaces,
        attribution: &mut dyn Attribute,
    ) -> Option<Arc<str>> {
        let Self { known, by_id } = self;
        let id = socket.netns_id;
        let name = by_id.entry(id).or_insert_with(|| {
            let mut name = None;
            namespaces.settings(&HashSet::from([id]), |netns| {
                let known = known.entry(netns).or_insert_with(|| attribution.netns(netns).into());
                name = Some(Arc::clone(known));
                known.to_string()
            });
            name
        });
        name.clone()
    }
}

fn view<'a>(
    group: &mut Group,
    sockets: impl Iterator<Item = (ListenerKey, &'a Socket)>,
    clock: Clock,
    attribution: &mut dyn Attribute,
) -> GroupView {
    let mut view = GroupView {
        key: group.key.clone(),
        netns: Arc::clone(&group.netns),
        sockets: 0,
        accept_queue: Queue::default(),
        syn_queue: Queue::default(),
        counts: group.retained,
        histograms: group.retained_histograms.clone(),
        owners: Vec::new(),
        started: None,
        backlog_requested: Some(0),
        members: Vec::new(),
    };
    let most = view.most_members();
    let mut oldest = Some(u64::MAX);
    for (key, socket) in sockets {
        view.counts = view.counts.plus(socket.counts);
        series::add(&mut view.histograms, socket.histograms.as_ref());
        if socket.life == Life::Closed {
            continue;
        }
        view.sockets += 1;
        view.accept_queue = view.accept_queue.plus(socket.accept_queue);
        view.syn_queue = view.syn_queue.plus(socket.syn_queue);
        view.backlog_requested =
            view.backlog_requested.zip(socket.requested).map(|(sum, one)| sum + backlog(one));
        oldest = oldest.zip(socket.opened_ns).map(|(oldest, one)| oldest.min(one));
        let owner = attribution.owner(key);
        if view.owners.last().is_none_or(|last| !Arc::ptr_eq(last, &owner)) {
            view.owners.push(Arc::clone(&owner));
        }
        if view.members.len() < most {
            let netns = Arc::clone(&group.netns);
            let holders = attribution.holders(key);
            view.members.push(member((key, socket), netns, owner, holders, clock));
        }
    }
    if view.sockets == 0 {
        view.backlog_requested = None;
        part(&mut group.owners);
        view.owners.clone_from(&group.owners);
        return view;
    }
    view.started = oldest.map(|opened_ns| clock.at(opened_ns));
    distinct(&mut view.owners);
    view.owners.truncate(most);
    if !are_same(&group.owners, &view.owners) {
        group.owners.clone_from(&view.owners);
    }
    view
}

fn member(
    (key, socket): (ListenerKey, &Socket),
    netns: Arc<str>,
    owner: SharedOwner,
    holders: Arc<[Holder]>,
    clock: Clock,
) -> Member {
    Member {
        key,
        netns,
        address: socket.address,
        port: socket.port,
        started: socket.opened_ns.map(|opened_ns| clock.at(opened_ns)),
        owner,
        holders,
        accept_queue: socket.accept_queue,
        syn_queue: socket.syn_queue,
        backlog_requested: socket.requested,
        counts: socket.counts,
    }
}

/// For the kernel a backlog below 0 is one beyond all limits (`__sys_listen` compares
/// without sign): in a sum it is the largest that can be written.
fn backlog(requested: i32) -> u64 {
    u64::try_from(requested).unwrap_or(i32::MAX.unsigned_abs().into())
}

/// Orders owners, without those that are the same or of whom nothing is known.
fn distinct(owners: &mut Vec<SharedOwner>) {
    if owners.len() > 1 {
        // Most are the same allocation.
        owners.sort_unstable_by_key(Arc::as_ptr);
        owners.dedup_by(|a, b| Arc::ptr_eq(a, b));
        owners.sort_unstable();
        owners.dedup();
    }
    owners.retain(|owner| **owner != Owner::default());
}

/// All sockets have closed: the owners' names stay with the counters, their processes do
/// not.
fn part(owners: &mut Vec<SharedOwner>) {
    if owners.iter().any(|owner| owner.pid.is_some()) {
        for owner in &mut *owners {
            *owner = Arc::new(Owner { pid: None, ..Owner::clone(owner) });
        }
        distinct(owners);
    }
}

fn are_same(some: &[SharedOwner], others: &[SharedOwner]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// One view per name: a namespace may be made again under the name of one that is gone,
/// and a series must not be there twice, nor go back.
fn merged(mut views: Vec<GroupView>) -> Vec<GroupView> {
    views.sort_unstable_by(|a, b| by_name(a, b).then_with(|| a.key.netns.cmp(&b.key.netns)));
    views.dedup_by(|later, kept| {
        let is_same = by_name(later, kept).is_eq();
        if is_same {
            kept.absorb(later);
        }
        is_same
    });
    views
}

/// Most names are the same allocation.
fn by_name(a: &GroupView, b: &GroupView) -> Ordering {
    let netns =
        if Arc::ptr_eq(&a.netns, &b.netns) { Ordering::Equal } else { a.netns.cmp(&b.netns) };
    netns.then_with(|| a.key.place.cmp(&b.key.place))
}
