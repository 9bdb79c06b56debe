//! The kernel's own counters on one CPU.
//!
//! A network namespace keeps them per CPU (`struct linux_mib __percpu
//! *net->mib.net_statistics`). Read before and after a call that runs in softirq
//! context, their difference is exactly what that call raised: nothing else that
//! raises them can run on the CPU in between. So a drop is never predicted from a
//! queue length, and a new reason to drop in a future kernel is counted too.

use tcpq_common::iterator::DropCounters;

use crate::{
    calls::CpuState,
    globals::global,
    maps::{CPU_STATE, this_cpu},
    read::{Net, field, or_zero},
};

/// Kernel address of one CPU's `struct linux_mib` of a namespace.
#[derive(Clone, Copy)]
pub(crate) struct Mib(u64);

impl Mib {
    /// This CPU's, of a namespace by its [`Mib::base`].
    #[inline(always)]
    pub(crate) fn here(cpu: &mut CpuState, base: u64) -> Option<Self> {
        if cpu.per_cpu_offset == 0 {
            cpu.per_cpu_offset = offset_of_symbol(this_cpu())?;
        }
        if base == 0 {
            return None;
        }
        Some(Self(base.wrapping_add(cpu.per_cpu_offset)))
    }

    /// What any CPU's offset is added to; 0: it cannot be read, or is not known where.
    #[inline(always)]
    pub(crate) fn base(net: Net) -> u64 {
        if global!(net_statistics) == 0 {
            return 0;
        }
        or_zero(net.0, global!(net_statistics))
    }

    /// Another CPU's.
    #[inline(always)]
    pub(crate) fn of_cpu(cpu: u32, net: Net) -> Option<Self> {
        if global!(per_cpu_offset) != 0 {
            let offset = offset_of_symbol(cpu)?;
            return Self::at(net, offset);
        }
        let state = CPU_STATE.get_ptr(cpu)?;
        // SAFETY: a field of a map value, written once before anything is audited.
        let offset = unsafe { (*state).per_cpu_offset };
        if offset == 0 {
            return None;
        }
        Self::at(net, offset)
    }

    #[inline(always)]
    fn at(net: Net, offset: u64) -> Option<Self> {
        let base = Self::base(net);
        if base == 0 {
            return None;
        }
        Some(Self(base.wrapping_add(offset)))
    }

    /// ListenOverflows and ListenDrops.
    #[inline(always)]
    pub(crate) fn drops(self) -> Option<DropCounters> {
        let [overflows, drops]: [u64; 2] = field(self.0, global!(mib_listen_overflows))?;
        Some(DropCounters { overflows, drops })
    }

    /// TCPReqQFullDrop.
    #[inline(always)]
    pub(crate) fn queue_full_drops(self) -> Option<u64> {
        field(self.0, global!(mib_queue_full_drops))
    }

    /// SyncookiesSent.
    #[inline(always)]
    pub(crate) fn cookies_sent(self) -> Option<u64> {
        field(self.0, global!(mib_cookies_sent))
    }

    /// SyncookiesRecv and SyncookiesFailed.
    #[inline(always)]
    pub(crate) fn cookies_checked(self) -> Option<[u64; 2]> {
        field(self.0, global!(mib_cookies_received))
    }
}

/// What was raised between two readings.
#[inline(always)]
pub(crate) fn raised(before: DropCounters, now: DropCounters) -> DropCounters {
    DropCounters {
        overflows: now.overflows.wrapping_sub(before.overflows),
        drops: now.drops.wrapping_sub(before.drops),
    }
}

#[inline(always)]
pub(crate) fn is_nothing(counters: DropCounters) -> bool {
    counters.overflows | counters.drops == 0
}

/// `__per_cpu_offset[cpu]`.
#[inline(always)]
fn offset_of_symbol(cpu: u32) -> Option<u64> {
    field(global!(per_cpu_offset) + u64::from(cpu) * 8, 0)
}
