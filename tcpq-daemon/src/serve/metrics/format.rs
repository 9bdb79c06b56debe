//! Which exposition format a scraper gets: what its `Accept` header likes best.

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0 text.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Classic,
    /// Prometheus's `MetricFamily` messages, each with its length: the only one with native
    /// histograms.
    Protobuf,
}

impl Format {
    /// By an `Accept` header: what it likes best of all that is served; of equals the first.
    /// Who asks for nothing of that, such as curl, gets the classic format, as from the Go
    /// client library.
    pub fn negotiate(accept: &str) -> Self {
        let mut best = (Self::Classic, 0.0);
        for (format, quality) in
            split(accept, ',').filter_map(Range::parse).filter_map(Range::offer)
        {
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }

    /// The `Content-Type` of an answer in it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited"
            }
        }
    }
}

/// One element of an `Accept` header (RFC 9110, section 12.5.1).
struct Range {
    /// In lower case.
    media_type: String,
    /// Names in lower case, values without their quotes.
    parameters: Vec<(String, String)>,
    quality: f64,
}

impl Range {
    /// `None`: its weight is none.
    fn parse(element: &str) -> Option<Self> {
        let mut parts = split(element, ';');
        let media_type = parts.next()?.trim().to_ascii_lowercase();
        let mut range = Self { media_type, parameters: Vec::new(), quality: 1.0 };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (name.trim().to_ascii_lowercase(), unquoted(value.trim()));
            if name == "q" {
                range.quality = value.parse().ok().filter(|q| (0.0..=1.0).contains(q))?;
            } else {
                range.parameters.push((name, value));
            }
        }
        Some(range)
    }

    /// What is served for it. Parameters that say nothing of the content as it is here
    /// (`charset`, `escaping`: all our names are ASCII) do not matter.
    fn offer(self) -> Option<(Format, f64)> {
        let version_is = |version| self.parameter("version").is_none_or(|wanted| wanted == version);
        let format = match &*self.media_type {
            "application/vnd.google.protobuf" => {
                let is_ours = self.parameter("proto") == Some("io.prometheus.client.MetricFamily")
                    && self.parameter("encoding") == Some("delimited");
                is_ours.then_some(Format::Protobuf)
            }
            "application/openmetrics-text" => version_is("1.0.0").then_some(Format::OpenMetrics),
            "text/plain" => version_is("0.0.4").then_some(Format::Classic),
            "text/*" | "*/*" => Some(Format::Classic),
            _ => None,
        };
        format.map(|format| (format, self.quality))
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(ours, _)| ours == name).map(|(_, value)| &**value)
    }
}

/// The parts between separators that are not in quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut state = Quote::Outside;
    text.split(move |c| {
        state = match (state, c) {
            (Quote::Outside, '"') | (Quote::Escaped, _) => Quote::Inside,
            (Quote::Inside, '"') => Quote::Outside,
            (Quote::Inside, '\\') => Quote::Escaped,
            (state, _) => state,
        };
        state == Quote::Outside && c == separator
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    Outside,
    Inside,
    /// After a backslash.
    Escaped,
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    fn gets(accept: &str, format: Format) {
        assert_eq!(Format::negotiate(accept), format, "{accept}");
    }

    #[test]
    fn each_prometheus_gets_what_it_asks_for() {
        // 2.24, 2.42 and 3.x, without and with native histograms.
        gets(
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::Classic,
        );
        let text = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                    version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        gets(text, Format::OpenMetrics);
        gets(&format!("{PROTOBUF},{}", text.replace(".0.0,", ".0.0;q=0.8,")), Format::Protobuf);
        let text = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                    application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;\
                    escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        gets(text, Format::OpenMetrics);
        gets(&format!("{PROTOBUF};q=0.6,{text}"), Format::Protobuf);
        // With scrape_protocols that put text first.
        gets(&format!("{PROTOBUF};q=0.3,{text}"), Format::OpenMetrics);
    }

    #[test]
    fn who_asks_for_nothing_that_is_served_gets_the_classic_format() {
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/*;q=0.3",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.000",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text-of-another-kind",
            "application/vnd.google.protobuf",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
            "application/vnd.google.protobuf;proto=io.prometheus.write.v2.Request;encoding=delimited",
            "application/openmetrics-text;q=much",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=-1",
            "application/openmetrics-text;q=nan",
            "x/y;z=\",application/openmetrics-text",
            ",;,=;q",
        ] {
            gets(accept, Format::Classic);
        }
    }

    #[test]
    fn the_weight_decides_and_of_equals_the_first() {
        gets("text/plain;q=0.9,application/openmetrics-text;q=0.8", Format::Classic);
        gets("text/plain;q=0.8,application/openmetrics-text;q=0.9", Format::OpenMetrics);
        gets(&format!("application/openmetrics-text,{PROTOBUF}"), Format::OpenMetrics);
        gets(&format!("{PROTOBUF},application/openmetrics-text"), Format::Protobuf);
    }

    #[test]
    fn case_blanks_and_quotes_do_not_matter() {
        gets("Application/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=1", Format::OpenMetrics);
        gets(
            "a/b;c=\"\\\",;\", application/vnd.google.protobuf; \
             proto=\"io.prometheus.client.MetricFamily\"; encoding=delimited; q=1.0",
            Format::Protobuf,
        );
    }

    #[test]
    fn the_type_of_protobuf_is_what_prometheus_looks_for() {
        let expected = PROTOBUF.replace(';', "; ");
        assert_eq!(Format::Protobuf.content_type(), expected);
    }
}
