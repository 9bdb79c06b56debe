//! What identifies a listening socket, and what is remembered of it.

use crate::wire;

wire! {
    /// Identifies one life of one listening socket.
    ///
    /// A socket's address is re-used as soon as it is freed (the TCP slab is
    /// `SLAB_TYPESAFE_BY_RCU`); together with the moment tcpq first saw this
    /// life, it never names another.
    #[derive(Hash, PartialOrd, Ord)]
    pub struct ListenerKey {
        /// Address of the kernel's `struct sock`.
        pub sk: u64,
        /// `CLOCK_MONOTONIC` nanoseconds when this life was first seen.
        pub born_ns: u64,
    }

    /// Facts about a listener, written once when it is first seen.
    pub struct Listener {
        /// See [`ListenerKey::born_ns`].
        pub born_ns: u64,
        /// See [`Tenant::netns_id`].
        pub netns_id: u64,
        /// Local address in network order; an IPv4 address is in the first four bytes.
        pub address: [u8; 16],
        /// Inode number of its network namespace (`net->ns.inum`).
        pub netns: u32,
        /// `sk_drops` when first seen: the base for what is derived from it.
        pub drops_base: u32,
        /// Accept queue length when first seen: what accept() may take uncounted.
        pub queued_base: u32,
        /// Local port in host order; 0 until the kernel has bound an unbound `listen()`.
        pub port: u16,
        /// [`crate::AF_INET`] or [`crate::AF_INET6`].
        pub family: u16,
        /// An [`Origin`].
        pub origin: u32,
        /// The process whose `listen()` was seen, as a number of the daemon's pid
        /// namespace; 0: it was not seen, or has no number there.
        pub opener_pid: u32,
        /// That process's name (`comm` of its first thread), NUL-padded; it need not be
        /// UTF-8.
        pub opener_name: [u8; 16],
        /// What `listen()` was asked for, if [`Self::is_requested_known`].
        pub requested: i32,
        /// 1: `requested` was seen.
        pub is_requested_known: u32,
        /// `sk_max_ack_backlog` when first seen: once it differs, another `listen()` has
        /// set it, and `requested` is void.
        pub limit_base: u32,
        /// Its place in `TENANTS`, `TOTALS` and `HISTOGRAMS`, for as long as it is known.
        pub slot: u32,
    }

    /// The listener that a slot belongs to: a value of `TENANTS`. All zero: nobody's.
    pub struct Tenant {
        /// See [`ListenerKey::sk`]. Written last, and cleared first.
        pub sk: u64,
        /// See [`ListenerKey::born_ns`].
        pub born_ns: u64,
        /// Identity of the network namespace: its cookie, which is never used again;
        /// before Linux 5.12 a random number of it and its inode number.
        pub netns_id: u64,
        /// `net->mib.net_statistics` of its namespace, which a CPU's offset makes an address;
        /// 0 where it is not known.
        pub counters: u64,
    }

    /// The last life of a socket's address: credits what happens to a listener after
    /// its close, as long as its slot is its own.
    pub struct Life {
        /// See [`ListenerKey::born_ns`].
        pub born_ns: u64,
        /// See [`Listener::slot`].
        pub slot: u32,
        /// Always 0.
        pub reserved: u32,
    }

    /// A listener that closed, kept until the daemon has taken its last totals.
    pub struct Retired {
        /// As it was when live.
        pub listener: Listener,
        /// `sk_drops` when it left LISTEN.
        pub sk_drops: u32,
        /// Connections still in its accept queue at that moment.
        pub accept_queue_length: u32,
        /// Requests still in its SYN queue at that moment.
        pub syn_queue_length: u32,
        /// The namespace's `net.ipv4.tcp_syncookies` at that moment.
        pub syncookies: u32,
        /// An [`End`].
        pub end: u32,
        /// 1: `sk_drops` is of the socket's destruction, after the last packet of most.
        pub is_final: u32,
    }
}

impl Tenant {
    /// Which listener; `None`: nobody's.
    pub fn key(&self) -> Option<ListenerKey> {
        let Self { sk, born_ns, .. } = *self;
        (sk != 0).then_some(ListenerKey { sk, born_ns })
    }
}

/// How a listener came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Origin {
    /// Its `listen()` was seen.
    Opened = 1,
    /// Found by an iterator: it was there before the daemon.
    Discovered = 2,
    /// Something happened to it before an iterator reached it.
    FirstEvent = 3,
}

/// What is known of a listener's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum End {
    /// Its close was seen: the figures are of that moment.
    Seen = 1,
    /// Its socket has begun another life; the figures are not its own.
    Missed = 2,
}
