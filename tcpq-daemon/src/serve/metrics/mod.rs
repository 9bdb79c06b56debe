//! The Prometheus endpoint: from a snapshot to text, or to protobuf.

mod classic;
mod families;
mod format;
mod native;
mod process;

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{
        prometheus_protobuf::{self, EncodeError},
        text,
    },
    registry::Registry,
};

use crate::model::{incident::tally::Tally, snapshot::Snapshot};

pub use format::Format;

/// The whole exposition. `reading`: how long it took to read the kernel side.
pub fn render(
    snapshot: &Arc<Snapshot>,
    incidents: Tally,
    reading: Duration,
    format: Format,
) -> Result<Vec<u8>, EncodeError> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(families::Families::new(
        Arc::clone(snapshot),
        incidents,
        reading,
    )));
    registry.register_collector(Box::new(process::Process));
    if format == Format::Protobuf {
        return prometheus_protobuf::encode_to_vec(&registry);
    }
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    if format == Format::Classic {
        text = classic::from_openmetrics(&text);
    }
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests;
