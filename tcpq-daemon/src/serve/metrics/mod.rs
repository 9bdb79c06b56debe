//! The Prometheus endpoint: from a snapshot to text, or to protobuf.

mod classic;
mod exposition;
mod families;
mod format;
mod native;
mod process;

pub use exposition::Exposition;
pub use format::Format;
pub use prometheus_client::encoding::prometheus_protobuf::EncodeError;

#[cfg(test)]
mod tests;
