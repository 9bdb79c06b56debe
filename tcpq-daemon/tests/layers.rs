//! The dependencies between modules run one way; this test is the rule.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each layer and what it may use of the crate.
const RULES: [(&str, &[&str]); 9] = [
    ("cli", &["app", "attribution", "engine", "kernel", "model", "serve", "store"]),
    ("app", &["attribution", "engine", "kernel", "model", "probe", "serve", "store"]),
    ("serve", &["model"]),
    ("engine", &["model"]),
    ("attribution", &["model"]),
    ("probe", &["model"]),
    ("store", &["model"]),
    ("kernel", &["model"]),
    ("model", &[]),
];

#[test]
fn no_module_uses_what_is_above_or_beside_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (layer, allowed) in RULES {
        for file in files(&source.join(layer)) {
            let text = fs::read_to_string(&file).unwrap();
            for used in uses(&text) {
                if used != layer && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{} uses crate::{used}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_rule() {
    let lib = include_str!("../src/lib.rs");
    let modules = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    for module in modules {
        assert!(RULES.iter().any(|(layer, _)| *layer == module), "{module} has no rule");
    }
}

/// The modules named after `crate::`, grouped imports included.
fn uses(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(group) => found.extend(group_heads(group)),
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// First words of the items of `{a::b, c::{d, e}}`, given without its first brace.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = vec![word(group.trim_start())];
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(word(group[at + 1..].trim_start())),
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn grouped_imports_are_seen() {
    assert_eq!(uses("use crate::{a::{b, c}, d};\ncrate::e::f"), ["a", "d", "e"]);
}
