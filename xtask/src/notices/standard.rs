//! The notices of Rust's standard library and of the crates in it, as its toolchain has them.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use super::{Work, read};
use crate::cmd;

const FOLDER: &str = "share/doc/rust";
const PAGE: &str = "COPYRIGHT-library.html";
/// The licence of tables in the library's own sources.
const UNICODE: &str = "licenses/Unicode-3.0.txt";
/// What begins a crate's part of the page.
const CRATE: &str = "<h3>📦 ";

pub(super) fn works() -> Result<Vec<Work>> {
    let sysroot = cmd::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let folder = Path::new(sysroot.trim()).join(FOLDER);
    let mut works = parse(&read(folder.join(PAGE))?);
    if works.iter().all(|work| work.texts.is_empty()) {
        bail!("{PAGE} of the toolchain has no licences: its form has changed");
    }
    works.push(Work {
        name: "Unicode's data (in Rust's standard library)".to_owned(),
        licence: "Unicode-3.0".to_owned(),
        texts: vec![read(folder.join(UNICODE))?],
    });
    Ok(works)
}

fn parse(html: &str) -> Vec<Work> {
    html.split(CRATE).skip(1).filter_map(part).collect()
}

fn part(html: &str) -> Option<Work> {
    let name = between(html, "", "</h3>")?;
    let licence = between(html, "<b>License:</b>", "</p>")?;
    let texts = html.split("<pre>").skip(1).filter_map(|text| between(text, "", "</pre>"));
    Some(Work {
        name: format!("{} (in Rust's standard library)", plain(name)),
        licence: plain(licence),
        texts: texts.map(|text| unescaped(text) + "\n").collect(),
    })
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0)
}

fn plain(html: &str) -> String {
    unescaped(html).trim().to_owned()
}

fn unescaped(html: &str) -> String {
    let characters = [
        ("&#60;", "<"),
        ("&lt;", "<"),
        ("&#62;", ">"),
        ("&gt;", ">"),
        ("&#34;", "\""),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ];
    characters.iter().fold(html.to_owned(), |text, (code, char)| text.replace(code, char))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTML: &str = "<h2>Out-of-tree</h2>\n<h3>📦 hashbrown-0.15.2</h3>\n\
        <p><b>URL:</b> <a href=\"x\">x</a></p>\n<p><b>License:</b> MIT OR Apache-2.0</p>\n\
        <details><summary><code>LICENSE</code></summary>\n<pre>Copyright &#60;a@b&#62; &#38; \
        &#34;friends&#34;</pre></details>\n<h3>📦 libc-0.2.1</h3>\n<p><b>License:</b> MIT</p>\n";

    #[test]
    fn the_crates_of_the_standard_library_are_read() {
        let works = parse(HTML);
        let names: Vec<_> = works.iter().map(|work| work.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "hashbrown-0.15.2 (in Rust's standard library)",
                "libc-0.2.1 (in Rust's standard library)"
            ]
        );
        assert_eq!(works[0].licence, "MIT OR Apache-2.0");
        assert_eq!(works[0].texts, ["Copyright <a@b> & \"friends\"\n"]);
        assert!(works[1].texts.is_empty());
    }
}
