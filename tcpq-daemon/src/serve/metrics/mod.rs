//! The Prometheus endpoint: from a snapshot to text.

mod classic;
mod families;
mod process;

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;

use crate::model::snapshot::Snapshot;

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0 text.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Classic,
}

impl Format {
    /// By an `Accept` header. Prometheus asks for OpenMetrics; who does not, such
    /// as curl, gets the classic format, as from the Go client library.
    pub fn negotiate(accept: &str) -> Self {
        let wants = |part: &str| {
            let mut fields = part.split(';').map(str::trim);
            fields.next() == Some("application/openmetrics-text")
                && !fields.any(|field| matches!(field, "q=0" | "q=0.0"))
        };
        if accept.split(',').any(wants) { Self::OpenMetrics } else { Self::Classic }
    }

    /// The `Content-Type` of an answer in it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The whole exposition. `reading`: how long it took to read the kernel side.
pub fn render(
    snapshot: &Arc<Snapshot>,
    reading: Duration,
    format: Format,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(families::Families::new(Arc::clone(snapshot), reading)));
    registry.register_collector(Box::new(process::Process));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(match format {
        Format::OpenMetrics => text,
        Format::Classic => classic::from_openmetrics(&text),
    })
}

#[cfg(test)]
mod tests;
