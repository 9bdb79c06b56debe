//! So many requests at once, and one more each interval: a token bucket, as in the
//! exporter-toolkit.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use thiserror::Error;

use crate::serve::web::config::RateSection;

/// What is wrong with `rate_limit`.
#[derive(Debug, Error)]
pub(super) enum BadRate {
    /// The time is none.
    #[error("rate_limit has the interval {0:?}; it is a time above 0, for example 200ms or 1s")]
    Interval(String),
    /// Nothing would be served.
    #[error("rate_limit has the burst 0: nothing would be served")]
    Burst,
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct Rate {
    interval: Duration,
    burst: u32,
    /// When the bucket is, or was, full again.
    full_at: Mutex<Option<Instant>>,
}

impl Rate {
    pub(super) fn new(section: &RateSection) -> Result<Self, BadRate> {
        let bad = || BadRate::Interval(section.interval.clone());
        let interval: SignedDuration = section.interval.parse().map_err(|_error| bad())?;
        let interval = Duration::try_from(interval).map_err(|_error| bad())?;
        if interval.is_zero() {
            return Err(bad());
        }
        if section.burst == 0 {
            return Err(BadRate::Burst);
        }
        Ok(Self { interval, burst: section.burst, full_at: Mutex::new(None) })
    }

    /// Takes one, if there is one.
    pub(super) fn admit(&self, now: Instant) -> bool {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = full_at.map_or(now, |at| at.max(now)) + self.interval;
        let admitted = next <= now + self.interval * self.burst;
        if admitted {
            *full_at = Some(next);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(interval: &str, burst: u32) -> Result<Rate, BadRate> {
        Rate::new(&RateSection { interval: interval.to_owned(), burst })
    }

    #[test]
    fn so_many_at_once_and_then_one_per_interval() {
        let rate = rate("200ms", 3).unwrap();
        let start = Instant::now();
        let at = |ms| rate.admit(start + Duration::from_millis(ms));
        assert_eq!([at(0), at(0), at(0), at(0)], [true, true, true, false]);
        assert_eq!([at(199), at(200), at(200), at(400)], [false, true, false, true]);
        assert_eq!([at(9000), at(9000), at(9000), at(9000)], [true, true, true, false]);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for interval in ["0s", "-1s", "1", "soon", ""] {
            assert!(rate(interval, 1).is_err(), "{interval:?}");
        }
        assert!(rate("1s", 0).is_err());
        assert!(rate("1m30s", 1).is_ok());
    }
}
