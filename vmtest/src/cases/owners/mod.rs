//! Who listens: whom tcpq names as the owner, and the series that it makes of many.

use crate::bench::Case;

mod backlog;
mod continuity;
mod cost;
mod filters;
mod handover;
mod hostile;
mod many;
mod side_by_side;
mod stuck;

/// The cases, in the order they run.
pub(super) fn cases() -> Vec<Case> {
    [
        backlog::CASES,
        handover::CASES,
        stuck::CASES,
        hostile::CASES,
        filters::CASES,
        continuity::CASES,
        many::CASES,
        side_by_side::CASES,
        cost::CASES,
    ]
    .concat()
}
