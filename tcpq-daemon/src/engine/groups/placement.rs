//! Into which series a socket goes: decided once, at its first sight, for its life. So a
//! counter never goes back because a name, an owner or the number of groups has changed.

use std::{net::IpAddr, sync::Arc};

use crate::model::{
    filter::{Filters, Subject},
    ids::{GroupKey, NetnsInode, Place},
    owner::Owner,
};

/// `net.ipv4.ip_local_port_range` as the kernel has it in a new namespace: taken where
/// none was read, because the listener had closed before.
pub(super) const DEFAULT_EPHEMERAL_PORTS: [u16; 2] = [32768, 60999];

/// The name that stands for an unknown process in labels (`~unknown`).
const UNKNOWN: &str = "unknown";

/// How sockets are placed.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What becomes of listeners on ephemeral ports.
    pub ephemeral: EphemeralPorts,
    /// Groups with series of their own at most; what is beyond them shares one.
    pub max_groups: usize,
    /// Which listeners are shown at all.
    pub filters: Filters,
}

/// What becomes of listeners on ephemeral ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EphemeralPorts {
    /// They share one group for each namespace and process.
    #[default]
    Fold,
    /// Each port is a group, as others are.
    Keep,
}

impl Rules {
    /// Every address and port is a group, and all are shown.
    pub fn plain() -> Self {
        Self {
            ephemeral: EphemeralPorts::Keep,
            max_groups: usize::MAX,
            filters: Filters::default(),
        }
    }
}

/// What is known of a socket when it is first seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting<'a> {
    pub(super) netns: NetnsInode,
    pub(super) netns_name: &'a str,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// The namespace's; first and last.
    pub(super) ephemeral_ports: [u16; 2],
    pub(super) owner: &'a Owner,
}

/// Where a socket goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// Into this group.
    Group(GroupKey),
    /// Nowhere: a filter keeps it out.
    Excluded,
}

impl Rules {
    /// Decides. `groups`: how many there are with series of their own; `is_known`: whether
    /// a group is among them, if only with counters of sockets that are gone.
    pub(super) fn place(
        &self,
        sighting: &Sighting<'_>,
        groups: usize,
        is_known: impl FnOnce(&GroupKey) -> bool,
    ) -> Placement {
        let Sighting { netns, netns_name, address, port, owner, .. } = *sighting;
        if !self.filters.admit(&Subject { address, port, netns: netns_name, owner }) {
            return Placement::Excluded;
        }
        let place = match self.ephemeral {
            EphemeralPorts::Fold if is_ephemeral(sighting) => {
                Place::Ephemeral { process: process(owner) }
            }
            EphemeralPorts::Fold | EphemeralPorts::Keep => Place::Address { address, port },
        };
        let key = GroupKey { netns, place };
        Placement::Group(if groups < self.max_groups || is_known(&key) { key } else { other() })
    }
}

/// The group of what is beyond the limit, of all namespaces.
pub(super) fn other() -> GroupKey {
    GroupKey { netns: NetnsInode(0), place: Place::Other }
}

fn is_ephemeral(Sighting { port, ephemeral_ports: [first, last], .. }: &Sighting<'_>) -> bool {
    (first..=last).contains(&port)
}

