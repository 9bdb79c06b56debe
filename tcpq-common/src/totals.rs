//! Per-listener, per-CPU totals: the truth behind the counters.

use crate::wire;

wire! {
    /// What happened to one listener on one CPU: a value of the map `TOTALS`, at the listener's
    /// slot times the CPUs, plus the CPU. All but the last field only grow.
    pub struct Totals {
        /// SYNs that entered what the listener's `conn_request` points to.
        pub syns_received: u64,
        /// ListenOverflows raised inside it.
        pub overflows_syn: u64,
        /// ListenOverflows raised by the final ACK of a queued request.
        pub overflows_ack: u64,
        /// ListenOverflows raised by the ACK of a SYN cookie.
        pub overflows_cookie: u64,
        /// ListenDrops raised inside the hooked calls.
        pub listen_drops: u64,
        /// Dropped SYNs that are no overflows, by position in [`SynDrop::ALL`].
        pub syn_drops: [u64; 5],
        /// Requests that left the SYN queue without completing, by position in
        /// [`RequestLost::ALL`].
        pub requests_lost: [u64; 5],
        /// SYN cookies sent.
        pub cookies_sent: u64,
        /// SYN cookies that came back valid.
        pub cookies_validated: u64,
        /// ACKs that were taken for a SYN cookie and were none.
        pub cookies_failed: u64,
        /// SYN-ACKs sent again.
        pub synack_retransmits: u64,
        /// Children that entered the accept queue by a three-way handshake.
        pub enqueued_handshake: u64,
        /// Children that entered the accept queue by a SYN cookie.
        pub enqueued_cookie: u64,
        /// Children that entered the accept queue by TCP Fast Open.
        pub enqueued_fastopen: u64,
        /// Children that came from the queue of a closed member of a reuseport group.
        pub enqueued_migration: u64,
        /// Children that entered the accept queue, where the hook cannot tell how.
        pub enqueued_unknown: u64,
        /// Connections that `inet_csk_accept` returned.
        pub accepts: u64,
        /// Calls of accept() that failed, by position in [`AcceptError::ALL`].
        pub accept_errors: [u64; 6],
        /// Children reset because the listener closed before accept() took them.
        pub abandoned: u64,
        /// Children that moved to another member of the reuseport group at the close.
        pub migrated_away: u64,
        /// Part of `sk_drops` that is accounted for by drops which are no
        /// ListenDrops (tracepoint backend only).
        pub drops_explained: u64,
        /// Records not sent because of the listener's rate limit.
        pub records_suppressed: u64,
        /// Rate limiter: theoretical arrival time of the next record, nanoseconds.
        pub limiter_tat_ns: u64,
        /// Always 0. Makes it whole cache lines of 64 bytes, so that CPUs do not share one.
        pub reserved: [u64; 4],
    }
}

const _: () = assert!(size_of::<Totals>().is_multiple_of(64));

impl Totals {
    /// Adds what another CPU saw.
    pub fn add(&mut self, other: &Self) {
        let Self {
            syns_received,
            overflows_syn,
            overflows_ack,
            overflows_cookie,
            listen_drops,
            syn_drops,
            requests_lost,
            cookies_sent,
            cookies_validated,
            cookies_failed,
            synack_retransmits,
            enqueued_handshake,
            enqueued_cookie,
            enqueued_fastopen,
            enqueued_migration,
            enqueued_unknown,
            accepts,
            accept_errors,
            abandoned,
            migrated_away,
            drops_explained,
            records_suppressed,
            limiter_tat_ns: _,
            reserved: _,
        } = other;
        self.syns_received += syns_received;
        self.overflows_syn += overflows_syn;
        self.overflows_ack += overflows_ack;
        self.overflows_cookie += overflows_cookie;
        self.listen_drops += listen_drops;
        for (sum, more) in self.syn_drops.iter_mut().zip(syn_drops) {
            *sum += more;
        }
        for (sum, more) in self.requests_lost.iter_mut().zip(requests_lost) {
            *sum += more;
        }
        self.cookies_sent += cookies_sent;
        self.cookies_validated += cookies_validated;
        self.cookies_failed += cookies_failed;
        self.synack_retransmits += synack_retransmits;
        self.enqueued_handshake += enqueued_handshake;
        self.enqueued_cookie += enqueued_cookie;
        self.enqueued_fastopen += enqueued_fastopen;
        self.enqueued_migration += enqueued_migration;
        self.enqueued_unknown += enqueued_unknown;
        self.accepts += accepts;
        for (sum, more) in self.accept_errors.iter_mut().zip(accept_errors) {
            *sum += more;
        }
        self.abandoned += abandoned;
        self.migrated_away += migrated_away;
        self.drops_explained += drops_explained;
        self.records_suppressed += records_suppressed;
    }
}

