//! Figures of several rounds in a few numbers. Pure.

/// Rounds in short: how many, the middle one, and between which the middle half of them is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) n: usize,
    pub(crate) median: f64,
    /// A quarter is below, a quarter above.
    pub(crate) quartiles: (f64, f64),
}

impl Summary {
    /// None of nothing.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            n: sorted.len(),
            median: quantile(&sorted, 0.5)?,
            quartiles: (quantile(&sorted, 0.25)?, quantile(&sorted, 0.75)?),
        })
    }

    /// How far the quartiles are apart, in percent of the median.
    pub(crate) fn spread_percent(&self) -> f64 {
        let (low, high) = self.quartiles;
        if self.median == 0.0 { 0.0 } else { 100.0 * (high - low) / self.median.abs() }
    }
}

/// Between the two nearest, in proportion.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a list of rounds"
)]
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_its_half() {
        let summary = Summary::of(&[5.0, 1.0, 3.0, 2.0, 4.0]).expect("five");
        assert_eq!(summary, Summary { n: 5, median: 3.0, quartiles: (2.0, 4.0) });
        assert!((summary.spread_percent() - 200.0 / 3.0).abs() < 1e-9);
        let even = Summary::of(&[1.0, 2.0]).expect("two");
        assert_eq!(even, Summary { n: 2, median: 1.5, quartiles: (1.25, 1.75) });
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn nothing_has_no_spread() {
        let summary = Summary::of(&[0.0, 0.0, 0.0]).expect("three");
        assert!(summary.spread_percent().abs() < f64::EPSILON);
    }
}
