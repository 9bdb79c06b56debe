//! Text that others chose, made fit to show.

use std::borrow::Cow;

/// Longest name of a process, in bytes. The kernel keeps 15 for a program; a worker of
/// its own may have more.
const NAME_BYTES: usize = 255;

/// Longest path, in bytes, with the mark that it was cut.
const PATH_BYTES: usize = 512;

/// The mark.
const CUT: &str = "…";

/// A process's name as the kernel keeps it: up to the first NUL. `None`: it has none.
pub(super) fn name(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = printable(bytes);
    Some(name[..boundary(&name, NAME_BYTES)].to_owned()).filter(|name| !name.is_empty())
}

/// A path. `None`: it is empty.
pub(super) fn path(bytes: &[u8]) -> Option<String> {
    let mut path = printable(bytes);
    if path.len() > PATH_BYTES {
        path.truncate(boundary(&path, PATH_BYTES - CUT.len()));
        path.push_str(CUT);
    }
    Some(path).filter(|path| !path.is_empty())
}

/// What is not UTF-8, controls the terminal or changes the order in which text is read
/// becomes U+FFFD.
fn printable(bytes: &[u8]) -> String {
    let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Control characters, line separators, and those that turn the writing direction: one
/// name could pass for another.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The last character boundary that is not beyond `limit`.
fn boundary(text: &str, limit: usize) -> usize {
    text.floor_char_boundary(limit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_end_at_the_first_nul_and_may_be_missing() {
        assert_eq!(name(b"nginx\0\0old"), Some("nginx".to_owned()));
        assert_eq!(name(b"\0nginx"), None);
        assert_eq!(name(b""), None);
    }

    #[test]
    fn what_could_break_a_line_or_a_terminal_is_replaced() {
        assert_eq!(name(b"a\nb\x1b[2J\x7f"), Some("a\u{fffd}b\u{fffd}[2J\u{fffd}".to_owned()));
        assert_eq!(name("a\u{202e}gnp.exe".as_bytes()), Some("a\u{fffd}gnp.exe".to_owned()));
        assert_eq!(name(b"\xff\xfe"), Some("\u{fffd}\u{fffd}".to_owned()));
        // Quotes are for whoever writes them somewhere to escape.
        assert_eq!(name(br#"a"} 1"#), Some(r#"a"} 1"#.to_owned()));
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let umlauts = "ä".repeat(3000);
        assert_eq!(name(umlauts.as_bytes()).unwrap().len(), 254);
        let cut = path(umlauts.as_bytes()).unwrap();
        assert!(cut.ends_with("ä…") && cut.len() <= PATH_BYTES, "{cut}");
        let fits = "a".repeat(PATH_BYTES);
        assert_eq!(path(fits.as_bytes()), Some(fits));
    }

    proptest! {
        #[test]
        fn any_bytes_become_short_and_printable(bytes: Vec<u8>) {
            for text in [name(&bytes), path(&bytes)].into_iter().flatten() {
                prop_assert!(!text.is_empty() && text.len() <= PATH_BYTES);
                prop_assert!(!text.chars().any(is_harmful));
            }
        }
    }
}
