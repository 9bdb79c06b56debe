//! The flags of `tcpq explain`.

use std::time::Duration;

use clap::Args as ClapArgs;

use crate::cli::{ask::AskArgs, explain::target::Target};

/// What the command asks of the daemon, and what it answers.
const MORE: &str = "\
It asks the daemon twice, --for seconds apart, for what happens per second. Without a daemon \
it takes one look: limits and queues are told, but nothing was counted.

Where more than one listener fits, they are listed with how to pick one, and the exit code \
is 2; where none does, the exit code is 1.";

#[derive(Debug, ClapArgs)]
#[command(after_long_help = MORE)]
pub(in crate::cli) struct ExplainArgs {
    /// Which listener: 443, 127.0.0.1:443, [::1]:443, or the name of a process
    #[arg(value_name = "PORT|ADDR:PORT|PROCESS")]
    pub(super) target: Target,
    /// Only in the network namespace of this name
    #[arg(id = "of_netns", long = "netns", value_name = "NAME")]
    pub(super) netns: Option<String>,
    /// How long to watch, 0.2 to 60 seconds
    #[arg(long = "for", value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub(super) watch: Duration,
    #[command(flatten)]
    pub(super) ask: AskArgs,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.2..=60.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "it takes 0.2 to 60 seconds; example: 5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_to_watch() {
        assert_eq!(seconds("0.2"), Ok(Duration::from_millis(200)));
        assert_eq!(seconds("60"), Ok(Duration::from_mins(1)));
        for bad in ["", "0", "0.1", "61", "-1", "NaN", "inf", "2s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
