//! The rules for Prometheus that are shipped, and the same in a hurry.

use anyhow::{Result, ensure};

/// Alerts, and what they build on.
pub const ALERTS: &str = include_str!("../../deploy/prometheus/tcpq.rules.yml");
/// A fleet's view, which builds on those.
pub const FLEET: &str = include_str!("../../deploy/prometheus/tcpq.fleet.rules.yml");

/// Times as they are, and a thirtieth.
const RATES: (&str, &str) = ("[5m]", "[10s]");
const INCREASES: (&str, &str) = ("* 300", "* 10");
const UNTIL_FIRING: (&str, &str) = ("for: 1m", "for: 1s");

/// [`ALERTS`] with their times cut to a thirtieth, so that nobody has to wait; promtool's tests
/// are of the rules as they are.
pub fn hasty_alerts() -> Result<String> {
    hasty(ALERTS, &[RATES, INCREASES, UNTIL_FIRING])
}

/// The same of [`FLEET`].
pub fn hasty_fleet() -> Result<String> {
    hasty(FLEET, &[RATES])
}

fn hasty(rules: &str, times: &[(&str, &str)]) -> Result<String> {
    let mut text = rules.to_owned();
    for (slow, quick) in times {
        ensure!(text.contains(slow), "the rules have no {slow} any more");
        text = text.replace(slow, quick);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_in_a_hurry_wait_for_no_minutes() {
        for rules in [hasty_alerts().unwrap(), hasty_fleet().unwrap()] {
            assert!(rules.contains("[10s]") && !rules.contains("[5m]"));
        }
    }
}
