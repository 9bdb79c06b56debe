//! What a time-line looks like: bursts, plateaus, gaps.

use crate::model::incident::{evidence::AcceptGap, moment::Moment, timeline::Second};

/// A queue this full counts as full between two accept()s. Unit: thousandths.
const FULL: u64 = 800;

/// Trouble this far apart is of two bouts. Unit: milliseconds.
const APART: u64 = 2500;

/// The figures of one episode's time-line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Shape {
    /// Seconds in which something was refused.
    pub(super) refusing: u64,
    /// Of them and those between them in a bout, those at whose end the accept queue was full.
    pub(super) full: u64,
    /// Seconds from the first to the last that refused, gaps between bouts left out.
    pub(super) seconds: f64,
    /// The longest bout. Unit: seconds.
    pub(super) longest: f64,
    /// Connections accepted in bouts.
    pub(super) accepts: u64,
    /// Per second before the first trouble: connections that came; `None`: nothing is known
    /// of that time.
    pub(super) before: Option<f64>,
    /// Tries to get in, of the second that had most: retries count each.
    pub(super) peak: u64,
    /// Seconds at whose end the SYN queue was full.
    pub(super) syn_full: u64,
    /// The longest SYN queue.
    pub(super) syn_longest: u64,
    /// The longest accept queue.
    pub(super) accept_longest: u64,
    /// Seconds at whose end the accept queue was full, whether or not any was refused.
    pub(super) ever_full: u64,
}

impl Shape {
    /// Of the seconds from some time before `opened` on; the listener is known since `known`.
    pub(super) fn new(seconds: &[Second], known: Moment, opened: Moment) -> Self {
        let mut shape = Self { before: before(seconds, known, opened), ..Self::default() };
        let during = seconds.iter().filter(|it| it.at >= opened);
        for second in during.clone() {
            let syn = second.syn_queue;
            shape.syn_longest = shape.syn_longest.max(syn.length);
            shape.accept_longest = shape.accept_longest.max(second.accept_queue.length);
            shape.syn_full += u64::from(syn.limit > 0 && syn.length * 1000 >= syn.limit * FULL);
            shape.ever_full += u64::from(second.accept_fill >= FULL);
            shape.peak = shape.peak.max(second.enqueued + second.overflows());
        }
        let during: Vec<_> = during.collect();
        for bout in bouts(&during) {
            let ms: u64 = bout.iter().map(|second| second.span_ms).sum();
            shape.seconds += in_seconds(ms);
            shape.longest = shape.longest.max(in_seconds(ms));
            shape.refusing += bout.iter().filter(|second| second.refused() > 0).count() as u64;
            shape.full += bout.iter().filter(|it| it.accept_fill >= FULL).count() as u64;
            shape.accepts += bout.iter().map(|second| second.accepts).sum::<u64>();
        }
        shape
    }

    /// The share of the seconds of bouts at whose end the accept queue was full.
    pub(super) fn full_share(&self) -> f64 {
        if self.seconds > 0.0 { float(self.full) / self.seconds } else { 0.0 }
    }

    /// Accepted per second in bouts.
    pub(super) fn accept_rate(&self) -> f64 {
        if self.seconds > 0.0 { float(self.accepts) / self.seconds } else { 0.0 }
    }

    /// How many times as many came in the worst second as before; `None`: nothing is known
    /// of before.
    pub(super) fn burst(&self) -> Option<f64> {
        self.before.map(|before| float(self.peak) / before.max(1.0))
    }
}

