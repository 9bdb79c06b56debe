//! Where incidents are told from: the store, what is counted of them, and who follows.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::broadcast;
use tracing::info;

use crate::{
    engine::incidents::Standing,
    model::incident::{
        filter::Filter,
        id::IncidentId,
        record::{IncidentRecord, ListenerName, State, Summary},
        tally::{Event, Happening, Named, Tally},
        verdict::Confidence,
    },
    serve::incidents::Incidents,
    store::{Health, Store},
};

/// Events that a follower may be behind.
const BEHIND: usize = 256;

/// How long one that has ended is still an exemplar: for who scrapes once a minute.
const NAMED_FOR: Duration = Duration::from_mins(2);

/// Incidents that are exemplars at the same time.
const MOST_NAMED: usize = 1024;

/// What all of the daemon knows of incidents.
pub(in crate::app) struct Board {
    store: Store,
    tally: Mutex<Tally>,
    recent: Mutex<Recent>,
    events: broadcast::Sender<Event>,
}

impl Board {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            tally: Mutex::default(),
            recent: Mutex::default(),
            events: broadcast::channel(BEHIND).0,
        }
    }

    /// A record, new or changed.
    pub(super) fn publish(&self, record: IncidentRecord) {
        let summary = record.summary();
        let happening = match (record.state, record.updated == record.began) {
            (State::Open, true) => Happening::Opened,
            (State::Open, false) => Happening::Updated,
            (State::Closed | State::Interrupted, _) => Happening::Closed,
        };
        match happening {
            Happening::Opened => say("an incident began", &summary),
            Happening::Closed => {
                say("an incident is over", &summary);
                if record.state == State::Closed {
                    lock(&self.tally).ended(summary.cause);
                }
            }
            Happening::Updated => {}
        }
        lock(&self.recent).note(&summary, happening, Instant::now());
        self.store.write(record);
        // Nobody need follow.
        drop(self.events.send(Event { happening, incident: summary }));
    }

    pub(super) fn stand(&self, standing: Standing, clients_lost: u64) {
        let Standing { active, refused, recorder_bytes, recorder_refused } = standing;
        let mut tally = lock(&self.tally);
        let ended = tally.ended;
        *tally = Tally {
            active,
            named: lock(&self.recent).told(Instant::now()),
            ended,
            refused,
            recorder_bytes,
            recorder_refused,
            clients_lost,
            ..Tally::default()
        };
    }

    /// Nothing is written after what has been written.
    pub(super) fn end(&self) {
        self.store.end();
    }
}

/// The incidents that exemplars name.
#[derive(Default)]
struct Recent(BTreeMap<ListenerName, (Named, Option<Instant>)>);

impl Recent {
    fn note(&mut self, summary: &Summary, happening: Happening, now: Instant) {
        let named = Named { id: summary.id, last: summary.last };
        let ended = (happening == Happening::Closed).then_some(now);
        if self.0.len() < MOST_NAMED || self.0.contains_key(&summary.listener) {
            self.0.insert(summary.listener.clone(), (named, ended));
        }
    }

    /// Those that are open, or ended not long ago; others are forgotten.
    fn told(&mut self, now: Instant) -> BTreeMap<ListenerName, Named> {
        let is_old = |ended: Instant| now.saturating_duration_since(ended) > NAMED_FOR;
        self.0.retain(|_, (_, ended)| !ended.is_some_and(is_old));
        self.0.iter().map(|(listener, (named, _))| (listener.clone(), *named)).collect()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line, for people and for programs.
fn say(what: &str, summary: &Summary) {
    let Summary { id, listener, process, cause, confidence, overflows, drops, .. } = summary;
    info!(
        incident = %id,
        netns = listener.netns,
        address = listener.address,
        port = listener.port,
        process = process.as_deref().unwrap_or_default(),
        verdict = cause.name(),
        confidence = confidence.map(Confidence::name).unwrap_or_default(),
        overflows,
        drops = drops.unwrap_or_default(),
        seconds = summary.last.since(summary.opened).as_secs_f64(),
        "{what}"
    );
}

impl Incidents for Board {
    fn list(&self, filter: &Filter) -> Result<Vec<Summary>, String> {
        self.store.list(filter).map_err(|error| error.to_string())
    }

    fn get(&self, id: IncidentId) -> Result<Option<IncidentRecord>, String> {
        self.store.get(id).map_err(|error| error.to_string())
    }

    fn tally(&self) -> Tally {
        let Health { is_up, lost, quarantined } = self.store.health();
        Tally { is_stored: is_up, lost, quarantined, ..lock(&self.tally).clone() }
    }

    fn follow(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}
