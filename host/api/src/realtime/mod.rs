//! `/realtime`: events of documents over a websocket (Cozy API: realtime).

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

/// Subprotocol that Cozy's clients request.
const PROTOCOL: &str = "io.cozy.websocket";
/// Maximum size of a client's frame in bytes (Cozy API: realtime).
const MAX_FRAME_SIZE: usize = 1_024;
/// Maximum size in bytes of a frame that is read completely before it is rejected as too large. Unread data makes the
/// operating system reset the connection, and the client may then miss the reason.
const MAX_READ_SIZE: usize = 64 << 10;

/// Returns the routes of this module whose requests have no token; the first frame of a websocket contains the token.
pub fn sockets() -> ApiRouter<Platform> {
    let open = get_with(open, |op| {
        op.summary("Opens a websocket for events of documents; its first frame must contain the token")
            .error(426, "The client does not request a websocket, or not over HTTP/1.1")
    });
    ApiRouter::new().api_route("/realtime", open.clone()).api_route("/realtime/", open)
}

/// Returns the other routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let notify = post_with(notify, |op| {
        op.summary("Notifies listeners of a document that is not stored")
            .success::<204, ()>("The listeners are notified")
    });
    ApiRouter::new().api_route("/realtime/{doctype}/{id}", notify)
}

/// `GET /realtime/`.
async fn open(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    connection_use: Option<Extension<SharedConnectionUse>>,
    client: Option<Extension<ClientAddress>>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let busy =
        || Error::Busy("too many websockets from this address have not sent their token yet; try again".to_owned());
    let pending = permits::acquire_pending(client.map_or_else(ClientAddress::unknown, |Extension(client)| client))
        .ok_or_else(busy)?;
    let response = upgrade
        .protocols([PROTOCOL])
        .max_message_size(MAX_READ_SIZE)
        .max_frame_size(MAX_READ_SIZE)
        // The default sizes of the library suit a few busy websockets.
        .read_buffer_size(MAX_FRAME_SIZE)
        .write_buffer_size(0)
        .on_upgrade(move |stream| async move {
            let _connection_use = connection_use;
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
    platform.realtime().notify(&caller.instance, &doctype, &id, body);
    Ok(StatusCode::NO_CONTENT)
}
