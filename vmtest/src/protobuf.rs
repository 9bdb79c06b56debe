//! Reads the protobuf exposition, as much of it as histograms are: what a scraper that
//! knows native histograms gets.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    histogram::{Bucket, Histogram},
    http,
};

/// What a scraper asks for, that wants native histograms.
const ACCEPT: &str = "application/vnd.google.protobuf;\
    proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// A histogram in both forms.
#[derive(Clone, Debug)]
pub struct Both {
    /// With the bounds that are the same everywhere.
    pub classic: Histogram,
    /// With those of its schema: the zero bucket, then the others, empty ones as well.
    pub native: Option<Histogram>,
}

/// Every histogram of a scrape, by family and labels.
#[derive(Debug)]
pub struct Scrape(Vec<(String, BTreeMap<String, String>, Both)>);

impl Scrape {
    /// Asks a daemon.
    pub fn of(daemon: SocketAddr) -> Result<Self> {
        let answer = http::get_bytes(daemon, "/metrics", ACCEPT)?;
        ensure!(answer.status == 200, "a scrape answered {}", answer.status);
        let kind = &answer.content_type;
        ensure!(kind.starts_with("application/vnd.google.protobuf"), "asked protobuf, got {kind}");
        Self::parse(&answer.body)
    }

    /// One listener's.
    pub fn select(&self, family: &str, netns: &str, listener: SocketAddr) -> Option<&Both> {
        let (address, port) = (listener.ip().to_string(), listener.port().to_string());
        let group = [("netns", netns), ("address", &address), ("port", &port)];
        let has = |labels: &BTreeMap<String, String>| {
            group.iter().all(|(name, value)| labels.get(*name).is_some_and(|it| it == value))
        };
        let found = self.0.iter().find(|(name, labels, _)| name == family && has(labels));
        found.map(|(_, _, both)| both)
    }

    /// A row of `io.prometheus.client.MetricFamily`, each after its length.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut all = Vec::new();
        let mut reader = Reader(bytes);
        while !reader.0.is_empty() {
            let family = Message::parse(reader.bytes()?)?;
            let name = family.text(1)?.unwrap_or_default();
            for metric in family.messages(4) {
                let metric = metric?;
                let Some(histogram) = metric.messages(7).next() else { continue };
                let mut labels = BTreeMap::new();
                for pair in metric.messages(1) {
                    let pair = pair?;
                    let text =
                        |field| -> Result<String> { Ok(pair.text(field)?.unwrap_or_default()) };
                    labels.insert(text(1)?, text(2)?);
                }
                let both = both(&histogram?).with_context(|| format!("{name} of {labels:?}"))?;
                all.push((name.clone(), labels, both));
            }
        }
        Ok(Self(all))
    }
}

/// `io.prometheus.client.Histogram`.
fn both(histogram: &Message<'_>) -> Result<Both> {
    let (count, sum) = (histogram.number(1), histogram.double(2));
    let mut buckets = Vec::new();
    for bucket in histogram.messages(3) {
        let bucket = bucket?;
        buckets.push(Bucket { bound: bucket.double(2), within: bucket.number(1) });
    }
    // The infinite one may be left out: it has them all.
    if buckets.last().is_none_or(|last: &Bucket| last.bound.is_finite()) {
        buckets.push(Bucket { bound: f64::INFINITY, within: count });
    }
    let classic = Histogram { buckets, count, sum }.sound()?.context("no histogram")?;
    let native = native(histogram, count, sum).context("in its native form")?;
    Ok(Both { classic, native })
}

fn native(histogram: &Message<'_>, count: u64, sum: f64) -> Result<Option<Histogram>> {
    let deltas = histogram.packed(13)?;
    let zeros = histogram.number(7);
    // An empty one would have a span without length.
    if histogram.messages(12).next().is_none() && zeros == 0 {
        return Ok(None);
    }
    let schema = i32::try_from(zigzag(histogram.number(5)))?;
    let mut buckets = vec![Bucket { bound: histogram.double(6), within: zeros }];
    let (mut index, mut population, mut within) = (0_i64, 0_i64, zeros);
    let mut deltas = deltas.into_iter();
    for span in histogram.messages(12) {
        let span = span?;
        index += zigzag(span.number(1));
        for _ in 0..span.number(2) {
            population += zigzag(deltas.next().context("spans without deltas")?);
            within += u64::try_from(population).context("a bucket below zero")?;
            let exponent = f64::from(i32::try_from(index)?) / 2_f64.powi(schema);
            buckets.push(Bucket { bound: exponent.exp2(), within });
            index += 1;
        }
    }
    ensure!(deltas.next().is_none(), "deltas without spans");
    Histogram { buckets, count, sum }.sound()
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in their order.
#[derive(Debug)]
struct Message<'a>(Vec<(u64, Value<'a>)>);

