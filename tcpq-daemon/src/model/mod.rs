//! The words of the daemon: plain data, no I/O, no async.

pub mod advice;
pub mod audit;
pub mod counts;
pub mod distribution;
pub mod filter;
pub mod group;
pub mod hooks;
pub mod ids;
pub mod incident;
pub mod limit;
pub mod observations;
pub mod owner;
pub mod sample;
pub mod self_test;
pub mod snapshot;
pub mod text;
