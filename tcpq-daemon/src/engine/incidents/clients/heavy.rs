//! What came most often, in bounded memory: Space-Saving (Metwally et al. 2005). What is
//! told is never too low, and by how much it may be too high is known.

use std::{cmp::Reverse, collections::HashMap, hash::Hash};

#[derive(Debug)]
pub(super) struct Heavy<T> {
    room: usize,
    /// Count, and by how much it may be too high.
    counts: HashMap<T, (u64, u64)>,
}

impl<T: Hash + Eq + Ord + Copy> Heavy<T> {
    pub(super) fn new(room: usize) -> Self {
        Self { room, counts: HashMap::with_capacity(room) }
    }

    pub(super) fn add(&mut self, thing: T) {
        if let Some((count, _)) = self.counts.get_mut(&thing) {
            *count += 1;
            return;
        }
        let mut before = 0;
        if self.counts.len() >= self.room {
            // The least takes its leave, and what comes inherits its count. Of equal ones the
            // smallest, so that a recording played again gives the same.
            let least = self.counts.iter().map(|(thing, (count, _))| (*count, *thing)).min();
            if let Some((count, least)) = least {
                self.counts.remove(&least);
                before = count;
            }
        }
        self.counts.insert(thing, (before + 1, before));
    }

    /// The first `many`: what, how often at most, and by how much that may be too high.
    pub(super) fn most(&self, many: usize) -> Vec<(T, u64, u64)> {
        let mut all: Vec<_> =
            self.counts.iter().map(|(thing, (count, error))| (*thing, *count, *error)).collect();
        all.sort_by_key(|(thing, count, _)| (Reverse(*count), *thing));
        all.truncate(many);
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against exact counts: never too low, too high by no more than is said; and whatever
        /// came more often than `all / room` is there.
        #[test]
        fn counts_are_as_good_as_they_say(things in prop::collection::vec(0_u32..40, 0..400)) {
            const ROOM: usize = 8;
            let mut heavy = Heavy::new(ROOM);
            let mut exact: HashMap<u32, u64> = HashMap::new();
            for thing in &things {
                heavy.add(*thing);
                *exact.entry(*thing).or_default() += 1;
            }
            let told = heavy.most(ROOM);
            for (thing, count, error) in &told {
                let truth = exact[thing];
                prop_assert!(*count >= truth && count - error <= truth);
            }
            for (thing, truth) in exact {
                if truth > things.len() as u64 / ROOM as u64 {
                    prop_assert!(told.iter().any(|(it, ..)| *it == thing));
                }
            }
        }
    }
}
