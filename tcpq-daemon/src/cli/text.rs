//! Text made fit for a terminal: JSON, cuts, lines.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::model::text::is_harmless;

/// JSON of which a terminal may get every character: the others can only be in strings.
pub(super) fn json(document: &impl serde::Serialize) -> serde_json::Result<String> {
    let mut text = String::new();
    for c in serde_json::to_string_pretty(document)?.chars() {
        if is_harmless(c) || c == '\n' {
            text.push(c);
        } else {
            let mut units = [0; 2];
            let escaped = c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}"));
            text.extend(escaped.collect::<Vec<_>>());
        }
    }
    text.push('\n');
    Ok(text)
}

/// Columns that `text` takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// `text` cut in the middle, where names differ least, to at most `most` columns.
pub(super) fn middle(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let room = most.saturating_sub(1);
    let head = prefix(text.chars(), room.div_ceil(2));
    let tail: String = prefix(text.chars().rev(), room / 2).chars().rev().collect();
    format!("{head}…{tail}")
}

/// As many characters as fit into `most` columns.
fn prefix(characters: impl Iterator<Item = char>, most: usize) -> String {
    let mut used = 0;
    characters
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= most
        })
        .collect()
}

/// Lines of `text` of at most `most` columns, broken at blanks only.
pub(super) fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Columns to fill: what `COLUMNS` says, also where the output is no terminal (`watch`
/// sets it so), else what the terminal says; `None`: no limit.
pub(super) fn columns() -> Option<usize> {
    let wish = std::env::var("COLUMNS").ok();
    let terminal = terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| width.0);
    columns_of(wish.as_deref(), terminal)
}

fn columns_of(wish: Option<&str>, terminal: Option<u16>) -> Option<usize> {
    let wish = wish.and_then(|text| text.parse().ok()).filter(|columns| *columns > 0);
    wish.or_else(|| terminal.filter(|columns| *columns > 0).map(usize::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_means_the_same_and_reaches_a_terminal_unharmed() {
        let names = ["a\u{9b}b", "c\u{202e}d\u{e0041}", "e\nf\u{1b}"];
        let text = json(&names).unwrap();
        assert!(text.chars().all(|c| is_harmless(c) || c == '\n'), "{text:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), names);
    }

    #[test]
    fn a_cut_name_keeps_both_ends() {
        assert_eq!(middle("prometheus", 10), "prometheus");
        assert_eq!(middle("prometheus-node", 9), "prom…node");
        assert_eq!(middle("prometheus-node", 8), "prom…ode");
        assert_eq!(middle("数数数数数", 6), "数…数");
        assert_eq!(middle("abc", 1), "…");
    }

    #[test]
    fn words_are_not_broken() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("incompressible x", 5), ["incompressible", "x"]);
    }

    #[test]
    fn the_environment_wins_over_the_terminal() {
        assert_eq!(columns_of(None, None), None);
        assert_eq!(columns_of(None, Some(200)), Some(200));
        assert_eq!(columns_of(Some("80"), Some(200)), Some(80));
        assert_eq!(columns_of(Some("80"), None), Some(80));
        for useless in ["", "0", "wide", "-1"] {
            assert_eq!(columns_of(Some(useless), Some(200)), Some(200), "{useless}");
        }
    }
}
