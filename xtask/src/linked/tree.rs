//! Reads what cargo prints about crates. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};

use super::{Crate, Key, Origin};

/// How `cargo tree` is asked to print a crate: package, licence, repository.
pub(super) const FORMAT: &str = "{p}\t{l}\t{r}";
/// What marks a crate whose needs were printed before.
const REPEATED: &str = " (*)";

/// Reads `cargo tree --prefix depth` in [`FORMAT`].
pub(super) fn parse(tree: &str) -> Result<BTreeMap<Key, Crate>> {
    let mut crates: BTreeMap<Key, Crate> = BTreeMap::new();
    let mut above: Vec<Key> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let (depth, key, found) = entry(line).with_context(|| format!("not a crate: {line}"))?;
        above.truncate(depth);
        if let Some(user) = above.last().and_then(|user| crates.get_mut(user)) {
            user.needs.insert(key.clone());
        }
        if found.licence.is_empty() {
            bail!("{key} names no licence");
        }
        crates.entry(key.clone()).or_insert(found);
        above.push(key);
    }
    Ok(crates)
}

fn entry(line: &str) -> Option<(usize, Key, Crate)> {
    let line = line.strip_suffix(REPEATED).unwrap_or(line);
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let (depth, rest) = line.split_at(digits);
    let mut fields = rest.split('\t');
    let package = fields.next()?;
    let mut words = package.split(' ');
    let key = Key {
        name: words.next()?.to_owned(),
        version: words.next()?.strip_prefix('v')?.to_owned(),
    };
    let found = Crate {
        // A crate of the registry has no place of its own behind its version.
        origin: if words.next().is_some() { Origin::Ours } else { Origin::Registry },
        licence: expression(fields.next()?),
        repository: fields.next()?.to_owned(),
        checksum: None,
        needs: BTreeSet::new(),
    };
    Some((depth.parse().ok()?, key, found))
}

/// Older crates put a slash where SPDX says OR.
fn expression(licence: &str) -> String {
    licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

/// Puts the crates of a program that `user` carries among those of `user`.
pub(super) fn embed(
    crates: &mut BTreeMap<Key, Crate>,
    user: &str,
    program: &str,
    more: BTreeMap<Key, Crate>,
) -> Result<()> {
    let root = more.keys().find(|key| key.name == program).context("its tree has no root")?.clone();
    for (key, found) in more {
        match crates.get_mut(&key) {
            Some(known) => known.needs.extend(found.needs),
            None => drop(crates.insert(key, found)),
        }
    }
    let user = crates.iter_mut().find(|(key, _)| key.name == user);
    user.context("nothing to embed it in")?.1.needs.insert(root);
    Ok(())
}

/// The checksums of packages in a `Cargo.lock`.
pub(super) fn checksums(lock: &str) -> BTreeMap<Key, String> {
    let blocks = lock.split("[[package]]").skip(1);
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
        line.map(|value| value.trim_end_matches('"').to_owned())
    };
    let package = |block| {
        let key = Key { name: field(block, "name")?, version: field(block, "version")? };
        Some((key, field(block, "checksum")?))
    };
    blocks.filter_map(package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAEMON: &str = "\
0daemon v0.1.0 (/somewhere/daemon)\tMIT OR Apache-2.0\t
1axum v0.8.9\tMIT\thttps://example.org/axum
2bytes v1.12.2\tMIT/Apache-2.0\t
1bytes v1.12.2\tMIT/Apache-2.0\t
1common v0.1.0 (/somewhere/common)\tMIT OR Apache-2.0\t (*)
";
    const EBPF: &str = "\
0ebpf v0.1.0 (/somewhere/ebpf)\tMIT OR Apache-2.0\t
1common v0.1.0 (/somewhere/common)\tMIT OR Apache-2.0\t
2zerocopy v0.8.63\tMIT\thttps://example.org/zerocopy
";

    fn key(name: &str, version: &str) -> Key {
        Key { name: name.to_owned(), version: version.to_owned() }
    }

    #[test]
    fn a_tree_is_a_graph() {
        let crates = parse(DAEMON).expect("well-formed");
        let daemon = &crates[&key("daemon", "0.1.0")];
        assert_eq!(daemon.origin, Origin::Ours);
        let needs = [key("axum", "0.8.9"), key("bytes", "1.12.2"), key("common", "0.1.0")];
        assert_eq!(daemon.needs, BTreeSet::from(needs));
        let axum = &crates[&key("axum", "0.8.9")];
        assert_eq!(axum.origin, Origin::Registry);
        assert_eq!(axum.repository, "https://example.org/axum");
        assert_eq!(axum.needs, BTreeSet::from([key("bytes", "1.12.2")]));
        assert_eq!(crates[&key("bytes", "1.12.2")].licence, "MIT OR Apache-2.0");
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        parse("1axum 0.8.9\tMIT\t\n").expect_err("a version begins with v");
        parse("0axum v0.8.9\t\t\n").expect_err("no licence");
    }

    #[test]
    fn programs_are_part_of_what_carries_them() {
        let mut crates = parse(DAEMON).expect("well-formed");
        embed(&mut crates, "daemon", "ebpf", parse(EBPF).expect("well-formed")).expect("fits");
        assert!(crates[&key("daemon", "0.1.0")].needs.contains(&key("ebpf", "0.1.0")));
        assert!(crates[&key("common", "0.1.0")].needs.contains(&key("zerocopy", "0.8.63")));
        assert!(crates.contains_key(&key("zerocopy", "0.8.63")));
    }

    #[test]
    fn checksums_are_those_of_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n\n\
            [[package]]\nname = \"axum\"\nversion = \"0.8.9\"\nsource = \"registry\"\n\
            checksum = \"abc\"\ndependencies = [\n \"bytes\",\n]\n";
        assert_eq!(checksums(lock), BTreeMap::from([(key("axum", "0.8.9"), "abc".to_owned())]));
    }
}
