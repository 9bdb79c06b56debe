//! A screen of text: a title, and paragraphs under headings.

use crate::cli::text::wrap;

/// What a line holds where nothing else says so: long lines are hard to read.
const COLUMNS: usize = 80;

/// No narrower than this, whatever the terminal says.
const LEAST: usize = 40;

/// The column of the headings.
const INDENT: usize = 10;

/// The page: paragraphs under headings.
pub(super) struct Page {
    text: String,
    columns: usize,
}

impl Page {
    /// As wide as the terminal, within reason.
    pub(super) fn new(columns: Option<usize>) -> Self {
        let columns = columns.unwrap_or(COLUMNS).clamp(LEAST, 2 * COLUMNS);
        Self { text: String::new(), columns }
    }

    /// Columns beside the headings.
    pub(super) const fn room(&self) -> usize {
        self.columns - INDENT
    }

    pub(super) fn title(&mut self, title: &str) {
        for line in wrap(title, self.columns) {
            self.line(&line);
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// Lines as they are: figures and commands, which are copied.
    pub(super) fn lines(&mut self, heading: &str, lines: &[String]) {
        let headings = std::iter::once(heading).chain(std::iter::repeat(""));
        for (heading, line) in headings.zip(lines) {
            self.line(&format!("{heading:INDENT$}{line}"));
        }
    }

    /// Sentences, wrapped; what goes on is set in.
    pub(super) fn section(&mut self, heading: &str, sentences: &[String]) {
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
