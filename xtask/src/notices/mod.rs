//! The notices of others whose work is in the shipped binary: who, which version, under which
//! licence, and every licence text once.
//!
//! A static binary is a copy of all of it, and nearly every one of these licences asks that its
//! text goes along with copies.

mod standard;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    artifacts, cmd,
    linked::{Crate, Key, Linked, Native, Origin},
};

/// How deep below a crate's folder licences are looked for; some stand beside the file they cover.
const DEPTH: usize = 4;
/// How the names of such files begin.
const NAMES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];
/// Where Debian keeps what the C library's licence asks to be passed on.
const GLIBC_TEXTS: [&str; 2] =
    ["/usr/share/doc/libc6-dev/copyright", "/usr/share/common-licenses/LGPL-2.1"];

const INTRODUCTION: &str = "\
The programs in this release contain the work of others, which is listed here with the licences
under which it is passed on. Every text stands here once, after the names of all that it is for.

The C library (glibc) is linked statically and is under the LGPL, version 2.1 or later: whoever has
this binary may change that library and link the program again. The sources of the program and the
commands that build it are published beside it; the library's sources are Debian's, in the version
named below. Of Rust's standard library the crates of all its platforms are listed.
";
const BLESSING: &str = "The authors of SQLite disclaim copyright to its source code.\n";
const EXCEPTION: &str = "The GCC Runtime Library Exception, version 3.1, permits to pass on this \
    runtime\nas part of a compiled program under terms of one's choice.\n";

const WIDTH: usize = 80;

/// A work and the licence texts that came with it.
struct Work {
    name: String,
    licence: String,
    texts: Vec<String>,
}

/// Writes the notices to this file.
pub(crate) fn write(to: &Path) -> Result<()> {
    let linked = Linked::find()?;
    let mut works = Vec::new();
    for (key, found) in &linked.crates {
        if found.origin == Origin::Registry {
            works.push(of_crate(key, found, &linked.sources(key))?);
        }
    }
    for native in &linked.natives {
        works.push(of_native(native)?);
    }
    works.extend(standard::works()?);
    fs::write(to, rendered(&works)).with_context(|| format!("cannot write {}", to.display()))?;
    cmd::say(format!("{}: {} works", to.display(), works.len()));
    Ok(())
}

fn of_crate(key: &Key, found: &Crate, folder: &Path) -> Result<Work> {
    let mut files = Vec::new();
    collect(folder, DEPTH, &mut files)
        .with_context(|| format!("cannot look through {}", folder.display()))?;
    files.sort();
    let mut texts = files.iter().map(read).collect::<Result<Vec<_>>>()?;
    if texts.is_empty() {
        texts.push(chosen(&found.licence).with_context(|| format!("{key} has no licence text"))?);
    }
    Ok(Work { name: key.to_string(), licence: found.licence.clone(), texts })
}

/// The text of the licence that is chosen where a package holds none: Apache's names nobody.
fn chosen(expression: &str) -> Result<String> {
    if !expression.split(" OR ").any(|licence| licence == "Apache-2.0") {
        bail!("none in its package, and {expression} does not offer Apache-2.0");
    }
    read(artifacts::root().join("LICENSE-APACHE"))
}

fn of_native(native: &Native) -> Result<Work> {
    let texts = match native.name {
        "glibc" => GLIBC_TEXTS
            .map(read)
            .into_iter()
            .collect::<Result<_>>()
            .context("the C library's licence is missing; a release is built on Debian")?,
        "libgcc" => vec![EXCEPTION.to_owned()],
        "sqlite" => vec![BLESSING.to_owned()],
        "rust-std" => vec![chosen(native.licence)?],
        other => bail!("no notice is known for {other}"),
    };
    let name = format!("{} {} ({})", native.name, native.version, native.about);
    Ok(Work { name, licence: native.licence.to_owned(), texts })
}

/// Files whose name says that they are about a licence.
fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 {
            collect(&entry.path(), depth - 1, files)?;
        } else if kind.is_file() && is_notice(&entry.file_name().to_string_lossy()) {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn is_notice(file: &str) -> bool {
    let name = file.to_ascii_lowercase();
    let code = [".rs", ".toml", ".json", ".html"].iter().any(|end| name.ends_with(end));
    !code && NAMES.iter().any(|start| name.starts_with(start))
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))
}

/// The list, and each text once: texts that differ in white space only are one.
fn rendered(works: &[Work]) -> String {
    let mut out = format!("THIRD-PARTY NOTICES\n\n{INTRODUCTION}\n");
    for Work { name, licence, .. } in works {
        writeln!(out, "  {name}: {licence}").expect("a string takes it");
    }
    for (text, names) in shared(works).into_values() {
        let rule = "-".repeat(WIDTH);
        write!(out, "\n{rule}\n{}\n\n{}\n", heading(&names), text.trim_end())
            .expect("a string takes it");
    }
    out
}

/// Names, and no line longer than a page is wide but for a name that is.
fn heading(names: &[&str]) -> String {
    let (mut lines, mut line) = (String::new(), String::from("For"));
    for (place, name) in names.iter().enumerate() {
        let end = if place + 1 < names.len() { "," } else { ":" };
        if line.len() + name.len() + 2 > WIDTH {
            lines += &line;
            lines.push('\n');
            line = String::from("   ");
        }
        line.extend([" ", name, end]);
    }
    lines + &line
}

/// Texts by their words, each with the names of the works it came with.
fn shared(works: &[Work]) -> BTreeMap<String, (&str, Vec<&str>)> {
    let mut texts: BTreeMap<String, (&str, Vec<&str>)> = BTreeMap::new();
    for work in works {
        for text in &work.texts {
            let alone = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let (_, names) = texts.entry(alone).or_insert((text, Vec::new()));
            if names.last() != Some(&work.name.as_str()) {
                names.push(&work.name);
            }
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(name: &str, texts: &[&str]) -> Work {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        Work { name: name.to_owned(), licence: "MIT".to_owned(), texts }
    }

    #[test]
    fn a_text_stands_once() {
        let works = [work("a 1", &["Do  what\nyou want\n"]), work("b 2", &["Do what you want"])];
        let text = rendered(&works);
        assert!(text.contains("  a 1: MIT\n  b 2: MIT\n"), "{text}");
        assert!(text.contains("\nFor a 1, b 2:\n\nDo  what\nyou want\n"), "{text}");
        assert_eq!(text.matches("you want").count(), 1);
    }

    #[test]
    fn headings_are_no_wider_than_a_page() {
        assert_eq!(heading(&["a 1"]), "For a 1:");
        let names: Vec<_> = (0..40).map(|n| format!("crate {n}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let heading = heading(&names);
        assert!(heading.lines().all(|line| line.len() <= WIDTH), "{heading}");
        assert_eq!(heading.matches("crate").count(), 40);
        assert!(heading.ends_with("crate 39:"));
    }

    #[test]
    fn notices_are_known_by_their_names() {
        for name in ["LICENSE", "license-mit", "COPYING", "NOTICE.txt", "UNLICENSE", "LICENSE.md"] {
            assert!(is_notice(name), "{name}");
        }
        for name in ["license.rs", "README.md", "notice.toml"] {
            assert!(!is_notice(name), "{name}");
        }
    }

    #[test]
    fn a_missing_text_is_only_made_up_for_with_apaches() {
        assert!(chosen("MIT OR Apache-2.0").expect("offered").contains("Apache License"));
        chosen("MIT").expect_err("names its authors");
        chosen("MIT AND Apache-2.0").expect_err("asks for both");
    }
}
