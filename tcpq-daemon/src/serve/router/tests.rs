use std::sync::Arc;

use axum::{body::Body, http::Request};
use http_body_util::BodyExt as _;
use tcpq_common::totals::Loss;
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::*;
use crate::{
    model::{
        group::Folded,
        self_test::SelfTest,
        snapshot::{EventTally, Snapshot},
    },
    serve::source::SnapshotSource,
};

fn empty() -> Arc<Snapshot> {
    Arc::new(Snapshot {
        taken: Instant::now(),
        groups: Vec::new(),
        plan: Arc::from([]),
        self_test: Arc::new(SelfTest::skipped()),
        sockets_tracked: 0,
        namespaces: Vec::new(),
        folded: Folded::default(),
        audit: Vec::new(),
        attribution: std::time::Duration::ZERO,
        losses: [0; Loss::ALL.len()],
        skipped: 0,
        records_suppressed: 0,
        events: EventTally::default(),
    })
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
    let app = router(Readiness::new(readiness), "/metrics", Reach::Local);
    assert_eq!(get(app.clone(), "/healthz").await.0, StatusCode::OK);
    for path in ["/readyz", "/metrics", "/api/v1/listeners"] {
        assert_eq!(get(app.clone(), path).await.0, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stuck_kernel_side_delays_a_scrape_no_longer_than_its_patience() {
    let (readiness, _parts) = stuck();
    let app = router(readiness, "/metrics", Reach::Local);
    let (status, text) = get(app, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("tcpq_listeners_tracked 0"));
}

#[tokio::test(start_paused = true)]
async fn old_figures_are_not_served_as_new_ones() {
    let long_ago = Instant::now().checked_sub(std::time::Duration::from_mins(1)).unwrap();
    let (readiness, _parts) = stuck_since(long_ago);
    let app = router(readiness, "/metrics", Reach::Local);
    for path in ["/metrics", "/api/v1/listeners", "/readyz"] {
        assert_eq!(get(app.clone(), path).await.0, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_api_is_for_this_host_only() {
    let (readiness, _parts) = stuck();
    let local = router(readiness.clone(), "/metrics", Reach::Local);
    assert_eq!(get(local, "/api/v1/listeners").await.0, StatusCode::OK);
    let remote = router(readiness, "/metrics", Reach::Remote);
    assert_eq!(get(remote, "/api/v1/listeners").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_page_links_to_the_metrics_wherever_they_are() {
    let (_ready, readiness) = watch::channel(None);
    let app = router(Readiness::new(readiness), "/m\"x", Reach::Local);
    let (status, page) = get(app, "/").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("href=\"/m&quot;x\""), "{page}");
}

#[tokio::test(start_paused = true)]
async fn protobuf_is_for_those_who_ask_and_is_compressed_like_the_rest() {
    let (readiness, _parts) = stuck();
    let app = router(readiness, "/metrics", Reach::Remote);
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
