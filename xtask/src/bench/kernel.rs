//! Instructions of the kernel for each connection, in guests that count them.

use std::{collections::BTreeSet, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    Effort, Report, Wanted,
    figures::Figures,
    place::Run,
    programs,
    table::{Table, number},
    verdict::{Bound, Verdict},
};
use crate::{
    cmd,
    kernels::Series,
    packages::{self, BPFTRACE, TCPSYNBL, Tool},
    setup::{self, Purpose},
    store::Freshness,
};

/// The long-term kernel of current distributions, and the newest.
pub(crate) const KERNELS: [&str; 2] = ["6.12", "7"];

const PEERS: [(&str, &Tool); 2] = [("TCPQ_BPFTRACE", &BPFTRACE), ("TCPQ_TCPSYNBL", &TCPSYNBL)];
const SCRIPTS: [&str; 2] = ["tcpsynbl.bt", "tcpaccept.bt"];
/// As `measure::peers` calls them.
const BOTH_SCRIPTS: &str = "bpftrace tcpsynbl.bt + tcpaccept.bt";

const METRIC: &str = "ns_per_connection";

const LIMIT: Duration = Duration::from_mins(40);

pub(crate) fn run(wanted: &Wanted) -> Result<Report> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    setup::tools()?;
    let kernels = wanted.kernels_or(&KERNELS)?;
    let mut figures = Figures::default();
    for series in &kernels {
        one(series, wanted.effort, &mut figures)?;
    }
    let mut text = String::new();
    let mut verdicts = Vec::new();
    for series in kernels {
        text.push_str(&by_case(series.name, &figures)?);
        text.push_str(&by_program(series.name, &figures)?);
        verdicts.extend(judge(series.name, &figures));
    }
    Ok(Report { figures, text, verdicts })
}

fn one(series: &'static Series, effort: Effort, figures: &mut Figures) -> Result<()> {
    let arguments = |settings: &[&str]| -> Vec<String> {
        ["kernel"].iter().chain(settings).map(ToString::to_string).collect()
    };
    let run = |arguments: &[String], foreign, files: &[PathBuf], figures: &mut Figures| {
        let run = Run { place: series.name, arguments, foreign, files, limit: LIMIT };
        run.in_guest(series, figures)
    };
    match effort {
        Effort::Quick => {
            let arguments = arguments(&["rounds=1", "connections=5000", "peers="]);
            run(&arguments, &[], &[], figures)
        }
        Effort::Whole => {
            packages::provide(&PEERS.map(|(_, tool)| tool))?;
            run(&arguments(&["rounds=5", "connections=5000"]), &PEERS, &scripts()?, figures)
        }
    }
}

/// bpftrace's scripts, and the C headers that they include, which it compiles anew each time.
pub(crate) fn scripts() -> Result<Vec<PathBuf>> {
    let script = |name: &str| cmd::program(name).with_context(|| format!("bpftrace has no {name}"));
    let mut files: Vec<PathBuf> = SCRIPTS.into_iter().map(script).collect::<Result<_>>()?;
    let mut preprocessor = Command::new("cc");
    preprocessor.args(["-M", "-x", "c", "-include", "sys/socket.h", "-include", "linux/version.h"]);
    let rule = cmd::output(preprocessor.arg("/dev/null"))
        .context("bpftrace's scripts include sys/socket.h; a C compiler tells what that needs")?;
    files.extend(headers(&rule));
    Ok(files)
}

/// The system's headers among the words of a rule for make.
fn headers(rule: &str) -> BTreeSet<PathBuf> {
    rule.split_whitespace()
        .filter(|word| word.starts_with("/usr/include/"))
        .map(Into::into)
        .collect()
}

/// What each case takes for a connection, and how much of that is its own.
fn by_case(place: &str, figures: &Figures) -> Result<String> {
    let mut table =
        Table::new(&["what is attached", "n", "ns", "spread", "added", "of the floor", "runs"]);
    for case in figures.cases(place, METRIC) {
        let all = figures.summary(place, &case, METRIC)?;
        let runs = figures.summary(place, &case, "runs")?;
        let added = added(figures, place, &case);
        let of_floor =
            floor_of(&case).and_then(|floor| ratio_of_added(figures, place, &case, &floor));
        table.row([
            case.clone(),
            all.n.to_string(),
            number(all.median, 0),
            format!("{:.2} %", all.spread_percent()),
            added.map_or_else(String::new, |added| number(added, 0)),
            of_floor.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            number(runs.median, 1),
        ]);
    }
    Ok(format!(
        "Linux {place}: virtual nanoseconds, which are instructions, of one connection with both of \
         its ends, and runs of BPF programs for it:\n\n{table}\n"
    ))
}

