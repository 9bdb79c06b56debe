//! Slots: what the kernel side keeps of each listener besides its entry. Whose each is, what was
//! counted and what was observed, in arrays by the number of the slot, which are read as memory.

use std::sync::Arc;

use aya::{
    Ebpf,
    maps::{MapData, Stack},
};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
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
    model::{
        observations::Observations,
        sample::{HistogramsByListener, TotalsByListener},
    },
};

/// All slots, and what was read of them last.
pub(super) struct Slots {
    tenants: Mapped<Tenant>,
    totals: Mapped<Totals>,
    histograms: Mapped<Histograms>,
    free: Stack<MapData, u32>,
    cpus: usize,
    known: FxHashMap<ListenerKey, Known>,
    /// Who has which slot, in the order of slots.
    seats: Vec<Seat>,
    /// What was read last. An idle host's is read and compared, and made anew for nobody.
    sums: Arc<TotalsByListener>,
    observed: Arc<HistogramsByListener>,
    /// Whose totals differed from one reading to the next, since it was last taken.
    moved: FxHashSet<ListenerKey>,
    /// Whose totals have moved with the last reading.
    moved_last: Vec<ListenerKey>,
}

/// A slot that is somebody's.
#[derive(Debug)]
struct Seat {
    key: ListenerKey,
    slot: usize,
    /// As in the sums, to be compared with without looking for it there; `None`: never read.
    sum: Option<Totals>,
}

/// What is known of one listener.
#[derive(Debug)]
struct Known {
    slot: usize,
    /// Events that something was observed of, when the histograms were read.
    events: u64,
}

/// Makes all slots free ones, before anything is attached that may take one. The first ones
/// come last, and so are taken first: what is read is the beginning.
pub(super) fn free_all(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    let name = "FREE_SLOTS";
    let map = ebpf.map_mut(name).ok_or(KernelError::Map { name })?;
    let mut free = Stack::<_, u32>::try_from(map).ok().ok_or(KernelError::Map { name })?;
    for slot in (0..free.capacity()).rev() {
        free.push(slot, 0).map_err(|error| read_error("a free slot", error))?;
    }
    Ok(())
}

impl Slots {
    pub(super) fn new(attached: &mut Attached) -> Result<Self, KernelError> {
        let map = |source| KernelError::Read { what: "mapped arrays", source };
        Ok(Self {
            tenants: Mapped::new(take(attached, "TENANTS")?).map_err(map)?,
            totals: Mapped::new(take(attached, "TOTALS")?).map_err(map)?,
            histograms: Mapped::new(take(attached, "HISTOGRAMS")?).map_err(map)?,
            free: take(attached, "FREE_SLOTS")?,
            cpus: attached.facts.possible_cpus,
            known: FxHashMap::default(),
            seats: Vec::new(),
            sums: Arc::default(),
            observed: Arc::default(),
            moved: FxHashSet::default(),
            moved_last: Vec::new(),
        })
    }

    /// What was counted of each listener.
    pub(super) fn totals(&mut self) -> Result<Arc<TotalsByListener>, KernelError> {
        self.follow_tenants()?;
        self.totals_of_used()
    }

    /// What was counted of each listener whose slot was [used](Self::used).
    pub(super) fn totals_of_used(&mut self) -> Result<Arc<TotalsByListener>, KernelError> {
        self.moved_last.clear();
        for Seat { key, slot, sum: last } in &mut self.seats {
            let mut sum = Totals::ZERO;
            for index in *slot * self.cpus..(*slot + 1) * self.cpus {
                sum.add(&self.totals.read(index).map_err(|error| read_error("totals", error))?);
            }
            if *last != Some(sum) {
                *last = Some(sum);
                // Copied only if the last reading's is still in use.
                Arc::make_mut(&mut self.sums).insert(*key, sum);
                self.moved_last.push(*key);
            }
        }
        self.moved.extend(&self.moved_last);
        Ok(Arc::clone(&self.sums))
    }

    /// Whether the last reading of the totals was that of nobody who is new, and of nothing that
    /// the one before had not.
    pub(super) fn stood_still(&self) -> bool {
        self.moved_last.is_empty()
    }

    /// Slots that are somebody's now, in their order.
    pub(super) fn used(&mut self) -> Result<impl Iterator<Item = usize>, KernelError> {
        self.follow_tenants()?;
        Ok(self.seats.iter().map(|seat| seat.slot))
    }

