//! The endpoints:
//!
//! - `/` what this is, with links
//! - `/metrics` (or `--web.telemetry-path`) the Prometheus endpoint
//! - `/healthz` 200 while the process answers
//! - `/readyz` 200 once hooks are attached and listeners are discovered, else 503
//! - `/api/v1/self-test` what became of the self-test; as below
//! - `/api/v1/listeners` what `tcpq list` shows; unix socket and loopback only,
//!   and with authentication elsewhere
//! - `/api/v1/incidents`, `/api/v1/incidents/ID` what `tcpq incidents` shows; likewise
//! - `/api/v1/events` incidents as they happen: server-sent events; likewise
//! - `/api/v1/openapi.json` what these answer; likewise

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{MethodRouter, get},
};
use tower_http::compression::CompressionLayer;

use crate::serve::{
    api,
    chunks::Chunks,
    incidents, metrics, openapi, page,
    source::Readiness,
    web::{Web, guard::guarded},
};

/// Who can reach a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Only this host.
    Local,
    /// Others, too: no `/api` unless they are authenticated.
    Remote,
}

/// What handlers have.
#[derive(Clone)]
pub(super) struct Shared {
    readiness: Readiness,
    incidents: incidents::Shared,
    telemetry_path: String,
}

/// All endpoints, those of `/api` for whom `reach` and the web configuration let in.
pub fn router(
    readiness: Readiness,
    incidents: incidents::Shared,
    telemetry_path: &str,
    (reach, web): (Reach, Option<Arc<Web>>),
) -> Router {
    let mut router =
        Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(readyz));
    if telemetry_path != "/" {
        router = router.route("/", get(landing));
    }
    router = router.route(telemetry_path, get(scrape));
    for (path, answers) in api(&incidents) {
        router = router.route(path, answers);
    }
    let router = router
        .with_state(Shared { readiness, incidents, telemetry_path: telemetry_path.to_owned() })
        .layer(CompressionLayer::new());
    guarded(router, web, reach)
}

/// Each path of the API, as `serve::openapi` has it, too. Clients' addresses are in it: for this
/// host only.
pub(super) fn api(incidents: &incidents::Shared) -> [(&'static str, MethodRouter<Shared>); 6] {
    let of_incidents = |answers: MethodRouter<incidents::Shared>| {
        answers.with_state::<Shared>(Arc::clone(incidents))
    };
    [
        ("/api/v1/listeners", get(listeners)),
        ("/api/v1/self-test", get(self_test)),
        ("/api/v1/incidents", of_incidents(get(incidents::list))),
        ("/api/v1/incidents/{id}", of_incidents(get(incidents::one))),
        ("/api/v1/events", of_incidents(get(incidents::events))),
        ("/api/v1/openapi.json", get(openapi::document)),
    ]
}

async fn landing(State(shared): State<Shared>) -> Html<String> {
    Html(page::landing(&shared.telemetry_path))
}

async fn readyz(State(shared): State<Shared>) -> Response {
    match shared.readiness.source().map(|source| source.latest()) {
        Some(Some(_)) => "ready\n".into_response(),
        Some(None) => unreadable(),
        None => not_ready(),
    }
}

async fn scrape(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let Some(source) = shared.readiness.source() else {
        return not_ready();
    };
    let started = Instant::now();
    let Some(snapshot) = source.fresh().await else { return unreadable() };
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = metrics::Format::negotiate(&accept.collect::<Vec<_>>().join(","));
    let tally = shared.incidents.tally();
    let exposition = metrics::Exposition::new(snapshot, tally, started.elapsed(), format);
    match Chunks::body(exposition) {
        Ok(body) => ([(header::CONTENT_TYPE, format.content_type())], body).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics not rendered: {error}\n"))
                .into_response()
        }
    }
}

async fn listeners(State(shared): State<Shared>) -> Response {
    let Some(source) = shared.readiness.source() else {
        return not_ready();
    };
    let Some(snapshot) = source.fresh().await else { return unreadable() };
    Json(api::ListenersDto::of_daemon(&snapshot)).into_response()
}

async fn self_test(State(shared): State<Shared>) -> Response {
    match shared.readiness.source().map(|source| source.latest()) {
        Some(Some(snapshot)) => Json(&*snapshot.self_test).into_response(),
        Some(None) => unreadable(),
        None => not_ready(),
    }
}

fn unreadable() -> Response {
    let text = "the kernel side cannot be read at the moment; the log says why\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

fn not_ready() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "starting: hooks are not attached yet\n").into_response()
}

#[cfg(test)]
pub(super) mod tests;
