//! OpenMetrics text to the classic format 0.0.4, which prometheus-client does not write.
//!
//! The two differ in the metadata: the classic format names a counter's family
//! with its `_total`, has no info type, no units and no end mark.

/// Rewrites whole families.
pub(super) fn from_openmetrics(text: &str, out: &mut Vec<u8>) {
    let mut write = |parts: &[&str]| parts.iter().for_each(|part| out.extend(part.as_bytes()));
    let mut help: Option<(&str, &str)> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // Its name depends on the type, which comes next.
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, text)) = help.take().filter(|(of, _)| *of == name) {
                write(&["# HELP ", name, suffix, " ", text, "\n"]);
            }
            write(&["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            write(&[line, "\n"]);
        }
    }
}
