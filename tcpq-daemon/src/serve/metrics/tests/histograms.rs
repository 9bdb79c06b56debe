//! Histograms: present if told and begun, and the same in every format.

use super::{read::Series, *};

fn with(histograms: Option<&Histograms>) -> Arc<Snapshot> {
    let mut snapshot = Snapshot::clone(&snapshot("host", &exact()));
    group(&mut snapshot).histograms = histograms.map(|it| Arc::new(it.into()));
    Arc::new(snapshot)
}

fn buckets(series: &[Series], family: &str) -> Vec<(String, f64)> {
    let name = format!("{family}_bucket");
    let series = series.iter().filter(|it| it.name == name);
    series.map(|it| (it.labels["le"].clone(), it.value)).collect()
}

fn value(series: &[Series], name: &str) -> f64 {
    series.iter().find(|it| it.name == name).unwrap().value
}

#[test]
fn buckets_add_up_and_have_the_bounds_of_the_contract() {
    let series = read::stable(&with(Some(&histograms())), Format::Classic).unwrap();
    let waits = buckets(&series, "tcpq_accept_wait_seconds");
    let bounds: Vec<_> = waits.iter().map(|(bound, _)| &**bound).collect();
    assert_eq!(
        bounds,
        [
            "0.00001", "0.00005", "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005",
            "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60",
            "+Inf"
        ]
    );
    let counts: Vec<_> = waits.iter().map(|(_, count)| *count).collect();
    let expected: [u8; 21] = [2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 7];
    assert_eq!(counts, expected.map(f64::from));
    assert_eq!(value(&series, "tcpq_accept_wait_seconds_count").to_string(), "7");
    assert_eq!(value(&series, "tcpq_accept_wait_seconds_sum").to_string(), "161.250721");

    let fills = buckets(&series, "tcpq_accept_queue_fill_ratio");
    let expected = ["0.1", "0.25", "0.5", "0.75", "0.9", "0.95", "1", "+Inf"]
        .into_iter()
        .map(str::to_owned)
        .zip([1, 1, 3, 3, 3, 3, 4, 5].map(f64::from));
    assert_eq!(fills, expected.collect::<Vec<_>>());
    assert_eq!(value(&series, "tcpq_accept_queue_fill_ratio_sum").to_string(), "3.25");
}

#[test]
fn an_idle_listener_has_no_histogram() {
    let idle = Histograms {
        accept_wait: times(&[]),
        abandoned_wait: times(&[]),
        handshake: times(&[1]),
        accept_fill: NO_FILLS,
        syn_fill: NO_FILLS,
    };
    let any = |histograms| {
        let series = read::stable(&with(histograms), Format::Classic).unwrap();
        series.iter().filter(|it| it.name.ends_with("_bucket")).count()
    };
    assert_eq!(any(None), 0);
    assert_eq!(any(Some(&idle)), 21);
}

#[test]
fn what_this_kernel_cannot_tell_has_no_family() {
    let all = [
        (Signal::AcceptWait, "tcpq_accept_wait_seconds"),
        (Signal::AbandonedWait, "tcpq_accept_queue_abandoned_wait_seconds"),
        (Signal::HandshakeTime, "tcpq_handshake_seconds"),
        (Signal::AcceptQueueFill, "tcpq_accept_queue_fill_ratio"),
        (Signal::SynQueueFill, "tcpq_syn_queue_fill_ratio"),
    ];
    for (absent, name) in all {
        let mut plan = exact();
        for signal in plan.iter_mut().filter(|signal| signal.signal == absent) {
            (signal.backend, signal.exactness) = (None, Exactness::Absent);
        }
        let text = text(&snapshot("host", &plan), Format::Classic);
        let is_there = |name: &str| text.contains(&format!("# TYPE {name} histogram\n"));
        for (_, other) in all {
            assert_eq!(is_there(other), other != name, "{other} without {name}");
        }
        assert!(!text.contains(&format!("{name}_")));
    }
}

#[test]
fn openmetrics_and_the_classic_format_name_a_histogram_alike() {
    for format in [Format::OpenMetrics, Format::Classic] {
        let text = text(&with(Some(&histograms())), format);
        for line in [
            "# TYPE tcpq_handshake_seconds histogram",
            "tcpq_handshake_seconds_count{netns=\"host\",address=\"127.0.0.1\",port=\"80\"} 3",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
        }
        assert!(text.contains("\n# HELP tcpq_handshake_seconds Time "));
        assert!(!text.contains("handshake_seconds_total"));
    }
}
