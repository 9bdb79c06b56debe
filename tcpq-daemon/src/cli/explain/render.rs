//! A diagnosis on one screen.

use std::collections::BTreeMap;

use crate::{
    cli::{
        explain::{
            diagnose::{Diagnosis, short},
            evidence::{Evidence, Figures, Socket, Window},
        },
        list::columns::{endpoint, folded},
        text::{middle, width, wrap},
        time, who,
    },
    model::{owner::Owner, text::printable},
    serve::api::{OverflowsDto, QueueDto},
};

/// What a line holds where nothing else says so: long lines are hard to read.
const COLUMNS: usize = 80;
/// No narrower than this, whatever the terminal says.
const LEAST: usize = 40;
/// The column of the headings.
const INDENT: usize = 10;
/// Characters of a bar.
const BAR: usize = 20;
/// Sockets and holders told at most.
const MANY: usize = 8;

/// The page: paragraphs under headings.
struct Page {
    text: String,
    columns: usize,
}

/// The whole screen.
pub(super) fn render(
    evidence: &Evidence,
    diagnosis: &Diagnosis,
    instead: Option<&str>,
    columns: Option<usize>,
) -> String {
    let columns = columns.unwrap_or(COLUMNS).clamp(LEAST, 2 * COLUMNS);
    let mut page = Page { text: String::new(), columns };
    let title = format!("{}: {}", name(evidence), diagnosis.finding.title());
    for line in wrap(&title, columns) {
        page.line(&line);
    }
    if let Some(instead) = instead {
        page.section("", &[format!("({instead})")]);
    }
    page.line("");
    page.section("who", &who(evidence, columns - INDENT));
    page.section("limits", &limits(evidence, diagnosis));
    page.lines("now", &now(evidence));
    page.lines("sockets", &sockets(evidence, columns - INDENT));
    page.lines("counted", &counted(evidence));
    page.lines("waits", &waits(evidence));
    // Who set the limit is said under "limits", so not once more.
    let said = diagnosis.limit_set_by.as_ref();
    let because: Vec<_> =
        diagnosis.because.iter().filter(|line| Some(*line) != said).cloned().collect();
    page.section("because", &because);
    if let Some(advice) = &diagnosis.advice {
        page.section("do", std::slice::from_ref(&advice.change));
        let commands: Vec<_> = advice.commands.iter().map(|it| format!("  {it}")).collect();
        page.lines("", &commands);
    }
    page.section("note", &diagnosis.notes);
    page.text
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// Lines as they are: figures and commands, which are copied.
    fn lines(&mut self, heading: &str, lines: &[String]) {
        let headings = std::iter::once(heading).chain(std::iter::repeat(""));
        for (heading, line) in headings.zip(lines) {
            self.line(&format!("{heading:INDENT$}{line}"));
        }
    }

    /// Sentences, wrapped; what goes on is set in.
    fn section(&mut self, heading: &str, sentences: &[String]) {
        let room = self.columns - INDENT;
        let lines: Vec<_> = sentences
            .iter()
            .flat_map(|sentence| {
                let lines = wrap(sentence, room - 2);
                let rest = lines.iter().skip(1).map(|line| format!("  {line}"));
                lines.first().cloned().into_iter().chain(rest).collect::<Vec<_>>()
            })
            .collect();
        self.lines(heading, &lines);
    }
}

fn name(evidence: &Evidence) -> String {
    let listener = &evidence.listener;
    let place = match listener.port {
        Some(port) => endpoint(&printable(&listener.address), port),
        None => folded(listener),
    };
    let process = listener.owners.iter().find_map(|owner| owner.process.as_deref());
    let process = process.map_or_else(String::new, |name| format!("{} on ", printable(name)));
    format!("{process}{place} in {}", printable(&listener.netns))
}

fn who(evidence: &Evidence, room: usize) -> Vec<String> {
    let owners = &evidence.listener.owners;
    let mut lines = Vec::new();
    match owners.first() {
        None => lines.push("unknown: no process is known that has it open".to_owned()),
        Some(first) => {
            lines.push(middle(&one(first), room - 2));
            lines.extend(runs_in(first));
        }
    }
    let more = owners.iter().skip(1);
    let named = more.clone().take(MANY).map(in_short).collect::<Vec<_>>().join(", ");
    match more.len() {
        0 => {}
        count @ 1..=MANY => lines.push(format!("and {count} more: {named}")),
        count => lines.push(format!("and {count} more: {named} ...")),
    }
    lines.extend(holders(evidence));
    let settings = evidence.settings.as_ref();
    let inode = settings.filter(|it| it.netns != it.inode.to_string());
    let inode = inode.map_or_else(String::new, |it| format!(" (inode {})", it.inode));
    lines.push(format!("network namespace {}{inode}", printable(&evidence.listener.netns)));
    lines
}

