//! Counters of one listener, or of a group: a sum.

use serde::Serialize;
use tcpq_common::totals::{AcceptError, RequestLost, SynDrop};

/// Everything counted per listener. Only grows. Which of them mean something on
/// this kernel is said by the plan (`model::hooks`), not here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// SYNs that reached the listener.
    pub syns_received: u64,
    /// ListenOverflows, by stage.
    pub overflows: Overflows,
    /// ListenDrops.
    pub listen_drops: u64,
    /// Dropped SYNs that are no overflows, by position in [`SynDrop::ALL`].
    pub syn_drops: [u64; SynDrop::ALL.len()],
    /// Requests that left the SYN queue without completing, by position in
    /// [`RequestLost::ALL`].
    pub requests_lost: [u64; RequestLost::ALL.len()],
    /// SYN cookies.
    pub cookies: Cookies,
    /// SYN-ACKs sent again.
    pub synack_retransmits: u64,
    /// Connections that entered the accept queue.
    pub enqueued: Enqueued,
    /// Connections that accept() took.
    pub accepts: u64,
    /// Calls of accept() that failed, by position in [`AcceptError::ALL`].
    pub accept_errors: [u64; AcceptError::ALL.len()],
    /// Connections still queued when the listener closed.
    pub abandoned: u64,
    /// Records that the listener's rate limit suppressed.
    pub records_suppressed: u64,
}

/// Overflows by the stage of the handshake that was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overflows {
    /// A SYN.
    pub syn: u64,
    /// The final ACK of a queued request.
    pub ack: u64,
    /// The ACK of a SYN cookie.
    pub cookie: u64,
}

/// SYN cookies, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cookies {
    /// Sent.
    pub sent: u64,
    /// Came back valid.
    pub validated: u64,
    /// ACKs taken for a cookie that were none.
    pub failed: u64,
}

/// Connections by their way into the accept queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Enqueued {
    /// Three-way handshake.
    pub handshake: u64,
    /// SYN cookie.
    pub cookie: u64,
    /// TCP Fast Open.
    pub fastopen: u64,
    /// From the queue of a closed member of the reuseport group.
    pub migration: u64,
    /// The hook of this kernel cannot tell.
    pub unknown: u64,
}

impl Overflows {
    /// All stages.
    pub fn total(self) -> u64 {
        self.syn + self.ack + self.cookie
    }
}

impl Enqueued {
    /// All ways.
    pub fn total(self) -> u64 {
        self.handshake + self.cookie + self.fastopen + self.migration + self.unknown
    }
}

impl Counts {
    /// Applies `f` to each pair of counters.
    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        let Self {
            syns_received,
            overflows,
            listen_drops,
            syn_drops,
            requests_lost,
            cookies,
            synack_retransmits,
            enqueued,
            accepts,
            accept_errors,
            abandoned,
            records_suppressed,
        } = self;
        Self {
            syns_received: f(syns_received, other.syns_received),
            overflows: Overflows {
                syn: f(overflows.syn, other.overflows.syn),
                ack: f(overflows.ack, other.overflows.ack),
                cookie: f(overflows.cookie, other.overflows.cookie),
            },
            listen_drops: f(listen_drops, other.listen_drops),
            syn_drops: zip_each(syn_drops, other.syn_drops, &f),
            requests_lost: zip_each(requests_lost, other.requests_lost, &f),
            cookies: Cookies {
                sent: f(cookies.sent, other.cookies.sent),
                validated: f(cookies.validated, other.cookies.validated),
                failed: f(cookies.failed, other.cookies.failed),
            },
            synack_retransmits: f(synack_retransmits, other.synack_retransmits),
            enqueued: Enqueued {
                handshake: f(enqueued.handshake, other.enqueued.handshake),
                cookie: f(enqueued.cookie, other.enqueued.cookie),
                fastopen: f(enqueued.fastopen, other.enqueued.fastopen),
                migration: f(enqueued.migration, other.enqueued.migration),
                unknown: f(enqueued.unknown, other.enqueued.unknown),
            },
            accepts: f(accepts, other.accepts),
            accept_errors: zip_each(accept_errors, other.accept_errors, &f),
            abandoned: f(abandoned, other.abandoned),
            records_suppressed: f(records_suppressed, other.records_suppressed),
        }
    }

    /// The sum of two listeners.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// Adds another listener's.
    pub fn add(&mut self, other: &Self) {
        *self = self.plus(*other);
    }

    /// What came since `base`.
    #[must_use]
    pub fn since(self, base: Self) -> Self {
        self.zip(base, u64::saturating_sub)
    }

    /// The larger of each counter: what keeps a derived counter from going back.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        self.zip(other, u64::max)
    }
}

fn zip_each<const N: usize>(
    mut ours: [u64; N],
    theirs: [u64; N],
    f: impl Fn(u64, u64) -> u64,
) -> [u64; N] {
    for (ours, theirs) in ours.iter_mut().zip(theirs) {
        *ours = f(*ours, theirs);
    }
    ours
}
