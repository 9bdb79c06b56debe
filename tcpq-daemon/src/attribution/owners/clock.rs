//! When a process started, on the clock by which the kernel dates sockets.

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::attribution::process::ProcessId;

/// Whether a process was there at a moment of `CLOCK_MONOTONIC`, in nanoseconds.
///
/// Processes are dated by `CLOCK_BOOTTIME`, which goes on while the machine sleeps, in
/// ticks rounded down. A machine that has slept since makes this say yes more often,
/// never less.
pub(super) fn was_there(id: ProcessId, moment_ns: u64) -> bool {
    let ticks = u128::from(procfs::ticks_per_second().max(1));
    let start = u128::from(id.start) * 1_000_000_000 / ticks;
    let asleep = nanoseconds(clock_gettime(ClockId::Boottime))
        .saturating_sub(nanoseconds(clock_gettime(ClockId::Monotonic)));
    start <= u128::from(moment_ns) + asleep
}

fn nanoseconds(time: Timespec) -> u128 {
    let seconds = u128::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u128::try_from(time.tv_nsec).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_clocks_agree_with_this() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let proc = std::path::Path::new("/proc");
        let start = crate::attribution::process::start_of(proc, pid).unwrap();
        let id = ProcessId { start, pid };
        let now = u64::try_from(nanoseconds(clock_gettime(ClockId::Monotonic))).unwrap();
        assert!(was_there(id, now));
        assert!(!was_there(id, now - 1_000_000_000));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
