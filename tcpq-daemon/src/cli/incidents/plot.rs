//! A time-line as a small plot: a row for each figure, a column for each span of time.

use crate::{
    engine::incidents::seconds_of_cell,
    model::incident::{moment::Moment, timeline::Second},
};

/// From nothing to the most.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Between the name and the bars.
const NAME: usize = 13;

/// After the bars.
const MOST: usize = 12;

/// Seconds that are shown before the first trouble and after the last. Unit: milliseconds.
const BEFORE: u64 = 20_000;
const AFTER: u64 = 5_000;

/// A figure, of the worst second of a column.
type Figure = fn(&Second) -> u64;

/// What is plotted; [`show`] leaves out what is 0 all the time.
const ROWS: [(&str, Figure); 6] = [
    ("accept queue", |second| second.accept_queue.length),
    ("SYN queue", |second| second.syn_queue.length),
    ("overflows/s", |second| per_second(second, second.overflows())),
    ("other drops/s", |second| per_second(second, second.drops.saturating_sub(second.overflows()))),
    ("accepts/s", |second| per_second(second, second.accepts)),
    ("wait p99 ms", wait),
];

/// What 99 of 100 waits did not exceed: the bound of their cell.
fn wait(second: &Second) -> u64 {
    let ms = seconds_of_cell(second.wait_p99_cell) * 1e3;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
    let ms = ms.ceil() as u64;
    if second.waits > 0 { ms } else { 0 }
}

fn per_second(second: &Second, count: u64) -> u64 {
    (count * 1000).div_ceil(second.span_ms.max(1))
}

/// The rows, and below them where the trouble was.
pub(super) fn plot(seconds: &[Second], opened: Moment, last: Moment, room: usize) -> Vec<String> {
    let from = opened.0.saturating_sub(BEFORE);
    let to = last.0 + AFTER;
    let span = (to - from).max(1);
    let columns = room.saturating_sub(NAME + MOST + 2).clamp(10, 100);
    // No column is less than a second.
    let columns = columns.min(usize::try_from(span / 1000).unwrap_or(columns).max(10));
    let column = |at: u64| {
        let column = u128::from(at.saturating_sub(from)) * columns as u128 / u128::from(span);
        usize::try_from(column).unwrap_or(0).min(columns - 1)
    };
    let shown: Vec<_> = seconds.iter().filter(|it| it.at.0 >= from && it.at.0 <= to).collect();
    let mut rows = Vec::new();
    for (name, figure) in ROWS {
        let mut most = vec![0; columns];
        for second in &shown {
            // A reading tells of the time before it; its ends may be in other columns.
            let ago = |ms| column(second.at.0.saturating_sub(ms));
            let places = ago(second.span_ms * 3 / 4)..=ago(second.span_ms / 4);
            for cell in most.get_mut(places).into_iter().flatten() {
                *cell = figure(second).max(*cell);
            }
        }
        let peak = most.iter().copied().max().unwrap_or(0);
        if peak > 0 {
            let bars: String = most.iter().map(|value| bar(*value, peak)).collect();
            rows.push(format!("{name:<NAME$} {bars} {peak} at most"));
        }
    }
    let mut marks = vec![' '; columns];
    let (first, end) = (column(opened.0), column(last.0));
    for mark in marks.iter_mut().take(end + 1).skip(first) {
        *mark = '-';
    }
    for end in [first, end] {
        if let Some(mark) = marks.get_mut(end) {
            *mark = '|';
        }
    }
    rows.push(format!("{:NAME$} {}", "trouble", marks.iter().collect::<String>()));
    rows
}

/// Something, if there is anything.
fn bar(value: u64, peak: u64) -> char {
    let height = (u128::from(value) * 8).div_ceil(u128::from(peak.max(1)));
    let height = usize::try_from(height).unwrap_or(8).min(8);
    BARS.get(height).copied().unwrap_or('█')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_share_and_never_hide_anything() {
        assert_eq!([0, 1, 500, 999, 1000].map(|value| bar(value, 1000)), [' ', '▁', '▄', '█', '█']);
        assert_eq!(bar(u64::MAX, u64::MAX), '█');
    }

    #[test]
    fn a_plot_is_no_wider_than_its_room_and_of_nothing_has_marks_only() {
        let second = |at: u64| Second {
            at: Moment(at * 1000),
            span_ms: 1000,
            accepts: at,
            ..Second::default()
        };
        let seconds: Vec<_> = (100..900).map(second).collect();
        let rows = plot(&seconds, Moment(120_000), Moment(850_000), 70);
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row.chars().count() <= 70), "{rows:?}");
        assert_eq!(plot(&[], Moment(1), Moment(1), 70).len(), 1);
    }
}
