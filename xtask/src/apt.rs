//! The machine's own apt: installs packages, unpacks some without installing
//! them, and knows which mirror to ask.

use std::{
    env,
    fs::{self, File, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::fs::PermissionsExt as _,
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
    let download = Download::of(packages)?;
    cmd::say(format!("{} packages to download, {:.1} MB", download.packages, download.megabytes()));
    let _quiet = NoServices::begin()?;
    let mut command = Command::new("apt-get");
    command
        .args(["install", "-y", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    cmd::quietly(&format!("apt-get install {}", packages.join(" ")), &mut command, INSTALL_LIMIT)
}

/// Has systemd not start these at the next boot, where there is a systemd.
pub(crate) fn disable(units: &[&str]) -> Result<()> {
    if units.is_empty() || cmd::program("systemctl").is_none() {
        return Ok(());
    }
    let mut command = Command::new("systemctl");
    command.arg("disable").args(units);
    cmd::quietly(&format!("leave {} off", units.join(", ")), &mut command, UNPACK_LIMIT)
}

/// What an installation has to download.
#[derive(Debug, PartialEq, Eq)]
struct Download {
    packages: usize,
    bytes: u64,
}

impl Download {
    fn of(packages: &[&str]) -> Result<Self> {
        let mut command = Command::new("apt-get");
        command.args(["install", "-qq", "--print-uris", "--no-install-recommends"]).args(packages);
        Ok(Self::parse(&cmd::output(&mut command)?))
    }

    /// Lines of `'uri' file size hash`.
    fn parse(uris: &str) -> Self {
        let sizes: Vec<u64> = uris
            .lines()
            .filter(|line| line.starts_with('\''))
            .filter_map(|line| line.split(' ').nth(2)?.parse().ok())
            .collect();
        Self { packages: sizes.len(), bytes: sizes.iter().sum() }
    }

    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn megabytes(&self) -> f64 {
        self.bytes as f64 / 1e6
    }
}

/// While it lives, no package that is installed may start its service: Debian's scripts
/// ask this program first. A machine that has one of its own keeps it.
struct NoServices(Option<&'static Path>);

/// "Action forbidden by policy", to whatever is asked.
const FORBID: &str = "#!/bin/sh\nexit 101\n";

impl NoServices {
    fn begin() -> Result<Self> {
        let policy = Path::new("/usr/sbin/policy-rc.d");
        match File::create_new(policy) {
            Ok(mut file) => {
                // From here on dropping it cleans up.
                let begun = Self(Some(policy));
                file.write_all(FORBID.as_bytes())
                    .and_then(|()| fs::set_permissions(policy, Permissions::from_mode(0o755)))
                    .context("cannot forbid packages to start services")?;
                Ok(begun)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self(None)),
            Err(error) => Err(error).context("cannot forbid packages to start services"),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = self.0
            && let Err(error) = fs::remove_file(policy)
        {
            cmd::say(format!("cannot remove {}: {error}", policy.display()));
        }
    }
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
    fn a_download_is_the_sum_of_its_files() {
        let text = "'http://a/x.deb' x.deb 1500000 SHA256:ab\n'http://a/y.deb' y.deb 500000 \n";
        let download = Download::parse(text);
        assert_eq!(download, Download { packages: 2, bytes: 2_000_000 });
        assert!((download.megabytes() - 2.0).abs() < f64::EPSILON);
        assert_eq!(Download::parse(""), Download { packages: 0, bytes: 0 });
    }

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
