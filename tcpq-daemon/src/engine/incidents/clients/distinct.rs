//! How many different things there were: exact while they are few, then HyperLogLog
//! (Flajolet et al. 2007) with 2048 registers, of which the standard error is 2.3 %.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher as _},
};

/// So many are counted exactly.
const EXACT: usize = 256;

/// Bits of a hash that choose the register.
const BITS: u32 = 11;
const REGISTERS: usize = 1 << BITS;

#[derive(Debug)]
pub(super) struct Distinct {
    /// Hashes, while they are few.
    few: HashSet<u64>,
    /// The longest run of zeros of the hashes of each register, plus one.
    registers: Box<[u8; REGISTERS]>,
}

impl Default for Distinct {
    fn default() -> Self {
        Self { few: HashSet::new(), registers: Box::new([0; REGISTERS]) }
    }
}

impl Distinct {
    pub(super) fn add(&mut self, thing: &impl Hash) {
        // The hasher's keys are fixed: a recording that is played again gives the same count.
        let mut hasher = DefaultHasher::new();
        thing.hash(&mut hasher);
        let hash = hasher.finish();
        if self.few.len() <= EXACT {
            self.few.insert(hash);
        }
        let register = (hash >> (u64::BITS - BITS)) as usize;
        let rest = (hash << BITS) | (1 << (BITS - 1));
        let rank = u8::try_from(rest.leading_zeros() + 1).unwrap_or(u8::MAX);
        if let Some(register) = self.registers.get_mut(register) {
            *register = rank.max(*register);
        }
    }

    pub(super) fn count(&self) -> u64 {
        if self.few.len() <= EXACT {
            return self.few.len() as u64;
        }
        #[expect(clippy::cast_precision_loss, reason = "2048")]
        let registers = REGISTERS as f64;
        let sum: f64 = self.registers.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
        let empty: f64 = self.registers.iter().map(|rank| f64::from(u8::from(*rank == 0))).sum();
        let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let estimate = if raw <= 2.5 * registers && empty > 0.0 {
            registers * (registers / empty).ln()
        } else {
            raw
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
        let estimate = estimate.round() as u64;
        estimate.max(EXACT as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_counted_exactly_and_many_within_some_percent() {
        for many in [0_u64, 1, 25, 256, 257, 1000, 5000, 20_000, 200_000] {
            let mut distinct = Distinct::default();
            for thing in (0..many).chain(0..many) {
                distinct.add(&thing);
            }
            let count = distinct.count();
            let allowed = if many <= EXACT as u64 { 0 } else { many / 10 };
            assert!(count.abs_diff(many) <= allowed, "{count} for {many}");
        }
    }
}