/// A process that is called `unknown` is in the group of the unknown ones: its label would
/// be theirs, and a series must not be there twice.
fn process(owner: &Owner) -> Arc<str> {
    owner.process.as_deref().filter(|name| *name != UNKNOWN).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: [u16; 2] = [32768, 60999];

    fn rules() -> Rules {
        Rules { ephemeral: EphemeralPorts::Fold, max_groups: 3, filters: Filters::default() }
    }

    fn owner(process: Option<&str>) -> Owner {
        Owner { process: process.map(str::to_owned), ..Owner::default() }
    }

    fn place(rules: &Rules, port: u16, owner: &Owner, groups: usize, known: &[u16]) -> Placement {
        let sighting = Sighting {
            netns: NetnsInode(7),
            netns_name: "web",
            address: IpAddr::from([127, 0, 0, 1]),
            port,
            ephemeral_ports: RANGE,
            owner,
        };
        rules.place(&sighting, groups, |key| match key.place {
            Place::Address { port, .. } => known.contains(&port),
            Place::Ephemeral { .. } => known.contains(&0),
            Place::Other => false,
        })
    }

    fn address(port: u16) -> Placement {
        let place = Place::Address { address: IpAddr::from([127, 0, 0, 1]), port };
        Placement::Group(GroupKey { netns: NetnsInode(7), place })
    }

    fn ephemeral(process: &str) -> Placement {
        let place = Place::Ephemeral { process: process.into() };
        Placement::Group(GroupKey { netns: NetnsInode(7), place })
    }

    #[test]
    fn ports_of_the_range_are_folded_by_process() {
        let node = owner(Some("node"));
        for (port, expected) in [
            (80, address(80)),
            (32767, address(32767)),
            (32768, ephemeral("node")),
            (50051, ephemeral("node")),
            (60999, ephemeral("node")),
            (61000, address(61000)),
            (65535, address(65535)),
        ] {
            assert_eq!(place(&rules(), port, &node, 0, &[]), expected, "{port}");
            let keep = Rules { ephemeral: EphemeralPorts::Keep, ..rules() };
            assert_eq!(place(&keep, port, &node, 0, &[]), address(port), "{port}");
        }
    }

    #[test]
    fn an_unknown_process_and_one_of_that_name_are_one_group() {
        for process in [None, Some(""), Some("unknown")] {
            assert_eq!(place(&rules(), 40000, &owner(process), 0, &[]), ephemeral(""));
        }
        assert_eq!(place(&rules(), 40000, &owner(Some("~")), 0, &[]), ephemeral("~"));
    }

    #[test]
    fn beyond_the_limit_only_known_groups_keep_their_series() {
        let beyond = Placement::Group(other());
        let node = owner(Some("node"));
        for (port, groups, known, expected) in [
            (80, 2, &[][..], address(80)),
            (80, 3, &[], beyond.clone()),
            (80, 3, &[81], beyond.clone()),
            (80, 3, &[80], address(80)),
            (40000, 2, &[], ephemeral("node")),
            (40000, 3, &[], beyond.clone()),
            (40000, 3, &[0], ephemeral("node")),
        ] {
            assert_eq!(place(&rules(), port, &node, groups, known), expected, "{port} {groups}");
        }
    }

    #[test]
    fn what_is_filtered_out_is_in_no_group_and_takes_no_room() {
        let patterns = |text: &str| text.parse::<crate::model::filter::Patterns>().unwrap().0;
        let filters = Filters {
            include: patterns("netns:web"),
            exclude: patterns("port:40000 process:ssh*"),
        };
        let rules = Rules { filters, ..rules() };
        for (port, process, groups, expected) in [
            (80, "nginx", 0, address(80)),
            (80, "sshd", 0, Placement::Excluded),
            (80, "sshd", 3, Placement::Excluded),
            (40000, "node", 0, Placement::Excluded),
            (40001, "node", 0, ephemeral("node")),
        ] {
            let owner = owner(Some(process));
            assert_eq!(place(&rules, port, &owner, groups, &[]), expected, "{port} {process}");
        }
    }

    #[test]
    fn an_odd_range_folds_nothing_that_is_not_in_it() {
        let owner = owner(None);
        for (range, port, expected) in [
            ([0, 0], 80, address(80)),
            ([60999, 32768], 40000, address(40000)),
            ([1, 65535], 80, ephemeral("")),
            ([80, 80], 80, ephemeral("")),
        ] {
            let sighting = Sighting {
                netns: NetnsInode(7),
                netns_name: "web",
                address: IpAddr::from([127, 0, 0, 1]),
                port,
                ephemeral_ports: range,
                owner: &owner,
            };
            assert_eq!(rules().place(&sighting, 0, |_| false), expected, "{range:?}");
        }
    }
}
