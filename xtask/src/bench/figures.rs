//! What was measured, and where: found again by what it is of.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::summary::Summary;
use crate::said::Sample;

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// Which machine or guest.
    pub(crate) place: String,
    #[serde(flatten)]
    pub(crate) sample: Sample,
}

/// All of a benchmark.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) all: Vec<Figure>,
    /// What each place is.
    pub(crate) machines: BTreeMap<String, String>,
    /// What was said of a place, besides figures.
    pub(crate) notes: Vec<(String, String)>,
}

impl Figures {
    /// The rounds of one figure, by their number.
    pub(crate) fn rounds(&self, place: &str, case: &str, metric: &str) -> BTreeMap<u32, f64> {
        self.rounds_of(place, case, metric, "")
    }

    pub(crate) fn rounds_of(
        &self,
        place: &str,
        case: &str,
        metric: &str,
        item: &str,
    ) -> BTreeMap<u32, f64> {
        let wanted = |figure: &&Figure| {
            let Sample { case: its_case, metric: its_metric, item: its_item, .. } = &figure.sample;
            figure.place == place && its_case == case && its_metric == metric && its_item == item
        };
        let found = self.all.iter().filter(wanted);
        found.map(|figure| (figure.sample.round, figure.sample.value)).collect()
    }

    /// The same in short; an error if it was not measured.
    pub(crate) fn summary(&self, place: &str, case: &str, metric: &str) -> Result<Summary> {
        self.summary_of(place, case, metric, "")
    }

    /// The same of one part.
    pub(crate) fn summary_of(
        &self,
        place: &str,
        case: &str,
        metric: &str,
        item: &str,
    ) -> Result<Summary> {
        let values: Vec<f64> = self.rounds_of(place, case, metric, item).into_values().collect();
        Summary::of(&values).with_context(|| format!("{place}: no {metric} of {case} {item}"))
    }

    /// Something computed of two cases in each round that has both.
    pub(crate) fn pairs(
        &self,
        place: &str,
        metric: &str,
        [first, second]: [&str; 2],
        of: impl Fn(f64, f64) -> f64,
    ) -> Option<Summary> {
        let second = self.rounds(place, second, metric);
        let first = self.rounds(place, first, metric);
        let both = first.iter().filter_map(|(round, value)| Some((*value, *second.get(round)?)));
        Summary::of(&both.map(|(first, second)| of(first, second)).collect::<Vec<_>>())
    }

    /// The median of the first of two cases, of that of the second.
    pub(crate) fn ratio(
        &self,
        place: &str,
        metric: &str,
        [first, second]: [&str; 2],
    ) -> Option<f64> {
        self.ratio_of(place, metric, [first, second], "")
    }

    /// The same of one part.
    pub(crate) fn ratio_of(
        &self,
        place: &str,
        metric: &str,
        [first, second]: [&str; 2],
        item: &str,
    ) -> Option<f64> {
        let median = |case| Some(self.summary_of(place, case, metric, item).ok()?.median);
        Some(median(first)? / median(second)?)
    }

    /// The parts that a metric was measured of, in the order they were said.
    pub(crate) fn items(&self, place: &str, case: &str, metric: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for Figure { place: its_place, sample } in &self.all {
            let wanted = its_place == place && sample.case == case && sample.metric == metric;
            if wanted && !found.contains(&sample.item) {
                found.push(sample.item.clone());
            }
        }
        found
    }

    /// The cases of a place, in the order they were measured.
    pub(crate) fn cases(&self, place: &str, metric: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for Figure { place: its_place, sample } in &self.all {
            if its_place == place && sample.metric == metric && !found.contains(&sample.case) {
                found.push(sample.case.clone());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let figure = |case: &str, round, value| Figure {
            place: "6.12".to_owned(),
            sample: Sample {
                case: case.to_owned(),
                metric: "ns".to_owned(),
                item: String::new(),
                round,
                value,
            },
        };
        let figures = vec![
            figure("off", 1, 10.0),
            figure("on", 1, 12.0),
            figure("off", 2, 20.0),
            figure("on", 2, 22.0),
            figure("on", 3, 99.0),
        ];
        Figures { all: figures, ..Figures::default() }
    }

    #[test]
    fn pairs_are_of_the_same_round() {
        let added = figures().pairs("6.12", "ns", ["on", "off"], |on, off| on - off);
        let added = added.expect("two rounds have both");
        assert_eq!((added.n, added.quartiles), (2, (2.0, 2.0)));
        assert!(figures().pairs("6.12", "ns", ["on", "peer"], |a, b| a / b).is_none());
    }

    #[test]
    fn a_ratio_is_of_medians() {
        let ratio = figures().ratio("6.12", "ns", ["on", "off"]).expect("both are there");
        assert!((ratio - 22.0 / 15.0).abs() < 1e-9);
        assert_eq!(figures().ratio("6.12", "ns", ["on", "peer"]), None);
    }

    #[test]
    fn what_was_not_measured_is_an_error() {
        assert_eq!(figures().summary("6.12", "on", "ns").expect("measured").n, 3);
        let error = figures().summary("7", "on", "ns").expect_err("not measured").to_string();
        assert!(error.contains("7: no ns of on"), "{error}");
        assert_eq!(figures().cases("6.12", "ns"), ["off", "on"]);
    }
}
