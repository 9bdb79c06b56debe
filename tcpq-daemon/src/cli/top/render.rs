//! What a state looks like. Only what fits is drawn.

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Paragraph, Sparkline, Widget as _},
};

use crate::{
    cli::{
        incidents::{list::listener as name_of, when::lasted},
        text::{middle, width},
        time::short,
        top::{
            model::{History, Row, Turned, wait},
            state::{Motion, State, View},
        },
        who,
    },
    model::{incident::record::Summary, text::printable},
    serve::api::QueueDto,
};

const HELP: &str = "\
up, down, j, k        one row; page up, page down: a page
home, end, g, G       the first, the last
enter                 open the listener, or the incident
i                     open the listener's incident
tab                   from the listeners to the incidents, and back
s, r                  another order; turn it round
/                     only what has a text in a name; enter keeps it, esc drops it
space                 hold the picture, or let it go on
esc                   back
q, ctrl-c             end

ACCEPT-Q, SYN-Q       connections in the queue, of its limit; the bar is full at the limit
CONN/S                connections per second that entered the accept queue
OVERFL/S, DROPS/S     connection attempts refused per second: accept queue full; in all
OVERFLOWS             since the listener is known
WAIT P99              99 of 100 connections waited no longer for accept(), since it is known
-                     this kernel does not tell";

/// Rows of the panel of incidents.
const PANEL: u16 = 5;

/// Columns of a bar.
const BAR: usize = 8;

pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State) {
    let area = frame.area();
    screen(state, area, frame.buffer_mut());
}

/// The whole screen.
pub(super) fn screen(state: &mut State, area: Rect, buffer: &mut Buffer) {
    let panel = match state.view {
        View::Listeners | View::Incidents if area.height >= 12 => {
            let rows = u16::try_from(state.incidents.len()).unwrap_or(PANEL).clamp(1, PANEL);
            rows + 1
        }
        _ => 0,
    };
    let parts = [
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(panel),
        Constraint::Length(1),
    ];
    let [head, body, incidents, foot] = Layout::vertical(parts).areas(area);
    state.page = usize::from(body.height.saturating_sub(1)).max(1);
    Paragraph::new(headline(state)).render(head, buffer);
    match &state.view {
        View::Listeners | View::Incidents => {
            table(state, body, buffer);
            if panel > 0 {
                incidents_panel(state, incidents, buffer);
            }
        }
        View::Listener(key) => {
            if let Some(row) = state.row(key) {
                detail(row, state.histories.get(key), body, buffer);
            } else {
                Paragraph::new(format!("{} is gone", key.place())).render(body, buffer);
            }
        }
        View::Incident { text, line, .. } => {
            let lines: Vec<_> = text.lines().skip(*line).map(Line::raw).collect();
            Paragraph::new(lines).render(body, buffer);
        }
        View::Help => Paragraph::new(HELP).render(body, buffer),
    }
    Paragraph::new(footline(state)).style(dim()).render(foot, buffer);
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn bad() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

fn headline(state: &State) -> Line<'static> {
    let shown = state.rows.len();
    let mut spans = vec![Span::styled("tcpq top", Style::new().add_modifier(Modifier::BOLD))];
    // First, as a narrow terminal cuts what comes last.
    if let Some(trouble) = &state.trouble {
        spans.push(Span::styled(format!("  {}", printable(trouble)), bad()));
    } else if state.motion == Motion::Held {
        spans.push(Span::styled("  held", Style::new().fg(Color::Yellow)));
    }
    let what = if shown == 1 { "listener" } else { "listeners" };
    spans.push(Span::raw(format!("  {shown} {what}")));
    let open = state.incidents.len();
    if open > 0 {
        let what = if open == 1 { "incident" } else { "incidents" };
        spans.push(Span::styled(format!("  {open} {what} now"), bad()));
    }
    Line::from(spans)
}

fn footline(state: &State) -> String {
    if state.types {
        return format!("/{}_", printable(&state.text));
    }
    let turned = if state.turned == Turned::Round { ", turned" } else { "" };
    let text = match state.text.as_str() {
        "" => String::new(),
        text => format!("  only /{}", printable(text)),
    };
    format!("by {}{turned}{text}  ? help  q end", state.order.name())
}

