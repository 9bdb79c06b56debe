//! SYNs of clients that do not exist, each with an address of its own, as fast as
//! the kernel takes them.
//!
//! They come from 10.0.0.0/8 by the loopback interface. A route sends the answers
//! into the void: no SYN-ACK arrives anywhere, and no RST comes back for it.

use std::{
    fs, io,
    mem::{size_of, zeroed},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// Packets handed to the kernel in one system call.
const BATCH: usize = 128;

/// An IPv4 and a TCP header, both without options.
const PACKET: usize = 40;

/// Where things are in the packet.
const SOURCE_AT: usize = 12;
const DESTINATION_AT: usize = 16;
const TCP_AT: usize = 20;
const SEQUENCE_AT: usize = TCP_AT + 4;
const CHECKSUM_AT: usize = TCP_AT + 16;

/// A source of spoofed SYNs to one listener.
#[derive(Debug)]
pub struct Flood {
    socket: Socket,
    to: SocketAddrV4,
    /// Clients invented so far.
    clients: u32,
}

impl Flood {
    /// For a listener in `netns`, whose answers to 10.0.0.0/8 are then lost.
    pub fn new(netns: &Netns, to: SocketAddrV4) -> Result<Self> {
        let socket = netns.run(|| {
            lose_answers().context("cannot route 10.0.0.0/8 into the void")?;
            let raw = Type::from(libc::SOCK_RAW);
            // IPPROTO_RAW: headers are ours, and nothing is received.
            Socket::new(Domain::IPV4, raw, Some(Protocol::from(libc::IPPROTO_RAW)))
                .context("cannot make a raw socket")
        })?;
        Ok(Self { socket, to, clients: 0 })
    }

    /// Sends `count` SYNs, each of another client.
    pub fn send(&mut self, count: usize) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let batch = left.min(BATCH);
            let packets: Vec<_> = (0..batch).map(|_| self.next_packet()).collect();
            self.send_all(&packets).context("cannot send SYNs")?;
            left -= batch;
        }
        Ok(())
    }

    /// Sends the same packet, of no invented client, so many times.
    pub fn repeat(&self, packet: &[u8], count: usize) -> Result<()> {
        let packet: [u8; PACKET] = packet.try_into().context("a segment without options")?;
        let mut left = count;
        while left > 0 {
            let batch = left.min(BATCH);
            self.send_all(&vec![packet; batch]).context("cannot send segments")?;
            left -= batch;
        }
        Ok(())
    }

    fn next_packet(&mut self) -> [u8; PACKET] {
        let client = self.clients;
        self.clients = client.wrapping_add(1);
        // 10.0.0.0/8 has 2^24 addresses; then another port.
        let [turn, a, b, c] = client.to_be_bytes();
        syn(Ipv4Addr::new(10, a, b, c), 20_000 + u16::from(turn), self.to, client)
    }

    fn send_all(&self, packets: &[[u8; PACKET]]) -> io::Result<()> {
        // A raw socket takes the port for nothing.
        let to = socket2::SockAddr::from(SocketAddrV4::new(*self.to.ip(), 0));
        let mut parts: Vec<libc::iovec> = packets
            .iter()
            .map(|packet| libc::iovec {
                iov_base: packet.as_ptr().cast_mut().cast(),
                iov_len: PACKET,
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: integers and pointers, for which all-zero is valid.
                let mut message: libc::mmsghdr = unsafe { zeroed() };
                message.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
                message.msg_hdr.msg_namelen = to.len();
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let mut rest = messages.as_mut_slice();
        while !rest.is_empty() {
            let count = u32::try_from(rest.len()).map_err(io::Error::other)?;
            // SAFETY: the messages, and what they point to, live in this function.
            let sent =
                unsafe { libc::sendmmsg(self.socket.as_raw_fd(), rest.as_mut_ptr(), count, 0) };
            let Ok(sent) = usize::try_from(sent) else {
                return Err(io::Error::last_os_error());
            };
            rest = &mut rest[sent..];
        }
        Ok(())
    }
}

/// A SYN of `from`, with both checksums.
fn syn(from: Ipv4Addr, port: u16, to: SocketAddrV4, sequence: u32) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    // Version 4, five words of header. The kernel fills in length, id and checksum.
    packet[0] = 0x45;
    // Time to live, protocol TCP.
    packet[8] = 64;
    packet[9] = 6;
    packet[SOURCE_AT..SOURCE_AT + 4].copy_from_slice(&from.octets());
    packet[DESTINATION_AT..DESTINATION_AT + 4].copy_from_slice(&to.ip().octets());
    packet[TCP_AT..TCP_AT + 2].copy_from_slice(&port.to_be_bytes());
    packet[TCP_AT + 2..TCP_AT + 4].copy_from_slice(&to.port().to_be_bytes());
    packet[SEQUENCE_AT..SEQUENCE_AT + 4].copy_from_slice(&sequence.to_be_bytes());
    // Five words of header; the flag SYN; a window.
    packet[TCP_AT + 12] = 5 << 4;
    packet[TCP_AT + 13] = 0x02;
    packet[TCP_AT + 14..TCP_AT + 16].copy_from_slice(&u16::MAX.to_be_bytes());
    let checksum = tcp_checksum(&packet);
    packet[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
    packet
}

fn tcp_checksum(packet: &[u8; PACKET]) -> u16 {
    // The pseudo header: both addresses, the protocol (6), the length (20).
    let mut sum: u32 = packet[SOURCE_AT..]
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum::<u32>()
        + 6
        + 20;
    while let carry @ 1.. = sum >> 16 {
        sum = (sum & 0xffff) + carry;
    }
    // The loop above left 16 bits.
    !u16::try_from(sum).unwrap_or(0)
}

/// A route to 10.0.0.0/8 over the loopback interface: what takes it comes back in
/// with a route that was made for output, and is discarded. (A blackhole would have
/// the kernel refuse the SYN for want of a route for the answer.)
fn lose_answers() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: integers and pointers, for which all-zero is valid.
    let mut route: libc::rtentry = unsafe { zeroed() };
    route.rt_dst = address([10, 0, 0, 0]);
    route.rt_genmask = address([255, 0, 0, 0]);
    route.rt_flags = libc::RTF_UP;
    let device = c"lo";
    route.rt_dev = device.as_ptr().cast_mut();
    // SAFETY: the route and the name in it outlive the call, which only reads them.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // Another flood in this namespace has done it.
    if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

fn address(octets: [u8; 4]) -> libc::sockaddr {
    // SAFETY: integers only, for which all-zero is valid.
    let mut address: libc::sockaddr_in = unsafe { zeroed() };
    address.sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default();
    address.sin_addr.s_addr = u32::from_ne_bytes(octets);
    const { assert!(size_of::<libc::sockaddr_in>() == size_of::<libc::sockaddr>()) };
    // SAFETY: same size, and any bytes are a valid sockaddr.
    unsafe { std::mem::transmute(address) }
}

/// Packets that the loopback interface of `netns` has refused because a queue of the
/// machine was full. What was sent and is not among them has been delivered.
pub fn refused_by_loopback(netns: &Netns) -> Result<u64> {
    let text = netns.run(|| {
        fs::read_to_string("/proc/thread-self/net/dev").context("cannot read /proc/net/dev")
    })?;
    dropped(&text)
}

/// The fourth column of what was received.
fn dropped(text: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let columns: Vec<_> = line.context("no interface lo")?.split_whitespace().collect();
    ensure!(columns.len() == 16, "the line of lo has {} columns", columns.len());
    let [received, transmitted] = [columns[3], columns[11]];
    if transmitted != "0" {
        bail!("lo has not transmitted {transmitted} packets");
    }
    received.parse().with_context(|| format!("lo has dropped {received}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_makes_the_sum_all_ones() {
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
        let packet = syn(Ipv4Addr::new(10, 1, 2, 3), 20_000, to, 77);
        assert_eq!(tcp_checksum(&packet), 0);
        assert_eq!(packet[SOURCE_AT..SOURCE_AT + 4], [10, 1, 2, 3]);
        assert_eq!(packet[TCP_AT + 2..TCP_AT + 4], [0, 80]);
    }

    #[test]
    fn drops_of_the_loopback_interface() {
        let text = "Inter-|   Receive\n    lo:  100  2 0 7 0 0 0 0  100 2 0 0 0 0 0 0\n";
        assert_eq!(dropped(text).unwrap(), 7);
        assert!(dropped("eth0: 1").is_err());
    }
}
