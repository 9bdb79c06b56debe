//! The cases, one module per question.

mod accept_errors;
mod backends;
mod churn;
mod cookies;
mod faults;
mod flood;
mod mixed;
mod namespaces;
mod overflow;
mod owners;
mod plan;
mod pre_existing;
mod prometheus;
mod queue;
mod restart;
mod self_test;
mod shutdown;
mod stress;

use crate::bench::Case;

/// Every case of every target, in the order they run.
pub fn all() -> Vec<Case> {
    [
        plan::CASES,
        self_test::CASES,
        overflow::CASES,
        cookies::CASES,
        mixed::CASES,
        queue::CASES,
        accept_errors::CASES,
        pre_existing::CASES,
        backends::CASES,
        faults::CASES,
        shutdown::CASES,
        prometheus::CASES,
        stress::CASES,
        flood::CASES,
        churn::CASES,
        namespaces::CASES,
        restart::CASES,
        &owners::cases(),
    ]
    .concat()
}
