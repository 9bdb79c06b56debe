//! Per-listener, per-CPU totals: the truth behind the counters.

use crate::wire;

wire! {
    /// What happened to one listener on one CPU. All but the last field only grow.
    pub struct Totals {
        /// SYNs that entered `tcp_conn_request`.
        pub syns_received: u64,
        /// ListenOverflows raised inside `tcp_conn_request`.
        pub overflows_syn: u64,
        /// ListenOverflows raised by the final ACK of a queued request.
        pub overflows_ack: u64,
        /// ListenOverflows raised by the ACK of a SYN cookie.
        pub overflows_cookie: u64,
        /// ListenDrops raised inside the hooked calls.
        pub listen_drops: u64,
        /// Children that entered the accept queue by a three-way handshake.
        pub enqueued_handshake: u64,
        /// Children that entered the accept queue by a SYN cookie.
        pub enqueued_cookie: u64,
        /// Children that entered the accept queue by TCP Fast Open.
        pub enqueued_fastopen: u64,
        /// Children that entered the accept queue, where the hook cannot tell how.
        pub enqueued_unknown: u64,
        /// Connections that `inet_csk_accept` returned.
        pub accepts: u64,
        /// Part of `sk_drops` that is accounted for by drops which are no
        /// ListenDrops (tracepoint backend only).
        pub drops_explained: u64,
        /// Records not sent because of the listener's rate limit.
        pub records_suppressed: u64,
        /// Rate limiter: theoretical arrival time of the next record, nanoseconds.
        pub limiter_tat_ns: u64,
    }
}

impl Totals {
    /// Adds what another CPU saw.
    pub fn add(&mut self, other: &Self) {
        let Self {
            syns_received,
            overflows_syn,
            overflows_ack,
            overflows_cookie,
            listen_drops,
            enqueued_handshake,
            enqueued_cookie,
            enqueued_fastopen,
            enqueued_unknown,
            accepts,
            drops_explained,
            records_suppressed,
            limiter_tat_ns: _,
        } = other;
        self.syns_received += syns_received;
        self.overflows_syn += overflows_syn;
        self.overflows_ack += overflows_ack;
        self.overflows_cookie += overflows_cookie;
        self.listen_drops += listen_drops;
        self.enqueued_handshake += enqueued_handshake;
        self.enqueued_cookie += enqueued_cookie;
        self.enqueued_fastopen += enqueued_fastopen;
        self.enqueued_unknown += enqueued_unknown;
        self.accepts += accepts;
        self.drops_explained += drops_explained;
        self.records_suppressed += records_suppressed;
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
}

impl Loss {
    /// Every kind, in index order.
    pub const ALL: [Self; 7] = [
        Self::RingFull,
        Self::ListenersFull,
        Self::TotalsMissing,
        Self::RetiredFull,
        Self::Unpaired,
        Self::Late,
        Self::Unreadable,
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
        }
    }
}
