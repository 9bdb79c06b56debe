//! What `cargo xtask` and the guest's PID 1 agree on: where the command lies in
//! the initramfs, and what the console says about its fate.
//!
//! Compiled into both programs (xtask includes this file by path), so the two
//! cannot drift apart.

/// The command to run and its arguments, each ended by a NUL byte.
///
/// A file, because the kernel command line is short and eats quotes.
pub(crate) const ARGV_FILE: &str = "/etc/tcpq/argv";

/// The command's environment: `NAME=VALUE` entries, each ended by a NUL byte.
pub(crate) const ENV_FILE: &str = "/etc/tcpq/env";

/// Printed once init is alive, before the kernel's release: the kernel booted.
pub(crate) const UP: &str = "tcpq-init: up ";

/// Printed before the command's exit code; nothing follows but the reboot.
pub(crate) const EXIT: &str = "tcpq-init: exit ";
