//! The flight recorder: what each second of the last ten minutes was like, of every group
//! that had any traffic, so that a record begins before its first overflow.
//!
//! A second is packed into some 20 bytes: which numbers are not 0, then those, each in as
//! many bytes as it needs. Ten minutes of a busy group are 12 to 15 KB. All groups together
//! have a budget, which they share equally: where it is short, each keeps less than ten
//! minutes.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use crate::model::incident::{
    moment::Moment,
    timeline::{COLUMNS, Second},
};

/// How far back it goes.
pub const BACK: Duration = Duration::from_mins(10);

/// What a group takes beside its seconds, its key and place in the table included.
const OVERHEAD: usize = 256;

/// No group has less than this: if there is not so much for each, new ones are not recorded.
const LEAST: usize = 1024;

/// All groups' recordings.
#[derive(Debug)]
pub struct Recorder<K> {
    budget: usize,
    rings: HashMap<K, Ring>,
    refused: u64,
}

impl<K: Hash + Eq + Clone> Recorder<K> {
    /// `budget`: bytes that all recordings may take.
    pub fn new(budget: usize) -> Self {
        Self { budget, rings: HashMap::new(), refused: 0 }
    }

    /// Takes in a reading. One in which nothing happened takes no room.
    pub fn record(&mut self, key: &K, second: &Second) {
        if second.is_idle() {
            return;
        }
        let has_room = (self.rings.len() + 1) * LEAST <= self.budget;
        let share = self.budget / self.rings.len().max(1);
        let ring = match self.rings.get_mut(key) {
            Some(ring) => ring,
            None if has_room => self.rings.entry(key.clone()).or_default(),
            None => {
                self.refused += 1;
                return;
            }
        };
        ring.push(second);
        while ring.bytes() > share.max(LEAST) && ring.pop().is_some() {}
    }

    /// Lets go of what is too old.
    pub fn expire(&mut self, now: Moment) {
        let share = (self.budget / self.rings.len().max(1)).max(LEAST);
        let old = now.less(BACK);
        self.rings.retain(|_, ring| {
            while ring.first().is_some_and(|at| at < old) || ring.bytes() > share {
                if ring.pop().is_none() {
                    break;
                }
            }
            ring.count > 0
        });
    }

    /// The seconds of a group from a moment on.
    pub fn since(&self, key: &K, from: Moment) -> Vec<Second> {
        let Some(ring) = self.rings.get(key) else { return Vec::new() };
        ring.seconds().into_iter().filter(|second| second.at >= from).collect()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.rings.values().map(Ring::bytes).sum()
    }

    /// Groups that are recorded.
    #[cfg(test)]
    fn groups(&self) -> usize {
        self.rings.len()
    }

    /// Readings that were not recorded because there was no room for another group.
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}

/// One group's recording.
#[derive(Debug, Default)]
struct Ring {
    packed: VecDeque<u8>,
    count: usize,
    /// The moment that the first one's is told from.
    base: u64,
    /// The moment of the last one.
    last: u64,
}

impl Ring {
    fn bytes(&self) -> usize {
        OVERHEAD + self.packed.capacity()
    }

    fn push(&mut self, second: &Second) {
        let mut numbers = second.numbers();
        if self.count == 0 {
            self.base = second.at.0;
            self.last = second.at.0;
        }
        // A clock that is set back must not make a moment of the far future.
        numbers[0] = second.at.0.saturating_sub(self.last);
        self.last += numbers[0];
        let mask = (0_u64..)
            .zip(numbers)
            .fold(0, |mask, (column, number)| if number == 0 { mask } else { mask | 1 << column });
        pack(&mut self.packed, mask);
        for number in numbers.into_iter().filter(|number| *number != 0) {
            pack(&mut self.packed, number);
        }
        self.count += 1;
    }

    fn first(&self) -> Option<Moment> {
        let mut bytes = self.packed.iter().copied();
        (self.count > 0).then(|| unpack(&mut bytes, self.base))?.map(|second| second.at)
    }

    fn pop(&mut self) -> Option<Second> {
        if self.count == 0 {
            return None;
        }
        let Self { packed, base, .. } = self;
        let second = unpack(&mut std::iter::from_fn(|| packed.pop_front()), *base)?;
        self.base = second.at.0;
        self.count -= 1;
        if self.packed.capacity() > 2 * self.packed.len().max(64) {
            self.packed.shrink_to(self.packed.len() + self.packed.len() / 4);
        }
        Some(second)
    }

