//! `/realtime`: what happens to documents, told over a websocket (Cozy API: realtime).

mod permits;
mod protocol;
mod socket;
mod subscriptions;

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::Extension;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use konnector_platform::{Error, Platform};

use crate::error::ApiError;
use crate::extract::{Caller, HostInstance, JsonObject};
use crate::openapi::Describe as _;
use crate::server::{ClientAddress, SharedConnectionUse};

/// The sub-protocol that Cozy's clients ask for.
const PROTOCOL: &str = "io.cozy.websocket";
/// Bytes of what a client sends (Cozy API: realtime).
const MAX_FRAME_SIZE: usize = 1_024;
/// Bytes of a frame that is read to its end before the client is told that it is too large: what is left unread makes the system reset the
/// connection, and the client may then miss why.
const MAX_READ_SIZE: usize = 64 << 10;

/// The routes of this module without a token in their headers: a socket's first frame carries it.
pub fn sockets() -> ApiRouter<Platform> {
    let open = get_with(open, |op| {
        op.summary("Opens a websocket that tells what happens to documents; its first frame holds the token")
            .error(426, "The client does not ask for a websocket, or not by HTTP/1.1")
    });
    ApiRouter::new().api_route("/realtime", open.clone()).api_route("/realtime/", open)
}

/// The other routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let notify = post_with(notify, |op| {
        op.summary("Tells listeners of a document that is stored nowhere").success::<204, ()>("They are told")
    });
    ApiRouter::new().api_route("/realtime/{doctype}/{id}", notify)
}

/// `GET /realtime/`.
async fn open(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    place: Option<Extension<SharedConnectionUse>>,
    client: Option<Extension<ClientAddress>>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let busy = || Error::Busy("too many websockets of this address have not sent their token; try again".to_owned());
    let pending = permits::acquire_pending(client.map_or_else(ClientAddress::unknown, |Extension(client)| client))
        .ok_or_else(busy)?;
    let response = upgrade
        .protocols([PROTOCOL])
        .max_message_size(MAX_READ_SIZE)
        .max_frame_size(MAX_READ_SIZE)
        // The library's default sizes are meant for few, busy sockets.
        .read_buffer_size(MAX_FRAME_SIZE)
        .write_buffer_size(0)
        .on_upgrade(move |stream| async move {
            let _place = place;
            socket::serve(platform, instance, stream, pending).await;
        });
    Ok(response)
}

/// `POST /realtime/:doctype/:id`: notifies listeners of a document that is not stored. It fires no trigger.
async fn notify(
    State(platform): State<Platform>,
    caller: Caller,
    Path((doctype, id)): Path<(String, String)>,
    JsonObject(body): JsonObject,
) -> Result<StatusCode, ApiError> {
    let doctype =
        doctype.parse().map_err(|error: konnector_manifest::Error| ApiError::bad_request(error.to_string()))?;
    caller.principal.check_notify(&doctype, &id, &body)?;
    platform.notify(&caller.instance, &doctype, &id, body);
    Ok(StatusCode::NO_CONTENT)
}
