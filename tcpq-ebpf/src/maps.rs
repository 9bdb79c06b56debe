//! Every map, its size and why.
//!
//! The sizes here are defaults; the daemon sets those of listeners and records at
//! load from its settings. Hash maps are preallocated: kernels
//! before 6.1 warn when a kprobe program uses one that allocates at run time.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use tcpq_common::{
    listener::{Listener, ListenerKey, Retired},
    totals::{Loss, Totals},
};

use crate::calls::CpuState;

/// Live listeners by the address of their socket.
#[map]
pub(crate) static LISTENERS: HashMap<u64, Listener> = HashMap::with_max_entries(4096, 0);

/// What happened to each; also of those in `RETIRED`.
#[map]
pub(crate) static TOTALS: PerCpuHashMap<ListenerKey, Totals> =
    PerCpuHashMap::with_max_entries(8192, 0);

/// Closed listeners whose last totals the daemon has not taken yet (it does every tick).
#[map]
pub(crate) static RETIRED: HashMap<ListenerKey, Retired> = HashMap::with_max_entries(4096, 0);

/// What this CPU is in the middle of.
#[map]
pub(crate) static CPU_STATE: PerCpuArray<CpuState> = PerCpuArray::with_max_entries(1, 0);

/// Losses by [`Loss`].
#[map]
static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Loss::ALL.len() as u32, 0);

/// Records to the daemon.
#[map]
pub(crate) static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// This CPU's slot. Only for programs on functions that run in softirq context.
#[inline(always)]
pub(crate) fn cpu_state() -> Option<&'static mut CpuState> {
    let state = CPU_STATE.get_ptr_mut(0)?;
    // SAFETY: the slot is this CPU's own, and softirq context does not nest on a
    // CPU, so no caller holds a reference while another takes one.
    Some(unsafe { &mut *state })
}

#[inline(always)]
pub(crate) fn lose(loss: Loss) {
    if let Some(count) = LOSSES.get_ptr_mut(loss as u32) {
        // SAFETY: the slot is this CPU's own; an interrupt in between may lose one.
        unsafe { *count += 1 };
    }
}
