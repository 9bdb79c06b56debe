//! What is released, as those who install it get it: the tarball, and the Debian package in a
//! guest that runs systemd.

mod guest;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use super::Depth;
use crate::{
    artifacts, cmd,
    dist::{self, Build, Parts, Revision, VERSION},
    failures::Failures,
    packages::{self, Tool},
    report::{Counts, Entry, Report},
    setup::{self, Purpose},
    store::Freshness,
};

const LINTIAN: Tool = packages::installed("lintian", "lintian", "knows Debian's policy");

/// What is looked at, and where.
struct Released {
    folder: PathBuf,
    tarball: PathBuf,
    deb: PathBuf,
}

type Check = (&'static str, fn(&Released) -> Result<()>);

const CHECKS: &[Check] = &[
    ("the_same_sources_give_the_same_bytes", reproducible),
    ("tarball_runs_in_an_empty_root", empty_root),
    ("deb_has_what_it_should", contents),
    ("deb_scripts_are_shell", scripts),
    ("pages_and_completions_know_every_command", pages),
];

const SLOW: &[Check] = &[("lintian_finds_no_error", lintian)];

pub(super) fn run(depth: Depth, report: &mut Report) -> Result<()> {
    if cmd::program("dpkg-deb").is_none() {
        cmd::say("package NOT tested: this machine has no dpkg-deb (the package dpkg)");
        return Ok(());
    }
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    let start = Instant::now();
    let folder = dist::emptied(&artifacts::target().join("package"))?;
    let parts = Parts::build(match depth {
        Depth::Default => Build::Tested,
        Depth::Full => Build::Shipped,
    })?;
    let released = Released {
        tarball: parts.tarball(&folder)?,
        deb: parts.deb(&folder, Revision::FIRST)?,
        folder,
    };
    let mut failures = Failures::default();
    let mut counts = Counts::default();
    let slow = match depth {
        Depth::Default => {
            cmd::say("package: lintian, and a guest that installs it, in whole runs only (--full)");
            &[]
        }
        Depth::Full => {
            packages::provide(&[&LINTIAN])?;
            SLOW
        }
    };
    for (name, check) in CHECKS.iter().chain(slow) {
        match check(&released) {
            Ok(()) => {
                println!("test {name} ... ok");
                counts += Counts::PASSED;
            }
            Err(error) => {
                let said =
                    format!("test {name} ... FAILED\n---- {name} ----\n{error:#}\n--- so far");
                println!("{said}");
                said.lines().for_each(|line| failures.hear(line));
                counts += Counts::FAILED;
            }
        }
    }
    report.add(Entry {
        name: "package".to_owned(),
        machine: String::new(),
        counts,
        took: start.elapsed(),
        note: String::new(),
        failures: failures.into_vec(),
    });
    match depth {
        Depth::Default => Ok(()),
        Depth::Full => guest::run(&parts, &released.folder, report),
    }
}

fn reproducible(released: &Released) -> Result<()> {
    let again = dist::emptied(&released.folder.join("again"))?;
    let parts = Parts::build(Build::Tested)?;
    let (tarball, deb) = (parts.tarball(&again)?, parts.deb(&again, Revision::FIRST)?);
    let once_more = dist::emptied(&released.folder.join("once-more"))?;
    for (one, other) in
        [(tarball, parts.tarball(&once_more)?), (deb, parts.deb(&once_more, Revision::FIRST)?)]
    {
        ensure!(fs::read(&one)? == fs::read(&other)?, "{} differs", one.display());
    }
    Ok(())
}

fn empty_root(released: &Released) -> Result<()> {
    let root = unpacked(released)?;
    let name = format!("/tcpq-{VERSION}-x86_64-linux/tcpq");
    let run = |arguments: &[&str]| {
        let mut chroot = cmd::as_root(Path::new("chroot"), &[], "a root folder is changed")?;
        cmd::output(chroot.arg(&root).arg(&name).args(arguments))
    };
    let said = run(&["--version"])?;
    ensure!(said.trim() == format!("tcpq {VERSION}"), "--version says {said}");
    let said = run(&["serve", "--help"])?;
    ensure!(said.contains("--web.listen-address"), "--help says {said}");
    Ok(())
}

/// The tarball's files, and nothing else.
fn unpacked(released: &Released) -> Result<PathBuf> {
    let root = dist::emptied(&released.folder.join("empty-root"))?;
    let mut tar = Command::new("tar");
    cmd::output(tar.arg("--extract").arg("--file").arg(&released.tarball).arg("-C").arg(&root))?;
    Ok(root)
}

fn contents(released: &Released) -> Result<()> {
    let list = cmd::output(Command::new("dpkg-deb").arg("--contents").arg(&released.deb))?;
    for file in [
        "-rwxr-xr-x root/root ./usr/bin/tcpq",
        "-rw-r--r-- root/root ./etc/tcpq/tcpq.toml",
        "-rw-r--r-- root/root ./usr/lib/systemd/system/tcpq.service",
        "-rw-r--r-- root/root ./usr/lib/systemd/system/tcpq.socket",
        "-rw-r--r-- root/root ./usr/lib/sysusers.d/tcpq.conf",
        "-rw-r--r-- root/root ./usr/share/man/man1/tcpq-serve.1.gz",
        "-rw-r--r-- root/root ./usr/share/doc/tcpq/copyright",
        "-rw-r--r-- root/root ./usr/share/doc/tcpq/tcpq.cdx.json",
        "-rw-r--r-- root/root ./usr/share/doc/tcpq/THIRD-PARTY-NOTICES",
        "-rw-r--r-- root/root ./usr/share/doc/tcpq/docs/runbooks/TcpqAcceptQueueOverflow.md",
        "-rw-r--r-- root/root ./usr/share/doc/tcpq/examples/prometheus/tcpq.rules.yml",
        "-rw-r--r-- root/root ./usr/share/doc/tcpq/examples/grafana/tcpq-fleet.json",
    ] {
        let words: Vec<_> = file.split(' ').collect();
        let there = list.lines().any(|line| {
            let line: Vec<_> = line.split_whitespace().collect();
            line.first() == words.first()
                && line.get(1) == words.get(1)
                && line.last() == words.last()
        });
        ensure!(there, "no {file} in\n{list}");
    }
    let field = |name: &str| {
        cmd::output(Command::new("dpkg-deb").arg("--field").arg(&released.deb).arg(name))
    };
    ensure!(field("Version")?.trim() == format!("{VERSION}-1"), "another version");
    ensure!(field("Architecture")?.trim() == "amd64", "another architecture");
    Ok(())
}

fn scripts(_: &Released) -> Result<()> {
    for script in ["postinst", "prerm", "postrm"] {
        let path = artifacts::root().join("deploy/debian").join(script);
        cmd::output(Command::new("sh").arg("-n").arg(&path))?;
        let text = fs::read_to_string(&path)?;
        ensure!(text.starts_with("#!/bin/sh\nset -e\n"), "{script} goes on after a failure");
    }
    Ok(())
}

/// A page for each command, and each command in each shell's completions.
fn pages(released: &Released) -> Result<()> {
    let root = unpacked(released)?.join(format!("tcpq-{VERSION}-x86_64-linux"));
    let read =
        |path: &str| fs::read_to_string(root.join(path)).with_context(|| format!("no {path}"));
    for command in ["serve", "list", "explain", "incidents", "top", "doctor"] {
        let page = read(&format!("man/man1/tcpq-{command}.1"))?;
        ensure!(page.contains(".SH OPTIONS"), "the page of {command} has no options");
        for shell in [
            "bash-completion/completions/tcpq",
            "zsh/vendor-completions/_tcpq",
            "fish/vendor_completions.d/tcpq.fish",
        ] {
            let text = read(&format!("completions/{shell}"))?;
            ensure!(text.contains(command), "{shell} does not know {command}");
        }
    }
    Ok(())
}

fn lintian(released: &Released) -> Result<()> {
    let mut lintian = Command::new(LINTIAN.path()?);
    let said = cmd::output(lintian.args(["--fail-on", "error", "--info"]).arg(&released.deb))?;
    println!("{said}");
    Ok(())
}
