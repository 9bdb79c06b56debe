//! Routes of the calling thread's namespace, as `ip route` makes them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, ensure};

use crate::netlink;

/// The loopback interface is the first of every namespace.
const LOOPBACK: u32 = 1;

/// What becomes of packets to a route's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// They are sent on loopback.
    ByLoopback,
    /// They are refused.
    Blackhole,
}

/// Sends what goes to these addresses to loopback, where it is nobody's.
pub fn to_nobody_v4(network: Ipv4Addr, prefix: u8) -> Result<()> {
    by_netlink(Kind::ByLoopback, network.into(), prefix)
        .with_context(|| format!("cannot route {network}/{prefix} to nobody"))
}

/// The same for IPv6, which takes such a route only by the old way, as one of many
/// receivers: any other route to loopback it turns into a refusal.
pub fn to_nobody_v6(network: Ipv6Addr, prefix: u8) -> Result<()> {
    by_ioctl(network, prefix).with_context(|| format!("cannot route {network}/{prefix} to nobody"))
}

/// Leaves no way to these addresses.
pub fn no_way_to(network: IpAddr, prefix: u8) -> Result<()> {
    by_netlink(Kind::Blackhole, network, prefix)
        .with_context(|| format!("cannot make {network}/{prefix} a black hole"))
}

/// `struct in6_rtmsg` of `linux/ipv6_route.h`.
#[repr(C)]
struct In6Route {
    destination: [u8; 16],
    source: [u8; 16],
    gateway: [u8; 16],
    kind: u32,
    destination_length: u16,
    source_length: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    interface: i32,
}

/// `RTF_UP` and `RTF_ANYCAST`.
const UP: u32 = 1;
const ANYCAST: u32 = 0x0010_0000;

fn by_ioctl(network: Ipv6Addr, prefix: u8) -> Result<()> {
    let socket = netlink::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
    let route = In6Route {
        destination: network.octets(),
        source: [0; 16],
        gateway: [0; 16],
        kind: 0,
        destination_length: prefix.into(),
        source_length: 0,
        metric: 1024,
        info: 0,
        flags: UP | ANYCAST,
        interface: i32::try_from(LOOPBACK)?,
    };
    // SAFETY: the kernel reads one `struct in6_rtmsg`, which `route` is.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) };
    ensure!(answer == 0, "{}", io::Error::last_os_error());
    Ok(())
}

fn by_netlink(kind: Kind, network: IpAddr, prefix: u8) -> Result<()> {
    const RTN_UNICAST: u8 = 1;
    const RTN_BLACKHOLE: u8 = 6;
    const RTPROT_BOOT: u8 = 3;
    const SCOPE_LINK: u8 = 253;
    const SCOPE_UNIVERSE: u8 = 0;
    const MAIN_TABLE: u8 = 254;
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    let (family, address) = match network {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let (kind, scope) = match kind {
        Kind::ByLoopback => (RTN_UNICAST, SCOPE_LINK),
        Kind::Blackhole => (RTN_BLACKHOLE, SCOPE_UNIVERSE),
    };
    // `struct rtmsg`
    let mut body =
        vec![u8::try_from(family)?, prefix, 0, 0, MAIN_TABLE, RTPROT_BOOT, scope, kind, 0, 0, 0, 0];
    netlink::attribute(&mut body, RTA_DST, &address);
    if kind == RTN_UNICAST {
        netlink::attribute(&mut body, RTA_OIF, &LOOPBACK.to_ne_bytes());
    }
    netlink::request(libc::NETLINK_ROUTE, libc::RTM_NEWROUTE, CREATE, &body)
}

const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
