//! The buckets of a native histogram, from cells: whole sums, nothing is interpolated.
//!
//! Schema 1 has two buckets to a power of two: that of index `i` holds what is above
//! 2^((i-1)/2) s, up to 2^(i/2) s.

use std::{collections::BTreeMap, f64::consts::SQRT_2};

use tcpq_common::histogram::{TIME_BOUNDS_US, TIME_CELLS, Times};

/// Two buckets to a power of two.
pub(super) const SCHEMA: i32 = 1;

/// What is not longer counts as zero: 2^-16.5 s, about 10.8 us.
pub(super) const ZERO_THRESHOLD: f64 = SQRT_2 / 131_072.0;

/// The index of the bucket that the zero bucket would be.
const ZERO: i32 = -33;

/// The index of the bucket of the last cell, which has no end: what is longer than 2^6.5 s,
/// about 90.5 s, is told to be in the bucket that ends at 2^7 s.
const LAST: i32 = 14;

/// The native bucket of each cell.
const INDEX: [i32; TIME_CELLS] = {
    let mut all = [LAST; TIME_CELLS];
    let mut cell = 0;
    let mut index = ZERO;
    while cell < TIME_BOUNDS_US.len() {
        if upper_us(index) < TIME_BOUNDS_US[cell] {
            index += 1;
        } else {
            all[cell] = index;
            cell += 1;
        }
    }
    all
};

/// 2^(index/2) s, in whole microseconds.
const fn upper_us(index: i32) -> u64 {
    const SECOND_SQUARED: u64 = 1_000_000_000_000;
    let by = index.unsigned_abs();
    let square = if index < 0 { SECOND_SQUARED >> by } else { SECOND_SQUARED << by };
    square.isqrt()
}

/// A native histogram's buckets, as they are encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Native {
    pub(super) zero_count: u64,
    /// Buckets that follow on each other: how far from the end of those before (of the
    /// first: its index), and how many.
    pub(super) spans: Vec<(i32, u32)>,
    /// Each bucket's count, less that of the one before.
    pub(super) deltas: Vec<i64>,
}

impl Native {
    /// Of times.
    pub(super) fn new(times: &Times) -> Self {
        let mut buckets = BTreeMap::new();
        for (index, count) in INDEX.into_iter().zip(times.cells).filter(|(_, count)| *count > 0) {
            *buckets.entry(index).or_insert(0) += count;
        }
        let mut native = Self { zero_count: buckets.remove(&ZERO).unwrap_or(0), ..Self::default() };
        let mut end = 0;
        let mut before: u64 = 0;
        for (index, count) in buckets {
            match native.spans.last_mut() {
                Some((_, length)) if index == end => *length += 1,
                _ => native.spans.push((index - end, 1)),
            }
            end = index + 1;
            // Counts of what has happened are far below 2^63.
            native.deltas.push(count.wrapping_sub(before).cast_signed());
            before = count;
        }
        native
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tcpq_common::histogram::time_cell;

    use super::*;

    /// The counts by index, as a reader of the format would find them.
    fn read(native: &Native) -> Vec<(i32, u64)> {
        let mut deltas = native.deltas.iter();
        let (mut index, mut count) = (0, 0_i64);
        let mut all = Vec::new();
        for (offset, length) in &native.spans {
            index += offset;
            for _ in 0..*length {
                count += deltas.next().unwrap();
                all.push((index, u64::try_from(count).unwrap()));
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        all
    }

    fn of(observed: &[u64]) -> Native {
        let mut times = Times { cells: [0; TIME_CELLS], sum_us: 0 };
        for us in observed {
            times.cells[time_cell(*us)] += 1;
        }
        Native::new(&times)
    }

    /// By the definition of the format.
    fn bucket(us: u64) -> i32 {
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let seconds = us as f64 / 1e6;
        (ZERO..LAST).find(|index| seconds <= 2_f64.powf(f64::from(*index) / 2.0)).unwrap_or(LAST)
    }

    #[test]
    fn each_time_is_in_the_bucket_of_the_definition() {
        let edges = TIME_BOUNDS_US.into_iter().flat_map(|bound| [bound - 1, bound, bound + 1]);
        for us in edges.chain([0, 1, 1_000_000_000]) {
            assert_eq!(INDEX[time_cell(us)], bucket(us), "{us} us");
        }
        assert!((ZERO_THRESHOLD - 2_f64.powf(-16.5)).abs() < f64::EPSILON * 1e-5);
    }

    #[test]
    fn buckets_that_follow_on_each_other_are_one_span() {
        // 1 s is the end of bucket 0, 1.4 s of 1, 2 s of 2; 64 s of 12.
        let native = of(&[5, 10, 1_000_000, 1_200_000, 1_300_000, 2_000_000, 64_000_000]);
        assert_eq!(native.zero_count, 2);
        assert_eq!(native.spans, [(0, 3), (9, 1)]);
        assert_eq!(native.deltas, [1, 1, -1, 0]);
        assert_eq!(of(&[20]).spans, [(-31, 1)]);
    }

    #[test]
    fn the_last_cell_is_the_bucket_after_the_last_bound() {
        assert_eq!(read(&of(&[90_509_667, 90_509_668, 1_000_000_000])), [(13, 1), (14, 2)]);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(
            cells in prop::array::uniform32(prop_oneof![Just(0), 0..u64::MAX >> 8]),
            more in prop::array::uniform32(prop_oneof![Just(0), 0..u64::MAX >> 8]),
        ) {
            let cells: [u64; TIME_CELLS] = [cells, more].concat().try_into().unwrap();
            let native = Native::new(&Times { cells, sum_us: 0 });
            let mut expected = BTreeMap::new();
            for (index, count) in INDEX.into_iter().zip(cells).filter(|(_, count)| *count > 0) {
                *expected.entry(index).or_insert(0) += count;
            }
            prop_assert_eq!(native.zero_count, expected.remove(&ZERO).unwrap_or(0));
            prop_assert_eq!(read(&native), expected.into_iter().collect::<Vec<_>>());
        }
    }
}
