//! Tables for people.

use std::io::IsTerminal as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Columns of the narrowest terminal that is worth wrapping for.
const NARROWEST: u16 = 60;

/// Side of a column.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Left,
    Right,
}

/// A table without lines, as wide as the terminal, or as its content where there is none.
pub(super) fn table(columns: &[(&str, Side)]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(columns.iter().map(|(name, _)| *name));
    // A console without a size says 0 columns: no width to arrange for.
    if std::io::stdout().is_terminal() && table.width().is_some_and(|width| width >= NARROWEST) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    for (column, (_, side)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        column.set_cell_alignment(match side {
            Side::Left => CellAlignment::Left,
            Side::Right => CellAlignment::Right,
        });
    }
    table
}

/// The table as text, without blanks at the ends of lines.
pub(super) fn text(table: &Table) -> String {
    table.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}
