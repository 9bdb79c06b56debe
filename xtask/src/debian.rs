//! A Debian system that boots by systemd: an image of a disk, made once and kept in the cache.

use std::{
    fs::{self, File},
    os::unix::fs as unix,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::{self, Mirrors},
    cmd,
    kernels::{Archive, Suite},
    packages::{self, Tool},
};

/// Whose packages it is made of.
const SUITE: Suite = Suite::Bookworm;

/// Besides what every system has: an init, and a kernel with the drivers of virtual disks.
const PACKAGES: &str = "systemd-sysv,linux-image-cloud-amd64";

const DEBOOTSTRAP: Tool = packages::installed("debootstrap", "debootstrap", "makes a Debian");
const MKFS: Tool = packages::installed("mkfs.ext4", "e2fsprogs", "makes a disk of it");

/// Room for what it has and what is installed in it. Unit: MiB.
const SIZE: u64 = 2048;

/// To download and to unpack it, on a slow machine.
const LIMIT: Duration = Duration::from_mins(15);

/// What boots it.
pub(crate) struct Debian {
    pub(crate) vmlinuz: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// Not to be written to: for copies.
    disk: PathBuf,
}

/// What it does once it has come up: what lies on its second disk, a tar archive.
const UNIT: &str = "\
[Unit]
Description=Run what is on the second disk
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mkdir -p /payload && tar -xf /dev/vdb -C /payload && exec sh /payload/run'
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
";

/// Where it is asked for, so that a change of the recipe makes it anew.
const RECIPE: &str = "bookworm-1";

impl Debian {
    /// From the cache, or made now.
    pub(crate) fn provide() -> Result<Self> {
        let folder = packages::cache()?.join("debian").join(RECIPE);
        let made = Self {
            vmlinuz: folder.join("vmlinuz"),
            initramfs: folder.join("initrd.img"),
            disk: folder.join("disk.ext4"),
        };
        if !folder.is_dir() {
            make(&folder)?;
        }
        Ok(made)
    }

    /// A disk of its own to boot from and to write to.
    pub(crate) fn disk(&self, to: &Path) -> Result<()> {
        let mut copy = Command::new("cp");
        cmd::output(copy.args(["--sparse=always"]).args([&self.disk, to]))?;
        Ok(())
    }
}

/// The folder appears complete or not at all.
fn make(folder: &Path) -> Result<()> {
    if !matches!(cmd::power(), cmd::Power::Root) {
        bail!("a Debian system can be made by root only (debootstrap)");
    }
    packages::provide(&[&DEBOOTSTRAP, &MKFS])?;
    let unfinished = folder.with_extension("unfinished");
    apt::recreate(&unfinished)?;
    let root = unfinished.join("root");
    let mut debootstrap = Command::new(DEBOOTSTRAP.path()?);
    debootstrap
        .args(["--variant=minbase", "--include", PACKAGES, SUITE.name()])
        .arg(&root)
        .arg(Mirrors::find()?.site(Archive::Main));
    cmd::quietly("make a Debian system that boots", &mut debootstrap, LIMIT)?;
    settle(&root).context("cannot write into the new system")?;
    for name in ["vmlinuz", "initrd.img"] {
        // Links to the one kernel that it has.
        let link = root.join(name);
        let target = fs::read_link(&link).with_context(|| format!("no {}", link.display()))?;
        fs::copy(root.join(target), unfinished.join(name)).context("cannot copy its kernel")?;
    }
    let disk = unfinished.join("disk.ext4");
    File::create(&disk)?.set_len(SIZE << 20)?;
    let mut mkfs = Command::new(MKFS.path()?);
    mkfs.args(["-q", "-F", "-d"]).args([&root, &disk]);
    cmd::quietly("make a disk of it", &mut mkfs, LIMIT)?;
    fs::remove_dir_all(&root)?;
    fs::rename(&unfinished, folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// What a new system lacks to boot here without a person.
fn settle(root: &Path) -> Result<()> {
    fs::write(root.join("etc/fstab"), "/dev/vda / ext4 defaults 0 1\n")?;
    fs::write(root.join("etc/hostname"), "guest\n")?;
    let units = root.join("etc/systemd/system");
    fs::write(units.join("payload.service"), UNIT)?;
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    unix::symlink("/etc/systemd/system/payload.service", wants.join("payload.service"))?;
    // It would write to the console that the payload speaks on.
    unix::symlink("/dev/null", units.join("serial-getty@ttyS0.service"))?;
    Ok(())
}
