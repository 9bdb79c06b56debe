//! Protobuf says what the text says, and has native histograms besides.

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{
    Histogram, MetricFamily,
};
use proptest::prelude::*;
use tcpq_common::histogram::TIME_BOUNDS_US;

use super::*;

fn of(snapshot: &Arc<Snapshot>, name: &str) -> Option<Histogram> {
    let families = read::protobuf(snapshot);
    let family: &MetricFamily = families.iter().find(|family| family.name == name)?;
    family.metric.first()?.histogram.clone()
}

/// Counts by upper bound of a native histogram, the zero bucket first.
fn native(histogram: &Histogram) -> Vec<(f64, u64)> {
    let mut all = vec![(histogram.zero_threshold, histogram.zero_count)];
    let (mut index, mut count) = (0, 0);
    let mut deltas = histogram.positive_delta.iter();
    for span in &histogram.positive_span {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().unwrap();
            let base = 2_f64.powf(2_f64.powi(-histogram.schema));
            all.push((base.powi(index), u64::try_from(count).unwrap()));
            index += 1;
        }
    }
    all
}

#[test]
fn every_family_says_what_it_says_in_text() {
    let snapshot = snapshot("host", &exact());
    let texts = read::stable(&snapshot, Format::Classic).unwrap();
    assert_eq!(read::stable(&snapshot, Format::Protobuf).unwrap(), texts);
    let text = text(&snapshot, Format::Classic);
    for family in read::protobuf(&snapshot) {
        let kind = family.r#type().as_str_name().to_lowercase();
        for line in [
            format!("# TYPE {} {kind}\n", family.name),
            format!("# HELP {} {}\n", family.name, family.help),
        ] {
            assert!(text.contains(&line), "{line}");
        }
    }
}

#[test]
fn times_are_native_histograms_and_fills_are_not() {
    let snapshot = snapshot("host", &exact());
    let waits = of(&snapshot, "tcpq_accept_wait_seconds").unwrap();
    assert_eq!(waits.schema, 1);
    assert_eq!(waits.zero_count, 2);
    let ends: Vec<_> = native(&waits).iter().map(|(end, count)| (end.log2(), *count)).collect();
    let expected = [(-16.5, 2), (-16.0, 1), (-10.0, 1), (-2.0, 1), (6.0, 1), (7.0, 1)];
    for ((end, count), (expected, of)) in ends.iter().zip(expected) {
        assert!((end - expected).abs() < 1e-9 && *count == of, "{ends:?}");
    }
    assert_eq!(ends.len(), expected.len());
    assert!(waits.negative_span.is_empty() && waits.negative_delta.is_empty());

    let fills = of(&snapshot, "tcpq_accept_queue_fill_ratio").unwrap();
    assert_eq!((fills.zero_threshold.to_string(), fills.positive_span.len()), ("0".into(), 0));
    assert_eq!(of(&snapshot, "tcpq_accept_queue_abandoned_wait_seconds"), None);
}

proptest! {
    /// Whatever is in the cells, both kinds of buckets have all of it, and up to each bound
    /// as much as the cells have.
    #[test]
    fn classic_and_native_buckets_agree(
        cells in prop::array::uniform32(0_u64..1 << 40),
        more in prop::array::uniform32(0_u64..1 << 40),
        sum_us in 0_u64..1 << 52,
    ) {
        let cells: [u64; TIME_CELLS] = [cells, more].concat().try_into().unwrap();
        let total: u64 = cells.iter().sum();
        let mut snapshot = Snapshot::clone(&snapshot("host", &exact()));
        let all = Histograms { accept_wait: Times { cells, sum_us }, ..histograms() };
        group(&mut snapshot).histograms = Some(Arc::new((&all).into()));
        let Some(waits) = of(&Arc::new(snapshot), "tcpq_accept_wait_seconds") else {
            prop_assert_eq!(total, 0);
            return Ok(());
        };
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let sum = sum_us as f64 / 1e6;
        prop_assert!((waits.sample_sum - sum).abs() < 1e-6);
        prop_assert_eq!(waits.sample_count, total);
        let native = native(&waits);
        prop_assert_eq!(native.iter().map(|(_, count)| count).sum::<u64>(), total);
        prop_assert_eq!(waits.bucket.last().unwrap().cumulative_count, total);

        // What is at or below a bound is the sum of the cells up to it.
        let below = |seconds: f64| -> u64 {
            let cells = TIME_BOUNDS_US.iter().zip(&cells);
            #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
            let up_to = |bound: u64| bound as f64 / 1e6 <= seconds * (1.0 + 1e-12);
            cells.filter(|(bound, _)| up_to(**bound)).map(|(_, count)| count).sum()
        };
        for bucket in waits.bucket.iter().filter(|bucket| bucket.upper_bound.is_finite()) {
            prop_assert_eq!(bucket.cumulative_count, below(bucket.upper_bound));
        }
        let mut cumulative = 0;
        for (end, count) in native.iter().filter(|(end, _)| *end < 100.0) {
            cumulative += count;
            prop_assert_eq!(cumulative, below(*end), "up to {}", end);
        }
    }
}
