//! `/backup` of the admin API: all data of the server, as one encrypted stream.

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use konnector_platform::Platform;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::openapi::Describe as _;

pub fn routes() -> ApiRouter<Platform> {
    let backup = post_with(create, |op| {
        op.summary("Backs up all data of the server, encrypted").success::<200, Bytes>("The backup as a stream")
    })
    .get_with(last_outcome, |op| {
        op.summary("Shows why the last backup failed, for clients whose connection was aborted")
            .success::<200, Json<Value>>("The error of the last backup; null if it did not fail")
    });
    ApiRouter::new().api_route("/backup", backup)
}

/// Responds once the first bytes are available. If the backup fails later, the connection is aborted, so that the
/// client does not mistake it for a complete backup.
async fn create(State(platform): State<Platform>) -> Result<Response, ApiError> {
    let mut backup = platform.start_backup();
    let first = backup.next_chunk().await?.unwrap_or_default();
    let rest = stream::try_unfold(backup, |mut backup| async move {
        Ok::<_, konnector_platform::Error>(backup.next_chunk().await?.map(|part| (part, backup)))
    });
    let body = futures_util::StreamExt::chain(stream::iter([Ok(first)]), rest);
    Ok(([(CONTENT_TYPE, "application/octet-stream")], Body::from_stream(body)).into_response())
}

async fn last_outcome(State(platform): State<Platform>) -> Json<Value> {
    Json(json!({ "error": platform.last_backup_failure() }))
}
