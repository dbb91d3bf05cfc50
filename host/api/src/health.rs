//! Whether the server lives, whether it can work, and which version it is. For everybody, on any host name.

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use konnector_platform::Platform;
use konnector_store::InstanceId;
use serde_json::json;

use crate::error::Failure;

/// The routes of this module.
pub fn routes() -> Router<Platform> {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/version", get(async || Json(json!({ "version": env!("CARGO_PKG_VERSION") }))))
}

/// Ready is who can read the store.
async fn ready(State(platform): State<Platform>) -> Result<impl IntoResponse, Failure> {
    match platform.store.doctypes(&InstanceId::global()) {
        Ok(_) => Ok("ok\n"),
        Err(error) => Err(Failure::unavailable(error.to_string())),
    }
}
