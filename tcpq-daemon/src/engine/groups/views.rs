//! What is shown of the groups.

use std::collections::{BTreeMap, HashMap, btree_map::Entry};

use tcpq_common::iterator::DropCounters;

use crate::{
    engine::{
        derive::Life,
        groups::{Groups, add},
    },
    model::{
        group::{GroupView, Queue},
        ids::{GroupKey, NetnsInode, Place},
    },
};

impl Groups {
    /// Overflows and drops of all listeners, gone ones included, by namespace.
    pub fn drops_by_netns(&self) -> HashMap<u64, DropCounters> {
        let mut sums = self.past_drops.clone();
        for socket in self.sockets.values() {
            add(sums.entry(socket.netns_id).or_insert(DropCounters::ZERO), socket);
        }
        sums
    }

    /// Every group, ordered; `name` names a namespace.
    pub fn views(&mut self, mut name: impl FnMut(NetnsInode) -> String) -> Vec<GroupView> {
        let mut views: BTreeMap<GroupKey, GroupView> = BTreeMap::new();
        for (key, group) in &self.by_key {
            let view = GroupView {
                key: key.clone(),
                netns: group.netns.clone().unwrap_or_default(),
                sockets: 0,
                accept_queue: Queue::default(),
                syn_queue: Queue::default(),
                counts: group.retained,
                owners: Vec::new(),
                started: None,
                backlog_requested: None,
                members: Vec::new(),
            };
            views.insert(key.clone(), view);
        }
        for socket in self.sockets.values() {
            let Some(view) = views.get_mut(&socket.group) else { continue };
            view.counts = view.counts.plus(socket.counts);
            if socket.life == Life::Listening {
                view.sockets += 1;
                view.accept_queue = view.accept_queue.plus(socket.accept_queue);
                view.syn_queue = view.syn_queue.plus(socket.syn_queue);
            }
        }
        for (view, group) in views.values_mut().zip(self.by_key.values_mut()) {
            if view.sockets > 0 || group.netns.is_none() {
                view.netns = name(view.key.netns);
                group.netns = Some(view.netns.clone());
            }
        }
        merged(views.into_values().collect())
    }
}

/// One view per name: a namespace may be made again under the name of one that is gone,
/// and a series must not be there twice, nor go back.
fn merged(views: Vec<GroupView>) -> Vec<GroupView> {
    let mut by_name: BTreeMap<(String, Place), GroupView> = BTreeMap::new();
    for view in views {
        match by_name.entry((view.netns.clone(), view.key.place.clone())) {
            Entry::Vacant(entry) => {
                entry.insert(view);
            }
            Entry::Occupied(mut entry) => entry.get_mut().absorb(&view),
        }
    }
    by_name.into_values().collect()
}
