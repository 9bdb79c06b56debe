//! The Debian package, installed, upgraded, rebooted with and purged in a guest that runs
//! systemd.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cmd,
    debian::Debian,
    dist::{Parts, Revision},
    failures::Failures,
    packages::{self, QEMU},
    qemu::{Accel, Ending, Frame, Heard, Input, Machine},
    report::{Counts, Entry, Exit, Report},
};

/// What the guest runs at its first boot, and at its second.
const BOOTS: [(&str, &str); 2] = [
    ("install, upgrade", include_str!("first-boot.sh")),
    ("reboot, purge", include_str!("second-boot.sh")),
];

/// Both scripts say what they found with these.
const COMMON: &str = include_str!("common.sh");

/// One boot, under TCG on a slow machine.
const LIMIT: Duration = Duration::from_mins(10);

/// Debian's own kernel and initramfs; a root on the first disk.
const ARGUMENTS: &str = "console=ttyS0 quiet loglevel=3 root=/dev/vda rw panic=-1 \
    systemd.show_status=false";

pub(super) fn run(parts: &Parts, folder: &Path, report: &mut Report) -> Result<()> {
    packages::provide(&[&QEMU])?;
    let debian = Debian::provide()?;
    let disk = folder.join("disk.ext4");
    debian.disk(&disk)?;
    let packages = [parts.deb(folder, Revision(1))?, parts.deb(folder, Revision(2))?];
    for (name, script) in BOOTS {
        let payload = payload(folder, script, &packages)?;
        report.add(boot(&debian, name, &[disk.clone(), payload], folder)?);
    }
    Ok(())
}

/// An archive of the packages and of what is to be done with them.
fn payload(folder: &Path, script: &str, packages: &[PathBuf; 2]) -> Result<PathBuf> {
    let staging = crate::dist::emptied(&folder.join("payload"))?;
    fs::write(staging.join("run"), format!("{COMMON}\n{script}"))?;
    for (package, name) in packages.iter().zip(["first.deb", "second.deb"]) {
        fs::copy(package, staging.join(name)).context("cannot copy a package")?;
    }
    let path = folder.join("payload.tar");
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(&path).arg("-C").arg(&staging).arg(".");
    cmd::output(&mut tar)?;
    Ok(path)
}

fn boot(debian: &Debian, name: &str, disks: &[PathBuf], folder: &Path) -> Result<Entry> {
    cmd::say(format!("package: a Debian guest: {name}"));
    let mut log = BufWriter::new(File::create(folder.join("guest.log"))?);
    let machine = Machine {
        vmlinuz: &debian.vmlinuz,
        initramfs: debian.initramfs.clone(),
        accel: Accel::Tcg,
        frame: Frame::Alone,
        input: Input::Nothing,
        limit: Some(LIMIT),
        arguments: ARGUMENTS,
        disks: disks.to_vec(),
    };
    let mut failures = Failures::default();
    let outcome = machine.boot(|heard| match heard {
        Heard::Bytes(bytes) => drop(log.write_all(bytes)),
        Heard::Line(line) => {
            println!("[debian] {line}");
            failures.hear(line);
        }
    })?;
    let (exit, note) = match &outcome.ending {
        Ending::Reported(0) => (Exit::Success, String::new()),
        Ending::Reported(code) => (Exit::Failure, format!("exit code {code}")),
        Ending::Silent(why) => (Exit::Failure, why.clone()),
    };
    ensure!(outcome.took < LIMIT * 2, "a guest's clock");
    Ok(Entry {
        name: format!("deb: {name}"),
        machine: outcome.release.map_or_else(String::new, |it| format!("{it} TCG")),
        counts: outcome.counts.unwrap_or(Counts::default()).judged(exit),
        took: outcome.took,
        note,
        failures: failures.into_vec(),
    })
}
