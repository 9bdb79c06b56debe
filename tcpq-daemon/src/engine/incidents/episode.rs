//! When an episode of one listener begins and ends: events and ticks in, openings and
//! closings out. Nothing is read here, the time neither.

use std::time::Duration;

use crate::model::incident::{moment::Moment, record::Trigger};

/// When is what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Without trouble for so long, an episode is over. Flapping that is faster is one episode.
    pub quiet: Duration,
    /// Trouble after so long without is another bout of the same episode.
    pub pause: Duration,
    /// A queue so full is trouble if it lasts. Unit: thousandths of its limit.
    pub fill: u64,
    /// So long.
    pub sustain: Duration,
}

/// What is seen of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A connection attempt was refused just now.
    Refusal,
    /// A reading.
    Tick {
        /// Attempts refused since the one before.
        refused: u64,
        /// How full its fullest queue is. Unit: thousandths of its limit.
        fill: u64,
    },
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// An episode began, at `from`.
    Opened {
        /// The first trouble.
        from: Moment,
        /// Which.
        by: Trigger,
    },
    /// It went on.
    Trouble,
    /// It is over since the last trouble.
    Closed,
}

/// One listener's state: one episode at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Episode {
    state: State,
    /// The latest time seen: what comes out of order happened then at the earliest.
    latest: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Calm { filling: Option<Moment> },
    Troubled { last: Moment, bouts: u64 },
}

impl Default for State {
    fn default() -> Self {
        Self::Calm { filling: None }
    }
}

impl Episode {
    /// Takes in what was seen at a moment.
    pub fn step(&mut self, at: Moment, input: Input, rules: &Rules) -> Option<Change> {
        let now = self.latest.max(at);
        self.latest = now;
        let (refused, fills) = match input {
            Input::Refusal => (true, false),
            Input::Tick { refused, fill } => (refused > 0, fill >= rules.fill),
        };
        let (state, change) = match self.state {
            State::Calm { .. } if refused => {
                (troubled(now), Some(Change::Opened { from: now, by: Trigger::Refusal }))
            }
            State::Calm { filling } if fills => {
                let from = filling.unwrap_or(now);
                if now.since(from) >= rules.sustain {
                    (troubled(now), Some(Change::Opened { from, by: Trigger::Fill }))
                } else {
                    (State::Calm { filling: Some(from) }, None)
                }
            }
            State::Calm { .. } => (State::default(), None),
            State::Troubled { last, bouts } if refused || fills => {
                let again = u64::from(now.since(last) >= rules.pause);
                (State::Troubled { last: now, bouts: bouts + again }, Some(Change::Trouble))
            }
            State::Troubled { last, .. } if now.since(last) >= rules.quiet => {
                (State::default(), Some(Change::Closed))
            }
            troubled @ State::Troubled { .. } => (troubled, None),
        };
        self.state = state;
        change
    }

    /// Whether nothing is to be remembered.
    pub fn is_calm(&self) -> bool {
        self.state == State::default()
    }

    /// How often trouble began in the open episode; 0 if there is none.
    pub const fn bouts(&self) -> u64 {
        match self.state {
            State::Calm { .. } => 0,
            State::Troubled { bouts, .. } => bouts,
        }
    }

    /// The last trouble of the open episode.
    pub const fn last(&self) -> Option<Moment> {
        match self.state {
            State::Calm { .. } => None,
            State::Troubled { last, .. } => Some(last),
        }
    }
}

