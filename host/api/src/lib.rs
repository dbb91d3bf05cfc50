//! The HTTP APIs: the public one, which speaks as Cozy's does, and the operator's.
//!
//! [`public`] and [`admin`] make routers, [`serve`] serves them. Each noun has its routes in the module of its name; whatever goes wrong
//! becomes a failure, whose body is written in one of three shapes.

mod account_types;
mod accounts;
mod admin;
mod auth;
mod backup;
mod bodies;
mod compute;
mod connections;
mod credentials;
mod data;
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
mod openapi;
mod passphrase;
mod permissions;
mod realtime;
mod registry;
mod server;
mod settings;
mod shape;
mod shelf;
mod sse;
mod triggers;

use aide::axum::ApiRouter;
use axum::Router;
use konnector_platform::Platform;

pub use admin::{ServerInfo, admin};
pub use connections::ConnectionLimits;
pub use in_process::InProcess;
pub use passphrase::Passphrase;
pub use server::{LocalAddress, serve, serve_within};
pub use shelf::registry_server;

/// The public API. Requests are for the instance that their host names; `/livez`, `/readyz`, `/version` and
/// `/openapi.json` are for everybody.
pub fn public(platform: Platform) -> Router {
    public_routes(Some(platform.clone())).with_state(platform)
}

/// The routes of the public API. The platform that answers is given with the state; where it is not known yet, each request brings it as its
/// extension, too.
fn public_routes(platform: Option<Platform>) -> Router<Platform> {
    let local = ApiRouter::new()
        .merge(konnectors::routes())
        .merge(jobs::routes())
        .merge(triggers::routes())
        .merge(files::routes())
        .merge(permissions::routes())
        .merge(settings::routes());
    let linked = ApiRouter::new().merge(triggers::webhooks()).merge(files::links());
    // These may wait for the provider of an account, or for what happens next.
    let remote = ApiRouter::new().merge(auth::routes()).merge(accounts::routes()).merge(realtime::routes());
    let local = compute::off_thread(local).merge(compute::off_thread_without_token(linked));
    let personal = limits::usual(local.merge(remote))
        .merge(realtime::sockets())
        .merge(files::uploads())
        .merge(limits::patient(konnectors::waiting().merge(registry::routes())))
        .merge(error::couch::rendered(limits::usual(compute::off_thread(data::routes()))));
    let all = openapi::public(personal.merge(limits::usual(health::routes().merge(accounts::callback()))))
        .fallback(limits::no_such_route)
        .method_not_allowed_fallback(limits::no_such_method);
    limits::guarded(all, platform)
}
