//! tcpq: which TCP listener's SYN queue or accept queue overflows, at which stage,
//! how often.
//!
//! Modules depend in one direction, checked by `tests/layers.rs`:
//!
//! ```text
//! cli -> app -> {serve, engine} -> {store, probe, attribution, kernel} -> model -> tcpq-common
//! ```
//!
//! - [`cli`]: commands, arguments, tables, exit codes
//! - [`app`]: builds the parts, connects them, ends them in order
//! - [`serve`]: HTTP; reads snapshots, knows nothing of the kernel
//! - [`engine`]: raw samples to groups and counters
//! - [`attribution`]: names for kernel identities
//! - [`probe`]: looks at owners while an incident is open
//! - [`store`]: incidents on disk
//! - [`kernel`]: facts, plan, programs, maps
//! - [`model`]: plain data

#![deny(unsafe_code)]

pub mod app;
pub mod attribution;
pub mod cli;
pub mod engine;
pub mod kernel;
pub mod model;
pub mod probe;
pub mod serve;
pub mod store;
