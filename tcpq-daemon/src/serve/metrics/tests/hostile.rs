//! Names that others choose: each stays one label's value, in every format.

use std::collections::HashSet;

use proptest::prelude::*;

use super::{read::parse, *};

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
    let mut folded = GroupView::clone(&snapshot.groups[0]);
    folded.key.place = Place::Ephemeral { process: name.into() };
    let groups = Arc::make_mut(&mut snapshot.groups);
    groups.push(Arc::new(folded));
    for group in groups {
        Arc::make_mut(group).owners = vec![Arc::new(owner.clone())];
    }
    Arc::new(snapshot)
}

/// All formats say the same series, none twice, with the name wherever it belongs.
fn check(name: &str) -> Result<(), String> {
    let snapshot = named(name);
    let mut formats = Vec::new();
    for format in [Format::OpenMetrics, Format::Classic, Format::Protobuf] {
        let series = read::stable(&snapshot, format)?;
        let distinct: HashSet<_> = series.iter().map(|it| (&it.name, &it.labels)).collect();
        if distinct.len() != series.len() {
            return Err(format!("a series is there twice: {series:?}"));
        }
        formats.push(series);
    }
    if formats[0] != formats[1] || formats[0] != formats[2] {
        return Err("the formats differ".to_owned());
    }
    let told = formats[0].iter().filter(|it| it.name == "tcpq_listener_info");
    let told: Vec<_> = told.map(|it| &it.labels).collect();
    let owner = ["process", "cgroup", "container_id", "k8s_namespace", "k8s_pod", "k8s_container"];
    for labels in &told {
        for label in ["netns"].iter().chain(&owner) {
            if labels.get(*label).is_none_or(|value| value != name) {
                return Err(format!("{label} is {:?}", labels.get(*label)));
            }
        }
    }
    let folded = if name.is_empty() { "~unknown".to_owned() } else { format!("~{name}") };
    let is_told = told.iter().any(|labels| labels.get("address") == Some(&folded));
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
