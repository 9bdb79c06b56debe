//! Slots: what the kernel side keeps of each listener besides its entry. Whose each is, what was
//! counted and what was observed, in arrays by the number of the slot, which are read as memory.

use std::{collections::HashMap, sync::Arc};

use aya::maps::{MapData, Stack};
use tcpq_common::{
    histogram::Histograms,
    listener::{ListenerKey, Tenant},
    totals::Totals,
};

use crate::{
    kernel::{
        attach::Attached,
        error::KernelError,
        mapped::Mapped,
        readout::{read_error, take},
    },
    model::sample::{HistogramsByListener, TotalsByListener},
};

/// All slots, and what was read of them last.
pub(super) struct Slots {
    tenants: Mapped<Tenant>,
    totals: Mapped<Totals>,
    histograms: Mapped<Histograms>,
    free: Stack<MapData, u32>,
    cpus: usize,
    known: HashMap<ListenerKey, Known>,
}

/// What is known of one listener.
#[derive(Debug)]
struct Known {
    slot: usize,
    /// Events that something was observed of, when the histograms were read.
    events: u64,
    /// `None`: nothing was observed.
    histograms: Option<Arc<Histograms>>,
}

impl Slots {
    /// Makes all slots free ones.
    pub(super) fn new(attached: &mut Attached) -> Result<Self, KernelError> {
        let map = |source| KernelError::Read { what: "mapped arrays", source };
        let mut tenants = Mapped::new(take(attached, "TENANTS")?).map_err(map)?;
        tenants.reach(tenants.capacity()).map_err(map)?;
        let mut slots = Self {
            tenants,
            totals: Mapped::new(take(attached, "TOTALS")?).map_err(map)?,
            histograms: Mapped::new(take(attached, "HISTOGRAMS")?).map_err(map)?,
            free: take(attached, "FREE_SLOTS")?,
            cpus: attached.facts.possible_cpus,
            known: HashMap::new(),
        };
        // The first ones come last, and so are taken first: what is read is the beginning.
        for slot in (0..slots.tenants.capacity()).rev() {
            slots.give_back(slot)?;
        }
        Ok(slots)
    }

    /// What was counted of each listener.
    pub(super) fn totals(&mut self) -> Result<TotalsByListener, KernelError> {
        let mut tenants = Vec::with_capacity(self.known.len());
        for slot in 0..self.tenants.capacity() {
            tenants.extend(self.tenants.read(slot).and_then(|tenant| Some((tenant.key()?, slot))));
        }
        let end = tenants.last().map_or(0, |(_, slot)| slot + 1);
        self.reach(end).map_err(|source| KernelError::Read { what: "totals", source })?;
        self.known.retain(|key, known| {
            self.tenants.read(known.slot).and_then(|tenant| tenant.key()) == Some(*key)
        });
        let mut totals = TotalsByListener::with_capacity(tenants.len());
        for (key, slot) in tenants {
            let cpus = slot * self.cpus..(slot + 1) * self.cpus;
            let mut sum = Totals::ZERO;
            cpus.filter_map(|index| self.totals.read(index)).for_each(|cpu| sum.add(&cpu));
            totals.insert(key, sum);
            self.known.entry(key).or_insert(Known { slot, events: 0, histograms: None });
        }
        Ok(totals)
    }

    fn reach(&mut self, slots: usize) -> std::io::Result<()> {
        self.totals.reach(slots * self.cpus)?;
        self.histograms.reach(slots)
    }

    /// What was observed of the listeners in `totals`, which were read just before. A program
    /// adds to the histograms first and counts then: what the totals hold has been observed,
    /// and a listener whose totals stand still need not be read.
    pub(super) fn histograms(&mut self, totals: &TotalsByListener) -> HistogramsByListener {
        let mut all = HistogramsByListener::with_capacity(totals.len());
        for (key, known) in &mut self.known {
            let events = totals.get(key).map_or(known.events, events);
            if events != known.events {
                let read = self.histograms.read(known.slot);
                known.histograms = read.filter(|read| *read != Histograms::ZERO).map(Arc::new);
                known.events = events;
            }
            all.extend(known.histograms.as_ref().map(|histograms| (*key, Arc::clone(histograms))));
        }
        all
    }

    /// Forgets a listener; its slot is free for another one.
    pub(super) fn release(&mut self, key: ListenerKey) -> Result<(), KernelError> {
        let known = self.known.remove(&key).map(|known| known.slot);
        // A listener that came and went between two readings of the totals is not known.
        let Some(slot) = known.or_else(|| self.find(key)) else { return Ok(()) };
        if self.tenants.read(slot).and_then(|tenant| tenant.key()) != Some(key) {
            return Ok(());
        }
        let reached = self.reach(slot + 1);
        reached.map_err(|source| KernelError::Read { what: "totals", source })?;
        // First: an event that comes too late finds that it is not its listener's any more.
        self.tenants.clear(slot);
        for index in slot * self.cpus..(slot + 1) * self.cpus {
            self.totals.clear(index);
        }
        self.histograms.clear(slot);
        self.give_back(slot)
    }

    fn find(&self, key: ListenerKey) -> Option<usize> {
        let key_of = |slot| self.tenants.read(slot).and_then(|tenant: Tenant| tenant.key());
        (0..self.tenants.capacity()).find(|slot| key_of(*slot) == Some(key))
    }

    fn give_back(&mut self, slot: usize) -> Result<(), KernelError> {
        let number = u32::try_from(slot).map_err(|error| read_error("a slot", error))?;
        self.free.push(number, 0).map_err(|error| read_error("a slot to give back", error))
    }
}

/// Events that something is observed of. They only grow, and so does their sum.
fn events(totals: &Totals) -> u64 {
    totals.syns_received
        + totals.enqueued_handshake
        + totals.enqueued_cookie
        + totals.enqueued_fastopen
        + totals.enqueued_migration
        + totals.enqueued_unknown
        + totals.accepts
        + totals.abandoned
}
