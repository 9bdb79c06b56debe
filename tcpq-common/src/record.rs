//! One ring-buffer record per lifecycle change, overflow and drop.

use crate::{listener::ListenerKey, wire};

wire! {
    /// What happened, to whom, and how full its queues were.
    pub struct Record {
        /// `CLOCK_MONOTONIC` nanoseconds.
        pub at_ns: u64,
        /// The listener.
        pub key: ListenerKey,
        /// A [`Kind`].
        pub kind: u32,
        /// Accept queue length when the record was written.
        pub accept_queue_length: u32,
        /// Accept queue limit (`sk_max_ack_backlog`) at that moment.
        pub accept_queue_limit: u32,
        /// SYN queue length at that moment.
        pub syn_queue_length: u32,
        /// The client's address in network order; IPv4 in the first four bytes.
        pub client_address: [u8; 16],
        /// The client's port in host order.
        pub client_port: u16,
        /// Address family of the client; 0 where there is no client.
        pub client_family: u16,
        /// Network namespace of the listener.
        pub netns: u32,
        /// The listener's local address.
        pub address: [u8; 16],
        /// The listener's port.
        pub port: u16,
        /// The listener's address family.
        pub family: u16,
        /// Always 0.
        pub reserved: u32,
    }
}

/// What a [`Record`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Kind {
    /// The socket entered LISTEN.
    ListenerOpened = 1,
    /// The socket left LISTEN.
    ListenerClosed = 2,
    /// A SYN was refused because the accept queue was full.
    OverflowSyn = 3,
    /// A final ACK was refused because the accept queue was full.
    OverflowAck = 4,
    /// A SYN cookie's ACK was refused because the accept queue was full.
    OverflowCookie = 5,
    /// A listen drop at the SYN that is no overflow.
    DropSyn = 6,
    /// A listen drop at the final ACK that is no overflow.
    DropAck = 7,
    /// A listen drop by an ICMP error that names a request.
    DropIcmp = 8,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::ListenerOpened,
        Self::ListenerClosed,
        Self::OverflowSyn,
        Self::OverflowAck,
        Self::OverflowCookie,
        Self::DropSyn,
        Self::DropAck,
        Self::DropIcmp,
    ];

    /// The value of the label `kind`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ListenerOpened => "listener_opened",
            Self::ListenerClosed => "listener_closed",
            Self::OverflowSyn => "overflow_syn",
            Self::OverflowAck => "overflow_ack",
            Self::OverflowCookie => "overflow_cookie",
            Self::DropSyn => "drop_syn",
            Self::DropAck => "drop_ack",
            Self::DropIcmp => "drop_icmp",
        }
    }
}

impl TryFrom<u32> for Kind {
    type Error = u32;

    fn try_from(value: u32) -> Result<Self, u32> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == value).ok_or(value)
    }
}
