//! A listener has closed: what it leaves, and how long more may come for it.

use std::time::{Duration, Instant};

use tcpq_common::{
    listener::{End, ListenerKey, Retired},
    totals::{RequestLost, Totals},
};

use crate::{
    engine::{
        attribute::Attribute,
        derive::{self, Life, Reading, Requests},
        groups::{Groups, totals_of},
    },
    model::{counts::Counts, sample::Sample},
};

/// How long a closed listener is kept at least. The kernel side says more exactly until when
/// something may be on its way to it, but not on every kernel.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How long it is kept for its requests, which go when their timer fires or a packet
/// comes: `TCP_RTO_MAX` is 120 s.
const REQUESTS_WITHIN: Duration = Duration::from_secs(130);

/// Requests that left the SYN queue after the close. One whose final ACK was being handled
/// at that moment completes, and its child is reset or moves on like those that were queued.
fn requests_ended(totals: &Totals, retired: &Retired) -> u64 {
    let [.., closed, _] = totals.requests_lost;
    const { assert!(RequestLost::ListenerClosed as usize + 2 == RequestLost::ALL.len()) };
    let children = totals.abandoned + totals.migrated_away;
    closed + children.saturating_sub(retired.accept_queue_length.into())
}

impl Groups {
    /// Takes the figures of a closed listener. True: there is nothing to wait for.
    pub(super) fn retire(
        &mut self,
        key: ListenerKey,
        retired: &Retired,
        sample: &Sample,
        attribution: &mut dyn Attribute,
        now: Instant,
    ) -> bool {
        if retired.end == End::Missed as u32 {
            // The socket lives again, and its fields are the new life's.
            self.lose(key, attribution);
            return true;
        }
        self.namespaces.saw(retired.listener.netns_id, now);
        let totals = totals_of(&sample.totals, key);
        let reading = Reading {
            totals_before: sample.totals_before.as_ref().map(|_| totals),
            totals,
            sk_drops: retired.sk_drops,
            drops_base: retired.listener.drops_base,
            queued: retired.accept_queue_length,
            queued_base: retired.listener.queued_base,
            life: Life::Closed,
            syncookies: retired.syncookies,
        };
        let known = self.sockets.contains_key(&key);
        let mut memory = self.sockets.get(&key).map(|socket| socket.memory).unwrap_or_default();
        let counts = derive::counts(self.sources, &reading, &mut memory);
        // A listen() that failed at once (address in use) leaves nothing to tell.
        let is_nothing = !known && (counts == Counts::default() || retired.listener.port == 0);
        if !is_nothing {
            let socket = self.socket(key, &retired.listener, attribution, now);
            socket.count(&counts);
            socket.memory = memory;
            socket.observe(sample, key);
            socket.life = Life::Closed;
            // Should it be read as a listener again, nothing of it is as it was.
            socket.row = None;
            let group = socket.group;
            self.shown.touch(group);
        }
        let waits = self.waits(key, retired, &totals, now) || sample.in_flight.contains(&key);
        if !waits {
            self.lose(key, attribution);
        }
        !waits
    }

    /// Lets go of the listeners that have been closed the longest, as many as there is no
    /// room for: least is still to come for them.
    pub(super) fn make_room(&mut self, attribution: &mut dyn Attribute) -> Vec<ListenerKey> {
        let excess = self.closing.len().saturating_sub(self.closing_limit);
        if excess == 0 {
            return Vec::new();
        }
        let mut by_age: Vec<_> = self.closing.iter().map(|(key, since)| (*since, *key)).collect();
        by_age.sort_unstable();
        by_age.truncate(excess);
        let oldest: Vec<_> = by_age.into_iter().map(|(_, key)| key).collect();
        for key in &oldest {
            self.closing.remove(key);
            self.done.insert(*key);
            self.lose(*key, attribution);
        }
        oldest
    }

    /// Whether more may come for a closed listener.
    fn waits(
        &mut self,
        key: ListenerKey,
        retired: &Retired,
        totals: &Totals,
        now: Instant,
    ) -> bool {
        let since = *self.closing.entry(key).or_insert(now);
        let waited = now.duration_since(since);
        let requests_gone = match self.sources.requests {
            Requests::Counted => {
                requests_ended(totals, retired) >= u64::from(retired.syn_queue_length)
            }
            Requests::Unseen => true,
        };
        waited < GRACE || (!requests_gone && waited < REQUESTS_WITHIN)
    }
}
