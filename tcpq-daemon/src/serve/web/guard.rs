//! What each request has to pass.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};

use crate::serve::{router::Reach, web::Web};

/// Paths that tell nothing but that the daemon answers: for probes that know no password.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

#[derive(Clone)]
struct Guard {
    web: Option<Arc<Web>>,
    reach: Reach,
}

/// A router behind what the file asks for.
pub fn guarded(router: Router, web: Option<Arc<Web>>, reach: Reach) -> Router {
    router.layer(middleware::from_fn_with_state(Guard { web, reach }, pass))
}

async fn pass(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let policy = guard.web.as_ref().map(|web| web.policy());
    let path = request.uri().path();
    if let Some(policy) = &policy
        && !OPEN.contains(&path)
    {
        if policy.rate.as_ref().is_some_and(|rate| !rate.admit(Instant::now())) {
            return (StatusCode::TOO_MANY_REQUESTS, "more requests than rate_limit allows\n")
                .into_response();
        }
        if !policy.users.is_empty() && !policy.users.admit(request.headers()).await {
            let challenge = HeaderValue::from_static("Basic realm=\"tcpq\", charset=\"UTF-8\"");
            let text = "this needs a user and a password of basic_auth_users\n";
            return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)], text)
                .into_response();
        }
    }
    let is_known = policy.as_ref().is_some_and(|policy| policy.authenticates());
    if guard.reach == Reach::Remote && !is_known && path.starts_with("/api/") {
        let text = "the API tells clients' addresses: it is served on loopback and the unix \
                    socket, and on other addresses once --web.config.file asks for \
                    authentication\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let mut response = next.run(request).await;
    if let Some(policy) = policy {
        for (name, value) in &policy.headers {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}
