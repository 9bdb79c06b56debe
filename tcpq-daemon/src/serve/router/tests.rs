use std::sync::Arc;

use axum::{body::Body, http::Request};
use http_body_util::BodyExt as _;
use tcpq_common::totals::Loss;
use tokio::sync::{broadcast, watch};
use tower::ServiceExt as _;

use super::*;
use crate::{
    model::{
        group::Folded,
        incident::{
            self,
            evidence::Evidence,
            filter::Filter,
            id::IncidentId,
            moment::Moment,
            record::{IncidentRecord, ListenerName, Summary, Trigger, VERSION},
            tally::{Event, Happening, Tally},
            timeline::Timeline,
            verdict::Verdict,
        },
        self_test::SelfTest,
        snapshot::{EventTally, Snapshot},
    },
    serve::source::SnapshotSource,
};

fn empty() -> Arc<Snapshot> {
    Arc::new(Snapshot {
        taken: Instant::now(),
        groups: Arc::default(),
        plan: Arc::from([]),
        self_test: Arc::new(SelfTest::skipped()),
        sockets_tracked: 0,
        namespaces: Vec::new(),
        folded: Folded::default(),
        audit: Vec::new(),
        attribution: std::time::Duration::ZERO,
        losses: [0; Loss::ALL.len()],
        skipped: 0,
        programs: Vec::new(),
        records_suppressed: 0,
        events: EventTally::default(),
    })
}

/// Incidents of a test's choice.
#[derive(Default)]
struct Told {
    records: Vec<IncidentRecord>,
    events: Option<broadcast::Sender<Event>>,
}

impl incidents::Incidents for Told {
    fn list(&self, filter: &Filter) -> Result<Vec<Summary>, String> {
        let is_wanted = |it: &&IncidentRecord| {
            filter.port.as_ref().is_none_or(|port| it.listener.port == *port)
        };
        Ok(self.records.iter().filter(is_wanted).map(IncidentRecord::summary).collect())
    }

    fn get(&self, id: IncidentId) -> Result<Option<IncidentRecord>, String> {
        Ok(self.records.iter().find(|it| it.id == id).cloned())
    }

    fn tally(&self) -> Tally {
        Tally::default()
    }

    fn follow(&self) -> broadcast::Receiver<Event> {
        self.events.as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe)
    }
}

pub(in crate::serve) fn quiet() -> incidents::Shared {
    Arc::new(Told::default())
}

fn record(port: &str) -> IncidentRecord {
    let opened = Moment(1_795_000_000_000);
    IncidentRecord {
        version: VERSION,
        id: IncidentId::new(opened, port),
        state: incident::record::State::Closed,
        listener: ListenerName {
            netns: "host".to_owned(),
            address: "0.0.0.0".to_owned(),
            port: port.to_owned(),
        },
        owner: None,
        opened,
        began: opened,
        last: opened,
        updated: opened,
        trigger: Trigger::Refusal,
        bouts: 1,
        verdict: Verdict::unknown(Vec::new()),
        evidence: Evidence::default(),
        timeline: Timeline::default(),
    }
}

/// Ready, with a collector that never answers.
fn stuck() -> (Readiness, impl Sized) {
    stuck_since(Instant::now())
}

fn stuck_since(taken: Instant) -> (Readiness, impl Sized) {
    let last = Snapshot { taken, ..Snapshot::clone(&empty()) };
    let (latest, snapshots) = watch::channel(Arc::new(last));
    let (requests, queue) = std::sync::mpsc::sync_channel(1);
    let source = SnapshotSource::new(snapshots, requests);
    let (ready, readiness) = watch::channel(Some(source));
    (Readiness::new(readiness), (latest, queue, ready))
}

