//! What is in the binary and in no `Cargo.lock`: the standard library, the C library, and SQLite,
//! which a crate brings along.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use super::Linked;
use crate::cmd;

/// Something linked in that is no crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Native {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) licence: &'static str,
    /// Its package URL.
    pub(crate) purl: String,
    pub(crate) about: &'static str,
}

const SQLITE_CRATE: &str = "libsqlite3-sys";
const GLIBC_PACKAGE: &str = "libc6-dev";

pub(super) fn find(linked: &Linked) -> Result<Vec<Native>> {
    Ok(vec![glibc()?, libgcc()?, standard_library()?, sqlite(linked)?])
}

fn standard_library() -> Result<Native> {
    let version = cmd::output(Command::new("rustc").arg("-vV"))?;
    let version = version.lines().find_map(|line| line.strip_prefix("release: "));
    let version = version.context("rustc does not tell its release")?.to_owned();
    Ok(Native {
        name: "rust-std",
        licence: "MIT OR Apache-2.0",
        purl: format!("pkg:generic/rust-std@{version}"),
        version,
        about: "Rust's standard library",
    })
}

fn sqlite(linked: &Linked) -> Result<Native> {
    let key = linked.version_of(SQLITE_CRATE).context("no SQLite among the crates")?;
    let header = linked.sources(key).join("sqlite3/sqlite3.h");
    let text =
        fs::read_to_string(&header).with_context(|| format!("cannot read {}", header.display()))?;
    let version = sqlite_version(&text).context("sqlite3.h does not tell its version")?;
    Ok(Native {
        name: "sqlite",
        licence: "blessing",
        purl: format!("pkg:generic/sqlite@{version}"),
        version,
        about: "The store of incidents; in the public domain",
    })
}

/// `3.54.1` of `#define SQLITE_VERSION        "3.54.1"`.
fn sqlite_version(header: &str) -> Option<String> {
    let value = header.lines().find_map(|line| line.strip_prefix("#define SQLITE_VERSION "))?;
    Some(value.trim().trim_matches('"').to_owned())
}

/// As Debian packages it where it does; vulnerabilities are told by that version.
fn glibc() -> Result<Native> {
    let (kind, version) = if let Some(version) = debian_version(GLIBC_PACKAGE) {
        ("deb/debian", version)
    } else {
        let said = cmd::output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
        ("generic", said.trim().trim_start_matches("glibc ").to_owned())
    };
    Ok(Native {
        name: "glibc",
        purl: format!("pkg:{kind}/glibc@{}", encoded(&version)),
        version,
        licence: "LGPL-2.1-or-later",
        about: "The C library, linked statically",
    })
}

fn libgcc() -> Result<Native> {
    let version = cmd::output(Command::new("cc").arg("-dumpfullversion"))?.trim().to_owned();
    Ok(Native {
        name: "libgcc",
        licence: "GPL-3.0-or-later WITH GCC-exception-3.1",
        purl: format!("pkg:generic/libgcc@{version}"),
        version,
        about: "The C compiler's runtime, which unwinds panics",
    })
}

fn debian_version(package: &str) -> Option<String> {
    let os = fs::read_to_string("/etc/os-release").ok()?;
    if !os.lines().any(|line| line == "ID=debian") {
        return None;
    }
    let mut query = Command::new("dpkg-query");
    cmd::output(query.args(["-W", "-f", "${source:Version}", package])).ok()
}

/// What a version may have and a package URL must not.
pub(crate) fn encoded(version: &str) -> String {
    version.replace('%', "%25").replace('+', "%2B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_sqlite_is_in_its_header() {
        let header = "/* x */\n#define SQLITE_VERSION        \"3.54.1\"\n#define SQLITE_VERSION_NUMBER 3054001\n";
        assert_eq!(sqlite_version(header).as_deref(), Some("3.54.1"));
        assert_eq!(sqlite_version("#define SQLITE_VERSION_NUMBER 3054001\n"), None);
    }

    #[test]
    fn versions_are_escaped_in_package_urls() {
        assert_eq!(encoded("1.2.2+spec-1.1.0"), "1.2.2%2Bspec-1.1.0");
        assert_eq!(encoded("2.36-9+deb12u14"), "2.36-9%2Bdeb12u14");
        assert_eq!(encoded("1.0.0"), "1.0.0");
    }
}
