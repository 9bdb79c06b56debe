//! One client at the far end, which does exactly what it is told.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};

use super::{
    packet::{Flags, Segment, icmp_error},
    wire::Wire,
};

const SEQUENCE: u32 = 1_000_000;

/// A client of one listener.
#[derive(Debug)]
pub struct Peer<'a> {
    wire: &'a Wire,
    from: SocketAddr,
    to: SocketAddr,
    /// Of the next segment.
    sequence: u32,
    /// The sequence number of the listener's SYN-ACK.
    answer: Option<u32>,
}

impl<'a> Peer<'a> {
    pub(super) fn new(wire: &'a Wire, from: SocketAddr, to: SocketAddr) -> Self {
        Self { wire, from, to, sequence: SEQUENCE, answer: None }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.from
    }

    /// The listener it was made for.
    pub fn listener(&self) -> SocketAddr {
        self.to
    }

    /// Sends a SYN, and the same one again if called again.
    pub fn syn(&mut self) -> Result<()> {
        self.syn_with(&[], &[])
    }

    /// A SYN with options (a multiple of four bytes) and data.
    pub fn syn_with(&mut self, options: &[u8], payload: &[u8]) -> Result<()> {
        self.sequence = SEQUENCE + 1;
        self.wire.segment(&self.segment(Flags::Syn, SEQUENCE, options, payload))
    }

    /// A SYN as if it came out of a cable.
    pub fn syn_injected(&mut self) -> Result<()> {
        self.sequence = SEQUENCE + 1;
        let packet = self.segment(Flags::Syn, SEQUENCE, &[], &[]).packet();
        self.wire.inject(&packet, self.to.ip())
    }

    /// A SYN that is not the first one, but in its window.
    pub fn second_syn(&self) -> Result<()> {
        self.wire.segment(&self.segment(Flags::Syn, self.sequence, &[], &[]))
    }

    /// Waits for the listener's SYN-ACK, and remembers it.
    pub fn answered(&mut self) -> Result<()> {
        self.answer = Some(self.wire.syn_ack(self.to, self.from)?);
        Ok(())
    }

    /// The last step of a handshake.
    pub fn ack(&self) -> Result<()> {
        self.wire.segment(&self.segment(Flags::Ack, self.sequence, &[], &[]))
    }

    /// The bytes of that, for who sends them otherwise.
    pub fn ack_packet(&self) -> Vec<u8> {
        self.segment(Flags::Ack, self.sequence, &[], &[]).packet()
    }

    /// The same, with as much data as was in the SYN.
    pub fn ack_after(&self, sent: &[u8]) -> Result<()> {
        let sequence = self.sequence + u32::try_from(sent.len())?;
        self.wire.segment(&self.segment(Flags::Ack, sequence, &[], &[]))
    }

    /// The last step of a handshake, and data.
    pub fn data(&self) -> Result<()> {
        self.wire.segment(&self.segment(Flags::Ack, self.sequence, &[], b"x"))
    }

    /// An ACK of something that was never sent.
    pub fn wrong_ack(&self) -> Result<()> {
        let mut segment = self.segment(Flags::Ack, self.sequence, &[], &[]);
        segment.acknowledged = segment.acknowledged.wrapping_add(1 << 28);
        self.wire.segment(&segment)
    }

    /// A reset at exactly the next sequence number.
    pub fn reset(&self) -> Result<()> {
        self.wire.segment(&self.segment(Flags::Rst, self.sequence, &[], &[]))
    }

    /// A router's word on the listener's SYN-ACK, which it quotes, but with a sequence
    /// number that is off by `off`.
    pub fn icmp(&self, kind: u8, code: u8, off: u32) -> Result<()> {
        let answer = self.answer.context("there was no SYN-ACK to quote")?;
        let quoted = Segment {
            from: self.to,
            to: self.from,
            flags: Flags::SynAck,
            sequence: answer.wrapping_add(off),
            acknowledged: self.sequence,
            options: &[],
            payload: &[],
        };
        let packet = icmp_error(router(self.from.ip()), kind, code, &quoted);
        self.wire.send(&packet, self.to.ip())
    }

    fn segment<'s>(
        &self,
        flags: Flags,
        sequence: u32,
        options: &'s [u8],
        payload: &'s [u8],
    ) -> Segment<'s> {
        // Without an answer this is 0, which a SYN has anyway.
        let acknowledged = match flags {
            Flags::Syn => 0,
            _ => self.answer.map_or(0, |answer| answer.wrapping_add(1)),
        };
        Segment { from: self.from, to: self.to, flags, sequence, acknowledged, options, payload }
    }
}

/// Any other address at the far end.
fn router(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => IpAddr::from([10, 0, 0, 254]),
        IpAddr::V6(_) => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 0xfe]),
    }
}
