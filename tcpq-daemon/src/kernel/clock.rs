//! The kernel's clocks.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// What the time of day was when `CLOCK_MONOTONIC`, by which the programs stamp, was 0. It
/// changes when the time of day is set and while the host is suspended.
pub(super) fn monotonic_zero() -> Duration {
    let monotonic = since_zero(clock_gettime(ClockId::Monotonic));
    let real = since_zero(clock_gettime(ClockId::Realtime));
    real.saturating_sub(monotonic)
}

/// The CPU time that the calling thread has taken so far.
pub fn thread_cpu() -> Duration {
    since_zero(clock_gettime(ClockId::ThreadCPUTime))
}

/// `CLOCK_MONOTONIC` now. Unit: nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = since_zero(clock_gettime(ClockId::Monotonic));
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

fn since_zero(Timespec { tv_sec, tv_nsec }: Timespec) -> Duration {
    let nanoseconds = u32::try_from(tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(tv_sec).unwrap_or(0), nanoseconds)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn it_is_when_the_clock_began() {
        let monotonic = since_zero(clock_gettime(ClockId::Monotonic));
        let now = SystemTime::UNIX_EPOCH + monotonic_zero() + monotonic;
        let error = SystemTime::now().duration_since(now).unwrap_or_default();
        assert!(error < Duration::from_secs(10), "{error:?}");
        assert!(monotonic_zero() > Duration::ZERO);
    }
}
