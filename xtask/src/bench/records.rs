//! How many records a second the daemon reads on this machine, and whether none is missing.

use std::time::Duration;

use anyhow::Result;

use super::{
    Effort, Report, Wanted,
    figures::Figures,
    place::Run,
    table::{Table, number},
    verdict::{Bound, Verdict},
};
use crate::{
    setup::{self, Purpose},
    store::Freshness,
};

const HOST: &str = "host";
const LIMIT: Duration = Duration::from_mins(20);

/// A second, or the loss counted.
const WANTED: f64 = 200_000.0;

pub(crate) fn run(wanted: &Wanted) -> Result<Report> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    let arguments: &[&str] = match wanted.effort {
        Effort::Whole => &["records", "rounds=10", "seconds=3"],
        Effort::Quick => &["records", "rounds=2", "seconds=2"],
    };
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let mut figures = Figures::default();
    let run = Run { place: HOST, arguments: &arguments, foreign: &[], files: &[], limit: LIMIT };
    run.here(&mut figures)?;

    let mut table = Table::new(&[
        "records made",
        "n",
        "made/s",
        "read/s",
        "spread",
        "CPU ns each",
        "made",
        "read",
        "lost",
        "amiss",
    ]);
    let mut verdicts = Vec::new();
    for item in figures.items(HOST, "tcpq", "records_made") {
        let summary = |metric| figures.summary_of(HOST, "tcpq", metric, &item);
        let sum =
            |metric| -> f64 { figures.rounds_of(HOST, "tcpq", metric, &item).into_values().sum() };
        // One too many in a round does not make up for one too few in another.
        let amiss: f64 = figures
            .rounds_of(HOST, "tcpq", "records_unaccounted", &item)
            .into_values()
            .map(f64::abs)
            .sum();
        let (made, read) =
            (summary("records_made_per_second")?, summary("records_read_per_second")?);
        table.row([
            item.clone(),
            read.n.to_string(),
            number(made.median, 0),
            number(read.median, 0),
            format!("{:.1} %", read.spread_percent()),
            number(summary("daemon_ns_per_record")?.median, 0),
            number(sum("records_made"), 0),
            number(sum("records_read"), 0),
            number(sum("records_lost") + sum("records_suppressed"), 0),
            number(amiss, 0),
        ]);
        verdicts.push(Verdict::new(
            format!("{item}: records neither read nor counted as lost, of {}", sum("records_made")),
            Bound::AtMost(0.0),
            Some(amiss),
        ));
        verdicts.push(Verdict::new(
            format!("{item}: records read each second"),
            Bound::AtLeast(WANTED),
            Some(read.median),
        ));
    }
    let text = format!(
        "Refused final ACKs, a record each, made by two threads beside the daemon; made, \
         read, lost and amiss in all rounds:\n\n{table}\n"
    );
    Ok(Report { figures, text, verdicts })
}
