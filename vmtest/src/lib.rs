//! The truth tests: what tcpq reports, held against the kernel's own numbers.
//!
//! `truth` runs the cases below on the kernel it finds itself on; `demo` shows
//! one of them to a newcomer. Both only need the `tcpq` binary and root.
//!
//! - the world: [`netns`] (a private network per case), [`sockets`] and
//!   [`load`] (listeners, and clients that overflow them), [`raw`] (segments
//!   that no well-behaved client sends), [`routes`] and [`netlink`]
//! - others in it: [`puppet`] (a process that does with listeners what it is told),
//!   [`servers`] (real ones, and containers), [`cgroups`], [`limits`]
//! - much of it: [`flood`] (clients that do not exist), [`beside`] (work on other
//!   threads), [`scale`] (how much is enough)
//! - the truth: [`kernel_counters`], [`processes`], and what [`sockets`] asks of a socket
//! - the claim: [`daemon`] (one of our own), [`http`], [`exposition`] and
//!   [`figures`] (what it serves), [`claims`] (whom it names), [`promtool`], [`footprint`] (what it occupies)
//! - the judgement: [`ledger`] (claim against truth), [`expect`] (which hook a
//!   kernel must get), [`cases`], and [`scenarios`] (every outcome there is, one by one)
//! - the cost: [`measure`], for `cargo xtask bench`
//! - many hosts: [`fleet`], for `cargo xtask test fleet`; [`rules`] that are shipped
//!
//! Nothing here sleeps for a guessed time: [`wait`] polls for a level, with a
//! deadline. Nothing skips at run time: a case that a kernel cannot show says
//! so in its own table, and the harness prints that before it starts.

pub mod alertmanager;
pub mod bench;
pub mod beside;
mod bpf;
pub mod bpf_objects;
pub mod cases;
pub mod cgroups;
pub mod claims;
pub mod daemon;
pub mod expect;
pub mod exposition;
pub mod figures;
pub mod fleet;
pub mod flood;
pub mod footprint;
pub mod helper;
pub mod histogram;
pub mod http;
pub mod kernel_counters;
pub mod ledger;
pub mod limits;
pub mod load;
pub mod measure;
pub mod modules;
pub mod netem;
pub mod netlink;
pub mod netns;
pub mod processes;
pub mod prometheus;
pub mod promtool;
pub mod protobuf;
pub mod pty;
pub mod puppet;
pub mod raw;
pub mod routes;
pub mod rules;
pub mod scale;
pub mod scenarios;
pub mod scratch;
pub mod servers;
pub mod sockets;
pub mod tmpfs;
pub mod uring;
pub mod wait;
