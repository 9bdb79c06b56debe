//! Names that others choose: each stays one label's value, in both formats.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;

/// Label values by name, of one series.
type Labels = BTreeMap<String, String>;

/// Reads an exposition as strictly as its grammar is: every series, with its labels.
fn parse(text: &str) -> Result<Vec<(String, Labels)>, String> {
    let body = text.strip_suffix('\n').ok_or("the last line does not end")?;
    let series = body.split('\n').filter(|line| !is_metadata(line));
    series.map(|line| series_of(line).ok_or_else(|| format!("no series: {line:?}"))).collect()
}

fn is_metadata(line: &str) -> bool {
    line == "# EOF" || ["# HELP ", "# TYPE ", "# UNIT "].iter().any(|mark| line.starts_with(mark))
}

fn series_of(line: &str) -> Option<(String, Labels)> {
    let name_end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Labels::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inner.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.to_owned(), value);
            if let Some(end) = after.strip_prefix('}') {
                rest = end;
                break;
            }
            inner = after.strip_prefix(',')?;
        }
    }
    let value = rest.strip_prefix(' ')?;
    value.parse::<f64>().ok().map(|_| (name.to_owned(), labels))
}

/// A value up to its closing quote, and what comes after.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            (_, '\n') => return None,
            (_, c) => value.push(c),
        }
    }
}

fn named(name: &str) -> Arc<Snapshot> {
    let mut snapshot = Snapshot::clone(&snapshot(name, &exact()));
    let text = || Some(name.to_owned());
    let owner = Owner {
        process: text(),
        cgroup: text(),
        container: Some(Container {
            id: name.to_owned(),
            runtime: Runtime::Unknown,
            pod_uid: None,
        }),
        pod: Some(Pod {
            namespace: name.to_owned(),
            name: name.to_owned(),
            container: name.to_owned(),
        }),
        ..Owner::default()
    };
    let mut folded = snapshot.groups[0].clone();
    folded.key.place = Place::Ephemeral { process: name.into() };
    snapshot.groups.push(folded);
    for group in &mut snapshot.groups {
        group.owners = vec![Arc::new(owner.clone())];
    }
    Arc::new(snapshot)
}

/// Both formats say the same series, none twice, with the name wherever it belongs.
fn check(name: &str) -> Result<(), String> {
    let snapshot = named(name);
    let mut formats = Vec::new();
    for format in [Format::OpenMetrics, Format::Classic] {
        let text = render(&snapshot, Duration::ZERO, format).map_err(|error| error.to_string())?;
        let mut series = parse(&text)?;
        series.retain(|(name, _)| !name.starts_with("process_"));
        let distinct: HashSet<_> = series.iter().collect();
        if distinct.len() != series.len() {
            return Err(format!("a series is there twice: {text}"));
        }
        formats.push(series);
    }
    if formats[0] != formats[1] {
        return Err("the formats differ".to_owned());
    }
    let told: Vec<_> = formats[0].iter().filter(|(name, _)| name == "tcpq_listener_info").collect();
    let owner = ["process", "cgroup", "container_id", "k8s_namespace", "k8s_pod", "k8s_container"];
    for (_, labels) in &told {
        for label in ["netns"].iter().chain(&owner) {
            if labels.get(*label).is_none_or(|value| value != name) {
                return Err(format!("{label} is {:?}", labels.get(*label)));
            }
        }
    }
    let folded = if name.is_empty() { "~unknown".to_owned() } else { format!("~{name}") };
    let is_told = told.iter().any(|(_, labels)| labels.get("address") == Some(&folded));
    if told.len() == 2 && is_told { Ok(()) } else { Err("an owner is missing".to_owned()) }
}

#[test]
fn names_that_look_like_an_exposition_are_names() {
    for name in [
        "",
        "a\"} 1\nevil 2",
        "\n# EOF\n",
        "\n# TYPE tcpq_listener_sockets counter\n",
        "# HELP x y",
        "\\",
        "\\n",
        "\\\"",
        "\"",
        "\r\n",
        "a\rb",
        "\u{2028}\u{85}",
        "\u{fffd}\u{fffd}",
        "{},=",
        "\u{1f9ea}",
        "\u{202e}gnp",
        &"long\n".repeat(800),
    ] {
        assert_eq!(check(name), Ok(()), "{name:?}");
    }
}

#[test]
fn the_check_can_fail() {
    for text in
        ["a{b=\"c\"} 1", "a{b=\"c\nd\"} 1\n", "a{b=\"\\x\"} 1\n", "a{b=\"c\" 1\n", "a 1 evil\n"]
    {
        assert!(parse(text).is_err(), "{text:?}");
    }
    assert!(parse("a{b=\"c\\n\"} 1\nd 2\n# EOF\n").is_ok());
}

proptest! {
    #[test]
    fn any_name_stays_one_label(name in "([\\\\\"\n\r{}=, #]|.){0,30}") {
        prop_assert_eq!(check(&name), Ok(()));
    }
}
