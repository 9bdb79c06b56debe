//! How the table is made to fit: which columns, and how wide.

use crate::{
    cli::{
        list::columns::{Cell, Column, is_partial},
        text::width,
    },
    serve::api::ListenerDto,
};

use Column::{
    AcceptQueue, Address, AtAck, AtCookie, AtSyn, Backlog, Drops, Netns, Overflows, Pid, Place,
    Process, SynQueue, Wait,
};

/// What is shown, from all to little. The help of `tcpq list` states this order.
const LAYOUTS: [&[Column]; 8] = [
    &[
        Netns,
        Address,
        Process,
        Pid,
        Place,
        AcceptQueue,
        SynQueue,
        AtSyn,
        AtAck,
        AtCookie,
        Drops,
        Wait,
        Backlog,
    ],
    &[
        Netns,
        Address,
        Process,
        Pid,
        Place,
        AcceptQueue,
        SynQueue,
        AtSyn,
        AtAck,
        AtCookie,
        Drops,
        Wait,
    ],
    &[Netns, Address, Process, Pid, Place, AcceptQueue, SynQueue, AtSyn, AtAck, AtCookie, Drops],
    &[Netns, Address, Process, Pid, Place, AcceptQueue, SynQueue, Overflows, Drops],
    &[Netns, Address, Process, Pid, AcceptQueue, SynQueue, Overflows, Drops],
    &[Netns, Address, Process, Pid, AcceptQueue, Overflows, Drops],
    &[Netns, Address, Process, AcceptQueue, Overflows, Drops],
    &[Netns, Address, Process, AcceptQueue, Overflows],
];

/// The table in at most `most` columns of the terminal, as far as numbers allow.
pub(super) fn render(listeners: &[ListenerDto], most: Option<usize>) -> String {
    let most = most.unwrap_or(usize::MAX);
    let Some(layout) = layout(listeners, most) else { return String::new() };
    let mut text = layout.text(most);
    if layout.has(Overflows) && listeners.iter().any(is_partial) {
        text.push_str("\nN+: at least N; this kernel does not tell every stage\n");
    }
    text
}

/// The first layout that fits, else the last.
fn layout(listeners: &[ListenerDto], most: usize) -> Option<Layout> {
    let long = listeners.iter().filter(|it| Address.cell(it).floor(0) > IPV4).count();
    let few_are_long = long * 4 <= listeners.len();
    let mut last = None;
    for columns in LAYOUTS {
        for overhang in [Overhang::None, Overhang::NextLine] {
            if overhang == Overhang::None || few_are_long {
                let layout = Layout::new(columns, overhang, listeners);
                if layout.least(comfortable) <= most {
                    return Some(layout);
                }
                last = Some(layout);
            }
        }
    }
    last
}

/// Below this a name is hard to tell from its neighbours, so a column goes first.
const fn comfortable(column: Column) -> usize {
    match column {
        Netns => 8,
        Address => IPV4,
        Process => 10,
        Place => 24,
        _ => 0,
    }
}

/// What is left of a name in the narrowest table.
const TIGHT: usize = 5;

/// The longest address and port of IPv4.
const IPV4: usize = 21;

/// Blanks between two columns.
const GAP: usize = 2;

/// The columns, and all cells in them.
struct Layout {
    columns: Vec<(Column, Vec<Cell>)>,
    overhang: Overhang,
}

/// What an address does that is longer than those of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overhang {
    /// It makes its column wider.
    None,
    /// Its row goes on in the next line: a few of them shall not take the room of all.
    NextLine,
}

impl Layout {
    fn new(columns: &[Column], overhang: Overhang, listeners: &[ListenerDto]) -> Self {
        let columns = columns.iter().filter(|column| column.is_told(listeners));
        let cells = |column: Column| listeners.iter().map(|it| column.cell(it)).collect();
        Self { columns: columns.map(|column| (*column, cells(*column))).collect(), overhang }
    }

    fn has(&self, column: Column) -> bool {
        self.columns.iter().any(|(ours, _)| *ours == column)
    }

    /// The width with every name cut as far as `floor` allows.
    fn least(&self, floor: impl Fn(Column) -> usize) -> usize {
        let columns = self.columns.iter();
        let least = columns.map(|(column, cells)| self.floor(*column, cells, floor(*column)));
        least.sum::<usize>() + self.gaps()
    }

    fn floor(&self, column: Column, cells: &[Cell], name: usize) -> usize {
        let cells = cells.iter().map(|cell| cell.floor(name));
        let cells = cells.filter(|width| !(self.hangs_over(column) && *width > IPV4));
        cells.fold(width(column.head()), usize::max)
    }

    fn hangs_over(&self, column: Column) -> bool {
        column == Address && self.overhang == Overhang::NextLine
    }

    fn gaps(&self) -> usize {
        GAP * self.columns.len().saturating_sub(1)
    }

    /// The widths of the columns: what is too much is taken from the widest names, first
    /// down to what is comfortable.
    fn widths(&self, most: usize) -> Vec<usize> {
        let columns = || self.columns.iter();
        let mut widths: Vec<_> = columns().map(|it| self.floor(it.0, &it.1, usize::MAX)).collect();
        let mut excess = (widths.iter().sum::<usize>() + self.gaps()).saturating_sub(most);
        for floor in [comfortable, |_: Column| TIGHT] {
            let least: Vec<_> = columns().map(|it| self.floor(it.0, &it.1, floor(it.0))).collect();
            while excess > 0 {
                let widest = widths
                    .iter_mut()
                    .zip(&least)
                    .filter(|(width, least)| **width > **least)
                    .max_by_key(|(width, _)| **width);
                let Some((width, _)) = widest else { break };
                *width -= 1;
                excess -= 1;
            }
        }
        widths
    }

    fn text(&self, most: usize) -> String {
        let widths = self.widths(most);
        let rows = self.columns.first().map_or(0, |(_, cells)| cells.len());
        let heads = self.columns.iter().map(|(column, _)| column.head().to_owned());
        let mut text = self.line(heads, &widths);
        for row in 0..rows {
            let cells = self.columns.iter().zip(&widths);
            let cells = cells.filter_map(|((_, cells), width)| Some(cells.get(row)?.text(*width)));
            text.push_str(&self.line(cells, &widths));
        }
        text
    }

    fn line(&self, cells: impl Iterator<Item = String>, widths: &[usize]) -> String {
        let mut line = String::new();
        let mut done = String::new();
        for ((cell, (column, _)), most) in cells.zip(&self.columns).zip(widths) {
            if !line.is_empty() {
                line.push_str(&" ".repeat(GAP));
            }
            let room = most.saturating_sub(width(&cell));
            let used = width(&line);
            if !column.is_left() {
                line.push_str(&" ".repeat(room));
            }
            line.push_str(&cell);
            if width(&cell) > *most {
                done.push_str(&line);
                done.push('\n');
                line = " ".repeat(used + most);
            } else if column.is_left() {
                line.push_str(&" ".repeat(room));
            }
        }
        done + line.trim_end() + "\n"
    }
}

#[cfg(test)]
mod tests;
