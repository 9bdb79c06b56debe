//! Adds to a listener's totals on this CPU.

use tcpq_common::{
    listener::{Listener, ListenerKey},
    totals::{Loss, Totals},
};

use crate::{
    lifecycle::{self, Pending},
    maps::{TOTALS, lose},
    observe::Observed,
    read::Sock,
};

/// A listener's totals on this CPU. A pointer, not a reference: accept() in process
/// context may be interrupted by the softirq that adds to another field.
#[derive(Clone, Copy)]
pub(crate) struct CpuTotals(*mut Totals);

impl CpuTotals {
    /// Adds to one field, which a projection names.
    #[inline(always)]
    pub(crate) fn add(self, field: impl FnOnce(*mut Totals) -> *mut u64, count: u64) {
        self.set(field(self.0), |value| value + count);
    }

    /// Replaces one field, which a projection names.
    #[inline(always)]
    pub(crate) fn update(
        self,
        field: impl FnOnce(*mut Totals) -> *mut u64,
        change: impl FnOnce(u64) -> u64,
    ) {
        self.set(field(self.0), change);
    }

    #[inline(always)]
    fn set(self, field: *mut u64, change: impl FnOnce(u64) -> u64) {
        // SAFETY: the value is this CPU's own slot of a map that outlives the
        // program. Should the daemon have forgotten the listener just now, the slot
        // may already be another's: that takes an event on a socket a second after
        // its close, and adds one to a fresh listener's total.
        unsafe { *field = change(*field) };
    }

    /// Reads one field, which a projection names.
    #[inline(always)]
    pub(crate) fn get(self, field: impl FnOnce(*mut Totals) -> *mut u64) -> u64 {
        // SAFETY: as in `set`.
        unsafe { *field(self.0) }
    }
}

/// Projects a pointer to the totals to a pointer to one field, or to one of an array.
macro_rules! field {
    ($name:ident $([$index:expr])?) => {
        // SAFETY: a projection within the value; nothing is read.
        |totals: *mut tcpq_common::totals::Totals| unsafe { &raw mut (*totals).$name $([$index])? }
    };
}
pub(crate) use field;

/// Whom an event is added to.
#[derive(Clone, Copy)]
pub(crate) struct Credit {
    /// The listener's totals on this CPU.
    pub(crate) totals: CpuTotals,
    /// Its network namespace.
    pub(crate) netns_id: u64,
    key: ListenerKey,
}

impl Credit {
    /// The listener's histograms. They are added to before the event is counted: the daemon
    /// reads them again only if a count has moved.
    #[inline(always)]
    pub(crate) fn observed(self) -> Option<Observed> {
        Observed::of(self.key)
    }
}

/// The listener at `sk`, or the one that was there last.
#[inline(always)]
pub(crate) fn credit(sk: Sock, pending: Pending) -> Option<Credit> {
    let life = lifecycle::life(sk, pending);
    if life.born_ns == 0 {
        return None;
    }
    let key = ListenerKey { sk: sk.0, born_ns: life.born_ns };
    if let Some(totals) = TOTALS.get_ptr_mut(key) {
        return Some(Credit { totals: CpuTotals(totals), netns_id: life.netns_id, key });
    }
    // The listener closed between finding its entry and reading it, and the entry was another
    // one's by then (preallocated maps re-use at once). Its last life was noted before.
    let life = lifecycle::last_life(sk);
    if life.born_ns == 0 {
        return None;
    }
    let key = ListenerKey { sk: sk.0, born_ns: life.born_ns };
    Some(Credit { totals: of(key)?, netns_id: life.netns_id, key })
}

/// What is remembered of the listener at `sk`, or of the one that has closed there, and its
/// totals.
#[inline(always)]
pub(crate) fn described(sk: Sock) -> Option<(&'static Listener, CpuTotals)> {
    if let Some(listener) = lifecycle::entry(sk)
        && let Some(totals) = TOTALS.get_ptr_mut(key(sk, listener))
    {
        return Some((listener, CpuTotals(totals)));
    }
    // As in `credit`.
    let listener = lifecycle::retired(sk)?;
    Some((listener, of(key(sk, listener))?))
}

#[inline(always)]
fn key(sk: Sock, listener: &Listener) -> ListenerKey {
    ListenerKey { sk: sk.0, born_ns: listener.born_ns }
}

#[inline(always)]
fn of(key: ListenerKey) -> Option<CpuTotals> {
    let totals = TOTALS.get_ptr_mut(key);
    if totals.is_none() {
        lose(Loss::TotalsMissing);
    }
    totals.map(CpuTotals)
}
