//! The collector: one thread that owns the maps. It reads every tick and when a
//! scrape asks; requests that wait at the same time share one reading.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use tcpq_common::listener::ListenerKey;
use tokio::sync::watch;
use tracing::warn;

use crate::{
    engine::{
        attribute::Attribute,
        audit::Audits,
        groups::{Chores, Groups},
    },
    model::{
        hooks::SignalPlan,
        sample::Sample,
        self_test::SelfTest,
        snapshot::{EventTally, RefreshRequest, Snapshot},
    },
};

/// Where samples come from: the kernel, a recording, a test.
pub trait Source: Send {
    /// Reads everything now.
    fn sample(&mut self) -> anyhow::Result<Sample>;
    /// Forgets a closed listener.
    fn forget_retired(&mut self, key: ListenerKey) -> anyhow::Result<()>;
    /// Forgets an entry whose socket is no listener any more.
    fn forget_stale(&mut self, key: ListenerKey) -> anyhow::Result<()>;
    /// Forgets a network namespace that is gone.
    fn forget_netns(&mut self, id: u64) -> anyhow::Result<()>;
    /// Whether a listener is still in the map.
    fn is_listed(&self, key: ListenerKey) -> anyhow::Result<bool>;
}

/// The collector's parts.
pub struct Collector<S, A> {
    /// Where samples come from.
    pub source: S,
    /// Knows names and owners.
    pub attribution: A,
    /// The state.
    pub groups: Groups,
    /// The kernel's counters beside ours.
    pub audits: Audits,
    /// What each signal rests on.
    pub plan: Arc<[SignalPlan]>,
    /// Whether that was proven at the start.
    pub self_test: Arc<SelfTest>,
    /// What the record reader has counted.
    pub events: Arc<Mutex<EventTally>>,
}

impl<S: Source, A: Attribute> Collector<S, A> {
    /// Reads once and says what there is.
    pub fn read(&mut self, now: Instant) -> anyhow::Result<Snapshot> {
        self.attribution.refresh(now);
        let sample = self.source.sample()?;
        let chores = self.groups.apply(&sample, &mut self.attribution, now);
        self.audits.apply(&sample.audit, &self.groups.drops_by_netns());
        self.tidy(chores);
        let Self { groups, attribution, audits, .. } = self;
        Ok(Snapshot {
            taken: now,
            records_suppressed: groups.records_suppressed(),
            sockets_tracked: groups.sockets() as u64,
            groups: groups.views(attribution),
            namespaces: groups.settings(attribution),
            folded: groups.folded(),
            attribution: attribution.spent(),
            plan: Arc::clone(&self.plan),
            audit: audits.views(|netns| attribution.netns(netns)),
            self_test: Arc::clone(&self.self_test),
            losses: sample.losses,
            skipped: sample.skipped,
            programs: sample.programs,
            events: *self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        })
    }

    /// Reads every `tick` and upon each request, until no one can ask any more.
    pub fn run(
        mut self,
        tick: Duration,
        requests: &Receiver<RefreshRequest>,
        latest: &watch::Sender<Arc<Snapshot>>,
    ) {
        let mut next_tick = Instant::now() + tick;
        let mut health = Health::default();
        loop {
            let mut waiting = Vec::new();
            match requests.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(request) => waiting.push(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            waiting.extend(requests.try_iter());
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + tick;
            }
            match self.read(now) {
                Ok(snapshot) => {
                    health.note(None);
                    let snapshot = Arc::new(snapshot);
                    latest.send_replace(Arc::clone(&snapshot));
                    for request in waiting {
                        // The asker may have given up: then nobody is told.
                        drop(request.send(Arc::clone(&snapshot)));
                    }
                }
                Err(error) => health.note(Some(&error)),
            }
        }
    }

    /// Forgets a listener whose end was not seen; its counters stay in its group.
    fn give_up(&mut self, key: ListenerKey) {
        self.groups.lose(key, &mut self.attribution);
        report(self.source.forget_stale(key));
    }

    fn tidy(&mut self, chores: Chores) {
        for key in chores.retired {
            report(self.source.forget_retired(key));
        }
        for key in chores.missing {
            match self.source.is_listed(key) {
                Ok(true) => {}
                Ok(false) => self.give_up(key),
                Err(error) => report(Err(error)),
            }
        }
        for key in chores.stale {
            self.give_up(key);
        }
        for id in chores.netns {
            self.audits.forget(id);
            report(self.source.forget_netns(id));
        }
    }
}

/// Says so when the kernel side stops being readable, and when it is again.
#[derive(Default)]
struct Health {
    failing: bool,
}

impl Health {
    fn note(&mut self, failure: Option<&anyhow::Error>) {
        match failure {
            Some(error) if !self.failing => {
                warn!(error = format!("{error:#}"), "the kernel side cannot be read");
            }
            None if self.failing => warn!("the kernel side can be read again"),
            _ => {}
        }
        self.failing = failure.is_some();
    }
}

fn report(result: anyhow::Result<()>) {
    if let Err(error) = result {
        warn!(error = format!("{error:#}"), "entry not removed; it will be tried again");
    }
}
