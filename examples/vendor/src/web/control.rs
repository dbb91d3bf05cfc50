//! The control API under `/_control`: [`Control`] over HTTP, in JSON.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use crate::bill::{Bill, NewBill};
use crate::control::{self, Control};
use crate::counters::Counters;

/// Creates the routes, to be nested under `/_control`.
pub fn router() -> Router<Control> {
    Router::new()
        .route("/state", get(state).patch(change))
        .route("/bills", get(bills).post(add_bill))
        .route("/counters", get(counters))
        .route("/sessions", delete(end_sessions))
        .route("/reset", post(reset))
}

async fn state(State(control): State<Control>) -> Json<control::State> {
    Json(control.state())
}

/// Applies a JSON merge patch (RFC 7396) to the switches; 422 with `error` if it is invalid, and then nothing
/// changes.
async fn change(State(control): State<Control>, Json(patch): Json<Map<String, Value>>) -> Response {
    let patched = {
        let mut site = control.site();
        site.switches.apply_patch(patch).map(|switches| site.set(switches))
    };
    match patched {
        Ok(()) => Json(control.state()).into_response(),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "error": error.to_string() }))).into_response(),
    }
}

async fn bills(State(control): State<Control>) -> Json<Vec<Bill>> {
    Json(control.bills())
}

async fn add_bill(State(control): State<Control>, new: Option<Json<NewBill>>) -> (StatusCode, Json<Bill>) {
    let new = new.map(|Json(new)| new).unwrap_or_default();
    (StatusCode::CREATED, Json(control.add_bill(new)))
}

async fn counters(State(control): State<Control>) -> Json<Counters> {
    Json(control.counters())
}

async fn end_sessions(State(control): State<Control>) -> StatusCode {
    control.end_sessions();
    StatusCode::NO_CONTENT
}

async fn reset(State(control): State<Control>) -> Json<control::State> {
    control.reset();
    Json(control.state())
}
