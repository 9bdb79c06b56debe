//! From one socket's raw figures to its counters: what is counted, and what has
//! to be worked out where no hook counts it.

use tcpq_common::totals::Totals;

use crate::model::counts::{Cookies, Counts, Enqueued, Overflows};

/// Where overflows and drops come from; mirrors the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drops {
    /// Totals hold them.
    Counted,
    /// SYN drops are what `sk_drops` has more than everything seen.
    FromSocketDrops,
}

/// Where accepts come from; mirrors the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// Totals hold them, but for runs that the kernel skipped.
    Counted,
    /// What went into the queue and is neither in it nor abandoned.
    FromQueueBalance,
}

/// Where abandoned connections come from; mirrors the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// Totals hold them.
    Counted,
    /// What was queued when the listener closed.
    QueuedAtClose,
}

/// Whether requests that leave the SYN queue are counted; mirrors the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    /// Totals hold them.
    Counted,
    /// Nothing tells.
    Unseen,
}

/// How to read a socket's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    /// See [`Drops`].
    pub drops: Drops,
    /// See [`Accepts`].
    pub accepts: Accepts,
    /// See [`Abandoned`].
    pub abandoned: Abandoned,
    /// See [`Requests`].
    pub requests: Requests,
}

/// One socket's raw figures at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Totals read before the figures below, if they were.
    pub totals_before: Option<Totals>,
    /// Totals read after them.
    pub totals: Totals,
    /// `sk_drops`, and what it was when the socket was first seen.
    pub sk_drops: u32,
    /// See `sk_drops`.
    pub drops_base: u32,
    /// Accept queue length, and what it was when the socket was first seen.
    pub queued: u32,
    /// See `queued`.
    pub queued_base: u32,
    /// Whether the socket has closed: those queued are lost.
    pub life: Life,
    /// The namespace's `net.ipv4.tcp_syncookies`.
    pub syncookies: u32,
}

/// Whether a socket listens or has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It listens.
    Listening,
    /// It has closed; the figures are of that moment.
    Closed,
}

/// What has to be remembered of a socket between readings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Derived SYN drops accounted for so far.
    syn_drops: u64,
    /// Of them, overflows.
    overflows_syn: u64,
}

/// The socket's counters. Derived ones are lower bounds while traffic runs and
/// right when it rests: a figure read early is compared with one read late so
/// that what is in flight is missing, never counted twice.
pub fn counts(sources: Sources, reading: &Reading, memory: &mut Memory) -> Counts {
    let totals = &reading.totals;
    let mut counts = counted(totals);
    if sources.abandoned == Abandoned::QueuedAtClose {
        counts.abandoned = match reading.life {
            Life::Listening => 0,
            Life::Closed => reading.queued.into(),
        };
    }
    if sources.drops == Drops::FromSocketDrops {
        let syn_drops = syn_drops(reading).max(memory.syn_drops);
        // With SYN cookies off a full SYN queue drops SYNs too, and nothing here
        // can tell the two apart.
        if reading.syncookies != 0 {
            memory.overflows_syn += syn_drops - memory.syn_drops;
        }
        memory.syn_drops = syn_drops;
        counts.overflows.syn = memory.overflows_syn;
        counts.listen_drops = syn_drops + totals.overflows_ack + totals.overflows_cookie;
    }
    let balance = reading.totals_before.map(|before| accepts(&before, reading));
    counts.accepts = match sources.accepts {
        // A preemptible kernel skips the program of an accept() that preempts another
        // one's. Both figures are lower bounds, and the balance is right at rest.
        Accepts::Counted => counts.accepts.max(balance.unwrap_or(0)),
        Accepts::FromQueueBalance => balance.unwrap_or(0),
    };
    counts
}

/// What totals hold, as they are.
pub fn counted(totals: &Totals) -> Counts {
    Counts {
        syns_received: totals.syns_received,
        overflows: Overflows {
            syn: totals.overflows_syn,
            ack: totals.overflows_ack,
            cookie: totals.overflows_cookie,
        },
        listen_drops: totals.listen_drops,
        syn_drops: totals.syn_drops,
        requests_lost: totals.requests_lost,
        cookies: Cookies {
            sent: totals.cookies_sent,
            validated: totals.cookies_validated,
            failed: totals.cookies_failed,
        },
        synack_retransmits: totals.synack_retransmits,
        enqueued: Enqueued {
            handshake: totals.enqueued_handshake,
            cookie: totals.enqueued_cookie,
            fastopen: totals.enqueued_fastopen,
            migration: totals.enqueued_migration,
            unknown: totals.enqueued_unknown,
        },
        accepts: totals.accepts,
        accept_errors: totals.accept_errors,
        abandoned: totals.abandoned,
        records_suppressed: totals.records_suppressed,
    }
}

/// More than this at once is no rise but a reading of another life of the socket.
const ABSURD: u32 = 1 << 31;

/// Each ListenDrop adds 1 to `sk_drops`. What `kfree_skb` showed accounts for the
/// rest, and each refused ACK, a cookie's too, is itself one ListenDrop.
fn syn_drops(reading: &Reading) -> u64 {
    let rise = reading.sk_drops.wrapping_sub(reading.drops_base);
    let rise = if rise < ABSURD { rise } else { 0 };
    let totals = &reading.totals;
    let explained = totals.drops_explained + totals.overflows_ack + totals.overflows_cookie;
    u64::from(rise).saturating_sub(explained)
}

