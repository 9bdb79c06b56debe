//! What is shown of the groups.

use std::{cmp::Ordering, sync::Arc};

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};
use tcpq_common::{iterator::DropCounters, listener::ListenerKey};

use crate::{
    engine::{
        attribute::Attribute,
        derive::Life,
        groups::{
            Groups, NOTHING, Socket,
            clock::Clock,
            namespaces::Namespaces,
            series::{self, Group, GroupId, Series},
        },
    },
    model::{
        counts::Counts,
        group::{Folded, GroupView, Holder, Member, NetnsSettings, Queue},
        ids::{NetnsInode, Place},
        observations::Observations,
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

    /// Every group, ordered by name. Views of groups to which nothing has happened are those
    /// of the last time, and so are all where nothing has happened to any.
    pub fn views(&mut self, attribution: &mut dyn Attribute) -> Arc<Vec<Arc<GroupView>>> {
        let Self { sockets, series, namespaces, clock, shown, .. } = self;
        shown.names.begin();
        let version = attribution.version();
        if shown.attribution != Some(version) || shown.clock != *clock {
            shown.touched.extend(series.groups.keys());
            (shown.attribution, shown.clock) = (Some(version), *clock);
        }
        let mut seen = 0;
        for (id, group) in &mut series.groups {
            let view = shown.views.get(id);
            let is_new = view.is_none();
            seen += usize::from(!is_new);
            // Of one that was touched this is not known yet.
            let is_open = view.is_some_and(|view| view.sockets > 0) && !shown.touched.contains(id);
            if is_open
                && group.key.place != Place::Other
                && shown.names.follow(&mut group.netns, group.key.netns, attribution)
            {
                shown.touched.insert(*id);
                shown.order.clear();
            }
            // Its members are of many namespaces, whose names are not followed one by one.
            if group.key.place == Place::Other || is_new {
                shown.touched.insert(*id);
            }
        }
        let has_gone = shown.views.len() > seen;
        if has_gone {
            shown.views.retain(|id, _| series.groups.contains_key(id));
        }
        if has_gone || !shown.touched.is_empty() {
            shown.renew(sockets, series, namespaces, *clock, attribution);
            shown.all = Arc::new(shown.ordered());
        }
        shown.touched.clear();
        shown.names.end();
        Arc::clone(&shown.all)
    }
}

/// What was shown last, and of which groups that does not hold any more.
#[derive(Debug, Default)]
pub(super) struct Shown {
    views: HashMap<GroupId, Arc<GroupView>>,
    /// What was made of them.
    all: Arc<Vec<Arc<GroupView>>>,
    touched: HashSet<GroupId>,
    /// By name; empty: not known.
    order: Vec<GroupId>,
    /// Whether two of them have one name.
    is_ambiguous: bool,
    names: Names,
    attribution: Option<u64>,
    clock: Clock,
}

impl Shown {
    /// Something has happened to a socket of this group.
    pub(super) fn touch(&mut self, group: Option<GroupId>) {
        self.touched.extend(group);
    }

    pub(super) fn touch_all(&mut self, groups: Vec<GroupId>) {
        self.touched.extend(groups);
    }

    /// Makes the views of the groups that were touched.
    fn renew(
        &mut self,
        sockets: &HashMap<ListenerKey, Socket>,
        series: &mut Series,
        namespaces: &Namespaces,
        clock: Clock,
        attribution: &mut dyn Attribute,
    ) {
        let mut by_group: Vec<_> = sockets
            .iter()
            .filter_map(|(key, socket)| Some((socket.group?, *key, socket)))
            .filter(|(group, ..)| self.touched.contains(group))
            .collect();
        // Within a group, the one that was seen first comes first.
        by_group.sort_unstable_by_key(|(group, key, _)| (*group, key.born_ns, key.sk));
        let mut touched: Vec<_> = self.touched.iter().copied().collect();
        touched.sort_unstable();
        let mut rest = by_group.as_slice();
        for id in touched {
            let ours = rest.partition_point(|(of, ..)| *of <= id);
            let sockets;
            (sockets, rest) = rest.split_at(ours);
            // It may have ended since.
            let Some(group) = series.groups.get_mut(&id) else { continue };
            let sockets = sockets.iter().map(|(_, key, socket)| (*key, *socket));
            // One that has no socket keeps the name that it had.
            if sockets.clone().any(|(_, socket)| socket.is_listening())
                && group.key.place != Place::Other
                && self.names.follow(&mut group.netns, group.key.netns, attribution)
            {
                self.order.clear();
            }
            let mut view = view(group, sockets.clone(), clock, attribution);
            if group.key.place == Place::Other {
                let listening = sockets.filter(|(_, socket)| socket.life != Life::Closed);
                for (member, (_, socket)) in view.members.iter_mut().zip(listening) {
                    if let Some(netns) = self.names.of(socket, namespaces, attribution) {
                        member.netns = netns;
                    }
                }
            }
            self.views.insert(id, Arc::new(view));
        }
    }

    /// One view per name: a namespace may be made again under the name of one that is gone,
    /// and a series must not be there twice, nor go back.
    fn ordered(&mut self) -> Vec<Arc<GroupView>> {
        let Self { views, order, is_ambiguous, .. } = self;
        if order.len() != views.len() || order.iter().any(|id| !views.contains_key(id)) {
            order.clear();
            order.extend(views.keys());
            order.sort_unstable_by(|a, b| {
                let (a, b) = (&views[a], &views[b]);
                by_name(a, b).then_with(|| a.key.netns.cmp(&b.key.netns))
            });
            let is_same = |pair: &[GroupId]| by_name(&views[&pair[0]], &views[&pair[1]]).is_eq();
            *is_ambiguous = order.windows(2).any(is_same);
        }
        if !*is_ambiguous {
            return order.iter().map(|id| Arc::clone(&views[id])).collect();
        }
        let mut merged: Vec<Arc<GroupView>> = Vec::with_capacity(order.len());
        for id in &*order {
            let view = &views[id];
            match merged.last_mut() {
                Some(kept) if by_name(kept, view).is_eq() => Arc::make_mut(kept).absorb(view),
                _ => merged.push(Arc::clone(view)),
            }
        }
        merged
    }
}

/// Names of namespaces, asked for once a reading. A name that stays is the same allocation.
#[derive(Debug, Default)]
struct Names {
    known: HashMap<NetnsInode, Name>,
    /// Asked for last: most groups are of the namespace of the one before.
    recent: Option<(NetnsInode, Arc<str>)>,
    by_id: HashMap<u64, Option<Arc<str>>>,
}

#[derive(Debug)]
struct Name {
    text: Arc<str>,
    is_current: bool,
}

impl Names {
    fn begin(&mut self) {
        self.known.values_mut().for_each(|name| name.is_current = false);
        self.recent = None;
    }

    /// Forgets what nobody has asked for.
    fn end(&mut self) {
        self.known.retain(|_, name| name.is_current);
        self.by_id.clear();
    }

    fn get(&mut self, netns: NetnsInode, attribution: &mut dyn Attribute) -> Arc<str> {
        let name = self
            .known
            .entry(netns)
            .or_insert_with(|| Name { text: attribution.netns(netns).into(), is_current: true });
        if !name.is_current {
            let text = attribution.netns(netns);
            if *name.text != *text {
                name.text = text.into();
            }
            name.is_current = true;
        }
        Arc::clone(&name.text)
    }

    /// Brings a name up to date; whether it was another one.
    fn follow(
        &mut self,
        name: &mut Arc<str>,
        netns: NetnsInode,
        attribution: &mut dyn Attribute,
    ) -> bool {
        let is_recent =
            |(of, text): &(NetnsInode, Arc<str>)| *of == netns && Arc::ptr_eq(text, name);
        if self.recent.as_ref().is_some_and(is_recent) {
            return false;
        }
        let now = self.get(netns, attribution);
        self.recent = Some((netns, Arc::clone(&now)));
        let is_another = !Arc::ptr_eq(name, &now) && **name != *now;
        if !Arc::ptr_eq(name, &now) {
            *name = now;
        }
        is_another
    }

    /// The name of one socket's namespace; `None`: nothing was read of it.
    fn of(
        &mut self,
        socket: &Socket,
        namespaces: &Namespaces,
        attribution: &mut dyn Attribute,
    ) -> Option<Arc<str>> {
        let id = socket.netns_id;
        if let Some(known) = self.by_id.get(&id) {
            return known.clone();
        }
        let mut inode = None;
        namespaces.settings(&std::iter::once(id).collect(), |netns| {
            inode = Some(netns);
            String::new()
        });
        let name = inode.map(|netns| self.get(netns, attribution));
        self.by_id.insert(id, name.clone());
        name
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
        counts: Arc::clone(&NOTHING),
        histograms: group.retained_histograms.clone(),
        owners: Vec::new(),
        started: None,
        backlog_requested: Some(0),
        members: Vec::new(),
    };
    let most = view.most_members();
    let mut oldest = Some(u64::MAX);
    let mut counts = group.retained.clone();
    for (key, socket) in sockets {
        series::add(&mut counts, Some(&socket.counts), Counts::add);
        series::add(&mut view.histograms, socket.histograms.as_ref(), Observations::add);
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
    if let Some(counts) = counts {
        view.counts = counts;
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
        defer_accept: socket.row.as_ref().map_or(0, |row| seconds(row.now.defer_accept)),
        counts: Arc::clone(&socket.counts),
    }
}

/// The time of so many SYN-ACKs, each after twice the time of the one before
/// (`retrans_to_secs`, net/ipv4/tcp.c, from `TCP_TIMEOUT_INIT` up to `TCP_RTO_MAX`).
fn seconds(retransmits: u32) -> u32 {
    (0..retransmits).map(|number| 1_u32.checked_shl(number).unwrap_or(120).min(120)).sum()
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

/// Most names are the same allocation.
fn by_name(a: &GroupView, b: &GroupView) -> Ordering {
    let netns =
        if Arc::ptr_eq(&a.netns, &b.netns) { Ordering::Equal } else { a.netns.cmp(&b.netns) };
    netns.then_with(|| a.key.place.cmp(&b.key.place))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1, 5 and 30 s are asked for by 1, 3 and 5 of them.
    #[test]
    fn retransmits_are_seconds() {
        assert_eq!([0, 1, 2, 3, 5].map(seconds), [0, 1, 3, 7, 31]);
        assert_eq!(seconds(9), 127 + 120 + 120);
        assert!(seconds(255) > 120 * 200);
    }
}
