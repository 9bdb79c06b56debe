//! Whether this process may do what it is about to.

use std::path::Path;

use crate::kernel::error::KernelError;

/// Bits of `CapEff`, include/uapi/linux/capability.h.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// An error that names the capabilities this process lacks.
pub fn check(procfs: &Path) -> Result<(), KernelError> {
    let path = procfs.join("self/status");
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

/// `CapEff` of a process's status; none where it does not say.
fn effective(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0)
}
