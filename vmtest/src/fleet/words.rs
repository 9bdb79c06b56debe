//! What `fleet` and `cargo xtask` agree on.
//!
//! Compiled into both programs (xtask includes this file by path), so the two cannot drift
//! apart.

/// The port that a member serves on, in its guest.
pub(crate) const PORT: u16 = 10_466;

/// Printed by a member once it is in the state that its role is to show.
pub(crate) const SERVING: &str = "fleet: serving as ";

/// The line that ends a member.
pub(crate) const END: &str = "end";

/// The role of a member whose server accepts who comes.
pub(crate) const CALM: &str = "calm";

/// The role of one whose server does not.
pub(crate) const OVERFLOWING: &str = "overflowing";

/// The variable that tells of the members: `SERIES ROLE ADDRESS`, separated by commas.
pub(crate) const MEMBERS: &str = "TCPQ_FLEET";
