//! Incidents: what happened to a listener, what shows it, and why.
//!
//! A record is kept for years and read by programs of others: its JSON is a contract
//! (`docs/incidents.md`), and [`record::VERSION`] says which.

pub mod evidence;
pub mod filter;
pub mod id;
pub mod moment;
pub mod probe;
pub mod record;
pub mod tally;
pub mod timeline;
pub mod verdict;
