//! The kernel's own ListenOverflows and ListenDrops on this CPU.
//!
//! A network namespace keeps these counters per CPU (`struct linux_mib __percpu
//! *net->mib.net_statistics`). Read before and after a call that runs in softirq
//! context, their difference is exactly what that call raised: nothing else that
//! raises them can run on the CPU in between. So a drop is never predicted from a
//! queue length, and a new reason to drop in a future kernel is counted too.

use crate::{
    calls::CpuState,
    globals::global,
    read::{Sock, field},
};

/// The two counters, and where they are.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Mib {
    /// Kernel address of this CPU's `struct linux_mib` of the namespace.
    address: u64,
    overflows: u64,
    drops: u64,
}

/// What was raised between two readings.
#[derive(Clone, Copy)]
pub(crate) struct Raised {
    pub(crate) overflows: u64,
    pub(crate) drops: u64,
}

impl Raised {
    #[inline(always)]
    pub(crate) fn nothing(self) -> bool {
        self.overflows | self.drops == 0
    }
}

impl Mib {
    /// Reads both counters of the namespace of `sk` on this CPU.
    #[inline(always)]
    pub(crate) fn read(cpu: &mut CpuState, sk: Sock) -> Option<Self> {
        let offset = per_cpu_offset(cpu)?;
        let base: u64 = field(sk.net().0, global!(net_statistics))?;
        Self::at(base.wrapping_add(offset))
    }

    /// Reads them again at the same place.
    #[inline(always)]
    pub(crate) fn raised_since(self) -> Option<Raised> {
        let now = Self::at(self.address)?;
        Some(Raised {
            overflows: now.overflows.wrapping_sub(self.overflows),
            drops: now.drops.wrapping_sub(self.drops),
        })
    }

    #[inline(always)]
    fn at(address: u64) -> Option<Self> {
        Some(Self {
            address,
            overflows: field(address, global!(mib_listen_overflows))?,
            drops: field(address, global!(mib_listen_drops))?,
        })
    }
}

/// `__per_cpu_offset[this CPU]`, remembered after the first read.
#[inline(always)]
fn per_cpu_offset(cpu: &mut CpuState) -> Option<u64> {
    if cpu.per_cpu_offset == 0 {
        // SAFETY: the helper has no arguments and cannot fail.
        let id = unsafe { aya_ebpf::helpers::bpf_get_smp_processor_id() };
        cpu.per_cpu_offset = field(global!(per_cpu_offset) + u64::from(id) * 8, 0)?;
    }
    Some(cpu.per_cpu_offset)
}
