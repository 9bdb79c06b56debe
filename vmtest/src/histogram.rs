//! What tcpq says of how long things took, or how full a queue was, and what a test's own
//! clock leaves possible.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{exposition::Metrics, ledger::Checks};

/// Between the kernel's clock and ours: it counts whole microseconds at both ends.
const SLACK: Duration = Duration::from_micros(2);

/// One listener's histogram, however it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// In ascending order; of a classic one the last bound is infinite.
    pub buckets: Vec<Bucket>,
    /// Observations.
    pub count: u64,
    /// What they add up to.
    pub sum: f64,
}

/// The observations up to a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// The bound, which belongs to it.
    pub bound: f64,
    /// How many are not above it.
    pub within: u64,
}

impl Histogram {
    /// Picks one out of a scrape; `None` where there is none.
    pub fn of(
        metrics: &Metrics,
        family: &str,
        netns: &str,
        listener: SocketAddr,
    ) -> Result<Option<Self>> {
        let (address, port) = (listener.ip().to_string(), listener.port().to_string());
        let group = [("netns", netns), ("address", &address), ("port", &port)];
        let mut buckets = Vec::new();
        let name = format!("{family}_bucket");
        for sample in metrics.select(&name, &group) {
            let bound = sample.labels.get("le").context("a bucket without a bound")?;
            let bound = bound.parse().with_context(|| format!("{bound} is no bound"))?;
            buckets.push(Bucket { bound, within: sample.count()? });
        }
        let count = metrics.sum(&format!("{family}_count"), &group)?;
        let name = format!("{family}_sum");
        let sum = metrics.select(&name, &group).next();
        let (Some(count), Some(sum)) = (count, sum) else {
            ensure!(buckets.is_empty(), "{family} of {listener} has buckets and no sum or count");
            return Ok(None);
        };
        let sum = sum.value.parse().with_context(|| format!("{} is no sum", sum.value))?;
        Self { buckets, count, sum }.sound().with_context(|| format!("{family} of {listener}"))
    }

    /// Itself, if it can be one: bounds and counts ascend, and the last bucket has all.
    pub fn sound(self) -> Result<Option<Self>> {
        let ascend =
            |pair: &[Bucket]| pair[0].bound < pair[1].bound && pair[0].within <= pair[1].within;
        ensure!(self.buckets.windows(2).all(ascend), "buckets in disorder: {:?}", self.buckets);
        let last = self.buckets.last().context("a histogram without buckets")?;
        ensure!(last.within == self.count, "{} in the last bucket of {}", last.within, self.count);
        Ok(Some(self))
    }

    /// The bucket with this bound.
    pub fn within(&self, bound: f64) -> Option<u64> {
        let near = |bucket: &&Bucket| (bucket.bound - bound).abs() < 1e-9;
        self.buckets.iter().find(near).map(|bucket| bucket.within)
    }

    /// Whether two histograms of the same observations, with other bounds, can both be
    /// right: what is below a bound of one is below every higher one of the other.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let below = |one: &Self, two: &Self| {
            one.buckets.iter().all(|low| {
                let higher = two.buckets.iter().find(|high| high.bound >= low.bound);
                higher.is_none_or(|high| low.within <= high.within)
            })
        };
        self.count == other.count
            && (self.sum - other.sum).abs() < 1e-6
            && below(self, other)
            && below(other, self)
    }
}

/// What the test knows of each observation: it took at least, and at most, so long.
#[derive(Clone, Debug, Default)]
pub struct Spans(Vec<(Duration, Duration)>);

impl Spans {
    /// One more.
    pub fn add(&mut self, least: Duration, most: Duration) {
        self.0.push((least.saturating_sub(SLACK), most + SLACK));
    }

    /// All of another.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// How many they are.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// What they add up to: at least, and at most.
    pub fn sum(&self) -> (Duration, Duration) {
        (self.0.iter().map(|span| span.0).sum(), self.0.iter().map(|span| span.1).sum())
    }

    /// How many of them can be in one bucket only.
    pub fn forced(&self, histogram: &Histogram) -> usize {
        let bucket = |time: Duration| {
            histogram.buckets.partition_point(|bucket| bucket.bound < time.as_secs_f64())
        };
        self.0.iter().filter(|(least, most)| bucket(*least) == bucket(*most)).count()
    }