/// Why a SYN was dropped that was no overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum SynDrop {
    /// The SYN queue was full and SYN cookies are off (TCPReqQFullDrop).
    QueueFull = 0,
    /// SYN cookies are off, three quarters of `tcp_max_syn_backlog` are in use, and the
    /// peer is not proven.
    BacklogPressure = 1,
    /// No memory for the request (`inet_reqsk_alloc`).
    NoMemory = 2,
    /// No route back, or a security module, TCP-AO or the like refused.
    Rejected = 3,
    /// Its destination is a broadcast, multicast or anycast address.
    NotUnicast = 4,
}

impl SynDrop {
    /// Every reason, in index order.
    pub const ALL: [Self; 5] =
        [Self::QueueFull, Self::BacklogPressure, Self::NoMemory, Self::Rejected, Self::NotUnicast];

    /// The value of the label `reason`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::BacklogPressure => "backlog_pressure",
            Self::NoMemory => "no_memory",
            Self::Rejected => "rejected",
            Self::NotUnicast => "not_unicast",
        }
    }
}

/// Why a request left the SYN queue without completing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum RequestLost {
    /// No final ACK came after the last SYN-ACK.
    Timeout = 0,
    /// The client sent a RST, or a SYN within the window.
    Reset = 1,
    /// An ICMP error named it.
    Icmp = 2,
    /// Its listener had closed.
    ListenerClosed = 3,
    /// The server gave it up: `tcp_abort_on_overflow`, or `ss --kill`.
    Aborted = 4,
}

impl RequestLost {
    /// Every reason, in index order.
    pub const ALL: [Self; 5] =
        [Self::Timeout, Self::Reset, Self::Icmp, Self::ListenerClosed, Self::Aborted];

    /// The value of the label `reason`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Icmp => "icmp",
            Self::ListenerClosed => "listener_closed",
            Self::Aborted => "aborted",
        }
    }
}

/// Why accept() failed. Never for want of a connection (EAGAIN), nor because a signal came,
/// nor on a socket that does not listen any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum AcceptError {
    /// The process has no file descriptor left (`RLIMIT_NOFILE`).
    Emfile = 0,
    /// The host has no open file left (`fs.file-max`).
    Enfile = 1,
    /// No memory for it.
    Enomem = 2,
    /// It asked for what there is not: unknown flags.
    Einval = 3,
    /// A security module refused it.
    Eacces = 4,
    /// Any other.
    Other = 5,
}

impl AcceptError {
    /// Every reason, in index order.
    pub const ALL: [Self; 6] =
        [Self::Emfile, Self::Enfile, Self::Enomem, Self::Einval, Self::Eacces, Self::Other];

    /// The value of the label `errno`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Emfile => "EMFILE",
            Self::Enfile => "ENFILE",
            Self::Enomem => "ENOMEM",
            Self::Einval => "EINVAL",
            Self::Eacces => "EACCES",
            Self::Other => "other",
        }
    }
}

/// Counters of tcpq's own losses: indices of the per-CPU array `LOSSES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Loss {
    /// The ring buffer had no room for a record.
    RingFull = 0,
    /// The maps had no room: an event of a listener that is not tracked.
    ListenersFull = 1,
    /// The totals of a listener were not there: it was forgotten a moment ago.
    TotalsMissing = 2,
    /// The map of closed listeners had no room: its last totals are lost.
    RetiredFull = 3,
    /// An exit program ran without its entry program, or the reverse.
    Unpaired = 4,
    /// An event on a socket that is no longer a listener.
    Late = 5,
    /// Kernel memory could not be read.
    Unreadable = 6,
    /// The audit's map had no room: a count that is right is taken for unattributed.
    AuditFull = 7,
    /// The map of histograms had no room: nothing is observed of one listener.
    HistogramsFull = 8,
}

impl Loss {
    /// Every kind, in index order.
    pub const ALL: [Self; 9] = [
        Self::RingFull,
        Self::ListenersFull,
        Self::TotalsMissing,
        Self::RetiredFull,
        Self::Unpaired,
        Self::Late,
        Self::Unreadable,
        Self::AuditFull,
        Self::HistogramsFull,
    ];

    /// The value of the label `where`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::ListenersFull => "listeners_full",
            Self::TotalsMissing => "totals_missing",
            Self::RetiredFull => "retired_full",
            Self::Unpaired => "unpaired_probe",
            Self::Late => "late_event",
            Self::Unreadable => "unreadable",
            Self::AuditFull => "audit_full",
            Self::HistogramsFull => "histograms_full",
        }
    }
}
