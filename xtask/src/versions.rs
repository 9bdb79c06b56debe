//! Picks the newest kernel of a series out of a suite's package list. Pure.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

/// A package with the version that a suite offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// Which packages hold a kernel image for virtual machines, among all names.
///
/// Metapackages (`linux-image-6.12-cloud-amd64`) are told apart by their
/// version: a real kernel's has three numbers.
pub(crate) fn kernel_names(names: &str) -> Vec<&str> {
    names.lines().map(str::trim).filter(|name| release(name).is_some()).collect()
}

/// The kernel release (`uname -r`) that a package's name carries.
fn release(package: &str) -> Option<&str> {
    // Since 7.0 the image is in linux-binary-*, and linux-image-* only depends on it.
    let release = IMAGE_PREFIXES.iter().find_map(|prefix| package.strip_prefix(prefix))?;
    let version = release.strip_suffix("-cloud-amd64")?;
    let upstream = version.split(['-', '+']).next()?;
    let three = upstream.split('.').filter(|part| part.parse::<u32>().is_ok()).count() == 3;
    three.then_some(release)
}

const BINARY: &str = "linux-binary-";
const IMAGE_PREFIXES: [&str; 2] = [BINARY, "linux-image-"];

/// The package with the modules, where they are not in the image's own package.
pub(crate) fn modules_package(image: &str) -> Option<String> {
    image.strip_prefix(BINARY).map(|release| format!("linux-modules-{release}"))
}

/// Reads `apt-cache madison`: ` name | version | source`, one line per offer.
pub(crate) fn parse_offers(text: &str) -> Vec<Package> {
    let parse = |line: &str| {
        let mut fields = line.split('|').map(str::trim);
        let (name, version) = (fields.next()?, fields.next()?);
        (!name.is_empty() && !version.is_empty())
            .then(|| Package { name: name.to_owned(), version: version.to_owned() })
    };
    text.lines().filter_map(parse).collect()
}

/// The newest offer whose version begins with `series`.
pub(crate) fn newest(offers: &[Package], series: &[u32]) -> Option<Package> {
    offers
        .iter()
        .filter(|offer| upstream(&offer.version).starts_with(series))
        // A linux-image-7.* of the same version is an empty one.
        .max_by_key(|offer| {
            (upstream(&offer.version), revision(&offer.version), Reverse(image_rank(&offer.name)))
        })
        .cloned()
}

fn image_rank(name: &str) -> Option<usize> {
    IMAGE_PREFIXES.iter().position(|prefix| name.starts_with(prefix))
}

/// `[6, 12, 117]` of `6.12.117-1~deb12u1`.
fn upstream(version: &str) -> Vec<u32> {
    numbers(version.split_once('-').map_or(version, |(upstream, _)| upstream))
}

/// `[1, 12, 1]` of `6.12.117-1~deb12u1`: enough order for one suite's rebuilds.
fn revision(version: &str) -> Vec<u32> {
    version.split_once('-').map_or_else(Vec::new, |(_, revision)| numbers(revision))
}

fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: &str = "\
 linux-image-5.10.0-9-cloud-amd64 | 5.10.70-1 | mirror bullseye/main amd64 Packages
 linux-image-5.10.0-46-cloud-amd64 | 5.10.262-1 | mirror bullseye/main amd64 Packages
linux-image-6.12.117+deb12-cloud-amd64 | 6.12.117-1~deb12u1 | mirror
linux-image-6.12.94+deb12-cloud-amd64 | 6.12.94-1~deb12u1 | mirror
linux-image-6.1.0-56-cloud-amd64 |  6.1.192-2 | mirror
linux-image-7.3.4+deb13-cloud-amd64 | 7.3.4-1~bpo13+1 | mirror
linux-binary-7.3.4+deb13-cloud-amd64 | 7.3.4-1~bpo13+1 | mirror
linux-binary-7.2.12+deb13-cloud-amd64 | 7.2.12-1~bpo13+1 | mirror
";

    fn pick(series: &[u32]) -> Option<String> {
        newest(&parse_offers(OFFERS), series).map(|package| package.name)
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(pick(&[5, 10]).as_deref(), Some("linux-image-5.10.0-46-cloud-amd64"));
        assert_eq!(pick(&[6, 12]).as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64"));
    }

    #[test]
    fn a_series_is_whole_numbers_not_a_text_prefix() {
        assert_eq!(pick(&[6, 1]).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(pick(&[6, 2]), None);
    }

    #[test]
    fn the_package_with_the_image_wins() {
        assert_eq!(pick(&[7]).as_deref(), Some("linux-binary-7.3.4+deb13-cloud-amd64"));
        assert_eq!(pick(&[7, 2]).as_deref(), Some("linux-binary-7.2.12+deb13-cloud-amd64"));
    }

    #[test]
    fn a_rebuild_of_the_same_version_is_newer() {
        let offers = parse_offers("a | 6.1.192-2 | x\nb | 6.1.192-10 | x\nc | 6.1.192-9 | x");
        assert_eq!(newest(&offers, &[6, 1]).map(|package| package.name).as_deref(), Some("b"));
    }

    #[test]
    fn only_real_cloud_kernels_are_candidates() {
        let names = "linux-image-6.12-cloud-amd64\nlinux-image-cloud-amd64\n\
            linux-image-6.12.117+deb12-cloud-amd64\nlinux-image-6.12.117+deb12-cloud-amd64-dbg\n\
            linux-image-6.12.117+deb12-cloud-amd64-unsigned\nlinux-image-6.12.117+deb12-amd64\n\
            linux-binary-7.0.4+deb13-cloud-amd64\nlinux-image-5.10.0-46-cloud-amd64\n";
        assert_eq!(
            kernel_names(names),
            [
                "linux-image-6.12.117+deb12-cloud-amd64",
                "linux-binary-7.0.4+deb13-cloud-amd64",
                "linux-image-5.10.0-46-cloud-amd64",
            ]
        );
    }

    #[test]
    fn modules_are_apart_where_the_image_is() {
        assert_eq!(
            modules_package("linux-binary-7.0.4+deb13-cloud-amd64").as_deref(),
            Some("linux-modules-7.0.4+deb13-cloud-amd64")
        );
        assert_eq!(modules_package("linux-image-5.10.0-46-cloud-amd64"), None);
    }
}
