//! The groups themselves: what they keep of sockets that are gone, and how long.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    engine::groups::placement::{self, Placement, Rules, Sighting},
    model::{
        counts::Counts,
        group::Folded,
        ids::{GroupKey, Place},
        observations::Observations,
        owner::SharedOwner,
    },
};

/// The namespace label of [`Place::Other`], which is of all namespaces.
const OTHER: &str = "~other";

/// Names a group for as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GroupId(u64);

#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    /// Of sockets that are gone.
    pub(super) retained: Option<Arc<Counts>>,
    /// Likewise.
    pub(super) retained_histograms: Option<Arc<Observations>>,
    /// Sockets in it, those included that have closed and for which more may come.
    sockets: usize,
    /// When it last had a socket.
    alive: Instant,
    /// Its namespace's name when it last had a socket. The kernel gives a namespace's
    /// number to the next one; what has ended keeps its name.
    pub(super) netns: Arc<str>,
    /// The owners that its sockets last had: whose the counters are when all have closed.
    pub(super) owners: Vec<SharedOwner>,
}

/// All groups.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) rules: Rules,
    retention: Duration,
    /// In the order in which they were made.
    pub(super) groups: BTreeMap<GroupId, Group>,
    ids: HashMap<GroupKey, GroupId>,
    next: u64,
    pub(super) folded: Folded,
}

impl Series {
    pub(super) fn new(rules: Rules, retention: Duration) -> Self {
        Self {
            rules,
            retention,
            groups: BTreeMap::new(),
            ids: HashMap::new(),
            next: 0,
            folded: Folded::default(),
        }
    }

    /// Finds the group of a socket that is first seen; `None`: it is excluded.
    pub(super) fn place(&mut self, sighting: &Sighting<'_>, now: Instant) -> Option<GroupId> {
        let own = self.ids.len() - usize::from(self.ids.contains_key(&placement::other()));
        let key = match self.rules.place(sighting, own, |key| self.ids.contains_key(key)) {
            Placement::Group(key) => key,
            Placement::Excluded => {
                self.folded.excluded += 1;
                return None;
            }
        };
        let netns = match key.place {
            Place::Address { .. } => sighting.netns_name,
            Place::Ephemeral { .. } => {
                self.folded.ephemeral += 1;
                sighting.netns_name
            }
            Place::Other => {
                self.folded.other += 1;
                OTHER
            }
        };
        let Self { groups, ids, next, .. } = self;
        let id = *ids.entry(key.clone()).or_insert_with(|| {
            *next += 1;
            GroupId(*next)
        });
        let group = groups.entry(id).or_insert_with(|| Group {
            key,
            retained: None,
            retained_histograms: None,
            sockets: 0,
            alive: now,
            netns: netns.into(),
            owners: Vec::new(),
        });
        group.sockets += 1;
        group.alive = now;
        Some(id)
    }

    /// A socket is gone: its counters and histograms stay.
    pub(super) fn leave(
        &mut self,
        id: GroupId,
        counts: &Arc<Counts>,
        histograms: Option<&Arc<Observations>>,
    ) {
        if let Some(group) = self.groups.get_mut(&id) {
            add(&mut group.retained, Some(counts), Counts::add);
            add(&mut group.retained_histograms, histograms, Observations::add);
            group.sockets -= 1;
        }
    }

    /// Drops groups that have had no socket for their time; those that inherit from them have
    /// changed.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<GroupId> {
        let mut expired = Vec::new();
        for (id, group) in &mut self.groups {
            if group.sockets > 0 {
                group.alive = now;
            } else if now.duration_since(group.alive) >= self.retention {
                expired.push(*id);
            }
        }
        let expired: Vec<_> = expired.iter().filter_map(|id| self.groups.remove(id)).collect();
        for group in &expired {
            self.ids.remove(&group.key);
        }
        self.bequeath(&expired)
    }

    /// Groups of one name are one series, which must not go back when one of them ends:
    /// what it had goes to another one.
    fn bequeath(&mut self, expired: &[Group]) -> Vec<GroupId> {
        let mut changed = Vec::new();
        if expired.is_empty() {
            return changed;
        }
        let name = |group: &Group| (Arc::clone(&group.netns), group.key.place.clone());
        let heirs: HashMap<_, _> =
            self.groups.iter().map(|(id, group)| (name(group), *id)).collect();
        for group in expired {
            let Some(id) = heirs.get(&name(group)) else { continue };
            if let Some(heir) = self.groups.get_mut(id) {
                changed.push(*id);
                add(&mut heir.retained, group.retained.as_ref(), Counts::add);
                let histograms = group.retained_histograms.as_ref();
                add(&mut heir.retained_histograms, histograms, Observations::add);
            }
        }
        changed
    }
}

/// Adds counters or histograms; those of one socket alone are not copied.
pub(super) fn add<T: Clone>(sum: &mut Option<Arc<T>>, more: Option<&Arc<T>>, add: fn(&mut T, &T)) {
    let Some(more) = more else { return };
    match sum {
        Some(sum) => add(Arc::make_mut(sum), more),
        None => *sum = Some(Arc::clone(more)),
    }
}
