//! The flags of `tcpq incidents`.

use clap::{Args as ClapArgs, Subcommand, builder::PossibleValuesParser};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::{
    cli::ask::AskArgs,
    model::incident::{
        filter::{Filter, USUAL},
        moment::Moment,
        record::State,
        verdict::Cause,
    },
};

/// What is listed.
const MORE: &str = "\
Times are of the local time zone: 2026-11-25, \"2026-11-25 19:14\", 2026-11-25T19:14:32Z; or so \
long ago: 90s, 15m, 24h, 7d. An incident is listed if there was trouble between --since and \
--until.

Where nothing matches, nothing is listed, and the exit code is 0; an ID that does not exist is \
a failure.";

#[derive(Debug, ClapArgs)]
#[command(after_long_help = MORE, args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct IncidentsArgs {
    #[command(subcommand)]
    pub(super) command: Option<IncidentsCommand>,
    #[command(flatten)]
    pub(super) list: ListArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum IncidentsCommand {
    /// Show one incident on one screen
    Show(ShowArgs),
    /// Print all that is known of incidents as JSON, one a line, the newest first
    Export(ExportArgs),
}

#[derive(Debug, ClapArgs)]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) ask: AskArgs,
    #[command(flatten)]
    pub(super) filters: FilterArgs,
    /// So many at most, the newest first
    #[arg(long, value_name = "COUNT", default_value_t = USUAL)]
    pub(super) limit: u64,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ShowArgs {
    /// Which, as `tcpq incidents` lists it; "last" is the newest
    #[arg(value_name = "ID")]
    pub(super) id: String,
    #[command(flatten)]
    pub(super) ask: AskArgs,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    pub(super) ask: AskArgs,
    #[command(flatten)]
    pub(super) filters: FilterArgs,
    /// So many at most, the newest first
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    pub(super) limit: u64,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Filters")]
pub(super) struct FilterArgs {
    /// Only with trouble at this time or after it
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Only with trouble before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// Only listeners on this port
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// Only listeners on this address
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Only listeners in the network namespace of this name
    #[arg(id = "of_netns", long = "netns", value_name = "NAME")]
    netns: Option<String>,
    /// Only listeners of processes of this name
    #[arg(long, value_name = "NAME")]
    process: Option<String>,
    /// Only with this verdict
    #[arg(long, value_name = "VERDICT", value_parser = causes())]
    verdict: Option<String>,
    /// Only those that go on
    #[arg(long)]
    open: bool,
}

impl FilterArgs {
    pub(super) fn filter(&self, limit: u64) -> Filter {
        let Self { since, until, port, address, netns, process, verdict, open } = self;
        let named = |name: &String| Cause::ALL.into_iter().find(|cause| cause.name() == name);
        Filter {
            since: *since,
            until: *until,
            netns: netns.clone(),
            address: address.clone(),
            port: port.clone(),
            process: process.clone(),
            verdict: verdict.as_ref().and_then(named),
            state: open.then_some(State::Open),
            limit: Some(limit),
        }
    }
}

fn causes() -> PossibleValuesParser {
    PossibleValuesParser::new(Cause::ALL.map(Cause::name))
}

fn moment(text: &str) -> Result<Moment, String> {
    parse(text, Timestamp::now(), &TimeZone::system()).ok_or_else(|| {
        "a time is 2026-11-25, \"2026-11-25 19:14\", 2026-11-25T19:14:32Z, or so long ago: 90s, \
         15m, 24h, 7d"
            .to_owned()
    })
}

fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Moment> {
    let at = |timestamp: Timestamp| u64::try_from(timestamp.as_millisecond()).ok().map(Moment);
    if let Some((count, unit)) = text.split_at_checked(text.len().saturating_sub(1))
        && let Ok(count) = count.parse::<u64>()
    {
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 24 * 3600,
            _ => return None,
        };
        let Moment(now) = at(now)?;
        return Some(Moment(now.checked_sub(count.checked_mul(seconds * 1000)?)?));
    }
    if let Ok(timestamp) = text.parse() {
        return at(timestamp);
    }
    at(zone.to_timestamp(text.parse::<DateTime>().ok()?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_zone_or_ago() {
        let now: Timestamp = "2026-11-25T19:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let read = |text: &str| {
            let Moment(ms) = parse(text, now, &zone)?;
            Some(Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap().to_string())
        };
        for (text, expected) in [
            ("2026-11-25", "2026-11-24T23:00:00Z"),
            ("2026-11-25 19:14", "2026-11-25T18:14:00Z"),
            ("2026-11-25T19:14:32Z", "2026-11-25T19:14:32Z"),
            ("90s", "2026-11-25T18:58:30Z"),
            ("24h", "2026-11-24T19:00:00Z"),
            ("7d", "2026-11-18T19:00:00Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for bad in ["", "s", "yesterday", "5", "-1h", "5w", "2026-13-01", "99999999999999999999d"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
