//! The software bill of materials of the shipped binary: CycloneDX 1.5, as JSON.
//!
//! The same sources on the same machine give the same bytes: there is no serial number, and a time
//! only where `SOURCE_DATE_EPOCH` gives one.

use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    cmd,
    linked::{self, Crate, DAEMON, Key, Linked, Native, Origin},
};

/// The program's name, which no crate has.
const PROGRAM: &str = "tcpq";
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Writes the bill to this file.
pub(crate) fn write(to: &Path) -> Result<()> {
    let linked = Linked::find()?;
    let bill = bill(&linked, time()?.as_deref())?;
    let text = serde_json::to_string_pretty(&bill)? + "\n";
    fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))?;
    let (crates, others) = (linked.crates.len(), linked.natives.len());
    cmd::say(format!("{}: {crates} crates and {others} libraries", to.display()));
    Ok(())
}

/// When the bill is said to be made.
fn time() -> Result<Option<String>> {
    let Ok(seconds) = env::var(EPOCH) else {
        return Ok(None);
    };
    let seconds: u64 = seconds.parse().with_context(|| format!("{EPOCH} is no number"))?;
    let mut date = Command::new("date");
    date.args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]);
    Ok(Some(cmd::output(&mut date)?.trim().to_owned()))
}

fn bill(linked: &Linked, time: Option<&str>) -> Result<Value> {
    let (daemon, crates): (Vec<_>, Vec<_>) =
        linked.crates.iter().partition(|(key, _)| key.name == DAEMON);
    let (daemon, _) = daemon.first().context("the daemon is not among its crates")?;
    let mut metadata = json!({
        "component": {
            "type": "application",
            "bom-ref": PROGRAM,
            "name": PROGRAM,
            "version": daemon.version,
            "licenses": licences("MIT OR Apache-2.0"),
        },
        "tools": { "components": [{
            "type": "application",
            "name": "tcpq-xtask",
            "version": env!("CARGO_PKG_VERSION"),
        }] },
    });
    if let Some(time) = time {
        metadata["timestamp"] = json!(time);
    }
    let components: Vec<_> = crates
        .iter()
        .map(|(key, found)| of_crate(key, found))
        .chain(linked.natives.iter().map(of_native))
        .collect();
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": metadata,
        "components": components,
        "dependencies": dependencies(linked),
    }))
}

fn of_crate(key: &Key, found: &Crate) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(key, found.origin),
        "name": key.name,
        "version": key.version,
        "scope": "required",
        "licenses": licences(&found.licence),
    });
    if found.origin == Origin::Registry {
        component["purl"] = json!(reference(key, found.origin));
    }
    if let Some(checksum) = &found.checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if !found.repository.is_empty() {
        component["externalReferences"] = json!([{ "type": "vcs", "url": found.repository }]);
    }
    component
}

fn of_native(native: &Native) -> Value {
    json!({
        "type": "library",
        "bom-ref": native.purl,
        "name": native.name,
        "version": native.version,
        "description": native.about,
        "scope": "required",
        "licenses": licences(native.licence),
        "purl": native.purl,
    })
}

fn licences(expression: &str) -> Value {
    json!([{ "expression": expression }])
}

/// What names a crate inside the bill; for those of the registry their package URL.
fn reference(key: &Key, origin: Origin) -> String {
    let Key { name, version } = key;
    match origin {
        Origin::Registry => format!("pkg:cargo/{name}@{}", linked::encoded(version)),
        Origin::Ours if name == DAEMON => PROGRAM.to_owned(),
        Origin::Ours => format!("{name}@{version}"),
    }
}

/// Who needs whom; the daemon's crate stands for the program, and has the libraries.
fn dependencies(linked: &Linked) -> Vec<Value> {
    let natives = || linked.natives.iter().map(|native| native.purl.clone());
    let of_crates = linked.crates.iter().map(|(key, found)| {
        let needs = found
            .needs
            .iter()
            .filter_map(|need| Some(reference(need, linked.crates.get(need)?.origin)));
        let mut needs: BTreeSet<_> = needs.collect();
        if key.name == DAEMON {
            needs.extend(natives());
        }
        json!({ "ref": reference(key, found.origin), "dependsOn": needs })
    });
    let of_natives = natives().map(|purl| json!({ "ref": purl, "dependsOn": [] }));
    of_crates.chain(of_natives).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Every string under this name, anywhere.
    fn all<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get(name).and_then(Value::as_str));
                fields.values().for_each(|value| all(value, name, found));
            }
            Value::Array(items) => items.iter().for_each(|value| all(value, name, found)),
            _ => {}
        }
    }

    #[test]
    fn the_bill_is_whole() {
        let linked = Linked::find().expect("cargo knows its crates");
        let bill = bill(&linked, Some("2000-01-01T00:00:00Z")).expect("has a daemon");
        let mut references = Vec::new();
        all(&bill, "bom-ref", &mut references);
        let unique: HashSet<_> = references.iter().copied().collect();
        assert_eq!(unique.len(), references.len(), "a reference is used twice");
        for entry in bill["dependencies"].as_array().expect("a list") {
            let needs = entry["dependsOn"].as_array().expect("a list").iter();
            for reference in needs.chain([&entry["ref"]]) {
                let known = reference.as_str().is_some_and(|text| unique.contains(text));
                assert!(known, "{reference} is in no component");
            }
        }
        assert_eq!(bill["metadata"]["timestamp"], "2000-01-01T00:00:00Z");
        let mut names = Vec::new();
        all(&bill["components"], "name", &mut names);
        for name in ["aya", "aya-ebpf", "tcpq-common", "sqlite", "glibc", "rust-std"] {
            assert!(names.contains(&name), "{name} is missing");
        }
        for name in ["proptest", "serde_derive", "object-build", "xtask", "aya-build"] {
            assert!(!names.contains(&name), "{name} is not in the binary");
        }
    }

    #[test]
    fn crates_of_the_registry_have_a_checksum() {
        let linked = Linked::find().expect("cargo knows its crates");
        let without = linked.crates.iter().filter(|(_, found)| found.checksum.is_none());
        let names: Vec<_> = without.map(|(key, _)| key.name.as_str()).collect();
        assert_eq!(names, ["tcpq-common", "tcpq-daemon", "tcpq-ebpf"]);
    }
}
