//! Writes `docs/bench`: the figures as data, and the part of the page that tells of them.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::{Report, figures::Figure, verdict};
use crate::{artifacts, cmd};

/// What a file of data has besides its figures.
#[derive(Serialize)]
struct Head<'a> {
    command: String,
    revision: String,
    machines: &'a BTreeMap<String, String>,
    notes: &'a [(String, String)],
}

/// Writes what came of one benchmark.
pub(crate) fn publish(name: &str, report: &Report) -> Result<()> {
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let head = Head {
        command: format!("cargo xtask bench {name}"),
        revision: cmd::output(
            Command::new("git")
                .args(["describe", "--always", "--dirty"])
                .current_dir(artifacts::root()),
        )?
        .trim()
        .to_owned(),
        machines: &report.figures.machines,
        notes: &report.figures.notes,
    };
    let data = folder.join(format!("{name}.json"));
    fs::write(&data, json(&head, &report.figures.all)?)
        .with_context(|| format!("cannot write {}", data.display()))?;

    let page = folder.join("README.md");
    let text =
        fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let part = part(name, &head, report);
    fs::write(&page, replaced(&text, name, &part)?)
        .with_context(|| format!("cannot write {}", page.display()))?;
    cmd::say(format!("written: {}, and its part of {}", data.display(), page.display()));
    Ok(())
}

fn folder() -> PathBuf {
    artifacts::root().join("docs/bench")
}

/// One figure a line, so that a new run changes lines.
fn json(head: &Head<'_>, figures: &[Figure]) -> Result<String> {
    let head = serde_json::to_string_pretty(head)?;
    let head = head.strip_suffix("\n}").context("an object ends in a brace")?;
    let lines: Vec<String> =
        figures.iter().map(serde_json::to_string).collect::<serde_json::Result<_>>()?;
    Ok(format!("{head},\n  \"figures\": [\n    {}\n  ]\n}}\n", lines.join(",\n    ")))
}

/// What the page says.
fn part(name: &str, head: &Head<'_>, report: &Report) -> String {
    let list = |lines: &mut dyn Iterator<Item = (&String, &String)>| -> String {
        lines.map(|(place, text)| format!("- {place}: {text}\n")).collect::<Vec<_>>().concat()
    };
    let machines = list(&mut head.machines.iter());
    let verdicts = verdict::list(&report.verdicts);
    let notes = match head.notes {
        [] => String::new(),
        notes => {
            let notes = list(&mut notes.iter().map(|(place, text)| (place, text)));
            format!("\nNoted in the run:\n\n{notes}")
        }
    };
    format!(
        "`{}`, at revision {}.\n\n{machines}\n{}\n{verdicts}{notes}\n\
         Every figure of every round: [{name}.json]({name}.json)\n",
        head.command, head.revision, report.text
    )
}

/// A page with this part between its markers.
fn replaced(page: &str, name: &str, part: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- bench {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let Some(((before, _), (_, after))) = page.split_once(&begin).zip(page.split_once(&end)) else {
        bail!("docs/bench/README.md has no line {}", begin.trim());
    };
    Ok(format!("{before}{begin}{part}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::Sample;

    #[test]
    fn a_part_is_replaced_and_no_other() {
        let page = "a\n<!-- bench load -->\nold\n<!-- end of load -->\nb\n";
        let new = replaced(page, "load", "new\n").expect("has markers");
        assert_eq!(new, "a\n<!-- bench load -->\nnew\n<!-- end of load -->\nb\n");
        assert_eq!(replaced(&new, "load", "new\n").expect("has markers"), new);
        assert!(replaced(page, "flood", "new").is_err());
    }

    #[test]
    fn data_is_json_with_a_line_for_each_figure() {
        let head = Head {
            command: "c".to_owned(),
            revision: "r".to_owned(),
            machines: &BTreeMap::new(),
            notes: &[],
        };
        let sample = Sample {
            case: "tcpq".to_owned(),
            metric: "ns".to_owned(),
            item: String::new(),
            round: 1,
            value: 2.0,
        };
        let figure = Figure { place: "host".to_owned(), sample };
        let text = json(&head, &[figure.clone(), figure]).expect("serializes");
        let value: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
        assert_eq!(value["figures"][1]["place"], "host");
        assert_eq!(value["figures"][1]["value"], 2.0);
        assert_eq!(text.lines().filter(|line| line.contains("\"place\"")).count(), 2);
    }
}
