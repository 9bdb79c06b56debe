//! Who listens: whom tcpq names as the owner, and the series that it makes of many.

use crate::bench::Case;

mod side_by_side;

/// The cases, in the order they run.
pub(super) fn cases() -> Vec<Case> {
    [side_by_side::CASES].concat()
}
