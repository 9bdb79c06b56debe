//! One readout of the kernel side: raw, as it was found. Meaning is derived later,
//! so that live data and recorded data take the same path.

use std::{collections::HashSet, sync::Arc, time::Duration};

use rustc_hash::{FxHashMap, FxHashSet};

use tcpq_common::{
    iterator::{AuditRow, DropCounters, ListenerRow, NetnsBase},
    listener::{ListenerKey, Retired},
    totals::{Loss, Totals},
};

use crate::model::{ids::NetnsInode, observations::Observations};

/// Totals by listener. Keys are the kernel's: nobody chooses them so that they collide.
pub type TotalsByListener = FxHashMap<ListenerKey, Totals>;

/// Histograms by listener.
pub type HistogramsByListener = FxHashMap<ListenerKey, Arc<Observations>>;

/// What the maps held, read in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Listeners that closed since the last sample.
    pub retired: Vec<(ListenerKey, Retired)>,
    /// Of them, those that a packet may still have been at.
    pub in_flight: HashSet<ListenerKey>,
    /// Totals before the rows were read: the base of what compares an inflow with
    /// a queue length. `None` where nothing does.
    pub totals_before: Option<Arc<TotalsByListener>>,
    /// Live listeners.
    pub rows: Vec<ListenerRow>,
    /// Totals after the rows were read.
    pub totals: Arc<TotalsByListener>,
    /// What was observed of each listener that anything was observed of, read after the
    /// totals. The same allocation as in the last sample where nothing has changed.
    pub histograms: Arc<HistogramsByListener>,
    /// Listeners of which anything was counted or observed that the last sample had not.
    pub moved: Moved,
    /// Losses by index of [`Loss`].
    pub losses: [u64; Loss::ALL.len()],
    /// Programs that the kernel did not run because another one was running.
    pub skipped: u64,
    /// What each program that events run has run, if that is counted; else none.
    pub programs: Vec<ProgramRuns>,
    /// `CLOCK_REALTIME` less `CLOCK_MONOTONIC` at this reading: what makes a time of day of
    /// the kernel's times.
    pub monotonic_zero: Duration,
    /// The kernel's own counters, by namespace.
    pub audit: Vec<NetnsReading>,
}

/// What one program has run since its runs are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramRuns {
    /// Its name in the object.
    pub program: &'static str,
    /// How often.
    pub count: u64,
    /// How long in all.
    pub time: Duration,
}

/// Which listeners have counted since the last sample.
#[derive(Clone, Debug, Default)]
pub enum Moved {
    /// Any may have.
    #[default]
    Any,
    /// Only these.
    Only(FxHashSet<ListenerKey>),
}

impl Moved {
    /// Whether none has.
    pub fn is_none(&self) -> bool {
        match self {
            Self::Any => false,
            Self::Only(keys) => keys.is_empty(),
        }
    }

    /// Whether this one may have.
    pub fn has(&self, key: ListenerKey) -> bool {
        match self {
            Self::Any => true,
            Self::Only(keys) => keys.contains(&key),
        }
    }
}

/// One namespace's own counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetnsReading {
    /// Which (`tcpq_common::listener::Tenant::netns_id`).
    pub id: u64,
    /// Its inode number.
    pub inode: NetnsInode,
    /// What they were when the first listener was seen there, if that was its `listen()`.
    pub base: Option<NetnsBase>,
    /// Their sum before the rows of the sample were read: the same as after, if nothing
    /// was dropped meanwhile. `None` where it is not needed.
    pub before: Option<DropCounters>,
    /// What each CPU has of them, after.
    pub cpus: Vec<AuditRow>,
}
