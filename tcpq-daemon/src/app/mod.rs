//! The composition root: builds the parts, connects them, ends them in order.

mod attribution;
pub mod daemon;
mod incidents;
pub mod listen;
pub mod look;
pub mod reload;
pub mod run_dir;
mod self_test;
mod source;
mod supervisor;
