//! Whether this process may do what it is about to.

use std::path::Path;

use crate::kernel::error::KernelError;

/// Bits of `CapEff`, include/uapi/linux/capability.h.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// An error that names the capabilities this process lacks.
pub fn check(procfs: &Path) -> Result<(), KernelError> {
    let effective = effective(procfs);
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

/// `CapEff` of this process; nothing where it cannot be read.
fn effective(procfs: &Path) -> u64 {
    std::fs::read_to_string(procfs.join("self/status"))
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .unwrap_or(0)
}