/// The floor that a case of tcpq is to be held against.
fn floor_of(case: &str) -> Option<String> {
    case.strip_prefix("tcpq").map(|backend| format!("floor{backend}"))
}

/// What a case adds to a connection with nothing attached.
fn added(figures: &Figures, place: &str, case: &str) -> Option<f64> {
    if case == "nothing" {
        return None;
    }
    let added = figures.pairs(place, METRIC, [case, "nothing"], |with, without| with - without);
    added.map(|added| added.median)
}

fn ratio_of_added(figures: &Figures, place: &str, case: &str, other: &str) -> Option<f64> {
    Some(added(figures, place, case)? / added(figures, place, other)?)
}

/// What the kernel's own statistics say of each program.
fn by_program(place: &str, figures: &Figures) -> Result<String> {
    let mut tables = Vec::new();
    for case in figures.cases(place, METRIC) {
        let Some(floor) = floor_of(&case) else { continue };
        let table = programs::table(figures, place, [&case, &floor], "")?;
        tables.push(format!(
            "Linux {place}, `{case}`: `run_cnt` and `run_time_ns` of the kernel, per \
             connection:\n\n{table}\n"
        ));
    }
    Ok(tables.concat())
}

fn judge(place: &str, figures: &Figures) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for case in figures.cases(place, METRIC) {
        let Some(floor) = floor_of(&case) else { continue };
        verdicts.push(Verdict::new(
            format!("Linux {place}: added by {case}, of what the empty programs add"),
            Bound::AtMost(2.5),
            ratio_of_added(figures, place, &case, &floor),
        ));
        verdicts.push(Verdict::new(
            format!("Linux {place}: added by {case}, of what bpftrace's two scripts add"),
            Bound::Below(1.0),
            ratio_of_added(figures, place, &case, BOTH_SCRIPTS),
        ));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::figures::Figure, said::Sample};

    fn figures(cases: &[(&str, f64)]) -> Figures {
        let figure = |(case, value): &(&str, f64)| Figure {
            place: "6.12".to_owned(),
            sample: Sample {
                case: (*case).to_owned(),
                metric: METRIC.to_owned(),
                item: String::new(),
                round: 1,
                value: *value,
            },
        };
        Figures { all: cases.iter().map(figure).collect(), ..Figures::default() }
    }

    #[test]
    fn what_is_added_is_held_against_the_floor_of_the_same_backend() {
        let figures = figures(&[
            ("nothing", 1000.0),
            ("floor", 1100.0),
            ("tcpq", 1260.0),
            ("floor --backend kprobe", 1200.0),
            ("tcpq --backend kprobe", 1400.0),
            (BOTH_SCRIPTS, 1390.0),
        ]);
        let expected = [
            ("added by tcpq, of what the empty programs add", Bound::AtMost(2.5), 2.6),
            ("added by tcpq, of what bpftrace's two scripts add", Bound::Below(1.0), 260.0 / 390.0),
            (
                "added by tcpq --backend kprobe, of what the empty programs add",
                Bound::AtMost(2.5),
                2.0,
            ),
            (
                "added by tcpq --backend kprobe, of what bpftrace's two scripts add",
                Bound::Below(1.0),
                400.0 / 390.0,
            ),
        ];
        let expected = expected.map(|(what, bound, found)| {
            Verdict::new(format!("Linux 6.12: {what}"), bound, Some(found))
        });
        assert_eq!(judge("6.12", &figures), expected);
    }

    #[test]
    fn a_peer_that_is_missing_leaves_a_budget_unmeasured() {
        let figures = figures(&[("nothing", 1000.0), ("floor", 1100.0), ("tcpq", 1260.0)]);
        let of_peer = Verdict::new(
            "Linux 6.12: added by tcpq, of what bpftrace's two scripts add",
            Bound::Below(1.0),
            None,
        );
        assert_eq!(judge("6.12", &figures)[1], of_peer);
    }

    #[test]
    fn headers_are_taken_from_a_rule() {
        let rule = "null.o: /dev/null \\\n /usr/include/sys/socket.h /usr/lib/gcc/x/stddef.h \\\n";
        assert_eq!(headers(rule), BTreeSet::from([PathBuf::from("/usr/include/sys/socket.h")]));
    }
}
