//! The HTTP APIs: the public one, which is compatible with Cozy's, and the operator's.
//!
//! [`public`] and [`admin`] create routers, [`serve`] serves them. The routes of each resource are in the module of
//! that name. Errors become an `ApiError`, whose body has one of three formats.

mod account_types;
mod accounts;
mod admin;
mod auth;
mod backup;
mod bodies;
mod connections;
mod credentials;
mod data;
mod decode;
mod error;
mod extract;
mod files;
mod health;
mod in_process;
mod instances;
mod jobs;
mod jsonapi;
mod konnectors;
mod limits;
mod maintenance;
mod offload;
mod openapi;
mod passphrase;
mod permissions;
mod realtime;
mod registry;
mod registry_server;
mod server;
mod settings;
mod sse;
mod triggers;

use aide::axum::ApiRouter;
use axum::Router;
use konnector_platform::Platform;

pub use admin::{ServerInfo, admin};
pub use connections::ConnectionLimits;
pub use in_process::InProcessApi;
pub use passphrase::Passphrase;
pub use registry_server::registry_server;
pub use server::{LocalAddress, serve, serve_with_limits};

/// Returns the public API. The host of a request names its instance; `/livez`, `/readyz`, `/version` and
/// `/openapi.json` are available on every host.
pub fn public(platform: Platform) -> Router {
    public_routes(Some(platform.clone())).with_state(platform)
}

/// Returns the routes of the public API. The platform is part of the router's state; if it is not known yet, each
/// request carries the platform as an extension, too.
fn public_routes(platform: Option<Platform>) -> Router<Platform> {
    let local = ApiRouter::new()
        .merge(konnectors::routes())
        .merge(jobs::routes())
        .merge(triggers::routes())
        .merge(files::routes())
        .merge(permissions::routes())
        .merge(settings::routes());
    let linked = ApiRouter::new().merge(triggers::webhooks()).merge(files::link_routes());
    // These may wait for the provider of an account, or for the next event.
    let remote = ApiRouter::new().merge(auth::routes()).merge(accounts::routes()).merge(realtime::routes());
    let local = offload::offload_routes(local).merge(offload::offload_routes_without_token(linked));
    let personal = limits::with_request_timeout(local.merge(remote))
        .merge(realtime::sockets())
        .merge(files::upload_routes())
        .merge(limits::with_upstream_timeout(konnectors::upstream_routes().merge(registry::routes())))
        .merge(error::couch::with_couch_errors(limits::with_request_timeout(offload::offload_routes(data::routes()))));
    let all = openapi::public(
        personal.merge(limits::with_request_timeout(health::routes().merge(accounts::callback_routes()))),
    )
    .fallback(limits::no_such_route)
    .method_not_allowed_fallback(limits::no_such_method);
    limits::with_common_middleware(all, platform)
}