/// Seconds that refuse, and those between them where they are not far apart.
fn bouts<'a>(during: &'a [&'a Second]) -> Vec<&'a [&'a Second]> {
    let refusing = during.iter().enumerate().filter(|(_, second)| second.refused() > 0);
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for (place, second) in refusing {
        let last = ranges.last_mut();
        let last = last.filter(|(_, end)| {
            during.get(*end).is_some_and(|it| second.at.0 - it.at.0.min(second.at.0) <= APART)
        });
        match last {
            Some((_, end)) => *end = place,
            None => ranges.push((place, place)),
        }
    }
    ranges.into_iter().filter_map(|(start, end)| during.get(start..=end)).collect()
}

/// Connections per second in the minute before. A second that is not in the time-line was idle,
/// as long as the recorder was running and the listener was there.
fn before(seconds: &[Second], known: Moment, opened: Moment) -> Option<f64> {
    const MINUTE: u64 = 60_000;
    let known = opened.0.saturating_sub(known.0).min(MINUTE);
    // The second in which it opened is not of before.
    let mut came = seconds.iter().filter(|it| it.at < opened && it.at.0 + MINUTE >= opened.0);
    (known >= 2000).then(|| {
        let came: u64 = came.by_ref().map(|second| second.enqueued).sum();
        float(came) / in_seconds(known)
    })
}

/// The longest time in which accept() took nothing although connections waited.
pub(super) fn accept_gap(seconds: &[Second]) -> Option<AcceptGap> {
    let mut longest: Option<AcceptGap> = None;
    let mut now: Option<AcceptGap> = None;
    let mut waited = false;
    for second in seconds {
        let waits = second.accept_queue.length > 0;
        now = if second.accepts == 0 && waits && waited {
            let from = second.at.0.saturating_sub(second.span_ms);
            let begun = now.unwrap_or(AcceptGap { from: Moment(from), ..AcceptGap::default() });
            Some(AcceptGap {
                ms: second.at.0.saturating_sub(begun.from.0),
                waiting: second.accept_queue.length,
                ..begun
            })
        } else {
            None
        };
        waited = waits;
        longest = longest.max_by_ms(now);
    }
    longest
}

trait Longest {
    fn max_by_ms(self, other: Self) -> Self;
}

impl Longest for Option<AcceptGap> {
    fn max_by_ms(self, other: Self) -> Self {
        if other.map(|it| it.ms) > self.map(|it| it.ms) { other } else { self }
    }
}

fn in_seconds(ms: u64) -> f64 {
    float(ms) / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::group::Queue;

    fn at(second: u64, waiting: u64, accepts: u64, refused: u64) -> Second {
        Second {
            at: Moment(second * 1000),
            span_ms: 1000,
            accept_queue: Queue { length: waiting, limit: 4 },
            accept_fill: waiting * 200,
            accepts,
            enqueued: accepts,
            overflows_syn: refused,
            drops: refused,
            ..Second::default()
        }
    }

    #[test]
    fn a_gap_is_time_with_waiting_connections_at_both_ends() {
        let seconds = [
            at(1, 0, 5, 0),
            at(2, 3, 2, 0),
            at(3, 5, 0, 7),
            at(4, 5, 0, 9),
            at(5, 0, 5, 0),
            at(6, 5, 0, 0),
        ];
        let gap = accept_gap(&seconds).unwrap();
        assert_eq!((gap.ms, gap.from, gap.waiting), (2000, Moment(2000), 5));
        assert_eq!(accept_gap(&seconds[..2]), None);
    }

    #[test]
    fn bouts_and_what_was_before_are_told_apart() {
        let mut seconds: Vec<_> = (1..=10).map(|second| at(second, 0, 20, 0)).collect();
        seconds.extend([at(11, 5, 30, 40), at(12, 5, 30, 0), at(13, 5, 30, 10)]);
        seconds.extend([at(20, 0, 30, 100)]);
        let shape = Shape::new(&seconds, Moment(0), Moment(10_500));
        assert_eq!((shape.refusing, shape.full, shape.peak), (3, 3, 130));
        assert!((shape.seconds - 4.0).abs() < 1e-9 && (shape.longest - 3.0).abs() < 1e-9);
        assert!((shape.before.unwrap() - 200.0 / 10.5).abs() < 1e-9);
        assert!((shape.accept_rate() - 30.0).abs() < 1e-9);
    }

    #[test]
    fn of_a_time_that_is_not_known_nothing_is_told() {
        assert_eq!(Shape::new(&[at(2, 5, 0, 3)], Moment(0), Moment(1500)).burst(), None);
        // It was there and idle.
        let idle = Shape::new(&[at(60, 5, 0, 3)], Moment(0), Moment(59_000));
        assert_eq!(idle.before, Some(0.0));
    }
}
