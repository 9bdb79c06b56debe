//! What each kernel can tell of each scenario: rows by kernels, as the truth tests of
//! each said it on lines of their own: `cell <row> <exactness>`.

use std::fmt;

/// What the truth tests on one kernel said, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cells(Vec<(String, String)>);

impl Cells {
    /// Takes a line in, if it is one of ours.
    pub(crate) fn hear(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        if words.next() == Some("cell")
            && let (Some(row), Some(cell), None) = (words.next(), words.next(), words.next())
        {
            self.0.push((row.to_owned(), cell.to_owned()));
        }
    }

    fn get(&self, row: &str) -> Option<&str> {
        self.0.iter().find(|(this, _)| this == row).map(|(_, cell)| cell.as_str())
    }
}

/// One column per kernel that was run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matrix {
    columns: Vec<(String, Cells)>,
}

/// Of a row that a kernel said nothing of: it did not come so far.
const MISSING: &str = "-";

impl Matrix {
    pub(crate) fn add(&mut self, kernel: &str, cells: Cells) {
        self.columns.push((kernel.to_owned(), cells));
    }

    /// Every row, in the order in which it was first said.
    fn rows(&self) -> Vec<&str> {
        let mut rows = Vec::new();
        for (row, _) in self.columns.iter().flat_map(|(_, cells)| &cells.0) {
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
        let line = |f: &mut fmt::Formatter<'_>, first: &str, cells: Vec<&str>| {
            let mut line = format!("{first:names$}");
            for cell in cells {
                line = format!("{line}  {cell:8}");
            }
            writeln!(f, "{}", line.trim_end())
        };
        let kernels = self.columns.iter().map(|(kernel, _)| kernel.as_str());
        line(f, "", kernels.collect())?;
        for row in rows {
            let cells = self.columns.iter().map(|(_, cells)| cells.get(row).unwrap_or(MISSING));
            line(f, row, cells.collect())?;
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
            "cell a exact",
            "test cell_a ... ok",
            "cell b",
            "cell c exact d",
            "cell d -\r",
        ]);
        assert_eq!(heard.get("a"), Some("exact"));
        assert_eq!(heard.get("d"), Some("-"));
        assert_eq!(heard.0.len(), 2);
    }

    #[test]
    fn kernels_stand_side_by_side() {
        let mut matrix = Matrix::default();
        assert_eq!(matrix.to_string(), "");
        matrix.add("host", cells(&["cell syn_full derived", "cell reset absent"]));
        matrix.add("6.12", cells(&["cell syn_full exact", "cell more FAIL"]));
        matrix.add("7", Cells::default());
        let text = matrix.to_string();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["host", "6.12", "7"]);
        assert_eq!(lines[1], ["syn_full", "derived", "exact", "-"]);
        assert_eq!(lines[2], ["reset", "absent", "-", "-"]);
        assert_eq!(lines[3], ["more", "-", "FAIL", "-"]);
    }
}
