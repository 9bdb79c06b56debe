//! Adds to a listener's totals on this CPU.

use tcpq_common::{
    listener::{Listener, Tenant},
    totals::Totals,
};

use crate::{
    globals::global,
    lifecycle::{self, NO_SLOT, Pending},
    maps::{TENANTS, TOTALS, this_cpu},
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
    slot: u32,
}

impl Credit {
    /// The listener that has a slot.
    #[inline(always)]
    pub(crate) fn of(slot: u32) -> Option<Self> {
        if slot == NO_SLOT {
            return None;
        }
        let totals = TOTALS.get_ptr_mut(slot * global!(cpus) + this_cpu())?;
        Some(Self { totals: CpuTotals(totals), slot })
    }

    /// Its network namespace.
    #[inline(always)]
    pub(crate) fn netns_id(self) -> u64 {
        tenant(self.slot).map_or(0, |tenant| tenant.netns_id)
    }

    /// The listener's histograms. They are added to before the event is counted: the daemon
    /// reads them again only if a count has moved.
    #[inline(always)]
    pub(crate) fn observed(self) -> Option<Observed> {
        Observed::of(self.slot)
    }
}

/// The listener at `sk`, or the one that was there last.
#[inline(always)]
pub(crate) fn credit(sk: Sock, pending: Pending) -> Option<Credit> {
    Credit::of(lifecycle::slot(sk, pending))
}

/// Whose a slot is.
#[inline(always)]
pub(crate) fn tenant(slot: u32) -> Option<&'static Tenant> {
    TENANTS.get(slot)
}

/// Whether a slot is the listener's at `sk`, this life's or an earlier one's.
#[inline(always)]
pub(crate) fn belongs(slot: u32, sk: Sock) -> bool {
    tenant(slot).is_some_and(|tenant| tenant.sk == sk.0)
}

/// What is remembered of the listener at `sk`, or of the one that has closed there.
#[inline(always)]
pub(crate) fn described(sk: Sock) -> Option<&'static Listener> {
    if let Some(listener) = lifecycle::entry(sk)
        && belongs(listener.slot, sk)
    {
        return Some(listener);
    }
    // It closes, or has closed, and the entry is another one's by now.
    lifecycle::retired(sk)
}
