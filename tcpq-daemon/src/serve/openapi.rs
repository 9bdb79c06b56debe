//! The OpenAPI document of `/api/v1`: made from the types that are answered, by a test, and
//! served as it is.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

/// As it is in `docs`.
const DOCUMENT: &str = include_str!("../../../docs/openapi.json");

/// `/api/v1/openapi.json`.
pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests;
