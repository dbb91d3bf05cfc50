//! `POST /backup` of the admin API: everything that the server keeps, as one encrypted stream.

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use konnector_platform::Platform;
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::sync::oneshot;

use crate::error::Failure;
use crate::openapi::Describe as _;

/// Bytes on their way from the store to the client.
const BUFFER: usize = 128 * 1024;

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let create = post_with(create, |op| {
        op.summary("Everything that the server keeps, encrypted").answers::<200, Bytes>("The backup, as it is made")
    });
    ApiRouter::new().api_route("/backup", create)
}

/// Answers once the first bytes are there. A backup that fails later breaks the connection off, so that nobody takes it for a whole one.
async fn create(State(platform): State<Platform>) -> Result<Response, Failure> {
    let (mut writer, reader) = tokio::io::duplex(BUFFER);
    let (done, outcome) = oneshot::channel();
    tokio::spawn(async move {
        let made = platform.store.back_up(&platform.key, &mut writer, &mut |_| {}).await;
        drop(writer);
        match &made {
            Ok(summary) => tracing::info!(entries = summary.entries, blobs = summary.blobs, "a backup was made"),
            Err(error) => tracing::warn!(%error, "a backup could not be made"),
        }
        // Who no longer listens has given up.
        drop(done.send(made.map(drop)));
    });
    let mut parts = Parts { reader, outcome: Some(outcome) };
    let first = parts.next().await.map_err(Failure::from)?.unwrap_or_default();
    let rest = stream::try_unfold(parts, |mut parts| async move {
        Ok::<_, konnector_store::Error>(parts.next().await?.map(|part| (part, parts)))
    });
    let whole = futures_util::StreamExt::chain(stream::iter([Ok(first)]), rest);
    Ok(([(CONTENT_TYPE, "application/octet-stream")], Body::from_stream(whole)).into_response())
}

struct Parts {
    reader: DuplexStream,
    outcome: Option<oneshot::Receiver<konnector_store::Result<()>>>,
}

impl Parts {
    /// The next bytes; at their end, whether that was meant.
    async fn next(&mut self) -> konnector_store::Result<Option<Bytes>> {
        let mut part = Vec::with_capacity(BUFFER);
        // Reading from memory does not fail.
        if self.reader.read_buf(&mut part).await.unwrap_or(0) > 0 {
            return Ok(Some(part.into()));
        }
        match self.outcome.take() {
            None => Ok(None),
            Some(outcome) => outcome.await.unwrap_or(Err(konnector_store::Error::Closed)).map(|()| None),
        }
    }
}
