//! Incidents as handlers see them, and their endpoints.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio_stream::{Stream, StreamExt as _, wrappers::BroadcastStream};

use crate::model::incident::{
    filter::Filter,
    id::IncidentId,
    record::{IncidentRecord, Summary},
    tally::{Event, Tally},
};

/// Incidents in one answer at most.
const MOST: u64 = 100_000;

/// Where incidents are told from. Calls may wait for the disk.
pub trait Incidents: Send + Sync {
    /// Those that are meant, the newest first; or why they cannot be told.
    fn list(&self, filter: &Filter) -> Result<Vec<Summary>, String>;
    /// All of one.
    fn get(&self, id: IncidentId) -> Result<Option<IncidentRecord>, String>;
    /// In numbers.
    fn tally(&self) -> Tally;
    /// What happens from now on.
    fn follow(&self) -> broadcast::Receiver<Event>;
}

/// The same for all handlers.
pub type Shared = Arc<dyn Incidents>;

/// A list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IncidentsDto {
    /// The newest first.
    pub incidents: Vec<Summary>,
}

/// `/api/v1/incidents`.
pub(super) async fn list(
    State(incidents): State<Shared>,
    Query(filter): Query<Filter>,
) -> Response {
    let filter = Filter { limit: Some(filter.most().min(MOST)), ..filter };
    let told = blocking(move || incidents.list(&filter)).await;
    match told {
        Ok(incidents) => Json(IncidentsDto { incidents }).into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// `/api/v1/incidents/ID`; `last` is the newest one.
pub(super) async fn one(State(incidents): State<Shared>, Path(id): Path<String>) -> Response {
    let told = blocking(move || find(&*incidents, &id)).await;
    match told {
        Ok(Ok(record)) => Json(*record).into_response(),
        Ok(Err(none)) => (StatusCode::NOT_FOUND, format!("{none}\n")).into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

type Found = Result<Box<IncidentRecord>, String>;

/// The outer error: it cannot be told. The inner one: there is none.
fn find(incidents: &dyn Incidents, id: &str) -> Result<Found, String> {
    let id = if id == "last" {
        let last = incidents.list(&Filter { limit: Some(1), ..Filter::default() })?;
        match last.first() {
            Some(last) => last.id,
            None => return Ok(Err("there is no incident".to_owned())),
        }
    } else {
        match id.parse() {
            Ok(id) => id,
            Err(bad) => return Ok(Err(format!("{bad}"))),
        }
    };
    let none = || format!("there is no incident {id}; it may have been too old to keep");
    Ok(incidents.get(id)?.map(Box::new).ok_or_else(none))
}

/// `/api/v1/events`: server-sent events.
pub(super) async fn events(
    State(incidents): State<Shared>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let events = BroadcastStream::new(incidents.follow()).map(|event| {
        let event = match event {
            Ok(Event { happening, incident }) => {
                let event = sse::Event::default().event(happening.name());
                event.id(incident.id.to_string()).json_data(&incident)
            }
            // What was missed is in the list.
            Err(missed) => Ok(sse::Event::default().comment(missed.to_string())),
        };
        Ok(event.unwrap_or_else(|error| sse::Event::default().comment(error.to_string())))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// The disk is not waited for on a thread that answers others.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}
