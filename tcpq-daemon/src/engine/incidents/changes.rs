//! What changed of a group from one snapshot to the next.

use tcpq_common::{
    histogram::{FILL_BOUNDS_PERCENT, TIME_BOUNDS_US, TIME_CELLS, Times},
    totals::SynDrop,
};

use crate::model::{
    counts::Counts,
    distribution::{Distribution, Estimate},
    group::{GroupView, Queue},
    incident::{evidence::Spread, moment::Moment, timeline::Second},
    observations::Observations,
};

/// A queue this short is full or not; how full says nothing.
const SPEAKS: u64 = 4;

/// The second between two readings of a group. Of one that was not there before, what it
/// has counted is of this second.
pub(super) fn second(
    before: Option<&GroupView>,
    now: &GroupView,
    at: Moment,
    span_ms: u64,
) -> Second {
    let counts = now.counts.since(before.map_or_else(Counts::default, |it| *it.counts));
    let waits = waits(before, now);
    Second {
        at,
        span_ms,
        accept_queue: now.accept_queue,
        accept_fill: fullest(now, |accept, _| (accept.length, accept.limit + 1)),
        syn_queue: now.syn_queue,
        overflows_syn: counts.overflows.syn,
        overflows_ack: counts.overflows.ack,
        overflows_cookie: counts.overflows.cookie,
        drops: counts.listen_drops.saturating_sub(not_unicast(&counts)),
        cookies_sent: counts.cookies.sent,
        enqueued: counts.enqueued.total(),
        accepts: counts.accepts,
        waits: waits.count(),
        waited_us: waits.sum_us,
        wait_p99_cell: p99_cell(&waits),
    }
}

/// How full the fuller queue of the fullest socket is: what sustained fill is judged by.
/// Unit: thousandths.
pub(super) fn fill(now: &GroupView) -> u64 {
    let accept = fullest(now, |accept, _| (accept.length, accept.limit + 1));
    accept.max(fullest(now, |_, syn| (syn.length, syn.limit)))
}

/// The largest share of its room that any socket's queue has in use. A queue that is short
/// speaks only once it is full.
fn fullest(now: &GroupView, of: impl Fn(Queue, Queue) -> (u64, u64)) -> u64 {
    let share = |(length, room): (u64, u64)| {
        let speaks = room > SPEAKS || length >= room;
        if speaks && room > 0 { length.saturating_mul(1000) / room } else { 0 }
    };
    let told = now.members.iter().map(|it| share(of(it.accept_queue, it.syn_queue))).max();
    told.unwrap_or_else(|| share(of(now.accept_queue, now.syn_queue)))
}

/// Nobody waits for an answer to those.
fn not_unicast(counts: &Counts) -> u64 {
    let position = SynDrop::ALL.iter().position(|it| *it == SynDrop::NotUnicast);
    position.and_then(|position| counts.syn_drops.get(position)).copied().unwrap_or(0)
}

fn waits(before: Option<&GroupView>, now: &GroupView) -> Times {
    times(before, now, Observations::accept_wait)
}

/// What was observed between two readings.
fn times(before: Option<&GroupView>, now: &GroupView, of: fn(&Observations) -> &Times) -> Times {
    let none = Times { cells: [0; TIME_CELLS], sum_us: 0 };
    let observed = |view: &GroupView| view.histograms.as_deref().map_or(none, |all| *of(all));
    let before = before.map_or(none, observed);
    let mut times = observed(now);
    for (cell, less) in times.cells.iter_mut().zip(before.cells) {
        *cell = cell.saturating_sub(less);
    }
    times.sum_us = times.sum_us.saturating_sub(before.sum_us);
    times
}

/// Of all that was observed between two readings; `None`: nothing was.
pub(super) fn spread(
    before: Option<&GroupView>,
    now: &GroupView,
    of: fn(&Observations) -> &Times,
) -> Option<Spread> {
    let times = times(before, now, of);
    let count = times.count();
    let told = Distribution::of_times(&times);
    let quantile = |share| match told.quantile(share)? {
        Estimate::About(us) | Estimate::Above(us) => Some(us / 1e6),
    };
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let mean = (count > 0).then(|| times.sum_us as f64 / count as f64 / 1e6)?;
    Some(Spread { count, mean, p50: quantile(0.5)?, p99: quantile(0.99)? })
}

/// How full the accept queue was at most when a connection entered it between two readings;
/// `None`: none did. Unit: percent.
pub(super) fn entered_at_most(before: &GroupView, now: &GroupView) -> Option<u64> {
    let now = now.histograms.as_deref()?.accept_fill();
    let before = before.histograms.as_deref().map(Observations::accept_fill);
    let known = |cell: usize| before.and_then(|it| it.cells.get(cell).copied()).unwrap_or(0);
    let cell = now.cells.iter().enumerate().rposition(|(cell, count)| *count > known(cell))?;
    // Of the last one it is the lower bound.
    FILL_BOUNDS_PERCENT.get(cell).or(FILL_BOUNDS_PERCENT.last()).copied()
}

/// The cell that 99 of 100 observations do not exceed.
fn p99_cell(times: &Times) -> u64 {
    let rank = times.count() - times.count() / 100;
    let mut below = 0;
    for (cell, count) in (0..).zip(times.cells) {
        below += count;
        if below >= rank && count > 0 {
            return cell;
        }
    }
    0
}

/// The upper bound of a cell. Unit: seconds.
pub fn seconds_of_cell(cell: u64) -> f64 {
    let bound = usize::try_from(cell).ok().and_then(|cell| TIME_BOUNDS_US.get(cell));
    let [.., last] = TIME_BOUNDS_US;
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let us = *bound.unwrap_or(&last) as f64;
    us / 1e6
}
