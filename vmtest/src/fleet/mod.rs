//! A fleet in small: hosts of different kernels that run the daemon, seen by one Prometheus.
//!
//! `fleet member ROLE` is what each of them runs, in a guest; `fleet` is what looks at all of
//! them, on the machine that their ports are forwarded to. `cargo xtask test fleet` runs both.

mod hosts;
pub mod member;
pub mod view;
mod words;

use std::net::SocketAddr;

use crate::sockets::Family;

pub use self::hosts::Role;

/// Where the server of each host listens, and by which name it runs.
fn shop() -> SocketAddr {
    Family::V4.loopback_at(8_443)
}

const SHOP: &str = "checkout";
