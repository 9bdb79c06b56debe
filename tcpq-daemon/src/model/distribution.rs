//! What cells say of all that was observed: quantiles, estimated.

use tcpq_common::histogram::{FILL_BOUNDS_PERCENT, Fills, TIME_BOUNDS_US, Times};

/// Observations by cell. Unit: the one of its bounds.
#[derive(Clone, Copy, Debug)]
pub struct Distribution<'a> {
    /// The upper bounds of all cells but the last.
    bounds: &'a [u64],
    cells: &'a [u64],
}

/// Where an observation is. Unit: the one of the bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Estimate {
    /// About here.
    About(f64),
    /// Above the last bound, nobody knows how far.
    Above(f64),
}

impl<'a> Distribution<'a> {
    /// Of times, in microseconds.
    pub fn of_times(times: &'a Times) -> Self {
        Self { bounds: &TIME_BOUNDS_US, cells: &times.cells }
    }

    /// Of fill ratios, in percent.
    pub fn of_fills(fills: &'a Fills) -> Self {
        Self { bounds: &FILL_BOUNDS_PERCENT, cells: &fills.cells }
    }

    /// Observations.
    pub fn count(&self) -> u64 {
        self.cells.iter().sum()
    }

    /// What `share` of all observations does not exceed; those of a cell are taken to be
    /// spread evenly over it. `None`: there are none.
    pub fn quantile(&self, share: f64) -> Option<Estimate> {
        let rank = float(self.count()) * share;
        let mut below = 0;
        let mut last = None;
        for (cell, &count) in self.cells.iter().enumerate().filter(|(_, count)| **count > 0) {
            last = Some((cell, 1.0));
            if float(below + count) >= rank {
                last = Some((cell, (rank - float(below)) / float(count)));
                break;
            }
            below += count;
        }
        last.map(|(cell, part)| self.inside(cell, part))
    }

    /// What no observation exceeds. `None`: there are none.
    pub fn highest(&self) -> Option<Estimate> {
        let cell = self.cells.iter().rposition(|count| *count > 0)?;
        Some(self.inside(cell, 1.0))
    }

    fn inside(&self, cell: usize, part: f64) -> Estimate {
        let lower = cell.checked_sub(1).and_then(|cell| self.bounds.get(cell));
        let lower = lower.map_or(0.0, |bound| float(*bound));
        match self.bounds.get(cell) {
            Some(upper) => Estimate::About((float(*upper) - lower).mul_add(part, lower)),
            None => Estimate::Above(lower),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tcpq_common::histogram::{FILL_CELLS, TIME_CELLS, time_cell};

    use super::*;

    fn fills(cells: [u64; FILL_CELLS]) -> Fills {
        Fills { cells, sum_millionths: 0 }
    }

    fn times(observed: &[u64]) -> Times {
        let mut times = Times { cells: [0; TIME_CELLS], sum_us: observed.iter().sum() };
        for us in observed {
            times.cells[time_cell(*us)] += 1;
        }
        times
    }

    fn near(estimate: Option<Estimate>, expected: f64) {
        let Some(Estimate::About(value)) = estimate else { panic!("{estimate:?}") };
        assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
    }

    #[test]
    fn of_nothing_nothing_is_known() {
        let none = fills([0; FILL_CELLS]);
        let none = Distribution::of_fills(&none);
        assert_eq!((none.quantile(0.5), none.highest(), none.count()), (None, None, 0));
    }

    #[test]
    fn observations_are_spread_evenly_over_their_cell() {
        // Up to 10, 25 and 50 percent.
        let some = fills([10, 0, 30, 0, 0, 0, 0, 0]);
        let some = Distribution::of_fills(&some);
        near(some.quantile(0.125), 5.0);
        near(some.quantile(0.25), 10.0);
        near(some.quantile(0.625), 37.5);
        near(some.quantile(1.0), 50.0);
        near(some.highest(), 50.0);
    }

    #[test]
    fn the_last_cell_has_no_end() {
        let some = fills([99, 0, 0, 0, 0, 0, 0, 1]);
        let some = Distribution::of_fills(&some);
        near(some.quantile(0.99), 10.0);
        assert_eq!(some.quantile(0.999), Some(Estimate::Above(100.0)));
        assert_eq!(some.highest(), Some(Estimate::Above(100.0)));
        let long = times(&[200_000_000]);
        let long = Distribution::of_times(&long);
        assert_eq!(long.quantile(0.5), Some(Estimate::Above(90_509_667.0)));
    }

    proptest! {
        /// Whatever was observed, an estimate is in the cell that the observation is in.
        #[test]
        fn an_estimate_is_in_the_right_cell(
            mut observed in prop::collection::vec(0_u64..200_000_000, 1..200),
            share in 0.001_f64..1.0,
        ) {
            let all = times(&observed);
            observed.sort_unstable();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let rank = (observed.len() as f64 * share).ceil() as usize;
            let cell = time_cell(observed[rank - 1]);
            let upper = TIME_BOUNDS_US.get(cell).map(|bound| float(*bound));
            let lower = cell.checked_sub(1).map_or(0.0, |cell| float(TIME_BOUNDS_US[cell]));
            match Distribution::of_times(&all).quantile(share) {
                Some(Estimate::About(value)) => {
                    prop_assert!(value >= lower && upper.is_some_and(|upper| value <= upper + 1e-6));
                }
                Some(Estimate::Above(value)) => {
                    prop_assert!(upper.is_none() && (value - lower).abs() < 1e-9);
                }
                None => prop_assert!(false, "nothing"),
            }
        }
    }
}
