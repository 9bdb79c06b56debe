//! What programs read for the daemon: rows that iterators write as a stream of bytes, and rows
//! that programs which it runs leave in a map.

use crate::{
    listener::{Listener, ListenerKey},
    wire,
};

/// Slots that one run of the program that reads listeners looks at.
pub const LISTENER_ROWS: u32 = 32;
/// CPUs that one run of the program of the audit looks at.
pub const AUDIT_ROWS: u32 = 8;

wire! {
    /// One live listener and its queues at this moment.
    pub struct ListenerRow {
        /// Address of its socket; 0: there is none in this slot.
        pub sk: u64,
        /// What was remembered of it.
        pub listener: Listener,
        /// What the socket holds now.
        pub now: ListenerNow,
    }

    /// A listening socket's own fields.
    pub struct ListenerNow {
        /// Kernel address of its namespace's `struct net`.
        pub net: u64,
        /// `sk_ack_backlog`.
        pub accept_queue_length: u32,
        /// `sk_max_ack_backlog`.
        pub accept_queue_limit: u32,
        /// `icsk_accept_queue.qlen`.
        pub syn_queue_length: u32,
        /// `sk_drops`.
        pub sk_drops: u32,
        /// The namespace's `net.ipv4.tcp_max_syn_backlog`.
        pub max_syn_backlog: u32,
        /// The namespace's `net.ipv4.tcp_syncookies`.
        pub syncookies: u32,
        /// `skc_state`: anything but [`crate::TCP_LISTEN`] is a stale entry.
        pub state: u32,
        /// `skc_num`: the port, if it was not known when the listener was first seen.
        pub port: u32,
        /// The namespace's `net.core.somaxconn`.
        pub somaxconn: u32,
        /// The namespace's `net.ipv4.tcp_abort_on_overflow`.
        pub abort_on_overflow: u32,
        /// The namespace's `net.ipv4.ip_local_port_range`: first and last.
        pub ephemeral_ports: [u16; 2],
        /// `icsk_accept_queue.rskq_defer_accept`: SYN-ACKs after which a request is not deferred
        /// any more (`TCP_DEFER_ACCEPT`); 0: none is.
        pub defer_accept: u32,
    }

    /// One open file that is a TCP listener, and the process that has it.
    pub struct HolderRow {
        /// Address of the listener's socket.
        pub sk: u64,
        /// The process, as a number of the daemon's pid namespace.
        pub pid: u32,
        /// Its file descriptor.
        pub fd: u32,
        /// The process's name (`comm` of its first thread), NUL-padded.
        pub name: [u8; 16],
    }
}

wire! {
    /// What the program that reads listeners is asked: from which slot on.
    pub struct ListenersAsked {
        /// The first one; see [`crate::listener::Listener::slot`].
        pub first_slot: u64,
    }

    /// What the program of the audit is asked.
    pub struct AuditAsked {
        /// Of which namespace.
        pub target: AuditTarget,
        /// From which CPU on.
        pub first_cpu: u64,
    }

    /// What the program that looks for a CPU's own memory is asked.
    pub struct CpuAsked {
        /// Which CPU.
        pub cpu: u64,
    }

    /// Which namespace the audit reads: through a listener that is alive in it.
    pub struct AuditTarget {
        /// Address of the listener's socket.
        pub sk: u64,
        /// Kernel address of the namespace's `struct net`.
        pub net: u64,
        /// See [`crate::listener::Tenant::netns_id`].
        pub netns_id: u64,
    }

    /// One CPU's part of a namespace's counters, the kernel's and what of them is
    /// credited to a listener.
    pub struct AuditRow {
        /// The kernel's, since the namespace was made.
        pub kernel: DropCounters,
        /// Credited to listeners, since the programs were loaded.
        pub credited: DropCounters,
        /// Which CPU.
        pub cpu: u32,
        /// An [`AuditState`].
        pub state: u32,
    }

    /// Both of the kernel's counters that tcpq answers for.
    pub struct DropCounters {
        /// ListenOverflows.
        pub overflows: u64,
        /// ListenDrops.
        pub drops: u64,
    }

    /// A namespace first seen by a `listen()`: nothing could have been dropped there
    /// unseen, so its counters at that moment are the base of the audit.
    pub struct NetnsBase {
        /// The kernel's counters, all CPUs.
        pub kernel: DropCounters,
        /// What was credited to listeners by then: not 0 only where an earlier namespace
        /// had the same identity.
        pub credited: DropCounters,
        /// 1 if the figures are valid; 0: the namespace was there before.
        pub is_known: u64,
    }

    /// The audit's entry of one namespace on one CPU.
    #[derive(Hash, PartialOrd, Ord)]
    pub struct AuditKey {
        /// See [`crate::listener::Tenant::netns_id`].
        pub netns_id: u64,
        /// Which CPU.
        pub cpu: u32,
        /// Always 0.
        pub reserved: u32,
    }
}

/// What an [`AuditRow`] is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum AuditState {
    /// Both figures are of one moment.
    Consistent = 1,
    /// The CPU was in the middle of a hooked call each time it was looked at.
    Busy = 2,
    /// The listener has closed, so the namespace may be gone: the figures mean nothing.
    Gone = 3,
    /// Kernel memory could not be read.
    Unreadable = 4,
}

impl ListenerRow {
    /// Which listener.
    pub const fn key(&self) -> ListenerKey {
        ListenerKey { sk: self.sk, born_ns: self.listener.born_ns }
    }
}