/// A column: its head, how wide, and with fewer columns than this it is left out.
struct Column {
    head: &'static str,
    width: usize,
    from: u16,
    cell: fn(&Row, usize) -> String,
    is_left: Side,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

const ADDRESS: &str = "ADDRESS:PORT";

const COLUMNS: &[Column] = &[
    Column { head: "NETNS", width: 10, from: 110, cell: netns, is_left: Side::Left },
    Column { head: ADDRESS, width: 22, from: 0, cell: address, is_left: Side::Left },
    Column { head: "PROCESS", width: 15, from: 67, cell: process, is_left: Side::Left },
    Column { head: "ACCEPT-Q", width: 19, from: 42, cell: accept_queue, is_left: Side::Right },
    Column { head: "SYN-Q", width: 11, from: 130, cell: syn_queue, is_left: Side::Right },
    Column { head: "CONN/S", width: 8, from: 80, cell: connections, is_left: Side::Right },
    Column { head: "OVERFL/S", width: 8, from: 52, cell: overflow_rate, is_left: Side::Right },
    Column { head: "DROPS/S", width: 8, from: 120, cell: drop_rate, is_left: Side::Right },
    Column { head: "OVERFLOWS", width: 10, from: 95, cell: overflows, is_left: Side::Right },
    Column { head: "WAIT P99", width: 8, from: 105, cell: wait_p99, is_left: Side::Right },
];

fn netns(row: &Row, most: usize) -> String {
    middle(&printable(&row.key.netns), most)
}

fn address(row: &Row, most: usize) -> String {
    middle(&row.key.place(), most)
}

fn process(row: &Row, most: usize) -> String {
    row.process().map_or_else(|| "-".to_owned(), |name| middle(&printable(name), most))
}

fn accept_queue(row: &Row, _: usize) -> String {
    let QueueDto { length, limit } = row.listener.accept_queue;
    format!("{} {}", bar(row.fill()), of(length, limit))
}

fn syn_queue(row: &Row, _: usize) -> String {
    of(row.listener.syn_queue.length, row.listener.syn_queue.limit)
}

fn of(length: u64, limit: u64) -> String {
    format!("{length}/{limit}")
}

fn connections(row: &Row, _: usize) -> String {
    rate(row.rates.connections)
}

fn overflow_rate(row: &Row, _: usize) -> String {
    rate(row.rates.overflows)
}

fn drop_rate(row: &Row, _: usize) -> String {
    rate(row.rates.drops)
}

fn overflows(row: &Row, _: usize) -> String {
    row.overflows().map_or_else(|| "-".to_owned(), |count| count.to_string())
}

fn wait_p99(row: &Row, _: usize) -> String {
    wait(row).map_or_else(|| "-".to_owned(), short)
}

fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate == 0.0 || rate >= 99.95 => format!("{rate:.0}"),
        Some(rate) => format!("{rate:.1}"),
    }
}

/// A share in eighths of a character.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a few characters, clamped"
)]
fn bar(share: f64) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share.clamp(0.0, 1.0) * (BAR * 8) as f64).round() as usize;
    let mut text = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        text.push(PARTS[eighths % 8]);
    }
    text + &" ".repeat(BAR - eighths.div_ceil(8))
}

fn table(state: &State, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    let columns = columns(state, area.width);
    let head = Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
    let line = |cell: &dyn Fn(&Column, usize) -> String| {
        let cells = columns
            .iter()
            .map(|(column, width)| fitted(&cell(column, *width), *width, column.is_left));
        cells.collect::<Vec<_>>().join(" ")
    };
    buffer.set_stringn(
        area.x,
        area.y,
        line(&|column, _| column.head.to_owned()),
        area.width.into(),
        head,
    );
    let room = usize::from(area.height - 1);
    let chosen = state.place();
    let first = (chosen.unwrap_or(0) + 1).saturating_sub(room);
    for (offset, row) in state.rows.iter().enumerate().skip(first).take(room) {
        let Ok(down) = u16::try_from(offset - first) else { return };
        let text = line(&|column, width| (column.cell)(row, width));
        let mut style = style_of(row);
        if chosen == Some(offset) && state.view == View::Listeners {
            style = style.add_modifier(Modifier::REVERSED);
        }
        buffer.set_stringn(area.x, area.y + 1 + down, text, area.width.into(), style);
    }
    if state.rows.is_empty() && room > 0 && state.trouble.is_none() {
        let text = if state.text.is_empty() { "no TCP listeners" } else { "no name has this text" };
        buffer.set_stringn(area.x, area.y + 1, text, area.width.into(), dim());
    }
}

/// Those that there is room for, and how wide; what is left over goes to long addresses.
fn columns(state: &State, width_of_all: u16) -> Vec<(&'static Column, usize)> {
    let mut columns: Vec<_> = COLUMNS
        .iter()
        .filter(|column| width_of_all >= column.from)
        .map(|column| (column, column.width))
        .collect();
    let taken: usize = columns.iter().map(|(_, width)| width + 1).sum();
    let spare = (usize::from(width_of_all) + 1).saturating_sub(taken);
    let longest = state.rows.iter().map(|row| width(&row.key.place())).max().unwrap_or(0);
    for (column, width) in &mut columns {
        if column.head == ADDRESS {
            *width = longest.clamp(*width, *width + spare);
        }
    }
    columns
}

