//! A client made of raw segments, which can do what no real one does: take a
//! SYN cookie now and return it later, as often as it likes.
//!
//! Its port belongs to no socket, so the kernel answers the listener's SYN-ACK
//! with a RST. That changes nothing: a listener that sent a cookie keeps no state.

use std::{
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{netns::Netns, sockets::set_option, wait};

/// Outside of the range that the kernel gives to clients of its own.
const CLIENT_PORT: u16 = 20_001;
const CLIENT_SEQUENCE: u32 = 1_000_000;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

const HEADER: usize = 20;
/// Where the checksum is in a TCP header.
const CHECKSUM_AT: usize = 16;

/// A raw client that holds a cookie of one listener.
#[derive(Debug)]
pub struct CookieHolder {
    socket: Socket,
    listener: SocketAddr,
    cookie: u32,
}

impl CookieHolder {
    /// Sends a SYN and keeps the cookie of the answer. The namespace has to have
    /// `tcp_syncookies` = 2, so that every answer is a cookie.
    pub fn ask(netns: &Netns, listener: SocketAddr) -> Result<Self> {
        let socket = netns.run(|| raw_socket(listener).context("cannot make a raw socket"))?;
        let mut holder = Self { socket, listener, cookie: 0 };
        holder.send(SYN, CLIENT_SEQUENCE, 0)?;
        holder.cookie = wait::until("a SYN-ACK", Duration::from_secs(10), || holder.receive())?;
        Ok(holder)
    }

    /// Returns the cookie `times` times; each is a handshake's final ACK.
    pub fn give_back(&self, times: u64) -> Result<()> {
        (0..times).try_for_each(|_| {
            self.send(ACK, CLIENT_SEQUENCE.wrapping_add(1), self.cookie.wrapping_add(1))
        })
    }

    fn send(&self, flags: u8, sequence: u32, acknowledged: u32) -> Result<()> {
        let segment = self.segment(flags, sequence, acknowledged);
        // A raw socket takes no port, and IPv6 refuses one that is not 0.
        let to = SocketAddr::new(self.listener.ip(), 0);
        self.socket.send_to(&segment, &to.into()).context("cannot send a raw segment")?;
        Ok(())
    }

    fn segment(&self, flags: u8, sequence: u32, acknowledged: u32) -> [u8; HEADER] {
        let mut segment = [0; HEADER];
        segment[0..2].copy_from_slice(&CLIENT_PORT.to_be_bytes());
        segment[2..4].copy_from_slice(&self.listener.port().to_be_bytes());
        segment[4..8].copy_from_slice(&sequence.to_be_bytes());
        segment[8..12].copy_from_slice(&acknowledged.to_be_bytes());
        // Five words of header, no options.
        segment[12] = 5 << 4;
        segment[13] = flags;
        segment[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
        if let IpAddr::V4(address) = self.listener.ip() {
            // Both ends are the same loopback address. IPv6 has IPV6_CHECKSUM.
            let checksum = checksum_v4(address.octets(), &segment);
            segment[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        segment
    }

    /// The sequence number of the listener's SYN-ACK, if it is the next segment.
    /// The socket sees all TCP of the namespace, its own segments too.
    fn receive(&self) -> Result<Option<u32>> {
        let mut buffer = [0; 256];
        let size = match (&self.socket).read(&mut buffer) {
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("cannot receive a raw segment"),
        };
        let packet = &buffer[..size];
        // IPv4 delivers its own header too, IPv6 does not.
        let at = match self.listener.ip() {
            IpAddr::V4(_) => packet.first().map_or(0, |first| usize::from(first & 0xf) * 4),
            IpAddr::V6(_) => 0,
        };
        let Some(segment) = packet.get(at..at + HEADER) else {
            bail!("a raw segment of {size} bytes");
        };
        let to_us = segment[2..4] == CLIENT_PORT.to_be_bytes();
        let syn_ack = segment[13] & (SYN | ACK) == SYN | ACK;
        let sequence = [segment[4], segment[5], segment[6], segment[7]];
        Ok((to_us && syn_ack).then_some(u32::from_be_bytes(sequence)))
    }
}

fn raw_socket(listener: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(listener),
        Type::from(libc::SOCK_RAW),
        Some(Protocol::TCP),
    )?;
    // The source address of what is sent has to be the one the checksum is over.
    socket.bind(&SocketAddr::new(listener.ip(), 0).into())?;
    socket.set_nonblocking(true)?;
    if listener.is_ipv6() {
        let at = i32::try_from(CHECKSUM_AT).map_err(io::Error::other)?;
        set_option(socket.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_CHECKSUM, at)?;
    }
    Ok(socket)
}

/// The TCP checksum of a segment from `address` to itself.
fn checksum_v4(address: [u8; 4], segment: &[u8; HEADER]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
    };
    // The pseudo header: both addresses, the protocol (6), the length.
    let mut sum = 2 * words(&address) + 6 + 20 + words(segment);
    while let carry @ 1.. = sum >> 16 {
        sum = (sum & 0xffff) + carry;
    }
    // The loop above left 16 bits.
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_makes_the_sum_all_ones() {
        let mut segment = [7; HEADER];
        segment[CHECKSUM_AT] = 0;
        segment[CHECKSUM_AT + 1] = 0;
        let checksum = checksum_v4([127, 0, 0, 1], &segment);
        segment[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(checksum_v4([127, 0, 0, 1], &segment), 0);
    }
}
