//! Whether the kernel preempts a thread that is in the kernel, and so inside a program of ours
//! that runs in process context. Then another thread that comes by on that CPU finds the
//! program busy, and the kernel skips it.

use std::{fs, path::Path};

/// What a thread in the kernel has to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// It gives up the CPU only where it says so.
    Never,
    /// Another thread may take the CPU from it.
    Possible,
}

impl Preemption {
    /// Of the running kernel. Where it cannot be told, it is possible: what is done about it
    /// costs little, and a connection that is not seen more.
    pub(super) fn read(procfs: &Path, sysfs: &Path) -> Self {
        let version = fs::read_to_string(procfs.join("sys/kernel/version"));
        if version.is_ok_and(|version| !version.contains("PREEMPT")) {
            return Self::Never;
        }
        // debugfs, which need not be there: the mode that is chosen at boot or at run time.
        let modes = fs::read_to_string(sysfs.join("kernel/debug/sched/preempt"));
        modes.map_or(Self::Possible, |modes| Self::of_mode(&modes))
    }

    /// `none (voluntary) full`: the mode in force is in parentheses
    /// (`sched_dynamic_show`, kernel/sched/debug.c).
    fn of_mode(modes: &str) -> Self {
        let is_in_force = |mode: &str| modes.split_whitespace().any(|word| word == mode);
        if is_in_force("(none)") || is_in_force("(voluntary)") {
            Self::Never
        } else {
            Self::Possible
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with the files that tell, as far as they are given.
    fn read(version: Option<&str>, modes: Option<&str>) -> Preemption {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: Option<&str>| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            text.map_or(Ok(()), |text| fs::write(path, text)).unwrap();
        };
        write("sys/kernel/version", version);
        write("kernel/debug/sched/preempt", modes);
        Preemption::read(root.path(), root.path())
    }

    const DYNAMIC: &str = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.107-1 (2026-08-01)";

    #[test]
    fn the_mode_in_force_decides() {
        assert_eq!(read(Some(DYNAMIC), Some("none (voluntary) full \n")), Preemption::Never);
        assert_eq!(read(Some(DYNAMIC), Some("(none) voluntary full lazy\n")), Preemption::Never);
        assert_eq!(read(Some(DYNAMIC), Some("none voluntary full (lazy)\n")), Preemption::Possible);
        assert_eq!(read(Some(DYNAMIC), Some("(full) lazy\n")), Preemption::Possible);
    }

    #[test]
    fn a_kernel_built_without_it_never_does() {
        let without = "#1 SMP Debian 5.10.223-1 (2024-08-10)";
        assert_eq!(read(Some(without), Some("(full)\n")), Preemption::Never);
    }

    #[test]
    fn what_cannot_be_told_is_possible() {
        assert_eq!(read(Some(DYNAMIC), None), Preemption::Possible);
        assert_eq!(read(None, None), Preemption::Possible);
        assert_eq!(read(Some(DYNAMIC), Some("")), Preemption::Possible);
    }
}
