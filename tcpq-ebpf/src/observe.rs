//! Adds to a listener's histograms, which all CPUs share: by atomic additions, whose results
//! nobody asks for (Linux 5.10 has no others).

use core::{arch::asm, num::NonZeroU64};

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tcpq_common::histogram::{Fills, Histograms, Times, fill_cell, time_cell};

use crate::maps::HISTOGRAMS;

/// A listener's histograms.
#[derive(Clone, Copy)]
pub(crate) struct Observed(*mut Histograms);

/// Projects a pointer to the histograms to a pointer to one.
macro_rules! histogram {
    ($name:ident) => {
        // SAFETY: a projection within the value; nothing is read.
        |all: *mut tcpq_common::histogram::Histograms| unsafe { &raw mut (*all).$name }
    };
}
pub(crate) use histogram;

impl Observed {
    #[inline(always)]
    pub(crate) fn of(slot: u32) -> Option<Self> {
        HISTOGRAMS.get_ptr_mut(slot).map(Self)
    }

    /// Adds the time since a moment.
    #[inline(always)]
    pub(crate) fn time_since(
        self,
        which: impl FnOnce(*mut Histograms) -> *mut Times,
        moment: Moment,
    ) {
        let us = moment.elapsed_us();
        let times = which(self.0);
        // SAFETY: projections within the map value; the cell is within the array.
        unsafe {
            add((&raw mut (*times).cells).cast::<u64>().add(time_cell(us)), 1);
            add(&raw mut (*times).sum_us, us);
        }
    }

    /// Adds how full a queue is.
    #[inline(always)]
    pub(crate) fn fill(
        self,
        which: impl FnOnce(*mut Histograms) -> *mut Fills,
        length: u32,
        limit: u32,
    ) {
        let (length, limit) = (u64::from(length), u64::from(limit));
        let millionths = length * 1_000_000;
        let millionths = NonZeroU64::new(limit).map_or(millionths, |limit| millionths / limit);
        let fills = which(self.0);
        // SAFETY: as in `time_since`.
        unsafe {
            add((&raw mut (*fills).cells).cast::<u64>().add(fill_cell(length, limit)), 1);
            add(&raw mut (*fills).sum_millionths, millionths);
        }
    }
}

/// A moment, microseconds of the monotonic clock; 0 stands for now.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    /// Without a branch, as what comes after it would be verified for each of its ways. A
    /// moment to come, by a clock read on another CPU, counts as now.
    #[inline(always)]
    fn elapsed_us(self) -> u64 {
        // SAFETY: the helper has no arguments and cannot fail.
        let now = unsafe { bpf_ktime_get_ns() } / 1000;
        let elapsed = now.wrapping_sub(self.0);
        let is_past = (elapsed >> 63).wrapping_sub(1);
        let is_known = ((self.0 | self.0.wrapping_neg()) >> 63).wrapping_neg();
        elapsed & is_past & is_known
    }
}

/// # Safety
///
/// The pointer is to an aligned integer of a map value.
#[inline(always)]
unsafe fn add(integer: *mut u64, count: u64) {
    // SAFETY: by the caller; all writes are atomic additions, and the daemon's copy of the
    // value is of whole integers.
    unsafe {
        asm!("lock *(u64 *)({} + 0) += {}", in(reg) integer, in(reg) count, options(nostack));
    }
}
