//! The cases, one module per question.

mod abuse;
mod accept_errors;
mod accepting;
mod alerts;
mod backends;
mod churn;
mod container;
mod cookies;
mod dashboards;
mod faults;
mod fill;
mod flood;
mod incidents;
mod mixed;
mod namespaces;
mod overflow;
mod owners;
mod path_delay;
mod plan;
mod pre_existing;
mod privileges;
mod prometheus;
mod queue;
mod restart;
mod run_counts;
mod self_test;
mod service;
mod shutdown;
mod stall;
mod stress;
mod top;
mod waits;

use crate::bench::Case;

/// Every case of every target, in the order they run.
pub fn all() -> Vec<Case> {
    [
        plan::CASES,
        self_test::CASES,
        overflow::CASES,
        cookies::CASES,
        dashboards::CASES,
        mixed::CASES,
        queue::CASES,
        abuse::CASES,
        accept_errors::CASES,
        waits::CASES,
        accepting::CASES,
        path_delay::CASES,
        fill::CASES,
        pre_existing::CASES,
        backends::CASES,
        faults::CASES,
        shutdown::CASES,
        prometheus::CASES,
        stall::CASES,
        stress::CASES,
        flood::CASES,
        churn::CASES,
        namespaces::CASES,
        restart::CASES,
        incidents::CASES,
        service::CASES,
        top::CASES,
        run_counts::CASES,
        alerts::CASES,
        privileges::CASES,
        incidents::causes::CASES,
        incidents::storage::CASES,
        container::CASES,
        &owners::cases(),
    ]
    .concat()
}
