//! The cases, one module per question.

mod backends;
mod cookies;
mod faults;
mod mixed;
mod overflow;
mod plan;
mod pre_existing;
mod prometheus;
mod queue;
mod shutdown;

use crate::bench::Case;

/// Every case of every target, in the order they run.
pub fn all() -> Vec<Case> {
    [
        plan::CASES,
        overflow::CASES,
        cookies::CASES,
        mixed::CASES,
        queue::CASES,
        pre_existing::CASES,
        backends::CASES,
        faults::CASES,
        shutdown::CASES,
        prometheus::CASES,
    ]
    .concat()
}
