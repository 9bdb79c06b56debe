//! What a scrape of many listeners takes on this machine, beside `ss` in each namespace.

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
const LIMIT: Duration = Duration::from_mins(30);

/// What a peer without a daemon does.
const SWEEP: &str = "ss in each namespace";

/// Listeners, and in how many namespaces: the one the budgets are of.
const LARGEST: &str = "10000 in 100";

pub(crate) fn run(wanted: &Wanted) -> Result<Report> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    setup::tools()?;
    let arguments: &[&str] = match wanted.effort {
        Effort::Whole => &["scrape", "rounds=5", "scrapes=40"],
        Effort::Quick => &["scrape", "rounds=1", "scrapes=20", "most=1000"],
    };
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let mut figures = Figures::default();
    let run = Run { place: HOST, arguments: &arguments, foreign: &[], files: &[], limit: LIMIT };
    run.here(&mut figures)?;

    let mut table = Table::new(&[
        "listeners, namespaces",
        "n",
        "kB",
        "p50, ms",
        "p99, ms",
        "longest, ms",
        "CPU, ms",
        "CPUs busy: longest, ms",
        "ss, ms",
        "p99 of ss",
    ]);
    for item in figures.items(HOST, "tcpq", "bytes") {
        let median = |case, metric| {
            Ok::<_, anyhow::Error>(figures.summary_of(HOST, case, metric, &item)?.median)
        };
        let (p99, sweep) = (median("tcpq", "ms_p99")?, median(SWEEP, "ms_p50")?);
        table.row([
            item.clone(),
            figures.summary_of(HOST, "tcpq", "bytes", &item)?.n.to_string(),
            number(median("tcpq", "bytes")? / 1e3, 0),
            number(median("tcpq", "ms_p50")?, 1),
            number(p99, 1),
            number(longest(&figures, "ms_max", &item), 1),
            number(median("tcpq", "cpu_ms")?, 1),
            number(longest(&figures, "busy_ms_max", &item), 1),
            number(sweep, 1),
            format!("{:.3}", p99 / sweep),
        ]);
    }
    let text = format!(
        "One scrape, in the text format; of each round's scrapes the median, the 99th of 100 and the \
         longest, in the median of `n` rounds (longest: of all):\n\n{table}\n"
    );
    let verdicts = if wanted.effort == Effort::Whole { judge(&figures) } else { Vec::new() };
    Ok(Report { figures, text, verdicts })
}

fn longest(figures: &Figures, metric: &str, item: &str) -> f64 {
    figures.rounds_of(HOST, "tcpq", metric, item).into_values().fold(0.0, f64::max)
}

fn judge(figures: &Figures) -> Vec<Verdict> {
    let p99 = figures.summary_of(HOST, "tcpq", "ms_p99", LARGEST).ok().map(|it| it.median);
    let sweep = figures.summary_of(HOST, SWEEP, "ms_p50", LARGEST).ok().map(|it| it.median);
    let all = figures.items(HOST, "tcpq", "bytes");
    let ever = all
        .iter()
        .map(|item| longest(figures, "ms_max", item).max(longest(figures, "busy_ms_max", item)));
    vec![
        Verdict::new(
            format!("{LARGEST} namespaces: p99 of a scrape, in ms"),
            Bound::Below(150.0),
            p99,
        ),
        Verdict::new(
            format!("{LARGEST} namespaces: p99 of a scrape, of an ss sweep"),
            Bound::Below(0.2),
            p99.zip(sweep).map(|(p99, sweep)| p99 / sweep),
        ),
        Verdict::new(
            "the longest scrape of all, in ms, with every CPU busy, too",
            Bound::AtMost(1000.0),
            ever.reduce(f64::max),
        ),
    ]
}