fn fitted(cell: &str, most: usize, side: Side) -> String {
    let blanks = " ".repeat(most.saturating_sub(width(cell)));
    match side {
        Side::Left => format!("{cell}{blanks}"),
        Side::Right => format!("{blanks}{cell}"),
    }
}

fn style_of(row: &Row) -> Style {
    let refuses = [row.rates.overflows, row.rates.drops].into_iter().flatten().any(|it| it > 0.0);
    if row.incident.is_some() || refuses {
        Style::new().fg(Color::Red)
    } else if row.fill() >= 0.8 {
        Style::new().fg(Color::Yellow)
    } else {
        Style::new()
    }
}

fn incidents_panel(state: &State, area: Rect, buffer: &mut Buffer) {
    let title = "incidents now (tab, enter)";
    Block::new().title(title).title_style(dim()).render(area, buffer);
    let room = usize::from(area.height.saturating_sub(1));
    if state.incidents.is_empty() {
        buffer.set_stringn(area.x, area.y + 1, "none", area.width.into(), dim());
        return;
    }
    let first = (state.chosen_incident + 1).saturating_sub(room);
    for (offset, incident) in state.incidents.iter().enumerate().skip(first).take(room) {
        let Ok(down) = u16::try_from(offset - first) else { return };
        let mut style = Style::new().fg(Color::Red);
        if state.view == View::Incidents && offset == state.chosen_incident {
            style = style.add_modifier(Modifier::REVERSED);
        }
        let text = incident_line(incident);
        buffer.set_stringn(area.x, area.y + 1 + down, text, area.width.into(), style);
    }
}

fn incident_line(incident: &Summary) -> String {
    let Summary { id, listener, process, cause, overflows, opened, last, .. } = incident;
    let process = process.as_deref().map_or_else(String::new, |name| printable(name) + " on ");
    format!(
        "{id}  {process}{}  {}  {overflows} overflows  {}",
        name_of(listener),
        cause.title(),
        lasted(last.since(*opened))
    )
}

fn detail(row: &Row, history: Option<&History>, area: Rect, buffer: &mut Buffer) {
    let listener = &row.listener;
    let mut lines = vec![Line::styled(
        format!("{} in {}", row.key.place(), printable(&row.key.netns)),
        Style::new().add_modifier(Modifier::BOLD),
    )];
    for owner in listener.owners.iter().take(3) {
        let name = owner.process.as_deref().map_or_else(|| "-".to_owned(), printable);
        let pid = owner.pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
        let place =
            who::place(owner).map_or_else(String::new, |place| format!(", {}", printable(&place)));
        lines.push(Line::raw(format!("owner       {name}{pid}{place}")));
    }
    let asked =
        listener.backlog_requested.map_or_else(String::new, |it| format!(", asked for {it}"));
    lines.push(Line::raw(format!(
        "queues      accept {}{asked}; SYN {}; {} {}",
        accept_queue(row, 0).trim_start(),
        syn_queue(row, 0),
        listener.sockets,
        if listener.sockets == 1 { "socket" } else { "sockets" },
    )));
    lines.push(Line::raw(format!(
        "per second  {} connections, {} overflows, {} drops",
        rate(row.rates.connections),
        rate(row.rates.overflows),
        rate(row.rates.drops)
    )));
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |it| it.to_string());
    lines.push(Line::raw(format!(
        "in all      {} connections, {} accepted, {} overflows, {} drops",
        count(listener.enqueued),
        count(listener.accepts),
        count(row.overflows()),
        count(listener.listen_drops)
    )));
    lines.push(Line::raw(format!("waits       99 of 100 no longer than {}", wait_p99(row, 0))));
    if let Some(incident) = &row.incident {
        lines.push(Line::styled(
            format!("incident    {} (i opens it)", incident_line(incident)),
            bad(),
        ));
    }
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let [text, plots] =
        Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(area);
    Paragraph::new(lines).render(text, buffer);
    if let Some(history) = history {
        plot(history, plots, buffer);
    }
}

fn plot(history: &History, area: Rect, buffer: &mut Buffer) {
    let parts = Layout::vertical([Constraint::Ratio(1, 3); 3]).areas::<3>(area);
    for (part, (title, values, color)) in parts.into_iter().zip([
        ("accept queue", &history.lengths, Color::Cyan),
        ("connections/s", &history.connections, Color::Green),
        ("overflows/s", &history.overflows, Color::Red),
    ]) {
        if part.height < 2 {
            continue;
        }
        let most = values.iter().copied().flatten().max().unwrap_or(0);
        // The newest at the right end.
        let skip = values.len().saturating_sub(part.width.into());
        let values: Vec<_> = values.iter().copied().skip(skip).collect();
        Sparkline::default()
            .block(Block::new().title(format!("{title}, {most} at most")).title_style(dim()))
            .data(values)
            .style(Style::new().fg(color))
            .render(part, buffer);
    }
}
