//! The bytes of what is sent: TCP segments and ICMP errors with their IP headers.

use std::net::{IpAddr, SocketAddr};

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

const TCP_HEADER: usize = 20;
const TCP_CHECKSUM_AT: usize = 16;
const ICMP_HEADER: usize = 8;
const ICMP_CHECKSUM_AT: usize = 2;

/// Which segment it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// Opens.
    Syn,
    /// The answer to that.
    SynAck,
    /// Acknowledges, with or without data.
    Ack,
    /// Ends at once.
    Rst,
}

impl Flags {
    /// As in the header.
    pub fn bits(self) -> u8 {
        match self {
            Self::Syn => 0x02,
            Self::SynAck => 0x12,
            Self::Ack => 0x10,
            Self::Rst => 0x04,
        }
    }
}

/// One TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Its source.
    pub from: SocketAddr,
    /// Its destination, of the same family.
    pub to: SocketAddr,
    /// What it is.
    pub flags: Flags,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledged: u32,
    /// Options, a multiple of four bytes.
    pub options: &'a [u8],
    /// Data.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// With its IP header.
    pub fn packet(&self) -> Vec<u8> {
        ip(self.from.ip(), self.to.ip(), TCP, &self.bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        let header = TCP_HEADER + self.options.len();
        let mut segment = Vec::with_capacity(header + self.payload.len());
        segment.extend(self.from.port().to_be_bytes());
        segment.extend(self.to.port().to_be_bytes());
        segment.extend(self.sequence.to_be_bytes());
        segment.extend(self.acknowledged.to_be_bytes());
        // The header's length in words is the upper half of its byte.
        segment.push(u8::try_from((header / 4) << 4).unwrap_or(u8::MAX));
        segment.push(self.flags.bits());
        segment.extend(u16::MAX.to_be_bytes());
        // Checksum and urgent pointer.
        segment.extend([0; 4]);
        segment.extend(self.options);
        segment.extend(self.payload);
        let sum = pseudo_header(self.from.ip(), self.to.ip(), TCP, segment.len()) + words(&segment);
        set(&mut segment, TCP_CHECKSUM_AT, folded(sum));
        segment
    }
}

/// The error with which a router tells the sender of `quoted` that it did not arrive.
pub fn icmp_error(router: IpAddr, kind: u8, code: u8, quoted: &Segment<'_>) -> Vec<u8> {
    let mut message = vec![0; ICMP_HEADER];
    message[0] = kind;
    message[1] = code;
    message.extend(quoted.packet());
    let (protocol, pseudo) = match router {
        IpAddr::V4(_) => (ICMP, 0),
        IpAddr::V6(_) => (ICMP_V6, pseudo_header(router, quoted.from.ip(), ICMP_V6, message.len())),
    };
    let sum = pseudo + words(&message);
    set(&mut message, ICMP_CHECKSUM_AT, folded(sum));
    ip(router, quoted.from.ip(), protocol, &message)
}

/// Puts an IP header in front. Both addresses are of one family.
fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    const HOPS: u8 = 64;
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut packet = vec![0x45, 0];
            packet.extend(length(20 + payload.len()));
            // Identification 0, not to be fragmented.
            packet.extend([0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            let sum = words(&packet);
            set(&mut packet, 10, folded(sum));
            packet.extend(payload);
            packet
        }
        (from, to) => {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend(length(payload.len()));
            packet.extend([protocol, HOPS]);
            for address in [from, to] {
                packet.extend(octets(address));
            }
            packet.extend(payload);
            packet
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// What a checksum covers besides the message itself.
fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, message: usize) -> u32 {
    let length = u32::try_from(message).unwrap_or(u32::MAX);
    words(&octets(from)) + words(&octets(to)) + u32::from(protocol) + length
}

/// The sum of 16-bit words; an odd last byte is the upper half of one.
fn words(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| [pair[0], pair.get(1).copied().unwrap_or(0)];
    bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes(word(pair)))).sum()
}

fn folded(mut sum: u32) -> u16 {
    while let carry @ 1.. = sum >> 16 {
        sum = (sum & 0xffff) + carry;
    }
    // The loop above left 16 bits.
    !u16::try_from(sum).unwrap_or(0)
}

fn set(message: &mut [u8], at: usize, checksum: u16) {
    message[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_make_every_sum_all_ones() {
        for (from, to) in [("10.0.0.1:7", "127.0.0.1:80"), ("[fd00::1]:7", "[::1]:80")] {
            let segment = Segment {
                from: from.parse().unwrap(),
                to: to.parse().unwrap(),
                flags: Flags::Ack,
                sequence: 1,
                acknowledged: 2,
                options: &[1, 1, 1, 1],
                payload: b"odd",
            };
            let bytes = segment.bytes();
            let pseudo = pseudo_header(segment.from.ip(), segment.to.ip(), TCP, bytes.len());
            assert_eq!(folded(pseudo + words(&bytes)), 0);
            assert_eq!(bytes[12] >> 4, 6);
            let header = if segment.from.is_ipv4() { 20 } else { 40 };
            assert_eq!(segment.packet().len(), header + bytes.len());
        }
    }

    #[test]
    fn an_error_quotes_the_whole_segment() {
        let segment = Segment {
            from: "127.0.0.1:80".parse().unwrap(),
            to: "10.0.0.1:7".parse().unwrap(),
            flags: Flags::SynAck,
            sequence: 1,
            acknowledged: 2,
            options: &[],
            payload: &[],
        };
        let packet = icmp_error([10, 0, 0, 9].into(), 3, 1, &segment);
        assert_eq!(folded(words(&packet[..20])), 0);
        assert_eq!(folded(words(&packet[20..])), 0);
        assert_eq!(packet[28..], segment.packet());
    }
}
