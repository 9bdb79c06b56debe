//! When all open files are to be looked through again.

use std::time::{Duration, Instant};

/// A walk costs as many of these seconds per second: 0.1 % of a core.
const SHARE: f64 = 0.001;

/// Least time between walks that nothing gave cause for.
const PERIOD: Duration = Duration::from_secs(10);

/// Least time between walks.
const GAP: Duration = Duration::from_secs(1);

/// A new socket is looked at when there was time to fork, to pass it on and to exec.
const SETTLED: Duration = Duration::from_secs(1);

/// Least that is saved up, in seconds.
const PURSE: f64 = 0.05;

/// How many walks are saved up, if that is more. Half are for events.
const WALKS: f64 = 4.0;

/// Walks when there is cause, and now and then, on a budget.
///
/// Time is earned steadily and each walk spends what it took, so whatever happens, walks
/// cost no more in the long run. Those without cause leave half of the savings to those
/// that have one.
#[derive(Debug)]
pub(super) struct Schedule {
    state: State,
    /// When there is cause for the next one.
    due: Option<Instant>,
    /// Not before.
    earliest: Option<Instant>,
    /// What the last one took, in seconds.
    cost: f64,
    /// What was saved up by then.
    savings: f64,
    /// No walk has ended yet.
    is_first: bool,
}

#[derive(Debug)]
enum State {
    /// None so far.
    New,
    /// One is under way.
    Walking,
    /// The last one ended then.
    Walked(Instant),
}

impl Schedule {
    /// The first walk is due.
    pub(super) fn new() -> Self {
        Self {
            state: State::New,
            due: None,
            earliest: None,
            cost: 0.0,
            savings: 0.0,
            is_first: true,
        }
    }

    /// A socket is new.
    pub(super) fn appeared(&mut self, now: Instant) {
        self.want(now + SETTLED);
    }

    /// An owner has ended.
    pub(super) fn ended(&mut self, now: Instant) {
        self.want(now);
    }

    fn want(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Whether to walk now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let since = match self.state {
            State::New => return true,
            State::Walking => return false,
            State::Walked(end) => now.saturating_duration_since(end),
        };
        if since < GAP || self.earliest.is_some_and(|earliest| now < earliest) {
            return false;
        }
        let savings = self.savings_after(since);
        let has_cause = self.due.is_some_and(|due| due <= now);
        if has_cause && savings > 0.0 {
            return true;
        }
        since >= PERIOD && savings >= self.purse() / 2.0 + self.cost
    }

    fn purse(&self) -> f64 {
        PURSE.max(WALKS * self.cost)
    }

    fn savings_after(&self, since: Duration) -> f64 {
        (self.savings + SHARE * since.as_secs_f64()).min(self.purse())
    }

    /// One begins: it serves what there was cause for.
    pub(super) fn began(&mut self, now: Instant) {
        if let State::Walked(end) = self.state {
            self.savings = self.savings_after(now.saturating_duration_since(end));
        }
        self.state = State::Walking;
        self.due = None;
        self.earliest = None;
    }

    /// One has ended and took so long.
    pub(super) fn walked(&mut self, took: Duration, now: Instant) {
        self.cost = took.as_secs_f64();
        // The first one tells how large the purse is.
        self.savings = if self.is_first { self.purse() / 2.0 } else { self.savings - self.cost };
        self.is_first = false;
        self.state = State::Walked(now);
    }

