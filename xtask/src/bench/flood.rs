//! What a flood of SYNs costs, in guests that count instructions.

use std::time::Duration;

use anyhow::Result;

use super::{
    Effort, Report, Wanted,
    figures::Figures,
    place::Run,
    programs,
    table::{Table, number},
    verdict::{Bound, Verdict},
};
use crate::{
    setup::{self, Purpose},
    store::Freshness,
};

const CAPACITY: &str = "syns_per_second";
/// At a rate that can be borne.
const BORNE: [&str; 3] = ["bearable_syns_per_second", "softirq_percent", "busy_percent"];

const LIMIT: Duration = Duration::from_hours(1);

pub(crate) fn run(wanted: &Wanted) -> Result<Report> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    setup::tools()?;
    let arguments: &[&str] = match wanted.effort {
        Effort::Whole => &["flood", "rounds=5"],
        Effort::Quick => &["flood", "rounds=1"],
    };
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let kernels = wanted.kernels_or(&super::kernel::KERNELS)?;
    let mut figures = Figures::default();
    for series in &kernels {
        let run = Run {
            place: series.name,
            arguments: &arguments,
            foreign: &[],
            files: &[],
            limit: LIMIT,
        };
        run.in_guest(series, &mut figures)?;
    }
    let (mut text, mut verdicts) = (Vec::new(), Vec::new());
    for series in kernels {
        let place = series.name;
        text.push(table(place, &figures)?);
        text.push(by_program(place, &figures)?);
        for case in figures.cases(place, CAPACITY).iter().filter(|case| case.starts_with("tcpq")) {
            for item in figures.items(place, case, CAPACITY) {
                for (metric, offered) in
                    [(BORNE[0], "at a fixed rate"), (CAPACITY, "at full speed")]
                {
                    verdicts.push(Verdict::new(
                        format!("Linux {place}, {case}: SYNs {item}, handled {offered}, of those without"),
                        Bound::AtLeast(0.95),
                        figures.ratio_of(place, metric, [case, "nothing"], &item),
                    ));
                }
            }
        }
    }
    Ok(Report { figures, text: text.concat(), verdicts })
}

/// What the kernel's own statistics say of each program.
fn by_program(place: &str, figures: &Figures) -> Result<String> {
    let mut tables = Vec::new();
    for item in figures.items(place, "nothing", CAPACITY) {
        let table = programs::table(figures, place, ["tcpq", "floor"], &item)?;
        tables.push(format!(
            "Linux {place}, `tcpq`, SYNs {item}: `run_cnt` and `run_time_ns` of the kernel, per \
             SYN:\n\n{table}\n"
        ));
    }
    Ok(tables.concat())
}

fn table(place: &str, figures: &Figures) -> Result<String> {
    let mut table = Table::new(&[
        "SYNs",
        "what watches",
        "n",
        "SYNs/s",
        "spread",
        "of nothing",
        "offered and handled/s",
        "softirq",
        "busy",
    ]);
    let cases = figures.cases(place, CAPACITY);
    for item in figures.items(place, "nothing", CAPACITY) {
        for case in &cases {
            let capacity = figures.summary_of(place, case, CAPACITY, &item)?;
            let ratio = figures.ratio_of(place, CAPACITY, [case, "nothing"], &item);
            let [handled, softirq, busy] =
                BORNE.map(|metric| figures.summary_of(place, case, metric, &item));
            table.row([
                item.clone(),
                case.clone(),
                capacity.n.to_string(),
                number(capacity.median, 0),
                format!("{:.1} %", capacity.spread_percent()),
                ratio
                    .filter(|_| case != "nothing")
                    .map_or_else(String::new, |it| format!("{it:.3}")),
                number(handled?.median, 0),
                format!("{:.1} %", softirq?.median),
                format!("{:.1} %", busy?.median),
            ]);
        }
    }
    Ok(format!(
        "Linux {place}: SYNs handled each second, as fast as they come, and at a fixed rate the \
         processor's time in softirq and in all:\n\n{table}\n"
    ))
}
