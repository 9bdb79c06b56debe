//! What things are called.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use serde::Serialize;
use tcpq_common::AF_INET6;

/// Inode number of a network namespace: its identity while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct NetnsInode(pub u32);

impl fmt::Display for NetnsInode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A listener group: the sockets that share one set of series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey {
    /// Where it listens; 0 for [`Place::Other`].
    pub netns: NetnsInode,
    /// What of it is a group.
    pub place: Place,
}

/// What makes sockets of one namespace one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// One address and port, as `SO_REUSEPORT` shares them.
    Address {
        /// On which address; unspecified for a wildcard.
        address: IpAddr,
        /// On which port.
        port: u16,
    },
    /// All ephemeral ports of one process's name; empty: not known.
    Ephemeral {
        /// The name.
        process: Arc<str>,
    },
    /// Groups beyond the limit, of all namespaces.
    Other,
}

impl Place {
    /// The value of the label `address`.
    pub fn address(&self) -> String {
        match self {
            Self::Address { address, .. } => address.to_string(),
            Self::Ephemeral { process } if process.is_empty() => "~unknown".to_owned(),
            Self::Ephemeral { process } => format!("~{process}"),
            Self::Other => "~other".to_owned(),
        }
    }

    /// The value of the label `port`.
    pub fn port(&self) -> String {
        match self {
            Self::Address { port, .. } => port.to_string(),
            Self::Ephemeral { .. } => "~ephemeral".to_owned(),
            Self::Other => "~other".to_owned(),
        }
    }
}

/// Decodes a wire address: IPv4 in the first four bytes, network order.
pub fn address(family: u16, bytes: [u8; 16]) -> IpAddr {
    if family == AF_INET6 {
        return IpAddr::V6(Ipv6Addr::from(bytes));
    }
    let [a, b, c, d, ..] = bytes;
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}
