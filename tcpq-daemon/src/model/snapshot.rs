//! What the daemon knows at one moment: all that scrapes and commands read.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tcpq_common::{record::Kind, totals::Loss};

use crate::model::{
    audit::NetnsAudit,
    group::{Folded, GroupView, NetnsSettings},
    hooks::SignalPlan,
    sample::ProgramRuns,
    self_test::SelfTest,
};

/// The daemon's view at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was read.
    pub taken: Instant,
    /// Every group, ordered by its namespace's name and its place. The same allocation as in the
    /// last snapshot where nothing has changed.
    pub groups: Arc<Vec<Arc<GroupView>>>,
    /// What each signal rests on.
    pub plan: Arc<[SignalPlan]>,
    /// Whether that was proven at the start.
    pub self_test: Arc<SelfTest>,
    /// Listening sockets known now.
    pub sockets_tracked: u64,
    /// Each network namespace's audit, ordered by name.
    pub audit: Vec<NetnsAudit>,
    /// The settings of each network namespace that has listeners, ordered by name.
    pub namespaces: Vec<NetnsSettings>,
    /// Sockets without series of their own, since the start.
    pub folded: Folded,
    /// CPU time that naming owners has taken since the start.
    pub attribution: Duration,
    /// Losses by index of [`Loss`].
    pub losses: [u64; Loss::ALL.len()],
    /// Program runs that the kernel skipped.
    pub skipped: u64,
    /// What each program has run, if that is counted; else none.
    pub programs: Vec<ProgramRuns>,
    /// Records suppressed by the rate limit.
    pub records_suppressed: u64,
    /// What came through the ring buffer.
    pub events: EventTally,
}

/// What came through the ring buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventTally {
    /// Records received, by position in [`Kind::ALL`].
    pub by_kind: [u64; Kind::ALL.len()],
    /// Records that could not be decoded.
    pub undecodable: u64,
}

impl EventTally {
    /// Records of one kind.
    pub fn of(&self, kind: Kind) -> u64 {
        let position = Kind::ALL.iter().position(|known| *known == kind);
        position.and_then(|position| self.by_kind.get(position)).copied().unwrap_or(0)
    }

    /// Adds what came since.
    pub fn add(&mut self, fresh: &Self) {
        for (count, more) in self.by_kind.iter_mut().zip(fresh.by_kind) {
            *count += more;
        }
        self.undecodable += fresh.undecodable;
    }
}

/// Asks the collector for a fresh snapshot.
pub type RefreshRequest = tokio::sync::oneshot::Sender<Arc<Snapshot>>;
