//! Times as people read them.

use tcpq_common::histogram::TIME_BOUNDS_US;

/// Two digits, and the unit that fits: `<10us`, `730us`, `2.5ms`, `90s+`. Below the first
/// bound of the cells and beyond the last nothing finer is known.
pub(super) fn short(seconds: f64) -> String {
    let us = seconds * 1e6;
    let [first, .., last] = TIME_BOUNDS_US.map(bound);
    if us <= first {
        return format!("<{first:.0}us");
    }
    if us >= last {
        return format!("{:.0}s+", (last / 1e6).floor());
    }
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    // What would be rounded to 1000 of a unit is 1 of the next.
    let fitting = units.into_iter().find(|(_, size)| us / size < 999.5);
    let (unit, size) = fitting.unwrap_or(units[2]);
    let value = us / size;
    if value < 9.95 && unit != "us" {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
fn bound(us: u64) -> f64 {
    us as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_claim_no_more_than_is_known() {
        for (seconds, text) in [
            (0.0, "<10us"),
            (0.000_01, "<10us"),
            (0.000_012, "12us"),
            (0.000_999_4, "999us"),
            (0.000_999_6, "1.0ms"),
            (0.002_54, "2.5ms"),
            (0.009_96, "10ms"),
            (0.25, "250ms"),
            (0.999_6, "1.0s"),
            (1.6, "1.6s"),
            (42.0, "42s"),
            (90.509_667, "90s+"),
        ] {
            assert_eq!(short(seconds), text, "{seconds}");
        }
    }
}
