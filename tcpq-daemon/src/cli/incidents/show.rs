//! One incident on one screen: the verdict first, then the time-line, then what shows it.

use jiff::tz::TimeZone;

use crate::{
    cli::{
        incidents::{list::listener, plot::plot, when},
        page::Page,
        time, who,
    },
    model::{
        incident::{
            evidence::{Clients, Evidence, PrefixCount, ProcessFigures, Totals},
            record::{IncidentRecord, State, Trigger},
        },
        owner::Owner,
        text::printable,
    },
};

/// Networks that are shown.
const NETWORKS: usize = 3;

/// The whole screen.
pub(in crate::cli) fn render(
    record: &IncidentRecord,
    columns: Option<usize>,
    zone: &TimeZone,
) -> String {
    let mut page = Page::new(columns);
    let verdict = &record.verdict;
    page.title(&format!("{}: {}", name(record), verdict.cause.title()));
    let sure = verdict.confidence.map_or_else(
        || "no verdict".to_owned(),
        |it| format!("{}, confidence {}", verdict.cause.name(), it.name()),
    );
    page.section("", &[format!("({sure})")]);
    page.line("");
    page.section("incident", &[incident(record, zone)]);
    let room = page.room();
    page.lines("time", &plot(&record.timeline.seconds, record.opened, record.last, room));
    page.section("because", &harmless(&verdict.proofs));
    page.section("against", &harmless(&verdict.against));
    if let Some(advice) = &verdict.advice {
        page.section("do", &[printable(&advice.change)]);
        let commands: Vec<_> =
            advice.commands.iter().map(|it| format!("  {}", printable(it))).collect();
        page.lines("", &commands);
    }
    page.section("counted", &counted(&record.evidence));
    page.section("clients", &clients(&record.evidence.clients));
    page.section("who", &who(record));
    page.section("note", &notes(record));
    page.finish()
}

fn harmless(sentences: &[String]) -> Vec<String> {
    sentences.iter().map(|sentence| printable(sentence)).collect()
}

fn name(record: &IncidentRecord) -> String {
    let process = record.owner.as_ref().and_then(|owner| owner.process.as_deref());
    let process = process.map_or_else(String::new, |name| format!("{} on ", printable(name)));
    format!("{process}{}", listener(&record.listener))
}

fn incident(record: &IncidentRecord, zone: &TimeZone) -> String {
    let IncidentRecord { id, opened, last, state, bouts, trigger, .. } = record;
    let bouts = if *bouts > 1 { format!(", {bouts} bouts") } else { String::new() };
    let began = match trigger {
        Trigger::Refusal => "",
        Trigger::Fill => ", began as a full queue",
    };
    let over = match state {
        State::Open => ", goes on",
        State::Closed => "",
        State::Interrupted => ", interrupted: the daemon ended",
    };
    format!(
        "{id}: {} to {}, {}{bouts}{began}{over}",
        when::full(*opened, zone),
        when::clock(*last, zone),
        when::lasted(last.since(*opened))
    )
}

fn counted(evidence: &Evidence) -> Vec<String> {
    let Totals { overflows, enqueued, accepts, .. } = &evidence.totals;
    let total = evidence.totals.overflows();
    let by_stage = overflows.iter().filter(|(_, count)| **count > 0);
    let by_stage: Vec<_> =
        by_stage.map(|(stage, count)| format!("{count} at the {stage}")).collect();
    let by_stage =
        if by_stage.is_empty() { String::new() } else { format!(" ({})", by_stage.join(", ")) };
    let mut parts = vec![format!("{total} overflows{by_stage}")];
    let others = evidence.totals.other_drops();
    if others > 0 {
        parts.push(format!("{others} other drops"));
    }
    parts.extend(enqueued.map(|count| format!("{count} queued")));
    parts.extend(accepts.map(|count| format!("{count} accepted")));
    let mut lines = vec![parts.join(", ")];
    if let Some(waits) = evidence.accept_wait {
        let [p50, p99] = [waits.p50, waits.p99].map(time::short);
        lines.push(format!("waits for accept(): p50 {p50}, p99 {p99}"));
    }
    if let Some(limit) = &evidence.limit {
        let asked = limit.requested.map_or_else(|| "unknown".to_owned(), |asked| asked.to_string());
        let allowed = limit.somaxconn.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        lines.push(format!(
            "accept queue limit {}: asked for {asked}, somaxconn {allowed}",
            limit.effective
        ));
    }
    lines
}

fn clients(clients: &Clients) -> Vec<String> {
    match clients {
        Clients::No { why } => vec![format!("not known: {}", printable(why))],
        Clients::Yes { refusals, addresses, connections, retried, prefixes, outcome } => {
            let networks = prefixes.iter().take(NETWORKS).map(|it| {
                let PrefixCount { prefix, refusals, error } = it;
                let about = if *error > 0 { "at most " } else { "" };
                format!("{} {about}{refusals}", printable(prefix))
            });
            vec![
                format!(
                    "{}, {}; {retried} tried again; {refusals} refusals named a client",
                    counted_as(*addresses, "address", "addresses"),
                    counted_as(*connections, "connection", "connections"),
                ),
                format!("from {}", networks.collect::<Vec<_>>().join(", ")),
                printable(outcome),
            ]
        }
    }
}

fn counted_as(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

fn who(record: &IncidentRecord) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(owner @ Owner { process, pid, .. }) = &record.owner {
        let process = process.as_deref().map_or_else(|| "unknown".to_owned(), printable);
        let pid = pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
        let place = who::place(owner).map_or_else(String::new, |place| format!(", {place}"));
        lines.push(format!("{process}{pid}{place}"));
    }
    lines.extend(record.evidence.processes.iter().take(2).map(process));
    if let Some(cgroup) = &record.evidence.cgroup
        && cgroup.periods > 0
    {
        lines.push(format!(
            "control group {}: throttled in {} of {} periods",
            printable(&cgroup.path),
            cgroup.throttled,
            cgroup.periods
        ));
    }
    lines
}

fn process(process: &ProcessFigures) -> String {
    let ProcessFigures { pid, looks, threads, states, waits, .. } = process;
    let states: Vec<_> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let cpu = process
        .cpu_permille
        .map_or_else(String::new, |permille| format!(", {} % of a CPU", permille / 10));
    let wait = waits.iter().max_by_key(|(function, count)| (**count, function.as_str()));
    let wait = wait.map_or_else(String::new, |(at, _)| format!(", most in {}", printable(at)));
    let files = match (process.files, process.files_limit) {
        (Some(files), Some(limit)) => format!(", {files} of {limit} files"),
        (Some(files), None) => format!(", {files} files"),
        (None, _) => String::new(),
    };
    format!(
        "pid {pid}: {}, seen {looks} times ({}{wait}){cpu}{files}",
        counted_as(*threads, "thread", "threads"),
        states.join(", ")
    )
}

fn notes(record: &IncidentRecord) -> Vec<String> {
    let Evidence { losses, not_seen, .. } = &record.evidence;
    let mut notes: Vec<_> =
        not_seen.iter().take(3).map(|it| format!("not seen: {}", printable(it))).collect();
    if losses.suppressed > 0 {
        notes.push(format!(
            "{} records were left out by their rate limit, of all listeners: counts are whole, \
             clients are not",
            losses.suppressed
        ));
    }
    notes
}
