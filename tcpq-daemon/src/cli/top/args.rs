//! The flags of `tcpq top`.

use std::time::Duration;

use clap::Args as ClapArgs;

use crate::cli::{ask::AskArgs, list::args::FilterArgs};

const KEYS: &str = "\
Keys: up, down, page up, page down, home, end or j, k, g, G move; enter opens a listener, and i its \
incident; tab goes from the listeners to the incidents and back; s changes the order, r turns it \
round; / narrows down by text in any name; space holds the picture; ? shows the keys; esc goes back, q \
ends.";

#[derive(Debug, ClapArgs)]
#[command(after_help = KEYS)]
pub(in crate::cli) struct TopArgs {
    #[command(flatten)]
    pub(super) ask: AskArgs,
    /// Seconds between two readings
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(super) interval: Duration,
    #[command(flatten)]
    pub(super) filters: FilterArgs,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.1..=3600.0).contains(seconds));
    let seconds = seconds.ok_or("an interval is a number of seconds from 0.1 to 3600")?;
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "NaN", "inf", "x", "4000"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
