//! What is shipped beside the binary speaks of what there is.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde::Deserialize;

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: Option<String>,
    expr: String,
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Annotations {
    runbook: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rules() -> Vec<Rule> {
    rules_of("tcpq.rules.yml")
}

fn rules_of(file: &str) -> Vec<Rule> {
    let text = fs::read_to_string(root().join("deploy/prometheus").join(file)).unwrap();
    let rules: Rules = serde_norway::from_str(&text).unwrap();
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

/// What the panels and variables of the dashboards ask for.
fn questions() -> Vec<String> {
    fn collect(value: &serde_json::Value, into: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str() {
                        Some(text) if name == "expr" || name == "definition" => {
                            into.push(text.to_owned());
                        }
                        _ => collect(value, into),
                    }
                }
            }
            serde_json::Value::Array(all) => all.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for file in fs::read_dir(root().join("deploy/grafana")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        collect(&serde_json::from_str(&text).unwrap(), &mut found);
    }
    found
}

#[test]
fn each_alert_has_a_page_and_each_page_an_alert() {
    let named: BTreeSet<_> =
        rules().into_iter().filter_map(|rule| rule.annotations).map(|it| it.runbook).collect();
    let pages = fs::read_dir(root().join("docs/runbooks")).unwrap();
    let there: BTreeSet<_> = pages
        .map(|page| format!("docs/runbooks/{}", page.unwrap().file_name().to_str().unwrap()))
        .collect();
    assert_eq!(named, there);
}

#[test]
fn each_alert_is_tested() {
    let tests = fs::read_to_string(root().join("deploy/prometheus/tcpq.rules.test.yml")).unwrap();
    for alert in rules().into_iter().filter_map(|rule| rule.alert) {
        assert!(tests.matches(&alert).count() >= 2, "{alert} has no test that it fires");
    }
}

#[test]
fn rules_and_dashboards_use_metrics_that_are_documented() {
    let documented = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let fleet = rules_of("tcpq.fleet.rules.yml");
    let asked = rules().into_iter().chain(fleet).map(|rule| rule.expr).chain(questions());
    for expr in asked {
        let words = expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
        for word in words.filter(|word| word.starts_with("tcpq_")) {
            let family = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .unwrap_or(word);
            assert!(documented.contains(&format!("`{family}`")), "{word}, in {expr}");
        }
    }
}
