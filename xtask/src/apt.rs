//! The machine's own apt: installs packages, unpacks some without installing
//! them, and knows which mirror to ask.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    cmd::{self, Power},
    kernels::Archive,
};

const UPDATE_LIMIT: Duration = Duration::from_mins(5);
const INSTALL_LIMIT: Duration = Duration::from_mins(20);
pub(crate) const DOWNLOAD_LIMIT: Duration = Duration::from_mins(10);
pub(crate) const UNPACK_LIMIT: Duration = Duration::from_mins(2);

/// Whether this machine installs software with apt at all.
pub(crate) fn present() -> bool {
    cmd::program("apt-get").is_some()
}

/// Whether the machine's package lists know a package.
pub(crate) fn offers(package: &str) -> bool {
    present() && cmd::output(Command::new("apt-cache").args(["show", package])).is_ok()
}

/// Installs packages, after one `apt-get update` per run of xtask.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !matches!(cmd::power(), Power::Root) {
        bail!(
            "packages are missing and this is not root; run\n  \
             sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
            packages.join(" ")
        );
    }
    update()?;
    let mut command = Command::new("apt-get");
    command
        .args(["install", "-y", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    cmd::quietly(&format!("apt-get install {}", packages.join(" ")), &mut command, INSTALL_LIMIT)
}

/// Renews the package lists, once per run of xtask; without root, does nothing.
pub(crate) fn update() -> Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_none() && matches!(cmd::power(), Power::Root) {
        cmd::quietly("apt-get update", Command::new("apt-get").arg("update"), UPDATE_LIMIT)?;
        DONE.get_or_init(|| ());
    }
    Ok(())
}

/// Downloads a package and unpacks it into `folder`, without installing it.
pub(crate) fn unpack(package: &str, folder: &Path) -> Result<()> {
    let downloads = folder.with_extension("download");
    recreate(&downloads)?;
    let download = || {
        let mut command = Command::new("apt-get");
        command.args(["download", package]).current_dir(&downloads);
        cmd::quietly(&format!("download {package}"), &mut command, DOWNLOAD_LIMIT)
    };
    // Old lists name a file the mirror may no longer have.
    if download().is_err() {
        update()?;
        download()?;
    }
    unpack_file(&only_file(&downloads)?, folder)?;
    fs::remove_dir_all(&downloads).context("cannot remove a download")
}

/// Unpacks a package file; the folder appears complete or not at all.
pub(crate) fn unpack_file(file: &Path, folder: &Path) -> Result<()> {
    let unfinished = folder.with_extension("unfinished");
    recreate(&unfinished)?;
    let mut command = Command::new("dpkg-deb");
    command.arg("-x").arg(file).arg(&unfinished);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    cmd::quietly(&format!("unpack {name}"), &mut command, UNPACK_LIMIT)?;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(&unfinished, folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// An empty folder at this path, whatever was there.
pub(crate) fn recreate(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// The one package file that a download left in an empty folder.
pub(crate) fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    files.retain(|entry| entry.path().extension().is_some_and(|kind| kind == "deb"));
    match files.as_slice() {
        [file] => Ok(file.path()),
        files => bail!("expected one package in {}, found {}", folder.display(), files.len()),
    }
}

/// Where Debian's archives are, as this machine is set up.
pub(crate) struct Mirrors {
    main: String,
    security: String,
}

/// For machines whose own packages are not Debian's.
const MIRROR: &str = "TCPQ_DEBIAN_MIRROR";
const SECURITY_MIRROR: &str = "TCPQ_DEBIAN_SECURITY_MIRROR";

impl Mirrors {
    pub(crate) fn find() -> Result<Self> {
        if let (Ok(main), Ok(security)) = (env::var(MIRROR), env::var(SECURITY_MIRROR)) {
            return Ok(Self { main, security });
        }
        let debian = fs::read_to_string("/etc/os-release")
            .is_ok_and(|text| text.lines().any(|line| line == "ID=debian"));
        let targets = if debian && present() {
            let mut command = Command::new("apt-get");
            cmd::output(command.args(["indextargets", "--format", "$(SITE) $(RELEASE)"]))?
        } else {
            String::new()
        };
        Self::parse(&targets).ok_or_else(|| {
            anyhow!(
                "no mirror of Debian's main and security archives is known on this machine; \
                 set {MIRROR} and {SECURITY_MIRROR} to their addresses"
            )
        })
    }

    /// Reads lines of `site release`; the archives differ by the release's name.
    fn parse(targets: &str) -> Option<Self> {
        let mut lines = targets.lines().filter_map(|line| line.split_once(' '));
        let security = |release: &str| release.ends_with("-security");
        let main = lines.clone().find(|(_, release)| !security(release))?.0.to_owned();
        let security = lines.find(|(_, release)| security(release))?.0.to_owned();
        Some(Self { main, security })
    }

    pub(crate) fn site(&self, archive: Archive) -> &str {
        match archive {
            Archive::Main => &self.main,
            Archive::Security => &self.security,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_told_apart_by_release() {
        let text =
            "mirror://a bookworm\nmirror://a bookworm-updates\nmirror://b bookworm-security\n";
        let mirrors = Mirrors::parse(text).expect("both are there");
        assert_eq!(mirrors.site(Archive::Main), "mirror://a");
        assert_eq!(mirrors.site(Archive::Security), "mirror://b");
        assert!(Mirrors::parse("mirror://a bookworm\n").is_none());
    }
}
