//! What a scrape of many listeners takes on this machine, beside `ss` in each namespace.

use std::time::Duration;

use anyhow::{Context as _, Result};

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
        let (times, sweep) = (sorted(&figures, "ms", &item), median(SWEEP, "ms_p50")?);
        let p99 = percentile(&times, 99).context("no scrape")?;
        table.row([
            item.clone(),
            times.len().to_string(),
            number(median("tcpq", "bytes")? / 1e3, 0),
            number(percentile(&times, 50).context("no scrape")?, 1),
            number(p99, 1),
            number(percentile(&times, 100).context("no scrape")?, 1),
            number(median("tcpq", "cpu_ms")?, 1),
            number(median("tcpq", "busy_ms_max")?, 1),
            number(sweep, 1),
            format!("{:.3}", p99 / sweep),
        ]);
    }
    let text = format!(
        "`n` scrapes, in the text format: the middle one, the one that 99 of 100 do not exceed, the \
         longest; CPU of the daemon for one:\n\n{table}\n"
    );
    let verdicts = if wanted.effort == Effort::Whole { judge(&figures) } else { Vec::new() };
    Ok(Report { figures, text, verdicts })
}

/// All times of a size, the shortest first.
fn sorted(figures: &Figures, metric: &str, item: &str) -> Vec<f64> {
    let mut times: Vec<_> = figures.rounds_of(HOST, "tcpq", metric, item).into_values().collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The nearest rank: no figure that was not measured.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

fn judge(figures: &Figures) -> Vec<Verdict> {
    let p99 = percentile(&sorted(figures, "ms", LARGEST), 99);
    let sweep = figures.summary_of(HOST, SWEEP, "ms_p50", LARGEST).ok().map(|it| it.median);
    let all = figures.items(HOST, "tcpq", "bytes");
    let ever = all.iter().map(|item| {
        let longest = |metric| sorted(figures, metric, item).pop().unwrap_or(f64::NAN);
        longest("ms").max(longest("busy_ms_max"))
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_figures_that_were_measured() {
        let times: Vec<f64> = (1..=200).map(f64::from).collect();
        let at = |percent| percentile(&times, percent);
        assert_eq!([at(50), at(99), at(100)], [Some(100.0), Some(198.0), Some(200.0)]);
        assert_eq!((percentile(&[3.0], 99), percentile(&[], 99)), (Some(3.0), None));
    }
}
