//! The scenario table: every way in which a SYN, a request or a final ACK can end,
//! each forced a known number of times by raw packets in a namespace of its own.
//!
//! A row states what the kernel's counters, `sk_drops` and every family of tcpq must
//! show; whatever it does not name must not move. So a fixture that does not do what it
//! says fails as surely as a wrong figure. The figure in the printed matrix is the worst
//! exactness of the signals that the row is about, as [`crate::expect`] states it.
//!
//! What cannot be forced from outside of the kernel, and is not in the table:
//!
//! - `no_memory`: a request that cannot be allocated. No distribution kernel of the
//!   matrix has fault injection (`CONFIG_FAULT_INJECTION`), request sockets are charged
//!   to nobody whose limit could be set (the cache is not accounted to a cgroup), and a
//!   machine without memory for 300 atomic bytes kills the test first.
//! - a fast open's child that finds the accept queue full: the SYN has been refused for
//!   the same queue, by the same condition, a few instructions earlier. Only another
//!   processor between the two could fill it.
//! - a migration that fails for lack of memory, for the first reason.

mod acks;
mod cells;
mod closing;
mod cookies;
mod fastopen;
pub(crate) mod kernel_view;
mod migration;
mod mptcp;
mod requests;
mod reuseport;
mod scene;
pub(crate) mod sockets;
mod span;
mod syns;

use std::sync::Arc;

use anyhow::{Context as _, Result};

use self::{cells::Cell, scene::Scene, span::NotForced};
use crate::{
    bench::{Bench, Held, SharedDaemon, Target},
    daemon::Backend,
    expect,
    scale::Scale,
};

pub use self::cells::print as print_cells;

/// How often a row forces what it is about.
const TIMES: u64 = 7;
const TIMES_USIZE: usize = 7;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// The signals it is about; others are compared too.
    pub subject: &'static [&'static str],
    /// What it does.
    play: fn(&Scene) -> Result<()>,
    /// Where.
    held: Held,
}

/// How often a row is played that does not force what it means to: on a busy machine a
/// request's timer of one second comes in between. What tcpq says is never asked twice.
const TRIES: usize = 3;

impl Row {
    const fn everywhere(
        name: &'static str,
        subject: &'static [&'static str],
        play: fn(&Scene) -> Result<()>,
    ) -> Self {
        Self { name, subject, play, held: Held::Everywhere }
    }

    const fn held(self, held: Held) -> Self {
        Self { held, ..self }
    }

    /// Why it is not held on `target`, if so.
    pub fn reason_against(&self, target: Target) -> Option<&'static str> {
        self.held.reason_against(target)
    }

    /// Plays it on this target and notes the cell of the matrix.
    fn hold(&self, bench: &Bench, backend: Backend) -> Result<()> {
        let mut outcome = self.play(bench, backend);
        for _ in 1..TRIES {
            match &outcome {
                Err(error) if error.is::<NotForced>() => outcome = self.play(bench, backend),
                _ => break,
            }
        }
        let figure = outcome.as_ref().map_or(cells::FAILED, |exactness| *exactness);
        cells::note(Cell { row: self.name, backend, figure });
        outcome.map(drop)
    }

    /// Its name among the tests.
    pub fn title(&self, backend: Backend) -> String {
        match backend {
            Backend::Auto => format!("scenario_{}", self.name),
            forced => format!("scenario_{}_by_{}", self.name, forced.flag()),
        }
    }

    fn play(&self, bench: &Bench, backend: Backend) -> Result<&'static str> {
        let plan = expect::plan(bench.target(), backend).context("no plan is stated")?;
        let mut worst = "exact";
        for signal in self.subject {
            let expected = plan
                .iter()
                .find(|expected| expected.signal == *signal)
                .with_context(|| format!("no expectation is stated for {signal}"))?;
            if rank(expected.exactness)? > rank(worst)? {
                worst = expected.exactness;
            }
        }
        let scene = Scene::new(bench, plan)?;
        (self.play)(&scene)?;
        scene.said_as_planned(self.subject)?;
        Ok(worst)
    }
}

/// Worse is higher.
fn rank(exactness: &str) -> Result<usize> {
    ["exact", "derived", "absent"]
        .iter()
        .position(|known| *known == exactness)
        .with_context(|| format!("{exactness} is no exactness"))
}

/// The table, in the order of the matrix.
pub fn rows() -> Vec<Row> {
    [
        syns::ROWS,
        acks::ROWS,
        cookies::ROWS,
        requests::ROWS,
        closing::ROWS,
        fastopen::ROWS,
        mptcp::ROWS,
        reuseport::ROWS,
        migration::ROWS,
    ]
    .concat()
}

/// With which backends the table is played on a target: the hooks that are chosen, and in a
/// whole run on 6.12, which has every backend, the others forced too.
pub fn backends(target: Target) -> &'static [Backend] {
    match target {
        Target::V6_12 if Scale::from_env() == Scale::Whole => {
            &[Backend::Auto, Backend::Kprobe, Backend::Tracepoint]
        }
        _ => &[Backend::Auto],
    }
}

/// Plays one row with a daemon that all rows of this backend share.
pub fn hold(
    row: &Row,
    target: Target,
    backend: Backend,
    shared: Arc<SharedDaemon>,
) -> Result<(), String> {
    let bench = Bench::new(target, shared).map_err(|error| format!("{error:#}"))?;
    row.hold(&bench, backend).map_err(|error| format!("{error:#}\n{}", bench.logs()))
}

/// Notes the rows that are not held here, so that the matrix tells them from lost ones.
pub fn not_held(row: &Row, backend: Backend) {
    cells::note(Cell { row: row.name, backend, figure: cells::NOT_HELD });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_subjects_that_exist() {
        let rows = rows();
        let mut names: Vec<_> = rows.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows.len());
        let plan = expect::plan(Target::Host, Backend::Auto).unwrap();
        for row in &rows {
            assert!(!row.subject.is_empty(), "{}", row.name);
            for signal in row.subject {
                assert!(plan.iter().any(|said| said.signal == *signal), "{signal}");
            }
        }
    }
}
