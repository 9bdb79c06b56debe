//! What the daemon takes for itself on this machine.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    Effort, Report, Wanted,
    figures::{Figure, Figures},
    place::Run,
    table::{Table, number},
    verdict::{Bound, Verdict},
};
use crate::{
    artifacts,
    said::Sample,
    setup::{self, Purpose},
    store::Freshness,
};

const HOST: &str = "host";
const LIMIT: Duration = Duration::from_mins(30);

pub(crate) fn run(wanted: &Wanted) -> Result<Report> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    let arguments: &[&str] = match wanted.effort {
        Effort::Whole => &["daemon", "starts=20", "rounds=3", "seconds=30"],
        Effort::Quick => &["daemon", "starts=3", "rounds=1", "seconds=10"],
    };
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let mut figures = Figures::default();
    let run = Run { place: HOST, arguments: &arguments, foreign: &[], files: &[], limit: LIMIT };
    run.here(&mut figures)?;
    if wanted.effort == Effort::Whole {
        figures.all.push(size()?);
    }

    let mut table = Table::new(&["what", "n", "median", "spread"]);
    let mut row = |what: &str, metric: &str, item: &str, digits| -> Result<()> {
        let all = figures.summary_of(HOST, "tcpq", metric, item)?;
        table.row([
            what.to_owned(),
            all.n.to_string(),
            number(all.median, digits),
            format!("{:.1} %", all.spread_percent()),
        ]);
        Ok(())
    };
    row("start to ready, ms", "start_ms", "", 0)?;
    for listeners in figures.items(HOST, "tcpq", "resident_mib") {
        let what = format!("resident memory at {listeners} listeners, MiB");
        row(&what, "resident_mib", &listeners, 1)?;
    }
    row("CPU at 1,000 idle listeners, % of one", "idle_percent", "", 3)?;
    for thread in figures.items(HOST, "tcpq", "thread_percent") {
        row(&format!("of it the thread `{thread}`"), "thread_percent", &thread, 3)?;
    }
    if wanted.effort == Effort::Whole {
        row("binary as shipped, MiB", "binary_mib", "", 2)?;
    }
    let text = format!("The daemon itself:\n\n{table}\n");
    let found =
        |metric, item| figures.summary_of(HOST, "tcpq", metric, item).ok().map(|it| it.median);
    let verdicts = vec![
        Verdict::new("start to ready, ms", Bound::Below(500.0), found("start_ms", "")),
        Verdict::new(
            "resident memory at 1,000 listeners, MiB",
            Bound::AtMost(25.0),
            found("resident_mib", "1000"),
        ),
        Verdict::new(
            "resident memory at 10,000 listeners, MiB",
            Bound::AtMost(80.0),
            found("resident_mib", "10000"),
        ),
        Verdict::new(
            "CPU at 1,000 idle listeners, % of one",
            Bound::Below(0.2),
            found("idle_percent", ""),
        ),
        Verdict::new("binary as shipped, MiB", Bound::Below(12.0), found("binary_mib", "")),
    ];
    Ok(Report { figures, text, verdicts })
}

/// Of the binary that is shipped: optimized as a whole, and stripped.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn size() -> Result<Figure> {
    let binary = artifacts::shipped()?;
    let bytes = fs::metadata(&binary).context("no binary")?.len();
    let sample = Sample {
        case: "tcpq".to_owned(),
        metric: "binary_mib".to_owned(),
        item: String::new(),
        round: 1,
        value: bytes as f64 / f64::from(1 << 20),
    };
    Ok(Figure { place: HOST.to_owned(), sample })
}
