//! Segments that no well-behaved client sends.
//!
//! - [`cookie`]: a client that takes one SYN cookie and returns it as often as it likes
//! - [`packet`]: the bytes of TCP segments and of ICMP errors, headers and all
//! - [`wire`]: a far end of loopback from which they are sent, and which never answers
//! - [`peer`]: one client there, step by step

mod cookie;
mod packet;
mod peer;
mod wire;

pub use self::{
    cookie::CookieHolder,
    packet::{Flags, Segment, icmp_error},
    peer::Peer,
    wire::Wire,
};