const fn troubled(now: Moment) -> State {
    State::Troubled { last: now, bouts: 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules {
        quiet: Duration::from_secs(30),
        pause: Duration::from_secs(3),
        fill: 800,
        sustain: Duration::from_secs(10),
    };

    fn tick(refused: u64, fill: u64) -> Input {
        Input::Tick { refused, fill }
    }

    fn play(inputs: &[(u64, Input)]) -> Vec<(u64, Change)> {
        let mut episode = Episode::default();
        let step = |(at, input): &(u64, Input)| {
            Some((*at, episode.step(Moment(at * 1000), *input, &RULES)?))
        };
        inputs.iter().filter_map(step).collect()
    }

    #[test]
    fn the_first_refusal_opens_and_quiet_closes() {
        let opened = Change::Opened { from: Moment(1000), by: Trigger::Refusal };
        let inputs = [
            (0, tick(0, 0)),
            (1, Input::Refusal),
            (2, tick(5, 0)),
            (31, tick(0, 0)),
            (32, tick(0, 0)),
            (33, tick(0, 0)),
        ];
        assert_eq!(play(&inputs), [(1, opened), (2, Change::Trouble), (32, Change::Closed)]);
    }

    #[test]
    fn a_full_queue_opens_only_if_it_stays_so() {
        let mut inputs: Vec<_> = (0..9).map(|at| (at, tick(0, 900))).collect();
        inputs.push((9, tick(0, 100)));
        assert_eq!(play(&inputs), []);
        let stays: Vec<_> = (5..=15).map(|at| (at, tick(0, 800))).collect();
        let opened = Change::Opened { from: Moment(5000), by: Trigger::Fill };
        assert_eq!(play(&stays), [(15, opened)]);
    }

    #[test]
    fn flapping_is_one_episode_of_several_bouts() {
        let mut episode = Episode::default();
        for at in (0..200).step_by(20) {
            episode.step(Moment(at * 1000), tick(1, 0), &RULES);
            episode.step(Moment(at * 1000 + 1000), tick(0, 0), &RULES);
        }
        assert_eq!((episode.bouts(), episode.last()), (10, Some(Moment(180_000))));
    }

    #[test]
    fn a_clock_that_is_set_back_neither_closes_nor_opens() {
        let inputs = [(100, tick(1, 0)), (10, tick(0, 0)), (129, tick(0, 0)), (130, tick(0, 0))];
        let opened = Change::Opened { from: Moment(100_000), by: Trigger::Refusal };
        assert_eq!(play(&inputs), [(100, opened), (130, Change::Closed)]);
    }

    fn inputs() -> impl Strategy<Value = Vec<(u64, Input)>> {
        let input = prop_oneof![
            Just(Input::Refusal),
            (prop_oneof![3 => Just(0_u64), 1 => 1..9_u64], 0..=1000_u64)
                .prop_map(|(refused, fill)| tick(refused, fill)),
        ];
        prop::collection::vec((0..400_u64, input), 0..120)
    }

    proptest! {
        /// In any order of events, ticks and times: openings and closings alternate, a closing
        /// comes after a whole quiet time and only at a tick, and no refusal is outside of an
        /// episode.
        #[test]
        fn episodes_alternate_and_hold_every_refusal(inputs in inputs()) {
            let mut episode = Episode::default();
            let mut open = false;
            let mut last = Moment(0);
            let mut latest = Moment(0);
            for (at, input) in inputs {
                let at = Moment(at * 1000);
                latest = latest.max(at);
                let refused = match input {
                    Input::Refusal => true,
                    Input::Tick { refused, .. } => refused > 0,
                };
                match episode.step(at, input, &RULES) {
                    Some(Change::Opened { from, by }) => {
                        prop_assert!(!open);
                        prop_assert!(from <= latest);
                        prop_assert_eq!(by == Trigger::Refusal, refused);
                        (open, last) = (true, latest);
                    }
                    Some(Change::Trouble) => {
                        prop_assert!(open);
                        last = latest;
                    }
                    Some(Change::Closed) => {
                        prop_assert!(open && !refused);
                        prop_assert!(latest.since(last) >= RULES.quiet);
                        open = false;
                    }
                    None => prop_assert!(!refused),
                }
                prop_assert_eq!(episode.last().is_some(), open);
                prop_assert_eq!(episode.bouts() > 0, open);
            }
        }
    }
}