impl<'a> Message<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut fields = Vec::new();
        let mut reader = Reader(bytes);
        while !reader.0.is_empty() {
            let key = reader.number()?;
            let value = match key & 7 {
                0 => Value::Number(reader.number()?),
                1 => Value::Number(u64::from_le_bytes(reader.take(8)?.try_into()?)),
                2 => Value::Bytes(reader.bytes()?),
                5 => Value::Number(u32::from_le_bytes(reader.take(4)?.try_into()?).into()),
                other => bail!("a field of kind {other}"),
            };
            fields.push((key >> 3, value));
        }
        Ok(Self(fields))
    }

    fn values(&self, field: u64) -> impl Iterator<Item = Value<'a>> {
        self.0.iter().filter(move |(number, _)| *number == field).map(|(_, value)| *value)
    }

    /// The last one counts; without any it is 0.
    fn number(&self, field: u64) -> u64 {
        match self.values(field).last() {
            Some(Value::Number(number)) => number,
            Some(Value::Bytes(_)) | None => 0,
        }
    }

    fn double(&self, field: u64) -> f64 {
        f64::from_bits(self.number(field))
    }

    fn text(&self, field: u64) -> Result<Option<String>> {
        match self.values(field).last() {
            Some(Value::Bytes(bytes)) => Ok(Some(String::from_utf8(bytes.to_vec())?)),
            Some(Value::Number(_)) => bail!("field {field} is no text"),
            None => Ok(None),
        }
    }

    fn messages(&self, field: u64) -> impl Iterator<Item = Result<Message<'a>>> {
        self.values(field).map(move |value| match value {
            Value::Bytes(bytes) => Message::parse(bytes),
            Value::Number(_) => bail!("field {field} is no message"),
        })
    }

    /// Numbers, one by one or many in one field.
    fn packed(&self, field: u64) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for value in self.values(field) {
            match value {
                Value::Number(number) => numbers.push(number),
                Value::Bytes(bytes) => {
                    let mut reader = Reader(bytes);
                    while !reader.0.is_empty() {
                        numbers.push(reader.number()?);
                    }
                }
            }
        }
        Ok(numbers)
    }
}

/// What is left to read.
#[derive(Debug)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take(1)?.try_into()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        bail!("a number without an end")
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.number()?)?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).context("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(value.len()).unwrap()], value].concat()
    }

    fn double(number: u8, value: f64) -> Vec<u8> {
        [&[number << 3 | 1], value.to_le_bytes().as_slice()].concat()
    }

    /// Two waits of 0.6 s, one of 1.5 s and one of nothing.
    fn waits() -> Vec<u8> {
        let bucket = |within: u8, bound| field(3, &[vec![8, within], double(2, bound)].concat());
        // Schema 1: bucket -1 is up to 2^-0.5, bucket 2 up to 2.
        [
            vec![1 << 3, 4],
            double(2, 2.7),
            bucket(1, 0.5),
            bucket(3, 1.0),
            vec![5 << 3, 2],
            double(6, 0.001),
            vec![7 << 3, 1],
            field(12, &[1 << 3, 1, 2 << 3, 1]),
            field(12, &[1 << 3, 4, 2 << 3, 1]),
            field(13, &[4, 1]),
        ]
        .concat()
    }

    #[test]
    fn both_forms_of_a_histogram_are_read() {
        let label = |name: &str, value: &str| {
            field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat())
        };
        let metric =
            [label("netns", "7"), label("address", "::1"), label("port", "80"), field(7, &waits())]
                .concat();
        let family = [field(1, b"w"), field(2, &[b'?'; 50]), field(4, &metric)].concat();
        // Its length takes two bytes.
        let length = [u8::try_from(family.len() & 0x7f).unwrap() | 0x80, 1];
        assert_eq!(family.len() >> 7, 1);
        let scrape = Scrape::parse(&[&length, family.as_slice()].concat()).unwrap();
        let both = scrape.select("w", "7", "[::1]:80".parse().unwrap()).unwrap();
        assert_eq!(both.classic.within(1.0), Some(3));
        let native = both.native.as_ref().unwrap();
        let buckets: Vec<_> = native.buckets.iter().map(|it| (it.bound, it.within)).collect();
        assert_eq!(buckets, [(0.001, 1), (0.5_f64.sqrt(), 3), (2.0, 4)]);
        assert!(both.classic.agrees_with(native));
    }

    #[test]
    fn a_wrong_length_is_an_error() {
        assert!(Scrape::parse(&[200, 1, 10]).is_err());
    }
}
