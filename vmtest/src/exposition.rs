//! Reads the classic Prometheus text format: as much of it as tcpq writes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Name of the series, with its suffix.
    pub name: String,
    /// Labels by name.
    pub labels: BTreeMap<String, String>,
    /// The value as it was written.
    pub value: String,
}

impl Sample {
    /// The value of a count, which has to be whole.
    pub fn count(&self) -> Result<u64> {
        self.value
            .strip_suffix(".0")
            .unwrap_or(&self.value)
            .parse()
            .with_context(|| format!("{} is {}, not a whole number", self.name, self.value))
    }

    /// The value of a gauge of whole numbers, which may be below zero.
    pub fn whole(&self) -> Result<i64> {
        self.value
            .strip_suffix(".0")
            .unwrap_or(&self.value)
            .parse()
            .with_context(|| format!("{} is {}, not a whole number", self.name, self.value))
    }

    fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.name == name
            && labels.iter().all(|(key, value)| self.labels.get(*key).is_some_and(|v| v == value))
    }
}

/// One whole scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    samples: Vec<Sample>,
}

impl Metrics {
    /// Parses a scrape; a line that is not understood is an error.
    pub fn parse(text: &str) -> Result<Self> {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| sample(line).with_context(|| format!("not a sample: {line}")))
            .collect::<Result<_>>()?;
        Ok(Self { samples })
    }

    /// Every sample.
    pub fn all(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }

    /// The samples of `name` that have all these labels (and maybe more).
    pub fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.has(name, labels))
    }

    /// The sum over the samples selected, or `None` where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Result<Option<u64>> {
        let mut total = None;
        for sample in self.select(name, labels) {
            total = Some(total.unwrap_or(0) + sample.count()?);
        }
        Ok(total)
    }
}

impl Metrics {
    /// The gauge selected, or `None` where there is none.
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Result<Option<i64>> {
        self.select(name, labels).next().map(Sample::whole).transpose()
    }
}

fn sample(line: &str) -> Result<Sample> {
    let name_end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            inside = inside.trim_start_matches(',');
            if let Some(after) = inside.strip_prefix('}') {
                rest = after;
                break;
            }
            let (key, after) = inside.split_once("=\"").context("a label without a value")?;
            let (value, after) = label_value(after)?;
            if labels.insert(key.to_owned(), value).is_some() {
                bail!("label {key} appears twice");
            }
            inside = after;
        }
    }
    let value = rest.split_whitespace().next().context("no value")?;
    Ok(Sample { name: name.to_owned(), labels, value: value.to_owned() })
}

/// The text up to the closing quote, unescaped, and what follows the quote.
fn label_value(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next().context("an unfinished escape")?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    bail!("a label value without an end")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP a_total Text.
# TYPE a_total counter
a_total{netns="1",address="::1",port="80",stage="syn"} 3
a_total{netns="1",address="::1",port="80",stage="ack"} 4
a_total{netns="2",address="a\"b\\c,}",port="80",stage="syn"} 50.0
plain 1.5
"#;

    #[test]
    fn samples_are_selected_by_any_labels() {
        let metrics = Metrics::parse(TEXT).unwrap();
        assert_eq!(metrics.sum("a_total", &[("netns", "1")]).unwrap(), Some(7));
        assert_eq!(metrics.sum("a_total", &[("stage", "syn")]).unwrap(), Some(53));
        assert_eq!(metrics.sum("a_total", &[("stage", "cookie")]).unwrap(), None);
    }

    #[test]
    fn labels_are_unescaped() {
        let metrics = Metrics::parse(TEXT).unwrap();
        let found = metrics.select("a_total", &[("address", "a\"b\\c,}")]).count();
        assert_eq!(found, 1);
    }

    #[test]
    fn a_fraction_is_not_a_count() {
        let metrics = Metrics::parse(TEXT).unwrap();
        assert!(metrics.sum("plain", &[]).is_err());
    }

    #[test]
    fn broken_lines_are_errors() {
        for line in ["a", "a{", "a{b} 1", "a{b=\"c} 1", "a{b=\"c\"}", "a{b=\"\\"] {
            assert!(Metrics::parse(line).is_err(), "{line}");
        }
    }
}
