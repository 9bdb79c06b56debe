//! What was observed of something, in few figures.

use serde::{Deserialize, Serialize};
use tcpq_common::histogram::{Fills, Times};

use crate::model::distribution::{Distribution, Estimate};

/// What was observed of something, since the listener is known. Unit: seconds of times, parts
/// of the limit of fill ratios.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DistributionDto {
    /// Observations.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// What half of them do not exceed. An estimate, like the other quantiles: they are counted
    /// in cells, and taken to be spread evenly within each. One that is beyond the last bound
    /// (90.5 s; the limit) is told as that bound. Absent while there is no observation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub p50: Option<f64>,
    /// What nine of ten do not exceed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub p90: Option<f64>,
    /// What 99 of 100 do not exceed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub p99: Option<f64>,
    /// What none exceeds: the upper bound of the highest cell with an observation. Absent if
    /// that cell has no bound.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max: Option<f64>,
}

impl DistributionDto {
    /// Of times; `None`: nothing was observed yet.
    pub(super) fn of_times(times: Option<&Times>) -> Self {
        times.map_or_else(Self::default, |times| {
            Self::new(Distribution::of_times(times), times.sum_us, 1e6)
        })
    }

    /// Of fill ratios; `None`: nothing was observed yet.
    pub(super) fn of_fills(fills: Option<&Fills>) -> Self {
        fills.map_or_else(Self::default, |fills| {
            Self::new(Distribution::of_fills(fills), fills.sum_millionths, 100.0)
        })
    }

    /// `scale`: bounds to a unit.
    fn new(all: Distribution<'_>, sum_millionths: u64, scale: f64) -> Self {
        let quantile = |share| {
            let (Estimate::About(value) | Estimate::Above(value)) = all.quantile(share)?;
            Some(rounded(value / scale))
        };
        #[expect(clippy::cast_precision_loss, reason = "2^53 us are 285 years")]
        let sum = sum_millionths as f64 / 1e6;
        Self {
            count: all.count(),
            sum,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: match all.highest() {
                Some(Estimate::About(value)) => Some(value / scale),
                Some(Estimate::Above(_)) | None => None,
            },
        }
    }
}

/// To microseconds: no estimate is better.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use tcpq_common::histogram::{FILL_CELLS, TIME_CELLS, time_cell};

    use super::*;

    #[test]
    fn a_stall_is_in_the_last_quantile_and_in_the_sum() {
        let mut times = Times { cells: [0; TIME_CELLS], sum_us: 0 };
        for us in [40; 95].into_iter().chain([2_000_000; 5]) {
            times.cells[time_cell(us)] += 1;
            times.sum_us += us;
        }
        let dto = DistributionDto::of_times(Some(&times));
        assert_eq!((dto.count, dto.sum.to_string()), (100, "10.0038".to_owned()));
        assert!(dto.p90.is_some_and(|it| (0.000_030..=0.000_043).contains(&it)), "{dto:?}");
        assert!(dto.p99.is_some_and(|it| (1.5..=2.0).contains(&it)), "{dto:?}");
        assert_eq!(dto.max, Some(2.0));
    }

    #[test]
    fn what_is_beyond_the_last_bound_has_no_highest() {
        let mut fills = Fills { cells: [0; FILL_CELLS], sum_millionths: 2_500_000 };
        fills.cells[FILL_CELLS - 1] = 2;
        let dto = DistributionDto::of_fills(Some(&fills));
        assert_eq!((dto.p50, dto.p99, dto.max), (Some(1.0), Some(1.0), None));
        assert_eq!((dto.count, dto.sum.to_string()), (2, "2.5".to_owned()));
    }

    #[test]
    fn before_the_first_observation_there_are_no_quantiles() {
        let none = serde_json::to_string(&DistributionDto::of_times(None)).unwrap();
        assert_eq!(none, r#"{"count":0,"sum":0.0}"#);
    }
}