fn accepts(totals: &Totals, reading: &Reading) -> u64 {
    let came = totals.enqueued_handshake
        + totals.enqueued_cookie
        + totals.enqueued_fastopen
        + totals.enqueued_migration
        + totals.enqueued_unknown
        + u64::from(reading.queued_base);
    came.saturating_sub(u64::from(reading.queued))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DERIVED: Sources = Sources {
        drops: Drops::FromSocketDrops,
        accepts: Accepts::FromQueueBalance,
        abandoned: Abandoned::QueuedAtClose,
        requests: Requests::Unseen,
    };

    fn reading() -> Reading {
        Reading {
            totals_before: Some(Totals::ZERO),
            totals: Totals::ZERO,
            sk_drops: 0,
            drops_base: 0,
            queued: 0,
            queued_base: 0,
            life: Life::Listening,
            syncookies: 1,
        }
    }

    #[test]
    fn a_refused_ack_raises_sk_drops_by_two_and_is_one_drop() {
        let totals = Totals { overflows_ack: 15, drops_explained: 15 + 7, ..Totals::ZERO };
        // 15 refused ACKs and 7 deferred ones: 37, as measured on every kernel.
        let reading = Reading { totals, sk_drops: 37, ..reading() };
        let counts = counts(DERIVED, &reading, &mut Memory::default());
        assert_eq!(counts.overflows, Overflows { syn: 0, ack: 15, cookie: 0 });
        assert_eq!(counts.listen_drops, 15);
    }

    #[test]
    fn a_refused_cookie_raises_sk_drops_by_one_and_is_one_drop() {
        let totals = Totals { overflows_cookie: 4, ..Totals::ZERO };
        let reading = Reading { totals, sk_drops: 6, ..reading() };
        let counts = counts(DERIVED, &reading, &mut Memory::default());
        assert_eq!(counts.overflows, Overflows { syn: 2, ack: 0, cookie: 4 });
        assert_eq!(counts.listen_drops, 6);
    }

    #[test]
    fn what_is_queued_at_the_close_is_abandoned_where_nothing_counts_it() {
        let closed = Reading { queued: 3, life: Life::Closed, ..reading() };
        assert_eq!(counts(DERIVED, &closed, &mut Memory::default()).abandoned, 3);
        let open = Reading { queued: 3, ..reading() };
        assert_eq!(counts(DERIVED, &open, &mut Memory::default()).abandoned, 0);
    }

    #[test]
    fn what_nothing_explains_is_a_refused_syn() {
        let reading = Reading { sk_drops: 42, drops_base: 2, ..reading() };
        let counts = counts(DERIVED, &reading, &mut Memory::default());
        assert_eq!((counts.overflows.syn, counts.listen_drops), (40, 40));
    }

    #[test]
    fn sk_drops_may_wrap() {
        let reading = Reading { sk_drops: 3, drops_base: u32::MAX - 1, ..reading() };
        let counts = counts(DERIVED, &reading, &mut Memory::default());
        assert_eq!(counts.listen_drops, 5);
    }

    #[test]
    fn without_cookies_a_dropped_syn_is_not_called_an_overflow() {
        let mut memory = Memory::default();
        let off = Reading { sk_drops: 5, syncookies: 0, ..reading() };
        assert_eq!(counts(DERIVED, &off, &mut memory).overflows.syn, 0);
        let on = Reading { sk_drops: 8, ..reading() };
        let counts = counts(DERIVED, &on, &mut memory);
        assert_eq!((counts.overflows.syn, counts.listen_drops), (3, 8));
    }

    #[test]
    fn a_late_explanation_never_turns_a_counter_back() {
        let mut memory = Memory::default();
        let early = Reading { sk_drops: 10, ..reading() };
        assert_eq!(counts(DERIVED, &early, &mut memory).listen_drops, 10);
        let totals = Totals { drops_explained: 4, ..Totals::ZERO };
        let late = Reading { sk_drops: 10, totals, ..reading() };
        assert_eq!(counts(DERIVED, &late, &mut memory).listen_drops, 10);
    }

    #[test]
    fn accepts_are_what_came_and_is_not_there() {
        let totals_before = Totals { enqueued_unknown: 10, ..Totals::ZERO };
        let totals_before = Some(totals_before);
        let reading = Reading { totals_before, queued: 4, queued_base: 3, ..reading() };
        assert_eq!(counts(DERIVED, &reading, &mut Memory::default()).accepts, 9);
    }

    #[test]
    fn accepts_that_the_kernel_did_not_let_us_count_are_in_the_balance() {
        let sources = Sources { accepts: Accepts::Counted, ..DERIVED };
        let totals = Totals { enqueued_handshake: 9, accepts: 5, ..Totals::ZERO };
        let skipped = Reading { totals, totals_before: Some(totals), queued: 2, ..reading() };
        assert_eq!(counts(sources, &skipped, &mut Memory::default()).accepts, 7);
        let all_seen = Reading { totals_before: None, ..skipped };
        assert_eq!(counts(sources, &all_seen, &mut Memory::default()).accepts, 5);
    }

    #[test]
    fn counted_figures_are_taken_as_they_are() {
        let sources = Sources {
            drops: Drops::Counted,
            accepts: Accepts::Counted,
            abandoned: Abandoned::Counted,
            requests: Requests::Counted,
        };
        let totals =
            Totals { overflows_syn: 2, listen_drops: 3, accepts: 4, abandoned: 5, ..Totals::ZERO };
        let reading = Reading { totals, sk_drops: 99, queued: 1, life: Life::Closed, ..reading() };
        let counts = counts(sources, &reading, &mut Memory::default());
        assert_eq!((counts.overflows.syn, counts.listen_drops, counts.accepts), (2, 3, 4));
        assert_eq!(counts.abandoned, 5);
    }
}
