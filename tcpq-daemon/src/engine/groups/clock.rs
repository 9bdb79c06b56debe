//! From the kernel's clock to the time of day.

use std::time::{Duration, SystemTime};

/// A time of day that is told should not tremble from reading to reading: two clocks are
/// never read at the same moment. It follows when the time of day is set.
const STEP: Duration = Duration::from_secs(1);

/// What the time of day was when `CLOCK_MONOTONIC` was 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    zero: Duration,
}

impl Clock {
    /// Takes what a reading found.
    pub(super) fn follow(&mut self, zero: Duration) {
        if self.zero.abs_diff(zero) >= STEP {
            self.zero = zero;
        }
    }

    /// The time of day, to the millisecond.
    pub(super) fn at(self, monotonic_ns: u64) -> SystemTime {
        let since = self.zero + Duration::from_nanos(monotonic_ns);
        let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_tremble_and_follows_a_step() {
        let mut clock = Clock::default();
        clock.follow(Duration::from_secs(1000));
        let at = |clock: Clock| {
            clock.at(5_000_000_000).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
        };
        assert!((at(clock) - 1005.0).abs() < 1e-9);
        clock.follow(Duration::from_millis(1_000_900));
        assert!((at(clock) - 1005.0).abs() < 1e-9);
        clock.follow(Duration::from_secs(2000));
        assert!((at(clock) - 2005.0).abs() < 1e-9);
    }
}
