//! Incidents in numbers: what metrics tell of them.

use std::collections::BTreeMap;

use crate::model::incident::{
    id::IncidentId,
    moment::Moment,
    record::{ListenerName, Summary},
    verdict::Cause,
};

/// Since the start of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Listeners with an open incident.
    pub active: Vec<ListenerName>,
    /// The incident of each listener that has an open one, or had one a moment ago.
    pub named: BTreeMap<ListenerName, Named>,
    /// Incidents that ended, by position in [`Cause::ALL`].
    pub ended: [u64; Cause::ALL.len()],
    /// Incidents that were not recorded: too many were open.
    pub refused: u64,
    /// Bytes of the flight recorder.
    pub recorder_bytes: u64,
    /// Readings of a listener for which it had no room.
    pub recorder_refused: u64,
    /// Refusals whose record came while too many waited: their clients are not known.
    pub clients_lost: u64,
    /// Whether incidents can be stored.
    pub is_stored: bool,
    /// Records that were lost.
    pub lost: u64,
    /// Files that were found damaged and put aside.
    pub quarantined: u64,
}

/// An incident, as a counter's exemplar names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Which.
    pub id: IncidentId,
    /// The last trouble that is known of.
    pub last: Moment,
}

impl Tally {
    /// One has ended.
    pub fn ended(&mut self, cause: Cause) {
        let position = Cause::ALL.iter().position(|known| *known == cause);
        if let Some(count) = position.and_then(|position| self.ended.get_mut(position)) {
            *count += 1;
        }
    }
}

/// What happens to an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It began.
    Opened,
    /// It goes on, and more is known.
    Updated,
    /// It is over.
    Closed,
}

impl Happening {
    /// Its name in a stream of events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "incident_opened",
            Self::Updated => "incident_updated",
            Self::Closed => "incident_closed",
        }
    }
}

/// For who follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub happening: Happening,
    /// To which incident.
    pub incident: Summary,
}
