//! Every map, its size and why.
//!
//! The sizes here are defaults; the daemon sets those of listeners, records and CPUs
//! at load from its settings and the machine. Hash maps are preallocated: kernels
//! before 6.1 warn when a kprobe program uses one that allocates at run time.

use aya_ebpf::{
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, Stack},
};
use tcpq_common::{
    histogram::Histograms,
    iterator::{
        AUDIT_ROWS, AuditKey, AuditRow, DropCounters, LISTENER_ROWS, ListenerRow, NetnsBase,
    },
    listener::{Life, Listener, ListenerKey, Retired, Tenant},
    totals::{Loss, Totals},
};

use crate::{calls::CpuState, recent::Recents};

/// `BPF_F_MMAPABLE` of include/uapi/linux/bpf.h: the daemon reads and clears these maps as
/// memory, without a system call, during which kprobe programs would be skipped.
const MMAPABLE: u32 = 1 << 10;

/// Live listeners by the address of their socket.
#[map]
pub(crate) static LISTENERS: HashMap<u64, Listener> = HashMap::with_max_entries(4096, 0);

/// Slots that are nobody's. The daemon puts them there, and back when it is done with a
/// listener: a program that finds a slot by a listener needs no other look-up for what belongs
/// to it.
#[map]
pub(crate) static FREE_SLOTS: Stack<u32> = Stack::with_max_entries(8192, 0);

/// Whose each slot is; also those of listeners in `RETIRED`.
#[map]
pub(crate) static TENANTS: Array<Tenant> = Array::with_max_entries(8192, MMAPABLE);

/// What happened to each, by slot and CPU.
#[map]
pub(crate) static TOTALS: Array<Totals> = Array::with_max_entries(8192, MMAPABLE);

/// What was observed of each, by slot. One copy for all CPUs: a copy for each would be read for
/// each. The last slots, which are used when many listeners close at once, have none.
#[map]
pub(crate) static HISTOGRAMS: Array<Histograms> = Array::with_max_entries(5120, MMAPABLE);

/// Threads inside `inet_csk_accept`, and the listener that each is at. What a thread leaves
/// when it takes no connection is replaced by its next call, or evicted.
#[map]
pub(crate) static ACCEPTING: LruHashMap<u64, u64> = LruHashMap::with_max_entries(8192, 0);

/// Connections that one of two programs at the exit of accept() has counted, and the other has
/// not come by yet.
#[map]
pub(crate) static ACCEPTED: Array<u64> = Array::with_max_entries(ACCEPTED_SLOTS, 0);
pub(crate) const ACCEPTED_SLOTS: u32 = 4096;

/// Closed listeners whose last totals the daemon has not taken yet.
#[map]
pub(crate) static RETIRED: HashMap<ListenerKey, Retired> = HashMap::with_max_entries(4096, 0);

/// The last life of a socket that listened: what happens to it after its close is
/// found by it. An entry that is evicted costs a late event its credit.
#[map]
pub(crate) static LAST_LIVES: LruHashMap<u64, Life> = LruHashMap::with_max_entries(4096, 0);

/// What each CPU is in the middle of: an array with one entry per possible CPU and not
/// a per-CPU one, so that the audit can look at another CPU's.
#[map]
pub(crate) static CPU_STATE: Array<CpuState> = Array::with_max_entries(1, 0);

/// Where its only value lies on a CPU tells that CPU's offset.
#[map]
pub(crate) static CPU_CELLS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Drops credited to listeners, by namespace and CPU.
#[map]
pub(crate) static AUDIT: HashMap<AuditKey, DropCounters> = HashMap::with_max_entries(4096, 0);

/// What the programs that the daemon runs have read for it last.
#[map]
pub(crate) static LISTENER_ROWS_READ: Array<ListenerRow> =
    Array::with_max_entries(LISTENER_ROWS, MMAPABLE);
#[map]
pub(crate) static AUDIT_ROWS_READ: Array<AuditRow> = Array::with_max_entries(AUDIT_ROWS, MMAPABLE);

/// Where the audit of each namespace starts.
#[map]
pub(crate) static NETNS_BASES: LruHashMap<u64, NetnsBase> = LruHashMap::with_max_entries(4096, 0);

/// Requests that are being killed by `tcp_abort`.
#[map]
pub(crate) static ABORTING: LruHashMap<u64, u64> = LruHashMap::with_max_entries(256, 0);

/// Where each CPU has found listeners lately.
#[map]
pub(crate) static RECENT: Array<Recents> = Array::with_max_entries(1, 0);

/// How often a listener has come or gone, so far.
#[map]
pub(crate) static GENERATION: Array<u64> = Array::with_max_entries(1, 0);

/// Losses by [`Loss`].
#[map]
static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Loss::ALL.len() as u32, 0);

/// Records to the daemon.
#[map]
pub(crate) static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// The number of this CPU.
#[inline(always)]
pub(crate) fn this_cpu() -> u32 {
    // SAFETY: the helper has no arguments and cannot fail.
    unsafe { bpf_get_smp_processor_id() as u32 }
}

/// This CPU's slot. Only for programs on functions that run in softirq context, or with
/// it held off.
#[inline(always)]
pub(crate) fn cpu_state() -> Option<&'static mut CpuState> {
    let state = CPU_STATE.get_ptr_mut(this_cpu())?;
    // SAFETY: only this CPU writes the slot, and softirq context does not nest on a
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
