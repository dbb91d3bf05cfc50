//! Liveness, readiness and version of the server: public, on any host name.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::Json;
use axum::extract::State;
use konnector_platform::Platform;
use serde_json::json;

use crate::error::ApiError;

/// Returns the routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let version = async || Json(json!({ "version": env!("CARGO_PKG_VERSION") }));
    // Cozy's oldest client requests it first, with a trailing slash, to determine the generation of the API.
    let status = get_with(
        async || Json(json!({ "message": "OK" })),
        |op| op.summary("Reports that the server is alive, for Cozy's clients"),
    );
    ApiRouter::new()
        .api_route("/status", status.clone())
        .api_route("/status/", status)
        .api_route("/livez", get_with(async || "ok\n", |op| op.summary("Reports that the server is alive")))
        .api_route("/readyz", get_with(ready, |op| op.summary("Reports whether the server can read its store")))
        .api_route("/version", get_with(version, |op| op.summary("Returns the version of the server")))
}

/// Reports that the server is ready, if it can read the store.
async fn ready(State(platform): State<Platform>) -> Result<&'static str, ApiError> {
    match platform.check_store() {
        Ok(_) => Ok("ok\n"),
        Err(error) => Err(ApiError::unavailable(error.to_string())),
    }
}
