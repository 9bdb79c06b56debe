//! Reads a listener's histograms, and only if something has happened to it: an idle listener
//! costs nothing, and a busy one a system call.

use std::{collections::HashMap, sync::Arc};

use aya::maps::{HashMap as Map, MapData, MapError};
use tcpq_common::{histogram::Histograms, listener::ListenerKey, totals::Totals};

use crate::{
    kernel::{
        error::KernelError,
        readout::{gone, read_error},
    },
    model::sample::{HistogramsByListener, TotalsByListener},
};

/// The map, and what was read of it last.
pub(super) struct HistogramReader {
    map: Map<MapData, ListenerKey, Histograms>,
    known: Known,
}

impl HistogramReader {
    pub(super) fn new(map: Map<MapData, ListenerKey, Histograms>) -> Self {
        Self { map, known: Known::default() }
    }

    /// Those of the listeners in `totals`. A program adds to the histograms first and counts
    /// then: what the totals hold has been observed.
    pub(super) fn read(
        &mut self,
        totals: &TotalsByListener,
    ) -> Result<HistogramsByListener, KernelError> {
        let Self { map, known } = self;
        known.follow(totals, |key| match map.get(&key, 0) {
            Ok(histograms) => Ok(Some(histograms)),
            // There was no room for it.
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(read_error("histograms", error)),
        })
    }

    pub(super) fn remove(&mut self, key: ListenerKey) -> Result<(), KernelError> {
        self.known.0.remove(&key);
        gone(self.map.remove(&key))
    }
}

/// What was read last, by listener.
#[derive(Debug, Default)]
struct Known(HashMap<ListenerKey, Last>);

#[derive(Debug)]
struct Last {
    events: u64,
    /// `None`: nothing was observed.
    histograms: Option<Arc<Histograms>>,
}

impl Known {
    fn follow<E>(
        &mut self,
        totals: &TotalsByListener,
        read: impl Fn(ListenerKey) -> Result<Option<Histograms>, E>,
    ) -> Result<HistogramsByListener, E> {
        self.0.retain(|key, _| totals.contains_key(key));
        for (key, totals) in totals {
            let events = events(totals);
            let seen = self.0.get(key).map_or(0, |last| last.events);
            if events == seen {
                continue;
            }
            let histograms = read(*key)?.filter(|read| *read != Histograms::ZERO).map(Arc::new);
            self.0.insert(*key, Last { events, histograms });
        }
        let observed = self.0.iter();
        Ok(observed.filter_map(|(key, last)| Some((*key, last.histograms.clone()?))).collect())
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

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, convert::Infallible};

    use super::*;

    const A: ListenerKey = ListenerKey { sk: 1, born_ns: 1 };
    const B: ListenerKey = ListenerKey { sk: 2, born_ns: 2 };

    fn accepts(count: u64) -> Totals {
        Totals { accepts: count, ..Totals::ZERO }
    }

    fn waited(us: u64) -> Histograms {
        let mut histograms = Histograms::ZERO;
        histograms.accept_wait.cells[0] = 1;
        histograms.accept_wait.sum_us = us;
        histograms
    }

    /// One reading: what comes of it, and which listeners were read.
    fn follow(
        known: &mut Known,
        totals: &[(ListenerKey, Totals)],
        map: &HashMap<ListenerKey, Histograms>,
    ) -> (HistogramsByListener, Vec<ListenerKey>) {
        let read = RefCell::new(Vec::new());
        let result = known.follow::<Infallible>(&totals.iter().copied().collect(), |key| {
            read.borrow_mut().push(key);
            Ok(map.get(&key).copied())
        });
        let mut read = read.into_inner();
        read.sort_unstable();
        (result.unwrap(), read)
    }

    #[test]
    fn only_what_has_changed_is_read_again() {
        let mut known = Known::default();
        let mut map = HashMap::from([(A, waited(1)), (B, waited(2))]);
        let (first, read) = follow(&mut known, &[(A, accepts(1)), (B, accepts(1))], &map);
        assert_eq!((first.len(), read), (2, vec![A, B]));
        map.insert(A, waited(10));
        map.insert(B, waited(20));
        let (second, read) = follow(&mut known, &[(A, accepts(1)), (B, accepts(2))], &map);
        assert_eq!(read, [B]);
        assert!(Arc::ptr_eq(&first[&A], &second[&A]), "the old one stands");
        assert_eq!(*second[&B], waited(20));
    }

    #[test]
    fn a_listener_that_nothing_happens_to_is_never_read() {
        let mut known = Known::default();
        let map = HashMap::from([(A, waited(1))]);
        // A limit of records is no event that is observed.
        let suppressed = Totals { records_suppressed: 5, ..Totals::ZERO };
        let (found, read) = follow(&mut known, &[(A, suppressed)], &map);
        assert_eq!((found.len(), read), (0, vec![]));
    }

    #[test]
    fn events_without_an_observation_show_nothing() {
        let mut known = Known::default();
        let map = HashMap::from([(A, Histograms::ZERO)]);
        let (found, read) = follow(&mut known, &[(A, accepts(1)), (B, accepts(1))], &map);
        assert_eq!((found.len(), read), (0, vec![A, B]));
        let (_, read) = follow(&mut known, &[(A, accepts(1)), (B, accepts(1))], &map);
        assert_eq!(read, []);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut known = Known::default();
        let map = HashMap::from([(A, waited(1))]);
        follow(&mut known, &[(A, accepts(1))], &map);
        let (found, _) = follow(&mut known, &[], &map);
        assert!(found.is_empty() && known.0.is_empty());
    }

    #[test]
    fn a_reading_that_fails_is_made_again() {
        let mut known = Known::default();
        let totals = TotalsByListener::from([(A, accepts(1))]);
        assert!(known.follow(&totals, |_| Err(())).is_err());
        let found = known.follow::<Infallible>(&totals, |_| Ok(Some(waited(1)))).unwrap();
        assert_eq!(*found[&A], waited(1));
    }
}
