//! Text that others chose (names, paths), made fit for a terminal.

/// What stands for a character that a terminal must not get.
const REPLACEMENT: char = '\u{fffd}';

/// `text` without anything that a terminal acts on or that hides in it: control
/// characters (escapes begin with one), bidirectional overrides, invisible characters,
/// line and paragraph separators.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_harmless(c) { c } else { REPLACEMENT }).collect()
}

/// Whether a terminal shows it, and nothing else.
pub fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_is_left() {
        assert_eq!(printable("nginx"), "nginx");
        assert_eq!(printable("größe 数"), "größe 数");
        assert_eq!(
            printable("a\u{1b}[31mb\n\t\u{7f}\u{9b}"),
            "a\u{fffd}[31mb\u{fffd}\u{fffd}\u{fffd}\u{fffd}"
        );
        for hidden in ['\u{202e}', '\u{2066}', '\u{200f}', '\u{200b}', '\u{2028}', '\u{e0041}'] {
            assert_eq!(printable(&format!("x{hidden}y")), "x\u{fffd}y", "{hidden:?}");
        }
    }
}
