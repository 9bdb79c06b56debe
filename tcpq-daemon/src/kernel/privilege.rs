//! What this process may do: enough to start, and from then on as little as it gets on with.

use std::{io, path::Path};

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

use crate::kernel::error::KernelError;

/// A capability that tcpq can use, and what there is not without it.
#[derive(Debug, PartialEq, Eq)]
pub struct Privilege {
    bit: CapabilitySet,
    /// As capabilities(7) has it.
    pub name: &'static str,
    /// What lacks without it.
    pub without: &'static str,
}

/// All of them; docs/security.md has the same, and deploy/systemd/tcpq.service grants them.
pub const ALL: [Privilege; 7] = [
    Privilege {
        bit: CapabilitySet::BPF,
        name: "CAP_BPF",
        without: "programs cannot be loaded: tcpq does not start",
    },
    Privilege {
        bit: CapabilitySet::PERFMON,
        name: "CAP_PERFMON",
        without: "programs cannot be attached to the kernel: tcpq does not start",
    },
    Privilege {
        bit: CapabilitySet::SYS_ADMIN,
        name: "CAP_SYS_ADMIN",
        without: "listeners that other network namespaces have already are not seen until \
                  something happens to them, and there is no self-test",
    },
    Privilege {
        bit: CapabilitySet::NET_ADMIN,
        name: "CAP_NET_ADMIN",
        without: "the loopback interface of the self-test's own network namespace stays down: \
                  there is no self-test",
    },
    Privilege {
        bit: CapabilitySet::SYSLOG,
        name: "CAP_SYSLOG",
        without: "addresses in /proc/kallsyms are hidden: before Linux 5.19, and by the \
                  tracepoint backend, some counts are derived or absent",
    },
    Privilege {
        bit: CapabilitySet::SYS_PTRACE,
        name: "CAP_SYS_PTRACE",
        without: "which process has a listener open, and what it waits for, is not known",
    },
    Privilege {
        bit: CapabilitySet::DAC_READ_SEARCH,
        name: "CAP_DAC_READ_SEARCH",
        without: "open files of other users' processes, and tracefs, cannot be looked at",
    },
];

/// Those of [`ALL`] that this thread lacks. Who has CAP_SYS_ADMIN may do what CAP_BPF and
/// CAP_PERFMON allow, too (include/linux/capability.h, `bpf_capable`, `perfmon_capable`).
pub fn missing(procfs: &Path) -> Result<Vec<&'static Privilege>, KernelError> {
    let path = procfs.join("thread-self/status");
    let status =
        std::fs::read_to_string(&path).map_err(|source| KernelError::NoProcfs { path, source })?;
    let mut held = CapabilitySet::from_bits_retain(effective(&status));
    if held.contains(CapabilitySet::SYS_ADMIN) {
        held |= CapabilitySet::BPF | CapabilitySet::PERFMON;
    }
    Ok(ALL.iter().filter(|privilege| !held.contains(privilege.bit)).collect())
}

/// An error that names the capabilities without which this process cannot start.
pub fn check(procfs: &Path) -> Result<(), KernelError> {
    let needed = CapabilitySet::BPF | CapabilitySet::PERFMON;
    let missing: Vec<_> = missing(procfs)?
        .into_iter()
        .filter(|privilege| needed.contains(privilege.bit))
        .map(|privilege| privilege.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
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
