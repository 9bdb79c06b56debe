//! The Debian package, by dpkg-deb.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    Parts, VERSION,
    contents::{Mode, Tree, name},
    emptied,
};
use crate::{artifacts, cmd};

/// Debian's part of the version: how often this version was packaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revision(pub(crate) u32);

impl Revision {
    pub(crate) const FIRST: Self = Self(1);
}

const DOC: &str = "usr/share/doc/tcpq";

pub(super) fn write(parts: &Parts, folder: &Path, revision: Revision) -> Result<PathBuf> {
    let version = format!("{VERSION}-{}", revision.0);
    let root = emptied(&folder.join("staging"))?;
    let tree = Tree::new(&root);
    tree.copy(&parts.binary, "usr/bin/tcpq", Mode::Run)?;
    tree.ours("deploy/tcpq.toml", "etc/tcpq")?;
    for unit in ["tcpq.service", "tcpq.socket"] {
        tree.ours(&format!("deploy/systemd/{unit}"), "usr/lib/systemd/system")?;
    }
    let users = artifacts::root().join("deploy/systemd/tcpq.sysusers.conf");
    tree.copy(&users, "usr/lib/sysusers.d/tcpq.conf", Mode::Read)?;
    for page in tree.all_of(&parts.pages.join("man"), "usr/share/man/man1")? {
        compress(&page)?;
    }
    tree.completions(parts, "usr/share")?;
    tree.examples(&format!("{DOC}/examples"))?;
    tree.docs(DOC)?;
    documents(&tree, parts, &version)?;
    control(&tree, &root, &version)?;

    let path = folder.join(format!("tcpq_{version}_amd64.deb"));
    let mut dpkg = Command::new("dpkg-deb");
    // zstd, dpkg's default in places, is not understood by every Debian.
    dpkg.args(["--root-owner-group", "-Zxz", "--build"])
        .args([&root, &path])
        .env("SOURCE_DATE_EPOCH", &parts.time);
    cmd::output(&mut dpkg)?;
    fs::remove_dir_all(&root)?;
    Ok(path)
}

/// What Debian's policy asks for beside the program.
fn documents(tree: &Tree<'_>, parts: &Parts, version: &str) -> Result<()> {
    tree.ours("README.md", DOC)?;
    for file in [&parts.bill, &parts.notices] {
        tree.copy(file, &format!("{DOC}/{}", name(file)), Mode::Read)?;
    }
    let mit = indented(&ours("LICENSE-MIT")?);
    let copyright = ours("deploy/debian/copyright")?.replace("@MIT@", mit.trim_end());
    tree.write(copyright.as_bytes(), &format!("{DOC}/copyright"), Mode::Read)?;
    let overrides = artifacts::root().join("deploy/debian/lintian-overrides");
    tree.copy(&overrides, "usr/share/lintian/overrides/tcpq", Mode::Read)?;
    let changes = artifacts::root().join("CHANGELOG.md");
    compress(&tree.copy(&changes, &format!("{DOC}/changelog"), Mode::Read)?)?;
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", &format!("--date=@{}", parts.time)]);
    let date = cmd::output(&mut date)?;
    let entry = format!(
        "tcpq ({version}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n \
         -- {MAINTAINER}  {date}"
    );
    let path = tree.write(entry.as_bytes(), &format!("{DOC}/changelog.Debian"), Mode::Read)?;
    compress(&path)
}

/// Says who answers for the package; deploy/debian/control.in has the same.
const MAINTAINER: &str = "tcpq maintainers <maintainers@tcpq.invalid>";

/// The package's own files, of which dpkg-deb makes the control archive.
fn control(tree: &Tree<'_>, root: &Path, version: &str) -> Result<()> {
    for script in ["postinst", "prerm", "postrm"] {
        let from = artifacts::root().join("deploy/debian").join(script);
        tree.copy(&from, &format!("DEBIAN/{script}"), Mode::Run)?;
    }
    tree.write(b"/etc/tcpq/tcpq.toml\n", "DEBIAN/conffiles", Mode::Read)?;
    let (sums, size) = summed(root)?;
    tree.write(sums.as_bytes(), "DEBIAN/md5sums", Mode::Read)?;
    let control = ours("deploy/debian/control.in")?
        .replace("@VERSION@", version)
        .replace("@INSTALLED_SIZE@", &size.to_string());
    tree.write(control.as_bytes(), "DEBIAN/control", Mode::Read)?;
    Ok(())
}

/// What `dpkg --verify` compares with, and the size of all files in KiB.
fn summed(root: &Path) -> Result<(String, u64)> {
    let mut find = Command::new("find");
    find.args([".", "-path", "./DEBIAN", "-prune", "-o", "-type", "f", "-printf", "%P\\n"]);
    let found = cmd::output(find.current_dir(root))?;
    let mut files: Vec<_> = found.lines().collect();
    files.sort_unstable();
    let sums = cmd::output(Command::new("md5sum").args(&files).current_dir(root))?;
    let sizes = files.iter().map(|file| fs::metadata(root.join(file)).map(|it| it.len()));
    let bytes = sizes.sum::<Result<u64, _>>().context("a file went away")?;
    Ok((sums, bytes.div_ceil(1024)))
}

/// A file of the repository.
fn ours(path: &str) -> Result<String> {
    let path = artifacts::root().join(path);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// As a field of a control file continues: empty lines are dots.
fn indented(text: &str) -> String {
    let line = |line: &str| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") };
    text.lines().map(line).collect()
}

/// Without a name or a time in it.
fn compress(path: &Path) -> Result<()> {
    cmd::output(Command::new("gzip").args(["-9n", "--force"]).arg(path))
        .with_context(|| format!("cannot compress {}", name(path)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_goes_on_with_dots_for_empty_lines() {
        assert_eq!(indented("a\n\nb\n"), " a\n .\n b\n");
    }

    #[test]
    fn the_maintainer_is_the_same_everywhere() {
        let control = ours("deploy/debian/control.in").expect("a file of the repository");
        assert!(control.contains(&format!("Maintainer: {MAINTAINER}\n")));
    }
}
