//! What a real server serves while it is watched: on this machine, and in a guest that counts
//! instructions.

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
    kernels::Series,
    packages::{self, BPFTRACE, NGINX, TCPLIFE, TCPSYNBL, Tool, WRK},
    setup::{self, Purpose},
    store::Freshness,
};

const HOST: &str = "host";
const KERNEL: &str = "6.12";

const HERE: [(&str, &Tool); 3] =
    [("TCPQ_NGINX", &NGINX), ("TCPQ_WRK", &WRK), ("TCPQ_TCPLIFE", &TCPLIFE)];
const IN_A_GUEST: [(&str, &Tool); 4] = [
    ("TCPQ_NGINX", &NGINX),
    ("TCPQ_WRK", &WRK),
    ("TCPQ_BPFTRACE", &BPFTRACE),
    ("TCPQ_TCPSYNBL", &TCPSYNBL),
];

const RATE: &str = "connections_per_second";
const P99: &str = "p99_ms";

const LIMIT: Duration = Duration::from_hours(1);

pub(crate) fn run(wanted: &Wanted) -> Result<Report> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    setup::tools()?;
    packages::provide(&[&NGINX, &WRK, &TCPLIFE, &BPFTRACE, &TCPSYNBL])?;
    let mut figures = Figures::default();
    let mut places = Vec::new();
    // Who names kernels wants those.
    if wanted.kernels.is_empty() {
        here(wanted.effort, &mut figures)?;
        places.push((HOST, 0.98));
    }
    for series in wanted.kernels_or(&[KERNEL])? {
        in_guest(series, wanted.effort, &mut figures)?;
        places.push((series.name, 0.97));
    }
    let mut text = Vec::new();
    let mut verdicts = Vec::new();
    for (place, least) in places {
        text.push(table(place, &figures)?);
        let ratio = |metric| figures.ratio(place, metric, ["tcpq", "nothing"]);
        verdicts.push(Verdict::new(
            format!("{place}: connections per second with tcpq, of those without"),
            Bound::AtLeast(least),
            ratio(RATE),
        ));
        verdicts.push(Verdict::new(
            format!("{place}: p99 with tcpq, of that without"),
            Bound::AtMost(1.03),
            ratio(P99),
        ));
    }
    Ok(Report { figures, text: text.concat(), verdicts })
}

fn arguments(settings: &[&str]) -> Vec<String> {
    ["load"].iter().chain(settings).map(ToString::to_string).collect()
}

fn here(effort: Effort, figures: &mut Figures) -> Result<()> {
    let rounds = match effort {
        Effort::Whole => "rounds=20",
        Effort::Quick => "rounds=3",
    };
    let arguments = arguments(&[rounds, "seconds=2", "clients=32", "peers=tcplife"]);
    let run = Run { place: HOST, arguments: &arguments, foreign: &HERE, files: &[], limit: LIMIT };
    run.here(figures)
}

fn in_guest(series: &'static Series, effort: Effort, figures: &mut Figures) -> Result<()> {
    let settings: &[&str] = match effort {
        Effort::Whole => &["rounds=10", "seconds=1", "peers=tcpsynbl,bpftrace"],
        Effort::Quick => &["rounds=2", "seconds=1", "peers="],
    };
    let (arguments, files) = (arguments(settings), super::kernel::scripts()?);
    let run = Run {
        place: series.name,
        arguments: &arguments,
        foreign: &IN_A_GUEST,
        files: &files,
        limit: LIMIT,
    };
    run.in_guest(series, figures)
}

fn table(place: &str, figures: &Figures) -> Result<String> {
    let mut table = Table::new(&[
        "what watches",
        "n",
        "connections/s",
        "spread",
        "of nothing",
        "by round",
        "p99, ms",
        "spread",
        "of nothing",
    ]);
    for case in figures.cases(place, RATE) {
        let rate = figures.summary(place, &case, RATE)?;
        let p99 = figures.summary(place, &case, P99)?;
        let ratio = |metric| match figures.ratio(place, metric, [&case, "nothing"]) {
            Some(ratio) if case != "nothing" => format!("{ratio:.3}"),
            _ => String::new(),
        };
        let by_round =
            figures.pairs(place, RATE, [&case, "nothing"], |with, without| with / without);
        let by_round = match by_round {
            Some(ratios) if case != "nothing" => {
                let (low, high) = ratios.quartiles;
                format!("{low:.3} to {high:.3}")
            }
            _ => String::new(),
        };
        table.row([
            case.clone(),
            rate.n.to_string(),
            number(rate.median, 0),
            format!("{:.1} %", rate.spread_percent()),
            ratio(RATE),
            by_round,
            format!("{:.3}", p99.median),
            format!("{:.1} %", p99.spread_percent()),
            ratio(P99),
        ]);
    }
    Ok(format!(
        "{place}: nginx, loaded by wrk with a new connection for each request:\n\n{table}\n"
    ))
}