    fn seconds(&self) -> Vec<Second> {
        let mut bytes = self.packed.iter().copied();
        let mut before = self.base;
        std::iter::from_fn(|| {
            let second = unpack(&mut bytes, before)?;
            before = second.at.0;
            Some(second)
        })
        .collect()
    }
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn pack(into: &mut VecDeque<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            into.push_back(low & 0x7f);
            return;
        }
        into.push_back(low | 0x80);
    }
}

fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(number)
}

/// The next second; its moment is told from that of the one before.
fn unpack(bytes: &mut impl Iterator<Item = u8>, before: u64) -> Option<Second> {
    let mask = number(bytes)?;
    let mut numbers = [0; COLUMNS];
    for (column, value) in numbers.iter_mut().enumerate() {
        if mask & (1 << column) != 0 {
            *value = number(bytes)?;
        }
    }
    numbers[0] = before.saturating_add(numbers[0]);
    Some(Second::from_numbers(numbers))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::group::Queue;

    fn busy(at: u64) -> Second {
        Second {
            at: Moment(at * 1000),
            span_ms: 1001,
            accept_queue: Queue { length: 120, limit: 511 },
            accept_fill: 235,
            syn_queue: Queue { length: 3, limit: 511 },
            enqueued: 2_345,
            accepts: 2_300,
            waits: 2_300,
            waited_us: 23_000_000,
            wait_p99_cell: 31,
            ..Second::default()
        }
    }

    #[test]
    fn ten_minutes_are_kept_and_no_more() {
        let mut recorder = Recorder::new(1 << 20);
        for at in 0..2000 {
            recorder.record(&"a", &busy(at));
            recorder.expire(Moment(at * 1000));
        }
        let kept = recorder.since(&"a", Moment(0));
        assert_eq!((kept.len(), kept[0].at), (601, Moment(1_399_000)));
        assert_eq!(recorder.since(&"a", Moment(1_990_000)).len(), 10);
        let bytes = recorder.bytes() - OVERHEAD;
        assert!(bytes / kept.len() <= 30, "{bytes} bytes of {} seconds", kept.len());
        recorder.expire(Moment(2_700_000));
        assert_eq!((recorder.groups(), recorder.bytes()), (0, 0));
    }

    #[test]
    fn many_busy_groups_share_the_budget() {
        let budget = 200_000;
        let mut recorder = Recorder::new(budget);
        for at in 0..700 {
            for group in 0..300 {
                recorder.record(&group, &busy(at));
            }
            recorder.expire(Moment(at * 1000));
            assert!(recorder.bytes() <= budget, "{}", recorder.bytes());
        }
        assert_eq!(recorder.groups(), budget / LEAST);
        assert!(recorder.refused() > 0);
        // The latest seconds are the ones that are kept.
        assert_eq!(recorder.since(&0, Moment(0)).last().unwrap().at, Moment(699_000));
    }

    #[test]
    fn idle_groups_take_nothing() {
        let mut recorder = Recorder::new(1 << 20);
        let limit = Queue { length: 0, limit: 128 };
        recorder.record(&"a", &Second { accept_queue: limit, span_ms: 1000, ..Second::default() });
        assert_eq!((recorder.groups(), recorder.bytes()), (0, 0));
    }

    proptest! {
        #[test]
        fn what_was_recorded_is_read_again(rows in prop::collection::vec(
            prop::array::uniform16(prop_oneof![Just(0_u64), 0..300_u64, any::<u64>()]), 1..40)
        ) {
            let mut ring = Ring::default();
            let mut seconds = Vec::new();
            for (at, row) in (0_u64..).zip(rows) {
                let mut numbers = [0; COLUMNS];
                numbers[0] = 1_795_000_000_000 + at * 999;
                numbers[1..].copy_from_slice(&row);
                seconds.push(Second::from_numbers(numbers));
                ring.push(seconds.last().unwrap());
            }
            prop_assert_eq!(&ring.seconds(), &seconds);
            for second in seconds {
                prop_assert_eq!(ring.first(), Some(second.at));
                prop_assert_eq!(ring.pop(), Some(second));
            }
            prop_assert_eq!(ring.pop(), None);
        }
    }
}
