//! HTTP: metrics, health, the page, and the API behind the commands.

pub mod api;
mod chunks;
pub mod client;
mod crowd;
pub mod incidents;
pub mod metrics;
mod openapi;
pub mod page;
pub mod router;
pub mod server;
pub mod source;
pub mod web;
