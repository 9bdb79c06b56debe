//! The kernel side as the daemon sees it: facts, plan, apply; then readouts.
//!
//! [`facts`] are read once; [`plan`] is a pure function of them; [`attach`]
//! applies it and reports a refused hook back as a new fact, until a plan holds.
//! After that [`readout`] and [`records`] are the two paths out of the kernel.

pub mod attach;
mod auditing;
pub mod btf;
pub mod cgroup_namespace;
pub mod clock;
pub mod confine;
pub mod discover;
pub mod error;
pub mod facts;
mod in_flight;
pub mod layout;
mod mapped;
pub mod memory;
pub mod plan;
pub mod preemption;
pub mod privilege;
pub mod programs;
mod reader;
pub mod readout;
pub mod records;
pub mod self_test;
mod slots;
pub mod symbols;
mod syscall;
pub mod walk;
