//! Packages of Debian suites other than the machine's own.
//!
//! Each suite has its own apt folder in the cache, so the machine's package
//! lists, pins and state are neither read nor touched. Signatures are checked
//! by apt, against Debian's archive keys and nothing else.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::{self, Mirrors},
    cmd,
    kernels::Suite,
    versions::{self, Package},
};

const UPDATE_LIMIT: Duration = Duration::from_mins(3);

/// Where Debian's archive keys are, for machines that keep them elsewhere.
const KEYRING: &str = "TCPQ_DEBIAN_KEYRING";
/// By package version: the name ended in `.gpg` up to Debian 12.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];
const KEYRING_PACKAGE: &str = "debian-archive-keyring";
/// Whose keyring knows the keys of newer suites; signed by keys a Debian 12 has.
const KEYRING_SUITE: Suite = Suite::Trixie;

/// One suite, seen through an apt folder of its own.
pub(crate) struct Lists {
    suite: Suite,
    folder: PathBuf,
}

impl Lists {
    /// Fetches the suite's package list and opens it.
    pub(crate) fn fetch(suite: Suite, mirrors: &Mirrors, cache: &Path) -> Result<Self> {
        let keys = cache.join("keyring");
        let known = unpacked_keyring(&keys).map_or_else(host_keyring, Ok)?;
        let error = match Self::fetch_with(suite, mirrors, cache, &known) {
            Ok(lists) => return Ok(lists),
            Err(error) => error,
        };
        if suite == KEYRING_SUITE || !is_about_keys(&format!("{error:#}")) {
            return Err(error);
        }
        cmd::say(format!("{} is signed by a key this machine does not have yet", suite.name()));
        Self::fetch_with(KEYRING_SUITE, mirrors, cache, &host_keyring()?)?
            .unpack(KEYRING_PACKAGE, &keys)?;
        let newer =
            unpacked_keyring(&keys).context("the newer keyring package holds no keyring")?;
        Self::fetch_with(suite, mirrors, cache, &newer)
    }

    fn fetch_with(suite: Suite, mirrors: &Mirrors, cache: &Path, keyring: &Path) -> Result<Self> {
        let folder = cache.join("apt").join(suite.name());
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        // An empty status file: nothing is installed as far as this apt knows.
        fs::write(folder.join("status"), "")?;
        let (mirror, name) = (mirrors.site(suite.archive()), suite.name());
        let source = format!("deb [signed-by={}] {mirror} {name} main\n", keyring.display());
        fs::write(folder.join("sources.list"), source)?;
        let opened = Self { suite, folder };
        let mut update = opened.tool("apt-get");
        // Otherwise apt keeps the old list and calls a failure a warning.
        update.args(["-o", "APT::Update::Error-Mode=any", "update"]);
        cmd::quietly(&format!("package list of {name}"), &mut update, UPDATE_LIMIT)?;
        Ok(opened)
    }

    /// The newest kernel of a series, if the suite has one.
    pub(crate) fn newest_kernel(&self, series: &[u32]) -> Result<Option<Package>> {
        let mut names = self.tool("apt-cache");
        let names = cmd::output(names.args(["pkgnames", "linux-"]))?;
        let names = versions::kernel_names(&names);
        if names.is_empty() {
            return Ok(None);
        }
        let offers = cmd::output(self.tool("apt-cache").arg("madison").args(names))?;
        Ok(versions::newest(&versions::parse_offers(&offers), series))
    }

    /// Whether the suite has this version of a package.
    pub(crate) fn has(&self, name: &str, version: &str) -> Result<bool> {
        let offers = cmd::output(self.tool("apt-cache").args(["madison", name]))?;
        Ok(versions::parse_offers(&offers).iter().any(|offer| offer.version == version))
    }

    /// Downloads a package (`name` or `name=version`) and unpacks it into `folder`.
    pub(crate) fn unpack(&self, package: &str, folder: &Path) -> Result<()> {
        let downloads = folder.with_extension("download");
        apt::recreate(&downloads)?;
        let mut download = self.tool("apt-get");
        download.args(["download", package]).current_dir(&downloads);
        let what = format!("download {package} from {}", self.suite.name());
        cmd::quietly(&what, &mut download, apt::DOWNLOAD_LIMIT)?;
        apt::unpack_file(&apt::only_file(&downloads)?, folder)?;
        fs::remove_dir_all(&downloads).context("cannot remove a download")
    }

    /// An apt program that sees this suite and nothing else.
    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        let mut option = |name: &str, value: &Path| {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        };
        option("Dir::State", &self.folder);
        option("Dir::State::lists", &self.folder.join("lists"));
        option("Dir::State::status", &self.folder.join("status"));
        option("Dir::Cache", &self.folder.join("cache"));
        option("Dir::Etc::SourceList", &self.folder.join("sources.list"));
        for foreign in ["SourceParts", "Preferences", "PreferencesParts"] {
            option(&format!("Dir::Etc::{foreign}"), Path::new("/dev/null"));
        }
        command.args(OPTIONS.iter().flat_map(|option| ["-o", option]));
        command
    }
}

const OPTIONS: [&str; 6] = [
    "APT::Architecture=amd64",
    // Only the list itself: no descriptions, no icons, no differences.
    "Acquire::Languages=none",
    "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
    "Acquire::PDiffs=false",
    // A machine without network should notice soon; there is a cache to fall back on.
    "Acquire::http::Timeout=20",
    // The cache may lie in a home folder, which apt's own download user cannot enter.
    "APT::Sandbox::User=root",
];

fn host_keyring() -> Result<PathBuf> {
    if let Some(path) = env::var_os(KEYRING) {
        return Ok(PathBuf::from(path));
    }
    let Some(path) = KEYRINGS.iter().map(Path::new).find(|path| path.exists()) else {
        bail!("Debian's archive keys are missing; install {KEYRING_PACKAGE} or set {KEYRING}");
    };
    Ok(path.to_owned())
}

/// The keyring out of a newer package that an earlier run had to fetch.
fn unpacked_keyring(folder: &Path) -> Option<PathBuf> {
    let inside = |path: &&str| folder.join(path.trim_start_matches('/'));
    KEYRINGS.iter().rev().map(inside).find(|path| path.exists())
}

/// Whether apt refused a signature, in the words of its two verifiers.
fn is_about_keys(error: &str) -> bool {
    ["NO_PUBKEY", "Missing key", "is not signed", "public key is not available"]
        .iter()
        .any(|words| error.contains(words))
}
