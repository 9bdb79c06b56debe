//! What the kernel's own statistics say of each program.

use anyhow::Result;

use super::{
    figures::Figures,
    table::{Table, number},
};

/// A program that runs less often for an event belongs to something else.
const SELDOM: f64 = 0.005;

/// The programs of a case and what the empty ones take in their place, for each event: `of` is
/// the part of the benchmark, if it has parts.
pub(crate) fn table(
    figures: &Figures,
    place: &str,
    [case, floor]: [&str; 2],
    of: &str,
) -> Result<Table> {
    let mut table = Table::new(&["program", "runs", "ns per run", "ns", "floor's ns"]);
    let median = |case: &str, metric: &str, item: &str| -> Result<f64> {
        Ok(figures.summary_of(place, case, metric, item)?.median)
    };
    for item in figures.items(place, case, "program_ns") {
        let program = match (of, item.split_once(": ")) {
            ("", None) => item.as_str(),
            (of, Some((part, program))) if part == of => program,
            _ => continue,
        };
        let (ns, runs) = (median(case, "program_ns", &item)?, median(case, "program_runs", &item)?);
        if runs < SELDOM {
            continue;
        }
        let floor = median(floor, "program_ns", &item).map_or("-".to_owned(), |ns| number(ns, 0));
        let per_run = number(ns / runs, 0);
        table.row([format!("`{program}`"), number(runs, 2), per_run, number(ns, 0), floor]);
    }
    table.row([
        "all".to_owned(),
        number(median(case, "runs", of)?, 2),
        String::new(),
        number(median(case, "run_ns", of)?, 0),
        number(median(floor, "run_ns", of)?, 0),
    ]);
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::figures::Figure, said::Sample};

    #[test]
    fn a_part_has_its_own_programs() {
        let mut figures = Figures::default();
        let mut say = |case: &str, metric: &str, item: &str, value| {
            let sample = Sample {
                case: case.to_owned(),
                metric: metric.to_owned(),
                item: item.to_owned(),
                round: 1,
                value,
            };
            figures.all.push(Figure { place: "7".to_owned(), sample });
        };
        for (case, ns) in [("tcpq", 300.0), ("floor", 70.0)] {
            say(case, "program_ns", "cookies: fe_syn", ns);
            say(case, "program_runs", "cookies: fe_syn", 1.0);
            say(case, "program_ns", "cookies: seldom", 1.0);
            say(case, "program_runs", "cookies: seldom", 0.001);
            say(case, "program_ns", "refused: fe_syn", 1.0);
            say(case, "runs", "cookies", 1.001);
            say(case, "run_ns", "cookies", ns + 1.0);
        }
        let table = table(&figures, "7", ["tcpq", "floor"], "cookies").expect("all is there");
        let text = table.to_string();
        assert!(text.contains("| `fe_syn` | 1.00 |        300 | 300 |         70 |"), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}
