//! Asks the daemon, every so often and on request, beside the screen.

use std::{
    sync::mpsc::SyncSender,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::tz::TimeZone;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::{Receiver, Sender, channel},
    time::MissedTickBehavior,
};

use crate::{
    cli::{
        incidents::show,
        list::args::FilterArgs,
        text::columns,
        top::{
            args::TopArgs,
            model::{Key, Reading},
        },
    },
    model::incident::{
        filter::Filter,
        record::{IncidentRecord, State},
    },
    serve::{
        api::ListenersDto,
        client::{self, ClientError, Endpoint},
        incidents::IncidentsDto,
    },
};

/// Open incidents that are told: a daemon has no more at a time.
const MOST: u64 = 128;

/// What the screen is told.
#[derive(Debug)]
pub(super) enum Message {
    Reading(Result<Reading, String>),
    /// An incident's screen, or why there is none.
    Incident {
        id: String,
        text: String,
    },
    /// The process is to end.
    End,
}

/// Who asks.
pub(super) struct Feed {
    requests: Sender<String>,
}

impl Feed {
    /// Starts to ask, on a thread of its own.
    pub(super) fn start(args: &TopArgs, tell: SyncSender<Message>) -> anyhow::Result<Self> {
        let (requests, wanted) = channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("no asynchronous runtime")?;
        let asker = Asker {
            endpoint: args.ask.endpoint(),
            interval: args.interval,
            filters: args.filters.clone(),
            tell,
        };
        let signals = {
            let _entered = runtime.enter();
            // From here on they do not end the process with the terminal taken.
            [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()]
                .map(|kind| signal(kind).context("signals cannot be waited for"))
        };
        let signals = signals.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        thread::Builder::new()
            .name("feed".to_owned())
            .spawn(move || runtime.block_on(asker.run(wanted, signals)))
            .context("no thread to ask the daemon")?;
        Ok(Self { requests })
    }

    /// Asks for an incident.
    pub(super) fn ask(&self, id: String) {
        // Who presses a key again before there is an answer gets the first one.
        drop(self.requests.try_send(id));
    }
}

struct Asker {
    endpoint: Endpoint,
    interval: Duration,
    filters: FilterArgs,
    tell: SyncSender<Message>,
}

impl Asker {
    /// Until nobody listens any more.
    async fn run(self, mut wanted: Receiver<String>, signals: Vec<Signal>) {
        let mut ticks = tokio::time::interval(self.interval);
        // A daemon that takes long is not asked twice at once afterwards.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // On their own: a daemon that does not answer does not hold up the end.
        for mut signal in signals {
            let tell = self.tell.clone();
            tokio::spawn(async move {
                if signal.recv().await.is_some() {
                    // It is gone only if the screen is, too.
                    drop(tell.send(Message::End));
                }
            });
        }
        loop {
            let message = tokio::select! {
                _ = ticks.tick() => {
                    Message::Reading(self.reading().await.map_err(chain))
                }
                id = wanted.recv() => match id {
                    Some(id) => self.incident(id).await,
                    None => return,
                },
            };
            if self.tell.send(message).is_err() {
                return;
            }
        }
    }

    async fn reading(&self) -> Result<Reading, ClientError> {
        let ListenersDto { mut listeners, .. } =
            client::get(&self.endpoint, "/api/v1/listeners").await?;
        let at = Instant::now();
        listeners.retain(|listener| self.filters.wants(listener));
        let filter = Filter { state: Some(State::Open), limit: Some(MOST), ..Filter::default() };
        let query = serde_urlencoded::to_string(&filter).unwrap_or_default();
        let path = format!("/api/v1/incidents?{query}");
        let incidents = match client::get::<IncidentsDto>(&self.endpoint, &path).await {
            Ok(IncidentsDto { mut incidents, .. }) => {
                if self.filters.is_any() {
                    let keys: Vec<_> = listeners.iter().map(Key::of).collect();
                    incidents.retain(|it| keys.iter().any(|key| key.is(&it.listener)));
                }
                Ok(incidents)
            }
            Err(error) => Err(chain(error)),
        };
        Ok(Reading { at, listeners, incidents })
    }

    async fn incident(&self, id: String) -> Message {
        let path = format!("/api/v1/incidents/{id}");
        let record = client::get::<IncidentRecord>(&self.endpoint, &path).await;
        let text = match record {
            Ok(record) => show::render(&record, columns(), &TimeZone::system()),
            Err(error) => format!("incident {id} cannot be shown: {}", chain(error)),
        };
        Message::Incident { id, text }
    }
}

fn chain(error: ClientError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}
