//! Moments and times as people read them.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use crate::model::incident::moment::Moment;

/// `2026-11-25 19:14:32`, in the zone.
pub(in crate::cli) fn full(moment: Moment, zone: &TimeZone) -> String {
    format(moment, zone, "%Y-%m-%d %H:%M:%S")
}

/// `19:14:32 UTC`.
pub(in crate::cli) fn clock(moment: Moment, zone: &TimeZone) -> String {
    format(moment, zone, "%H:%M:%S %Z")
}

fn format(moment: Moment, zone: &TimeZone, format: &str) -> String {
    let timestamp =
        i64::try_from(moment.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let zoned = timestamp.map(|timestamp| timestamp.to_zoned_datetime(zone.clone()));
    zoned.map_or_else(|| "-".to_owned(), |zoned| zoned.strftime(format).to_string())
}

/// `0.4s`, `42s`, `3m05s`, `2h10m`.
pub(in crate::cli) fn lasted(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", time.as_secs_f64()),
        10..120 => format!("{seconds}s"),
        120..7200 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_times_are_short() {
        let zone = TimeZone::UTC;
        assert_eq!(full(Moment(1_795_000_000_000), &zone), "2026-11-18 11:06:40");
        assert_eq!(clock(Moment(1_795_000_000_999), &zone), "11:06:40 UTC");
        for (ms, text) in
            [(0, "0.0s"), (420, "0.4s"), (42_999, "42s"), (185_000, "3m05s"), (7_800_000, "2h10m")]
        {
            assert_eq!(lasted(Duration::from_millis(ms)), text);
        }
    }
}
