//! What of the kernel's own counters is credited to listeners, per namespace and CPU.
//!
//! The audit compares the two from another CPU while both move. They agree whenever
//! the CPU is in no hooked call, so a reader takes both figures between two looks at
//! the CPU's state and keeps them if it was in no call and began none: exact under
//! load, without a lock and without any work in the calls themselves.

use tcpq_common::{
    iterator::{AuditKey, AuditRow, AuditState, AuditTarget, DropCounters, NetnsBase},
    totals::Loss,
};

use crate::{
    calls::CpuState,
    globals::global,
    maps::{AUDIT, NETNS_BASES, lose, this_cpu},
    mib::Mib,
    read::{Net, Sock},
};

/// CPUs that the base of a new namespace is summed over. With more of them its audit
/// starts with the first look of the daemon.
const MAX_CPUS: u32 = 512;
/// Looks at a CPU before it is called busy.
const LOOKS: u32 = 8;
/// `BPF_NOEXIST`.
const NOEXIST: u64 = 1;

/// Drops that were added to a listener's totals on this CPU.
#[inline(always)]
pub(crate) fn credit(netns_id: u64, raised: DropCounters) {
    let key = AuditKey { netns_id, cpu: this_cpu(), reserved: 0 };
    if let Some(credited) = AUDIT.get_ptr_mut(key) {
        // SAFETY: only this CPU writes the entry, in softirq context.
        unsafe {
            (*credited).overflows += raised.overflows;
            (*credited).drops += raised.drops;
        }
    } else if AUDIT.insert(key, raised, NOEXIST).is_err() {
        lose(Loss::AuditFull);
    }
}

/// Remembers where the audit of a namespace starts, when its first listener is seen.
#[inline(always)]
pub(crate) fn begin(netns_id: u64, net: Net, opens_now: bool) {
    if NETNS_BASES.get_ptr(netns_id).is_some() {
        return;
    }
    let mut base = NetnsBase::ZERO;
    if opens_now && global!(cpus) <= MAX_CPUS {
        base.is_known = 1;
        for cpu in 0..MAX_CPUS {
            if cpu >= global!(cpus) {
                break;
            }
            let Some(kernel) = Mib::of_cpu(cpu, net).and_then(Mib::drops) else {
                base.is_known = 0;
                break;
            };
            let credited = credited(netns_id, cpu);
            base.kernel.overflows += kernel.overflows;
            base.kernel.drops += kernel.drops;
            base.credited.overflows += credited.overflows;
            base.credited.drops += credited.drops;
        }
    }
    // Another CPU may have been faster, and is as right.
    let _ = NETNS_BASES.insert(netns_id, base, NOEXIST);
}

/// One CPU's part, both figures of one moment if the state says so.
#[inline(always)]
pub(crate) fn row(target: &AuditTarget, cpu: u32, state: *const CpuState) -> AuditRow {
    let mut row = AuditRow { cpu, state: AuditState::Busy as u32, ..AuditRow::ZERO };
    let Some(mib) = Mib::of_cpu(cpu, Net(target.net)) else {
        row.state = AuditState::Unreadable as u32;
        return row;
    };
    for _ in 0..LOOKS {
        let before = CpuState::look(state);
        let Some(kernel) = mib.drops() else {
            row.state = AuditState::Unreadable as u32;
            break;
        };
        row.kernel = kernel;
        row.credited = credited(target.netns_id, cpu);
        let after = CpuState::look(state);
        if before.is_idle() && after.is_idle() && before.begun == after.begun {
            row.state = AuditState::Consistent as u32;
            break;
        }
    }
    // The counters are the namespace's, and a listener keeps its namespace alive.
    let sk = Sock(target.sk);
    if !sk.is_tcp_listener() || sk.net().0 != target.net {
        row.state = AuditState::Gone as u32;
    }
    row
}

#[inline(always)]
fn credited(netns_id: u64, cpu: u32) -> DropCounters {
    match AUDIT.get_ptr(AuditKey { netns_id, cpu, reserved: 0 }) {
        // SAFETY: two whole integers of a map value; that they belong together is what
        // the reader makes sure of.
        Some(found) => unsafe {
            DropCounters {
                overflows: core::ptr::read_volatile(&raw const (*found).overflows),
                drops: core::ptr::read_volatile(&raw const (*found).drops),
            }
        },
        None => DropCounters::ZERO,
    }
}