fn one(owner: &Owner) -> String {
    let process = owner.process.as_deref().map_or_else(|| "unknown".to_owned(), printable);
    let pid = owner.pid.map_or_else(|| "gone".to_owned(), |pid| format!("pid {pid}"));
    let file = owner.executable.as_deref();
    let file = file.map_or_else(String::new, |path| format!(", {}", printable(path)));
    format!("{process}, {pid}{file}")
}

fn runs_in(owner: &Owner) -> Option<String> {
    let place = who::place(owner)?;
    Some(match owner {
        Owner { pod: Some(_), .. } => format!("pod {place}"),
        Owner { container: Some(_), .. } => format!("container {place}"),
        Owner { unit: Some(_), .. } => format!("unit {place}"),
        _ => format!("control group {}", printable(owner.cgroup.as_deref().unwrap_or_default())),
    })
}

fn in_short(owner: &Owner) -> String {
    let process = owner.process.as_deref().map_or_else(|| "unknown".to_owned(), printable);
    owner.pid.map_or_else(|| format!("{process} (gone)"), |pid| format!("{process} {pid}"))
}

/// Other processes than the owners that have a socket of it open.
fn holders(evidence: &Evidence) -> Option<String> {
    let owners = &evidence.listener.owners;
    let holders = evidence.listener.members.iter().flat_map(|member| &member.holders);
    let others: BTreeMap<u32, String> = holders
        .filter(|holder| !owners.iter().any(|owner| owner.pid == Some(holder.pid)))
        .map(|holder| (holder.pid, printable(&holder.process)))
        .collect();
    if others.is_empty() {
        return None;
    }
    let named: Vec<_> =
        others.iter().take(MANY).map(|(pid, process)| format!("{process} {pid}")).collect();
    let more = if others.len() > MANY { " ..." } else { "" };
    Some(format!("also open in {}{more}", named.join(", ")))
}

fn limits(evidence: &Evidence, diagnosis: &Diagnosis) -> Vec<String> {
    let listener = &evidence.listener;
    if listener.sockets == 0 {
        return vec!["none: it is closed".to_owned()];
    }
    let QueueDto { limit: accept, .. } = listener.accept_queue;
    let QueueDto { limit: syn, .. } = listener.syn_queue;
    let count = listener.sockets;
    let whose = if count == 1 { String::new() } else { format!(" in {count} sockets") };
    let set_by = match diagnosis.limit.as_ref().zip(diagnosis.limit_set_by.as_ref()) {
        Some((limit, said)) => {
            let same = evidence.sockets().iter().all(|it| it.accept_queue.limit == limit.effective);
            let each = match (count, same) {
                (1, _) => String::new(),
                (_, true) => format!("{} each: ", limit.effective),
                (_, false) => format!("{} at the one that is worst off: ", limit.effective),
            };
            format!("{each}{said}")
        }
        None => "the sockets are not told apart".to_owned(),
    };
    let syn = if syn == accept {
        format!("SYN queue {syn}{whose}: the same limit")
    } else {
        match &evidence.settings {
            Some(settings) if settings.tcp_syncookies == 0 => format!(
                "SYN queue {syn}{whose}: 3/4 of net.ipv4.tcp_max_syn_backlog = {}, since SYN \
                 cookies are off",
                settings.tcp_max_syn_backlog
            ),
            _ => format!("SYN queue {syn}{whose}"),
        }
    };
    vec![format!("accept queue {accept}{whose}: {set_by}"), syn]
}

fn now(evidence: &Evidence) -> Vec<String> {
    let listener = &evidence.listener;
    if listener.sockets == 0 {
        return Vec::new();
    }
    let full = evidence.sockets().iter().filter(|it| it.is_full()).count();
    let full = match (full, listener.sockets) {
        (0, _) => String::new(),
        (_, 1) => "  full".to_owned(),
        (full, all) => format!("  {full} of {all} sockets full"),
    };
    vec![
        format!("accept queue  {}{full}", bar(listener.accept_queue, listener.sockets)),
        format!("SYN queue     {}", bar(listener.syn_queue, listener.sockets)),
    ]
}

/// As much of it as is in use; something, if anything is.
fn bar(queue: QueueDto, sockets: u64) -> String {
    let QueueDto { length, limit } = queue;
    let room = u128::from(limit + sockets).max(1);
    let filled =
        (0..BAR).zip(0_u128..).filter(|(_, mark)| u128::from(length) * BAR as u128 > mark * room);
    let filled = filled.count();
    format!("[{}{}] {length}/{limit}", "#".repeat(filled), ".".repeat(BAR - filled))
}

/// Each socket of a group, those in trouble first.
fn sockets(evidence: &Evidence, room: usize) -> Vec<String> {
    let mut sockets = evidence.sockets();
    if sockets.len() < 2 {
        return Vec::new();
    }
    sockets.sort_by_key(|it| std::cmp::Reverse((it.is_full(), it.accept_queue.length)));
    let more = sockets.len().saturating_sub(MANY);
    let mut lines: Vec<_> =
        sockets.iter().take(MANY).map(|it| socket(it, evidence.window.as_ref(), room)).collect();
    if more > 0 {
        lines.push(format!("and {more} more: --json"));
    }
    lines
}