    /// Brings up to date who has which slot.
    fn follow_tenants(&mut self) -> Result<(), KernelError> {
        let mut order = Vec::with_capacity(self.seats.len());
        for slot in 0..self.tenants.capacity() {
            order.extend(self.tenant(slot)?.map(|key| (key, slot)));
        }
        if self.seats.iter().map(|seat| (seat.key, seat.slot)).eq(order.iter().copied()) {
            return Ok(());
        }
        let mut known = FxHashMap::with_capacity_and_hasher(order.len(), FxBuildHasher);
        for (key, slot) in &order {
            let before = self.known.get(key).filter(|known| known.slot == *slot);
            known.insert(
                *key,
                Known { slot: *slot, events: before.map_or(0, |known| known.events) },
            );
        }
        self.known = known;
        let Self { known, sums, observed, .. } = self;
        Arc::make_mut(sums).retain(|key, _| known.contains_key(key));
        let seat = |(key, slot)| Seat { key, slot, sum: sums.get(&key).copied() };
        self.seats = order.into_iter().map(seat).collect();
        Arc::make_mut(observed).retain(|key, _| known.contains_key(key));
        Ok(())
    }

    /// Whose totals have moved since this was last asked. What moved with the last reading is
    /// told again: what was compared with the one before it has to be compared anew.
    pub(super) fn moved(&mut self) -> FxHashSet<ListenerKey> {
        std::mem::replace(&mut self.moved, self.moved_last.iter().copied().collect())
    }

    /// What was observed of the listeners whose totals were read just before. A program
    /// adds to the histograms first and counts then: what the totals hold has been observed,
    /// and a listener whose totals stand still need not be read.
    pub(super) fn histograms(&mut self) -> Result<Arc<HistogramsByListener>, KernelError> {
        let Self { known, sums, observed, moved, histograms, .. } = self;
        // By slot, for which the map is looked at from its beginning to its end.
        let mut moved: Vec<_> =
            moved.iter().filter_map(|key| Some((known.get(key)?.slot, *key))).collect();
        moved.sort_unstable();
        for (slot, key) in moved {
            let (Some(known), Some(totals)) = (known.get_mut(&key), sums.get(&key)) else {
                continue;
            };
            let events = events(totals);
            // The last slots have none: nothing is observed of their listeners.
            if events == known.events || slot >= histograms.capacity() {
                continue;
            }
            let read = histograms.read(slot).map_err(|error| read_error("histograms", error))?;
            known.events = events;
            let observed = Arc::make_mut(observed);
            if read == Histograms::ZERO {
                observed.remove(&key);
            } else {
                observed.insert(key, Arc::new(Observations::from(&read)));
            }
        }
        Ok(Arc::clone(observed))
    }

    /// Forgets a listener; its slot is free for another one.
    pub(super) fn release(&mut self, key: ListenerKey) -> Result<(), KernelError> {
        let known = self.known.remove(&key).map(|known| known.slot);
        // A listener that came and went between two readings of the totals is not known.
        let slot = match known {
            Some(slot) => slot,
            None => match self.find(key)? {
                Some(slot) => slot,
                None => return Ok(()),
            },
        };
        if self.tenant(slot)? != Some(key) {
            return Ok(());
        }
        let failed = |error| read_error("a slot to clear", error);
        // First: an event that comes too late finds that it is not its listener's any more.
        self.tenants.clear(slot).map_err(failed)?;
        for index in slot * self.cpus..(slot + 1) * self.cpus {
            self.totals.clear(index).map_err(failed)?;
        }
        if slot < self.histograms.capacity() {
            self.histograms.clear(slot).map_err(failed)?;
        }
        self.give_back(slot)
    }

    fn find(&mut self, key: ListenerKey) -> Result<Option<usize>, KernelError> {
        for slot in 0..self.tenants.capacity() {
            if self.tenant(slot)? == Some(key) {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// Whose a slot is; `None`: nobody's.
    fn tenant(&mut self, slot: usize) -> Result<Option<ListenerKey>, KernelError> {
        let failed = |error| read_error("a tenant", error);
        // Most slots are nobody's.
        if self.tenants.begins_with_zero(slot).map_err(failed)? {
            return Ok(None);
        }
        Ok(self.tenants.read(slot).map_err(failed)?.key())
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