    /// A histogram of exactly these.
    pub fn hold(&self, what: &str, histogram: Option<&Histogram>, checks: &mut Checks) {
        checks.equal(&format!("{what}: count"), histogram.map(|it| it.count), self.count());
        let Some(histogram) = histogram else { return };
        for Bucket { bound, within } in &histogram.buckets {
            let surely = self.0.iter().filter(|span| span.1.as_secs_f64() <= *bound).count();
            let maybe = self.0.iter().filter(|span| span.0.as_secs_f64() <= *bound).count();
            checks.hold(
                &format!("{what}: {within} within {bound} s, it must be {surely} to {maybe}"),
                (surely as u64..=maybe as u64).contains(within),
            );
        }
        let (least, most) = self.sum();
        checks.hold(
            &format!("{what}: the sum is {} s, it must be {least:?} to {most:?}", histogram.sum),
            (least.as_secs_f64()..=most.as_secs_f64()).contains(&histogram.sum),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"t_bucket{netns="1",address="::1",port="80",le="0.001"} 1
t_bucket{netns="1",address="::1",port="80",le="0.5"} 3
t_bucket{netns="1",address="::1",port="80",le="+Inf"} 4
t_sum{netns="1",address="::1",port="80"} 1.2005
t_count{netns="1",address="::1",port="80"} 4
"#;

    fn histogram(text: &str) -> Result<Option<Histogram>> {
        let metrics = Metrics::parse(text).unwrap();
        Histogram::of(&metrics, "t", "1", "[::1]:80".parse().unwrap())
    }

    fn spans(milliseconds: &[(u64, u64)]) -> Spans {
        let mut spans = Spans::default();
        for (least, most) in milliseconds {
            spans.add(Duration::from_millis(*least), Duration::from_millis(*most));
        }
        spans
    }

    #[test]
    fn a_histogram_is_read() {
        let found = histogram(TEXT).unwrap().unwrap();
        assert_eq!((found.count, found.within(0.5)), (4, Some(3)));
        let elsewhere = histogram(&TEXT.replace("netns=\"1\"", "netns=\"2\"")).unwrap();
        assert!(elsewhere.is_none());
    }

    #[test]
    fn an_unsound_one_is_an_error() {
        for (from, to) in [("} 3", "} 0"), ("Inf\"} 4", "Inf\"} 5"), ("0.5", "0.0001")] {
            assert!(histogram(&TEXT.replace(from, to)).is_err(), "{from} as {to}");
        }
        assert!(histogram(TEXT.split_once("t_sum").unwrap().0).is_err());
    }

    #[test]
    fn what_was_measured_forces_buckets_and_sum() {
        let histogram = histogram(TEXT).unwrap().unwrap();
        let hold = |milliseconds| {
            let mut checks = Checks::default();
            spans(milliseconds).hold("a time", Some(&histogram), &mut checks);
            checks.end().is_ok()
        };
        assert!(hold(&[(0, 0), (90, 110), (400, 600), (490, 700)]));
        // One too many, one that is surely higher or lower, and a sum that is too low.
        assert!(!hold(&[(0, 0), (90, 110), (400, 600), (490, 700), (0, 0)]));
        assert!(!hold(&[(2, 3), (90, 110), (400, 600), (490, 700)]));
        assert!(!hold(&[(0, 0), (0, 0), (400, 600), (490, 900)]));
        assert!(!hold(&[(0, 0), (90, 110), (400, 490), (510, 599)]));
        assert_eq!(spans(&[(0, 0), (400, 600), (501, 9000)]).forced(&histogram), 2);
    }

    #[test]
    fn histograms_of_other_bounds_are_compared() {
        let classic = histogram(TEXT).unwrap().unwrap();
        let other = |within: [u64; 2]| Histogram {
            buckets: vec![
                Bucket { bound: 0.25, within: within[0] },
                Bucket { bound: 1.0, within: within[1] },
            ],
            ..classic.clone()
        };
        assert!(classic.agrees_with(&other([1, 4])) && classic.agrees_with(&other([3, 3])));
        assert!(!classic.agrees_with(&other([0, 4])) && !classic.agrees_with(&other([1, 2])));
        assert!(!classic.agrees_with(&other([4, 4])));
    }
}