fn socket(socket: &Socket<'_>, window: Option<&Window>, room: usize) -> String {
    let who = match (socket.holders, socket.owner) {
        ([one], _) => format!("{} {} fd {}", printable(&one.process), one.pid, one.fd),
        ([first, rest @ ..], _) => {
            let process = printable(&first.process);
            format!("{process} {} +{} fd {}", first.pid, rest.len(), first.fd)
        }
        ([], Some(owner)) => in_short(owner),
        ([], None) => "unknown".to_owned(),
    };
    let QueueDto { length, limit } = socket.accept_queue;
    let full = if socket.is_full() { " full" } else { "" };
    let accepts = window.zip(socket.change.and_then(|it| it.accepts));
    let accepts = accepts.map_or_else(String::new, |(window, accepts)| {
        format!("{} accepts/s", short(window.rate(accepts)))
    });
    let overflows = socket.overflows.filter(|count| *count > 0);
    let overflows = overflows.map_or_else(String::new, |count| format!("{count} overflows"));
    let queue = format!("{length}/{limit}{full}");
    // What is left of a line for the name, beside figures of the usual size.
    let most = room.saturating_sub(46).max(24);
    let who = middle(&who, most);
    let gap = " ".repeat(most - width(&who));
    format!("{who}{gap}  {queue:<13} {accepts:<13} {overflows}")
}

/// What was counted, in all and per second. Reasons that never occurred are left out.
fn counted(evidence: &Evidence) -> Vec<String> {
    let Some(total) = evidence.total() else {
        return vec!["nothing: no daemon is running".to_owned()];
    };
    let window = evidence.window.as_ref();
    let change = window.map(|window| rows(&window.change)).unwrap_or_default();
    let per_second = window
        .map_or_else(String::new, |window| format!("  per second, in {:.1} s", window.seconds));
    let mut lines = vec![format!("{:27}{:>12}{per_second}", "", "in all")];
    for Row { what, count, kind } in rows(&total) {
        let Some(count) = count.filter(|count| kind == Kind::Always || *count > 0) else {
            continue;
        };
        let change = change.iter().find(|row| row.what == what).and_then(|row| row.count);
        let rate = window.zip(change).map_or_else(String::new, |(window, change)| {
            format!("{:>12}", short(window.rate(change)))
        });
        lines.push(format!("{what:27}{count:>12}{rate}"));
    }
    lines
}

/// How long connections waited, in all and just now.
fn waits(evidence: &Evidence) -> Vec<String> {
    let waits = evidence.listener.accept_wait;
    let quantiles = waits.and_then(|waits| waits.p50.zip(waits.p99));
    let Some((p50, p99)) = quantiles else { return Vec::new() };
    let just_now = evidence.window.as_ref().and_then(|window| {
        let mean = time::short(window.accept_wait?.mean);
        Some(format!("; {mean} on average in {:.1} s", window.seconds))
    });
    let [p50, p99] = [p50, p99].map(time::short);
    vec![format!("for accept(): p50 {p50}, p99 {p99}{}", just_now.unwrap_or_default())]
}

/// A line of the table of counters.
struct Row {
    what: String,
    count: Option<u64>,
    kind: Kind,
}

/// Whether a counter at 0 is worth a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Always,
    IfAny,
}

fn rows(figures: &Figures) -> Vec<Row> {
    let row = |kind, what: &str, count| Row { what: what.to_owned(), count, kind };
    let always = |what: &str, count| row(Kind::Always, what, count);
    let if_any = |what: &str, count| row(Kind::IfAny, what, count);
    let OverflowsDto { syn, ack, cookie } = figures.overflows;
    // Every try to get a connection into the queue: a client's tries count each.
    let tries = figures.enqueued.zip(figures.overflows.total());
    let by_reason = |what: &str, reasons: &Option<BTreeMap<String, u64>>| -> Vec<Row> {
        let reasons = reasons.iter().flatten();
        let name = |reason: &str| printable(&reason.replace('_', " "));
        reasons
            .map(|(reason, count)| if_any(&format!("{what}: {}", name(reason)), Some(*count)))
            .collect()
    };
    let mut rows = vec![
        always("arrivals (queued, refused)", tries.map(|(queued, refused)| queued + refused)),
        always("accepts", figures.accepts),
        always("overflows at the SYN", syn),
        always("overflows at the final ACK", ack),
        if_any("overflows at a cookie's ACK", cookie),
        if_any("drops, overflows included", figures.listen_drops),
    ];
    rows.extend(by_reason("SYNs dropped", &figures.syn_drops));
    rows.extend(by_reason("requests lost", &figures.requests_lost));
    rows.extend([
        if_any("SYN cookies sent", figures.cookies_sent),
        if_any("SYN cookies come back", figures.cookies_validated),
        if_any("reset at the close", figures.abandoned),
    ]);
    rows
}

#[cfg(test)]
mod tests;
