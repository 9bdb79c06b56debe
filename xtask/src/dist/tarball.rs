//! The binary for any distribution, with what is needed to run it as a service.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{
    Parts, VERSION,
    contents::{Mode, Tree, name as name_of},
    emptied,
};
use crate::cmd;

pub(super) fn write(parts: &Parts, folder: &Path) -> Result<PathBuf> {
    let name = format!("tcpq-{VERSION}-x86_64-linux");
    let staging = emptied(&folder.join("staging"))?;
    let root = staging.join(&name);
    let tree = Tree::new(&root);
    tree.copy(&parts.binary, "tcpq", Mode::Run)?;
    for file in ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE", "deploy/tcpq.toml"] {
        tree.ours(file, ".")?;
    }
    for file in [&parts.bill, &parts.notices] {
        tree.copy(file, &name_of(file), Mode::Read)?;
    }
    for file in ["tcpq.service", "tcpq.socket", "tcpq.sysusers.conf"] {
        tree.ours(&format!("deploy/systemd/{file}"), "systemd")?;
    }
    tree.all_of(&parts.pages.join("man"), "man/man1")?;
    tree.completions(parts, "completions")?;
    tree.examples("examples")?;
    tree.docs(".")?;
    let path = folder.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--format=ustar", "--use-compress-program=gzip -9n", "--file"])
        .arg(&path)
        .arg(format!("--mtime=@{}", parts.time))
        .arg("--directory")
        .args([&staging, Path::new(&name)]);
    cmd::output(&mut tar)?;
    std::fs::remove_dir_all(&staging)?;
    Ok(path)
}