    /// One has failed: again after a while.
    pub(super) fn failed(&mut self, now: Instant) {
        self.state = State::Walked(now);
        self.earliest = Some(now + PERIOD);
        self.due = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Steps of 100 ms for so long: how often it walks if each takes `took`, with cause
    /// all the time if `busy` says so.
    fn walks(schedule: &mut Schedule, took: Duration, span: Duration, busy: Busy) -> Vec<Instant> {
        let mut now = match schedule.state {
            State::Walked(end) => end,
            _ => Instant::now(),
        };
        let mut walks = Vec::new();
        let end = now + span;
        while now < end {
            if matches!(busy, Busy::Always) {
                schedule.appeared(now);
            }
            if schedule.is_due(now) {
                walks.push(now);
                schedule.began(now);
                assert!(!schedule.is_due(now), "one at a time");
                schedule.walked(took, now + took);
            }
            now += Duration::from_millis(100);
        }
        walks
    }

    #[derive(Clone, Copy)]
    enum Busy {
        Never,
        Always,
    }

    #[test]
    fn the_first_is_due_and_the_next_with_cause_or_after_a_while() {
        let mut schedule = Schedule::new();
        let start = Instant::now();
        assert!(schedule.is_due(start));
        schedule.began(start);
        schedule.walked(Duration::from_millis(1), start);
        assert!(!schedule.is_due(start + PERIOD * 9 / 10));
        assert!(schedule.is_due(start + PERIOD));
        schedule.appeared(start);
        assert!(!schedule.is_due(start + SETTLED / 2));
        assert!(schedule.is_due(start + SETTLED));
    }

    #[test]
    fn an_end_is_cause_at_once_and_a_walk_serves_what_came_before_it() {
        let mut schedule = Schedule::new();
        let start = Instant::now();
        schedule.began(start);
        schedule.walked(Duration::from_millis(1), start);
        schedule.ended(start + SECOND * 2);
        assert!(schedule.is_due(start + SECOND * 2));
        schedule.began(start + SECOND * 2);
        schedule.ended(start + SECOND * 2);
        schedule.walked(Duration::from_millis(1), start + SECOND * 2);
        assert!(!schedule.is_due(start + SECOND * 2), "too soon");
        assert!(schedule.is_due(start + SECOND * 3), "it ended while one was under way");
        schedule.began(start + SECOND * 3);
        schedule.walked(Duration::from_millis(1), start + SECOND * 3);
        assert!(!schedule.is_due(start + SECOND * 5));
    }

    #[test]
    fn without_cause_they_cost_a_thousandth_or_come_each_ten_seconds() {
        let hour = SECOND * 3600;
        for (took, most) in [
            (Duration::from_micros(500), 361),
            (Duration::from_millis(10), 361),
            (Duration::from_millis(50), 76),
            (Duration::from_secs(1), 4),
        ] {
            let count = walks(&mut Schedule::new(), took, hour, Busy::Never).len();
            assert!(count <= most && count >= most * 8 / 10, "{took:?}: {count}");
        }
    }

    #[test]
    fn nor_do_they_cost_more_where_there_is_always_cause() {
        let hour = SECOND * 3600;
        for took in [1, 10, 100, 1000].map(Duration::from_millis) {
            let walks = walks(&mut Schedule::new(), took, hour, Busy::Always);
            let cost = took.as_secs_f64() * f64::from(u32::try_from(walks.len()).unwrap());
            // The first one, the purse it gives and the last one come to what is earned.
            let earned = 3.6 + PURSE + WALKS * took.as_secs_f64();
            assert!(cost <= earned, "{took:?}: {cost}");
            assert!(walks.windows(2).all(|pair| pair[1] - pair[0] >= GAP));
        }
    }

    #[test]
    fn savings_let_events_follow_each_other() {
        let mut schedule = Schedule::new();
        walks(&mut schedule, Duration::from_millis(10), SECOND * 300, Busy::Never);
        let walks = walks(&mut schedule, Duration::from_millis(10), SECOND * 6, Busy::Always);
        assert!(walks.len() >= 3, "{}", walks.len());
    }

    #[test]
    fn one_that_fails_is_tried_again_later() {
        let mut schedule = Schedule::new();
        let start = Instant::now();
        schedule.began(start);
        schedule.failed(start);
        schedule.ended(start);
        assert!(!schedule.is_due(start + PERIOD / 2));
        assert!(schedule.is_due(start + PERIOD));
    }
}
