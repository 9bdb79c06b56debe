//! Reads an exposition as strictly as its grammar is, in every format.

use std::collections::BTreeMap;

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{
    Metric, MetricFamily, MetricType,
};
use prost::Message as _;

use super::*;

/// Label values by name, of one series.
pub(super) type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) labels: Labels,
    pub(super) value: f64,
}

/// The series whose value does not change from one reading to the next; of a native histogram
/// its classic buckets.
pub(super) fn stable(snapshot: &Arc<Snapshot>, format: Format) -> Result<Vec<Series>, String> {
    let mut series = match format {
        Format::Protobuf => protobuf(snapshot).iter().flat_map(flat).collect(),
        Format::OpenMetrics | Format::Classic => parse(&text(snapshot, format))?,
    };
    series.retain(|it| !it.name.starts_with("process_") && it.name != "tcpq_snapshot_age_seconds");
    Ok(series)
}

pub(super) fn protobuf(snapshot: &Arc<Snapshot>) -> Vec<MetricFamily> {
    let bytes = render(snapshot, Format::Protobuf);
    let mut rest = bytes.as_slice();
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    families
}

/// What a family is in text, in the order of the text.
fn flat(family: &MetricFamily) -> Vec<Series> {
    family.metric.iter().flat_map(|metric| flat_metric(family, metric)).collect()
}

fn flat_metric(family: &MetricFamily, metric: &Metric) -> Vec<Series> {
    let labels: Labels =
        metric.label.iter().map(|pair| (pair.name.clone(), pair.value.clone())).collect();
    let series = |suffix: &str, labels: &Labels, value| Series {
        name: format!("{}{suffix}", family.name),
        labels: labels.clone(),
        value,
    };
    match (family.r#type(), &metric.counter, &metric.gauge, &metric.histogram) {
        (MetricType::Counter, Some(counter), None, None) => {
            vec![series("", &labels, counter.value)]
        }
        (MetricType::Gauge, None, Some(gauge), None) => vec![series("", &labels, gauge.value)],
        (MetricType::Histogram, None, None, Some(histogram)) => {
            let mut all = vec![
                series("_sum", &labels, histogram.sample_sum),
                series("_count", &labels, count(histogram.sample_count)),
            ];
            for bucket in &histogram.bucket {
                let mut labels = labels.clone();
                let bound = bucket.upper_bound;
                let bound = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
                assert_eq!(labels.insert("le".to_owned(), bound), None);
                all.push(series("_bucket", &labels, count(bucket.cumulative_count)));
            }
            all
        }
        _ => panic!("{metric:?} is not of its family"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "small")]
fn count(count: u64) -> f64 {
    count as f64
}

/// Every series of a text.
pub(super) fn parse(text: &str) -> Result<Vec<Series>, String> {
    let body = text.strip_suffix('\n').ok_or("the last line does not end")?;
    let series = body.split('\n').filter(|line| !is_metadata(line));
    series.map(|line| series_of(line).ok_or_else(|| format!("no series: {line:?}"))).collect()
}

fn is_metadata(line: &str) -> bool {
    line == "# EOF" || ["# HELP ", "# TYPE ", "# UNIT "].iter().any(|mark| line.starts_with(mark))
}

fn series_of(line: &str) -> Option<Series> {
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
    // A bound is a number, however it is written.
    if let Some(bound) = labels.get_mut("le").filter(|bound| *bound != "+Inf") {
        *bound = bound.parse::<f64>().ok()?.to_string();
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    Some(Series { name: name.to_owned(), labels, value })
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
