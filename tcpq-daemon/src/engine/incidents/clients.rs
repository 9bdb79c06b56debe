//! Who was refused, in bounded memory: how many, how often, from where.

mod distinct;
mod heavy;

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    engine::incidents::clients::{distinct::Distinct, heavy::Heavy},
    model::incident::evidence::{Clients, PrefixCount},
};

/// Connections whose tries are told apart.
const CONNECTIONS: usize = 4096;

/// Networks that are counted at the same time.
const NETWORKS: usize = 64;

/// Networks that are told.
const TOLD: usize = 8;

/// Why it is not known who got in at last.
const OUTCOME: &str = "who got in at a later try and who gave up is not known: the kernel side \
                       tells the client of a refusal, not of an accepted connection";

/// Who was refused in one episode: 100 KiB at most.
#[derive(Debug)]
pub(super) struct Crowd {
    refusals: u64,
    addresses: Distinct,
    connections: Distinct,
    networks: Heavy<(IpAddr, u8)>,
    /// Refusals of a connection, of the first that came.
    tries: HashMap<(IpAddr, u16), u32>,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            refusals: 0,
            addresses: Distinct::default(),
            connections: Distinct::default(),
            networks: Heavy::new(NETWORKS),
            tries: HashMap::new(),
        }
    }
}

impl Crowd {
    /// One refusal.
    pub(super) fn refused(&mut self, address: IpAddr, port: u16) {
        let address = address.to_canonical();
        self.refusals += 1;
        self.addresses.add(&address);
        self.connections.add(&(address, port));
        self.networks.add(network(address));
        let room = self.tries.len() < CONNECTIONS;
        match self.tries.entry((address, port)) {
            Entry::Occupied(mut tries) => *tries.get_mut() += 1,
            Entry::Vacant(entry) if room => {
                entry.insert(1);
            }
            Entry::Vacant(_) => {}
        }
    }

    /// What is known of them.
    pub(super) fn told(&self) -> Clients {
        let prefixes = self.networks.most(TOLD).into_iter().map(|(network, refusals, error)| {
            let (address, length) = network;
            PrefixCount { prefix: format!("{address}/{length}"), refusals, error }
        });
        Clients::Yes {
            refusals: self.refusals,
            addresses: self.addresses.count(),
            connections: self.connections.count(),
            retried: self.tries.values().filter(|tries| **tries > 1).count() as u64,
            prefixes: prefixes.collect(),
            outcome: OUTCOME.to_owned(),
        }
    }

    /// Whether nobody was refused.
    pub(super) const fn is_empty(&self) -> bool {
        self.refusals == 0
    }
}

/// The network that an address is of: /24 of IPv4, /56 of IPv6, which is what one customer
/// usually has.
fn network(address: IpAddr) -> (IpAddr, u8) {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            (Ipv4Addr::new(a, b, c, 0).into(), 24)
        }
        IpAddr::V6(address) => {
            let kept = address.to_bits() & (u128::MAX << (128 - 56));
            (Ipv6Addr::from_bits(kept).into(), 56)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_of_one_connection_are_told_from_many_clients() {
        let mut crowd = Crowd::default();
        for port in 1..=10 {
            crowd.refused(IpAddr::from([192, 0, 2, 1]), port);
        }
        for _ in 0..3 {
            crowd.refused(IpAddr::from([198, 51, 100, 7]), 4000);
        }
        let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        crowd.refused(mapped.into(), 1);
        let Clients::Yes { refusals, addresses, connections, retried, prefixes, .. } = crowd.told()
        else {
            panic!("nobody")
        };
        assert_eq!((refusals, addresses, connections, retried), (14, 2, 11, 2));
        let told: Vec<_> = prefixes.iter().map(|it| (&*it.prefix, it.refusals)).collect();
        assert_eq!(told, [("192.0.2.0/24", 11), ("198.51.100.0/24", 3)]);
    }

    #[test]
    fn networks_are_what_one_customer_has() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("203.0.113.77"), (IpAddr::from([203, 0, 113, 0]), 24));
        assert_eq!(of("2001:db8:1:2345:6::7"), ("2001:db8:1:2300::".parse().unwrap(), 56));
    }
}
