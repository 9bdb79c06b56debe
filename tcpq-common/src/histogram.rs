//! Histograms of a listener, counted by the kernel side in cells so fine that both the
//! classic buckets and those of a native histogram are sums of whole cells.

use crate::wire;

/// Cells of a histogram of times.
pub const TIME_CELLS: usize = 64;

/// Upper bounds (inclusive) of all cells of times but the last, in microseconds: each bound
/// of [`CLASSIC_BOUNDS_US`], and 2^(k/2) seconds for k from -33 to 13, rounded down: the
/// bounds of a native histogram of schema 1.
#[rustfmt::skip]
pub const TIME_BOUNDS_US: [u64; TIME_CELLS - 1] = [
    10, 15, 21, 30, 43, 50, 61, 86,
    100, 122, 172, 244, 250, 345, 488, 500,
    690, 976, 1_000, 1_381, 1_953, 2_500, 2_762, 3_906,
    5_000, 5_524, 7_812, 10_000, 11_048, 15_625, 22_097, 25_000,
    31_250, 44_194, 50_000, 62_500, 88_388, 100_000, 125_000, 176_776,
    250_000, 353_553, 500_000, 707_106, 1_000_000, 1_414_213, 2_000_000, 2_500_000,
    2_828_427, 4_000_000, 5_000_000, 5_656_854, 8_000_000, 10_000_000, 11_313_708, 16_000_000,
    22_627_416, 30_000_000, 32_000_000, 45_254_833, 60_000_000, 64_000_000, 90_509_667,
];

