//! What each kernel can tell of each scenario: rows by kernels, as the truth tests of
//! each said it on lines of their own: `cell <backend> <row> <figure>`.

use std::fmt;

/// What the truth tests on one kernel said, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cells(Vec<Cell>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    backend: String,
    row: String,
    figure: String,
}

impl Cells {
    /// Takes a line in, if it is one of ours.
    pub(crate) fn hear(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let mut word = || words.next().map(str::to_owned);
        if word().as_deref() == Some("cell")
            && let (Some(backend), Some(row), Some(figure), None) = (word(), word(), word(), word())
        {
            self.0.push(Cell { backend, row, figure });
        }
    }

    /// The backends, in the order in which they were first said.
    fn backends(&self) -> Vec<&str> {
        let mut backends = vec![CHOSEN];
        for Cell { backend, .. } in &self.0 {
            if !backends.contains(&backend.as_str()) {
                backends.push(backend);
            }
        }
        backends
    }
}

/// The backend of which nothing is said: the hooks that the daemon chose itself.
const CHOSEN: &str = "auto";

/// One column per kernel that was run, and per backend that was forced there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matrix {
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
struct Column {
    head: String,
    cells: Vec<Cell>,
}

impl Column {
    fn get(&self, row: &str) -> Option<&str> {
        self.cells.iter().find(|cell| cell.row == row).map(|cell| cell.figure.as_str())
    }
}

/// Of a row that a kernel said nothing of: it did not come so far.
const MISSING: &str = "-";

impl Matrix {
    pub(crate) fn add(&mut self, kernel: &str, cells: &Cells) {
        for backend in cells.backends() {
            let head =
                if backend == CHOSEN { kernel.to_owned() } else { format!("{kernel} {backend}") };
            let of_backend = cells.0.iter().filter(|cell| cell.backend == backend);
            self.columns.push(Column { head, cells: of_backend.cloned().collect() });
        }
    }

    /// Every row, in the order in which it was first said.
    fn rows(&self) -> Vec<&str> {
        let mut rows = Vec::new();
        for Cell { row, .. } in self.columns.iter().flat_map(|column| &column.cells) {
            if !rows.contains(&row.as_str()) {
                rows.push(row.as_str());
            }
        }
        rows
    }
}

/// Empty if no scenario was played at all.
impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let Some(names) = rows.iter().map(|row| row.len()).max() else {
            return Ok(());
        };
        let line = |f: &mut fmt::Formatter<'_>, first: &str, of: &dyn Fn(&Column) -> String| {
            let mut line = format!("{first:names$}");
            for column in &self.columns {
                // No figure is longer than `derived`.
                let width = column.head.len().max("derived".len());
                line = format!("{line}  {:width$}", of(column));
            }
            writeln!(f, "{}", line.trim_end())
        };
        line(f, "", &|column| column.head.clone())?;
        for row in rows {
            line(f, row, &|column| column.get(row).unwrap_or(MISSING).to_owned())?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(lines: &[&str]) -> Cells {
        let mut cells = Cells::default();
        for line in lines {
            cells.hear(line);
        }
        cells
    }

    #[test]
    fn only_whole_lines_are_cells() {
        let heard = cells(&[
            "cell auto a exact",
            "test cell_a ... ok",
            "cell auto b",
            "cell auto c exact d",
            "cell auto d n/a\r",
        ]);
        let figures: Vec<_> = heard.0.iter().map(|cell| cell.figure.as_str()).collect();
        assert_eq!(figures, ["exact", "n/a"]);
    }

    #[test]
    fn kernels_stand_side_by_side() {
        let mut matrix = Matrix::default();
        assert_eq!(matrix.to_string(), "");
        matrix.add("host", &cells(&["cell auto syn_full derived", "cell auto reset absent"]));
        matrix.add(
            "6.12",
            &cells(&[
                "cell auto syn_full exact",
                "cell auto more FAIL",
                "cell kprobe syn_full exact",
            ]),
        );
        matrix.add("7", &Cells::default());
        let text = matrix.to_string();
        let mut lines = text.lines();
        assert_eq!(lines.next().map(str::trim), Some("host     6.12     6.12 kprobe  7"));
        let mut words = || lines.next().map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(words(), Some(vec!["syn_full", "derived", "exact", "exact", "-"]));
        assert_eq!(words(), Some(vec!["reset", "absent", "-", "-", "-"]));
        assert_eq!(words(), Some(vec!["more", "-", "FAIL", "-", "-"]));
    }
}
