//! What things are called.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
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

/// A listener group: every listening socket of one (namespace, address, port),
/// as `SO_REUSEPORT` makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey {
    /// Where it listens.
    pub netns: NetnsInode,
    /// On which address; unspecified for a wildcard.
    pub address: IpAddr,
    /// On which port.
    pub port: u16,
}

/// Decodes a wire address: IPv4 in the first four bytes, network order.
pub fn address(family: u16, bytes: [u8; 16]) -> IpAddr {
    if family == AF_INET6 {
        return IpAddr::V6(Ipv6Addr::from(bytes));
    }
    let [a, b, c, d, ..] = bytes;
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}
