use super::*;

/// What follows a sample's value, by its series.
fn exemplars(text: &str) -> Vec<(&str, &str)> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split_once(" # ")).collect()
}

#[test]
fn overflow_counters_name_the_incident_in_openmetrics() {
    let id = incident().to_string();
    let text = text(&snapshot("host", &exact()), Format::OpenMetrics);
    let series =
        "tcpq_accept_queue_overflows_total{netns=\"host\",address=\"127.0.0.1\",port=\"80\"";
    // As the grammar has it: labels in braces, a number, a time in seconds. The stage that
    // counted nothing has none.
    let exemplar = format!("{{incident_id=\"{id}\"}} 1.0 1700000123.456");
    let expected = [
        (format!("{series},stage=\"syn\"}} 25"), exemplar.clone()),
        (format!("{series},stage=\"ack\"}} 3"), exemplar.clone()),
    ];
    let told: Vec<_> =
        exemplars(&text).into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    assert_eq!(told, expected);
    // All labels of an exemplar may have 128 characters together.
    assert!("incident_id".len() + id.len() <= 128);
}

#[test]
fn other_formats_and_other_listeners_have_none() {
    let classic = text(&snapshot("host", &exact()), Format::Classic);
    assert_eq!(exemplars(&classic), []);
    let protobuf = render(&snapshot("host", &exact()), Format::Protobuf);
    let name = b"incident_id";
    assert!(!protobuf.windows(name.len()).any(|bytes| bytes == name));
    let other = text(&snapshot("web", &exact()), Format::OpenMetrics);
    assert_eq!(exemplars(&other), []);
}