/// Upper bounds of the classic buckets of times, in microseconds: accept() and handshakes
/// are worth a look between 10 us and 60 s.
pub const CLASSIC_BOUNDS_US: [u64; 20] = [
    10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Cells of a histogram of fill ratios.
pub const FILL_CELLS: usize = 8;

/// Upper bounds (inclusive) of all cells of fill ratios but the last, in percent of the
/// limit. The accept queue holds one more than its limit: the last cell.
pub const FILL_BOUNDS_PERCENT: [u64; FILL_CELLS - 1] = [10, 25, 50, 75, 90, 95, 100];

wire! {
    /// How long something took, many times over.
    pub struct Times {
        /// Observations by cell; see [`TIME_BOUNDS_US`].
        pub cells: [u64; TIME_CELLS],
        /// Their sum, microseconds.
        pub sum_us: u64,
    }

    /// How full a queue was, many times over.
    pub struct Fills {
        /// Observations by cell; see [`FILL_BOUNDS_PERCENT`].
        pub cells: [u64; FILL_CELLS],
        /// Sum of the ratios, in millionths.
        pub sum_millionths: u64,
    }

    /// Everything observed of one listener, on all CPUs: a value of the map `HISTOGRAMS`,
    /// at the listener's slot, written by atomic additions. Only grows.
    pub struct Histograms {
        /// From the accept queue to accept().
        pub accept_wait: Times,
        /// From the accept queue to the reset, as the listener closed.
        pub abandoned_wait: Times,
        /// From the first SYN-ACK to the accept queue.
        pub handshake: Times,
        /// The accept queue, with each connection that enters it.
        pub accept_fill: Fills,
        /// The SYN queue, with each request that enters it.
        pub syn_fill: Fills,
    }
}

impl Times {
    /// Adds another listener's, or another life's.
    pub fn add(&mut self, other: &Self) {
        add_each(&mut self.cells, &other.cells);
        self.sum_us += other.sum_us;
    }

    /// Observations.
    pub fn count(&self) -> u64 {
        self.cells.iter().sum()
    }
}

impl Fills {
    /// Adds another listener's, or another life's.
    pub fn add(&mut self, other: &Self) {
        add_each(&mut self.cells, &other.cells);
        self.sum_millionths += other.sum_millionths;
    }

    /// Observations.
    pub fn count(&self) -> u64 {
        self.cells.iter().sum()
    }
}

impl Histograms {
    /// Adds another listener's, or another life's.
    pub fn add(&mut self, other: &Self) {
        let Self { accept_wait, abandoned_wait, handshake, accept_fill, syn_fill } = other;
        self.accept_wait.add(accept_wait);
        self.abandoned_wait.add(abandoned_wait);
        self.handshake.add(handshake);
        self.accept_fill.add(accept_fill);
        self.syn_fill.add(syn_fill);
    }
}

fn add_each<const N: usize>(ours: &mut [u64; N], theirs: &[u64; N]) {
    for (sum, more) in ours.iter_mut().zip(theirs) {
        *sum += more;
    }
}

/// [`TIME_BOUNDS_US`], with an entry for every index that a mask lets through.
static TABLE: [u64; TIME_CELLS] = {
    let mut table = [u64::MAX >> 1; TIME_CELLS];
    let mut cell = 0;
    while cell < TIME_BOUNDS_US.len() {
        table[cell] = TIME_BOUNDS_US[cell];
        cell += 1;
    }
    table
};

/// The cell of a time. Without a branch: the verifier would walk each way through the
/// search, and tell what comes after it for each.
#[expect(clippy::inline_always, reason = "BPF programs are verified as a whole")]
#[inline(always)]
pub fn time_cell(us: u64) -> usize {
    // So that a difference has its sign in the highest bit.
    let us = us & (u64::MAX >> 1);
    let mut cell = 0;
    let mut step = TIME_CELLS / 2;
    while step > 0 {
        let bound = TABLE[within::<TIME_CELLS>(cell + step - 1)];
        cell += step * (bound.wrapping_sub(us) >> 63) as usize;
        step /= 2;
    }
    within::<TIME_CELLS>(cell)
}

/// The cell of a queue's length beside its limit.
#[expect(clippy::inline_always, reason = "BPF programs are verified as a whole")]
#[inline(always)]
pub fn fill_cell(length: u64, limit: u64) -> usize {
    // Lengths and limits are 32 bits wide in the kernel: no overflow.
    let share = length * 100;
    let mut cell = 0;
    for bound in FILL_BOUNDS_PERCENT {
        cell += ((bound * limit).wrapping_sub(share) >> 63) as usize;
    }
    within::<FILL_CELLS>(cell)
}

/// Masks an index, for the verifier to see: the compiler knows already that it is within the
/// array, by a sum that it writes as an OR, and the verifier of Linux 5.10 knows nothing of an
/// OR of two unknowns.
#[expect(clippy::inline_always, reason = "BPF programs are verified as a whole")]
#[inline(always)]
fn within<const CELLS: usize>(index: usize) -> usize {
    const { assert!(CELLS.is_power_of_two()) };
    #[cfg(target_arch = "bpf")]
    let index = {
        let mut index = index;
        // SAFETY: an AND of a register with a constant.
        unsafe {
            core::arch::asm!(
                "{} &= {}", inout(reg) index, const CELLS - 1, options(pure, nomem, nostack)
            );
        }
        index
    };
    index & (CELLS - 1)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded down")]
    fn bounds_are_those_of_both_kinds_of_buckets() {
        let mut expected: std::vec::Vec<u64> =
            (-33..=13).map(|k| (2f64.powf(f64::from(k) / 2.0) * 1e6) as u64).collect();
        expected.extend(CLASSIC_BOUNDS_US);
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(expected, TIME_BOUNDS_US);
    }

    #[test]
    fn a_time_is_in_the_first_cell_whose_bound_is_not_below_it() {
        let expected = |us| TIME_BOUNDS_US.partition_point(|bound| *bound < us);
        let near = TIME_BOUNDS_US.into_iter().flat_map(|bound| [bound - 1, bound, bound + 1]);
        for us in near.chain([0, 1, u64::from(u32::MAX), u64::MAX >> 1]) {
            assert_eq!(time_cell(us), expected(us), "{us}");
        }
    }

    #[test]
    fn a_fill_is_in_the_first_cell_whose_bound_is_not_below_it() {
        for (length, limit, cell) in [
            (0, 10, 0),
            (1, 10, 0),
            (2, 10, 1),
            (5, 10, 2),
            (9, 10, 4),
            (10, 10, 6),
            (11, 10, 7),
            (1, 0, 7),
            (0, 0, 0),
            (u64::from(u32::MAX), u64::from(u32::MAX), 6),
        ] {
            assert_eq!(fill_cell(length, limit), cell, "{length} of {limit}");
        }
    }
}
