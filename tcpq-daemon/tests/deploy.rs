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
    let text = fs::read_to_string(root().join("deploy/prometheus/tcpq.rules.yml")).unwrap();
    let rules: Rules = serde_norway::from_str(&text).unwrap();
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
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
fn rules_use_metrics_that_are_documented() {
    let documented = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    for rule in rules() {
        let words = rule.expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
        for word in words.filter(|word| word.starts_with("tcpq_")) {
            let family = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .unwrap_or(word);
            assert!(documented.contains(&format!("`{family}`")), "{word}, in {}", rule.expr);
        }
    }
}
