//! What this process may do: enough to start, and from then on as little as it gets on with.

use std::{io, path::Path};

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

use crate::kernel::error::KernelError;

/// Bits of `CapEff`, include/uapi/linux/capability.h.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// An error that names the capabilities this process lacks.
pub fn check(procfs: &Path) -> Result<(), KernelError> {
    let path = procfs.join("thread-self/status");
    let status =
        std::fs::read_to_string(&path).map_err(|source| KernelError::NoProcfs { path, source })?;
    let effective = effective(&status);
    let has = |bit: u32| effective & (1 << bit) != 0;
    if has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_PERFMON)) {
        return Ok(());
    }
    let missing: Vec<_> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter(|(bit, _)| !has(*bit))
        .map(|(_, name)| name)
        .collect();
    Err(KernelError::Privilege { missing: missing.join(", ") })
}

/// What is used once hooks are attached. CAP_BPF to read maps and iterators where
/// `kernel.unprivileged_bpf_disabled` is set (kernel/bpf/syscall.c, `__sys_bpf`); the others
/// to look at the owners of listeners: at other users' /proc/PID/fd, and at what only a tracer
/// may see of a process.
const GOES_ON_WITH: CapabilitySet =
    CapabilitySet::BPF.union(CapabilitySet::SYS_PTRACE).union(CapabilitySet::DAC_READ_SEARCH);

/// Leaves this thread, and those that it starts from now on, with what the daemon goes on with
/// of what it has, and without a way to get more. Threads that are there already keep theirs.
pub fn give_up_the_rest() -> io::Result<()> {
    set_no_new_privs(true)?;
    let CapabilitySets { permitted, .. } = capabilities(None)?;
    let mut kept = permitted.intersection(GOES_ON_WITH);
    // Who gave all of it in one (a container's --cap-add SYS_ADMIN) has no CAP_BPF.
    if !kept.contains(CapabilitySet::BPF) {
        kept |= permitted.intersection(CapabilitySet::SYS_ADMIN);
    }
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?;
    Ok(())
}

/// `CapEff` of a process's status; none where it does not say.
fn effective(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_does_not_come_back() {
        // Of this thread only.
        let thread = std::thread::spawn(|| {
            give_up_the_rest().unwrap();
            let all = CapabilitySets {
                effective: CapabilitySet::all(),
                permitted: CapabilitySet::all(),
                inheritable: CapabilitySet::empty(),
            };
            assert!(set_capabilities(None, all).is_err());
            let left = std::thread::spawn(|| capabilities(None).unwrap()).join().unwrap();
            let allowed = GOES_ON_WITH.union(CapabilitySet::SYS_ADMIN);
            assert!(allowed.contains(left.permitted), "{left:?}");
        });
        thread.join().unwrap();
    }
}
