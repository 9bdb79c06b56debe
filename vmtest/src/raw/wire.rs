//! A far end of a namespace's loopback: addresses that are routed to it and belong
//! to nobody, so that what is sent there vanishes and nothing answers by itself.
//!
//! Clients of the kernel, or raw ones with an address of the machine, would answer a
//! SYN-ACK by an ACK or a RST. What a request does while nobody answers, or the wrong
//! thing is answered, can only be seen from here.

use std::{
    io,
    mem::{size_of, zeroed},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    packet::{Flags, Segment},
    peer::Peer,
};
use crate::{netns::Netns, routes, wait};

/// Outside of the range that the kernel gives to clients of its own.
const FIRST_PORT: u16 = 20_001;

/// The loopback interface is the first of every namespace.
const LOOPBACK: i32 = 1;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// `PACKET_OUTGOING` of `linux/if_packet.h`: our own copy of what loopback sends.
const OUTGOING: u8 = 4;

/// The far end of one namespace's loopback.
#[derive(Debug)]
pub struct Wire {
    v4: Socket,
    v6: Socket,
    tap: OwnedFd,
    next_port: AtomicU16,
}

impl Wire {
    /// Routes the far end's addresses, and opens what sends and listens there.
    pub fn new(netns: &Netns) -> Result<Self> {
        netns.run(|| {
            routes::to_nobody_v4(Ipv4Addr::new(10, 0, 0, 0), 8)?;
            routes::to_nobody_v6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0), 8)?;
            // With IPPROTO_RAW the IP header is ours to write.
            let raw = |domain| {
                let protocol = Protocol::from(libc::IPPROTO_RAW);
                Socket::new(domain, Type::from(libc::SOCK_RAW), Some(protocol))
                    .context("cannot make a raw socket")
            };
            let tap = tap().context("cannot make a packet socket")?;
            let (v4, v6) = (raw(Domain::IPV4)?, raw(Domain::IPV6)?);
            Ok(Self { v4, v6, tap, next_port: AtomicU16::new(FIRST_PORT) })
        })
    }

    /// A new client of `listener`, with a port of its own.
    pub fn peer(&self, listener: SocketAddr) -> Peer<'_> {
        self.peer_at(listener, far_address(listener))
    }

    /// As [`Wire::peer`], with another address.
    pub fn peer_at(&self, listener: SocketAddr, address: IpAddr) -> Peer<'_> {
        let port = self.next_port.fetch_add(1, Ordering::Relaxed);
        Peer::new(self, SocketAddr::new(address, port), listener)
    }

    /// Sends a packet as a socket's own would go: routed here, delivered as routed.
    pub fn send(&self, packet: &[u8], to: IpAddr) -> Result<()> {
        let socket = match to {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        socket
            .send_to(packet, &SocketAddr::new(to, 0).into())
            .with_context(|| format!("cannot send a packet to {to}"))?;
        Ok(())
    }

    /// Sends a packet as if it came out of a cable: for this machine, whatever its IP
    /// destination, which is only looked up on arrival.
    pub fn inject(&self, packet: &[u8], to: IpAddr) -> Result<()> {
        let protocol = match to {
            IpAddr::V4(_) => libc::ETH_P_IP,
            IpAddr::V6(_) => libc::ETH_P_IPV6,
        };
        // SAFETY: plain integers and bytes, for which all-zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET)?;
        address.sll_protocol = u16::try_from(protocol)?.to_be();
        address.sll_ifindex = LOOPBACK;
        // The hardware address of loopback is all zero.
        address.sll_halen = 6;
        // SAFETY: both pointers and lengths describe live values.
        let sent = unsafe {
            libc::sendto(
                self.tap.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error()).context("cannot inject a packet");
        }
        Ok(())
    }

    /// Waits for the SYN-ACK from `listener` to `client`: its sequence number.
    pub(super) fn syn_ack(&self, listener: SocketAddr, client: SocketAddr) -> Result<u32> {
        wait::until(&format!("a SYN-ACK to {client}"), ANSWER_WITHIN, || {
            let mut buffer = [0; 2048];
            while let Some(packet) = self.receive(&mut buffer)? {
                if let Some(sequence) = syn_ack_of(packet, listener.port(), client.port()) {
                    return Ok(Some(sequence));
                }
            }
            Ok(None)
        })
    }

    /// The next packet that arrived on loopback, from its IP header on.
    fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
        loop {
            // SAFETY: plain integers and bytes, for which all-zero is valid.
            let mut from: libc::sockaddr_ll = unsafe { zeroed() };
            let mut size = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?;
            // SAFETY: both pointers and lengths describe live values.
            let received = unsafe {
                libc::recvfrom(
                    self.tap.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                    (&raw mut from).cast(),
                    &raw mut size,
                )
            };
            match usize::try_from(received) {
                Ok(_) if from.sll_pkttype == OUTGOING => {}
                Ok(received) => return Ok(Some(&buffer[..received])),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() == io::ErrorKind::WouldBlock {
                        return Ok(None);
                    }
                    return Err(error).context("cannot receive from a packet socket");
                }
            }
        }
    }
}

/// Where clients of `listener` are, unless they are to be elsewhere.
fn far_address(listener: SocketAddr) -> IpAddr {
    match listener.ip() {
        IpAddr::V4(_) => Ipv4Addr::new(10, 0, 0, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}

fn tap() -> io::Result<OwnedFd> {
    let everything = i32::from(u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?.to_be());
    let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointer is passed; the result is checked before it is owned.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, kind, everything);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The sequence number, if the packet is a SYN-ACK between these ports.
fn syn_ack_of(packet: &[u8], from: u16, to: u16) -> Option<u32> {
    let header = match packet.first()? >> 4 {
        4 => usize::from(packet[0] & 0xf) * 4,
        _ => 40,
    };
    let segment = packet.get(header..)?;
    let word = |at: usize| Some(u16::from_be_bytes(segment.get(at..at + 2)?.try_into().ok()?));
    let ours = word(0)? == from && word(2)? == to && *segment.get(13)? == Flags::SynAck.bits();
    let sequence = u32::from_be_bytes(segment.get(4..8)?.try_into().ok()?);
    ours.then_some(sequence)
}

impl Wire {
    /// Sends a segment.
    pub(super) fn segment(&self, segment: &Segment<'_>) -> Result<()> {
        self.send(&segment.packet(), segment.to.ip())
    }
}
