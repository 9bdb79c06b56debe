//! One readout of the kernel side: raw, as it was found. Meaning is derived later,
//! so that live data and recorded data take the same path.

use std::collections::HashMap;

use tcpq_common::{
    iterator::ListenerRow,
    listener::{ListenerKey, Retired},
    totals::{Loss, Totals},
};

/// Totals by listener.
pub type TotalsByListener = HashMap<ListenerKey, Totals>;

/// What the maps held, read in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Listeners that closed since the last sample.
    pub retired: Vec<(ListenerKey, Retired)>,
    /// Totals before the rows were read: the base of what compares an inflow with
    /// a queue length. The same as `totals` where nothing is derived.
    pub totals_before: TotalsByListener,
    /// Live listeners.
    pub rows: Vec<ListenerRow>,
    /// Totals after the rows were read.
    pub totals: TotalsByListener,
    /// Losses by index of [`Loss`].
    pub losses: [u64; Loss::ALL.len()],
}