async fn get(app: Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn before_it_is_ready_it_says_so() {
    let (_ready, readiness) = watch::channel(None);
    let app = router(Readiness::new(readiness), quiet(), "/metrics", (Reach::Local, None));
    assert_eq!(get(app.clone(), "/healthz").await.0, StatusCode::OK);
    for path in ["/readyz", "/metrics", "/api/v1/listeners"] {
        assert_eq!(get(app.clone(), path).await.0, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stuck_kernel_side_delays_a_scrape_no_longer_than_its_patience() {
    let (readiness, _parts) = stuck();
    let app = router(readiness, quiet(), "/metrics", (Reach::Local, None));
    let (status, text) = get(app, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("tcpq_listeners_tracked 0"));
}

#[tokio::test(start_paused = true)]
async fn old_figures_are_not_served_as_new_ones() {
    let long_ago = Instant::now().checked_sub(std::time::Duration::from_mins(1)).unwrap();
    let (readiness, _parts) = stuck_since(long_ago);
    let app = router(readiness, quiet(), "/metrics", (Reach::Local, None));
    for path in ["/metrics", "/api/v1/listeners", "/readyz"] {
        assert_eq!(get(app.clone(), path).await.0, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_api_is_for_this_host_only() {
    let (readiness, _parts) = stuck();
    let local = router(readiness.clone(), quiet(), "/metrics", (Reach::Local, None));
    assert_eq!(get(local, "/api/v1/listeners").await.0, StatusCode::OK);
    let remote = router(readiness, quiet(), "/metrics", (Reach::Remote, None));
    assert_eq!(get(remote, "/api/v1/listeners").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_page_links_to_the_metrics_wherever_they_are() {
    let (_ready, readiness) = watch::channel(None);
    let app = router(Readiness::new(readiness), quiet(), "/m\"x", (Reach::Local, None));
    let (status, page) = get(app, "/").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("href=\"/m&quot;x\""), "{page}");
}

#[tokio::test(start_paused = true)]
async fn protobuf_is_for_those_who_ask_and_is_compressed_like_the_rest() {
    let (readiness, _parts) = stuck();
    let app = router(readiness, quiet(), "/metrics", (Reach::Remote, None));
    let ask = |accept: &'static str, encoding: &'static str| {
        let request = Request::get("/metrics")
            .header(header::ACCEPT, "text/plain;q=0.5")
            .header(header::ACCEPT, accept)
            .header(header::ACCEPT_ENCODING, encoding);
        app.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                    encoding=delimited";
    for (accept, encoding, starts_with) in [
        (protobuf, "gzip", "application/vnd.google.protobuf; proto="),
        (protobuf, "identity", "application/vnd.google.protobuf; proto="),
        ("*/*;q=0.1", "gzip", "text/plain; version=0.0.4"),
    ] {
        let response = ask(accept, encoding).await.unwrap();
        let told = |name| response.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
        assert!(told(header::CONTENT_TYPE).unwrap().starts_with(starts_with));
        let packed = (encoding == "gzip").then(|| "gzip".to_owned());
        assert_eq!(told(header::CONTENT_ENCODING), packed);
    }
}

#[tokio::test]
async fn incidents_are_listed_filtered_and_told_one_by_one() {
    let (_ready, readiness) = watch::channel(None);
    let records = vec![record("81"), record("80")];
    let told = Told { records: records.clone(), events: None };
    let app = router(Readiness::new(readiness), Arc::new(told), "/metrics", (Reach::Local, None));
    let (status, list) = get(app.clone(), "/api/v1/incidents?port=80&limit=5").await;
    assert_eq!(status, StatusCode::OK);
    let list: incidents::IncidentsDto = serde_json::from_str(&list).unwrap();
    assert_eq!(list.incidents, [records[1].summary()]);
    let path = format!("/api/v1/incidents/{}", records[1].id);
    for (path, record) in [(path.as_str(), &records[1]), ("/api/v1/incidents/last", &records[0])] {
        let (status, one) = get(app.clone(), path).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(&serde_json::from_str::<IncidentRecord>(&one).unwrap(), record);
    }
    for (path, status) in [
        ("/api/v1/incidents/0000000000000", StatusCode::NOT_FOUND),
        ("/api/v1/incidents/nonsense", StatusCode::NOT_FOUND),
        ("/api/v1/incidents?colour=red", StatusCode::BAD_REQUEST),
        ("/api/v1/incidents?verdict=bad_luck", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(get(app.clone(), path).await.0, status, "{path}");
    }
}

#[tokio::test]
async fn incidents_are_for_this_host_only() {
    let (_ready, readiness) = watch::channel(None);
    let app = router(Readiness::new(readiness), quiet(), "/metrics", (Reach::Remote, None));
    for path in ["/api/v1/incidents", "/api/v1/incidents/last", "/api/v1/events"] {
        assert_eq!(get(app.clone(), path).await.0, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn what_happens_is_streamed() {
    let (_ready, readiness) = watch::channel(None);
    let (events, _nobody) = broadcast::channel(4);
    let told = Told { records: Vec::new(), events: Some(events.clone()) };
    let app = router(Readiness::new(readiness), Arc::new(told), "/metrics", (Reach::Local, None));
    let request = Request::get("/api/v1/events").body(Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let incident = record("80").summary();
    let event = Event { happening: Happening::Opened, incident: incident.clone() };
    events.send(event).unwrap();
    let frame = response.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8(frame.to_vec()).unwrap();
    assert!(text.contains("event: incident_opened\n"), "{text}");
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    assert_eq!(serde_json::from_str::<Summary>(data).unwrap(), incident);
}
