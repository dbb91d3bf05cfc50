//! The HTTP APIs: the public one, which is compatible with Cozy's, and the operator's.
//!
//! [`public`] and [`admin()`] create routers over a [`Platform`]. [`serve`] serves a router, with limits that keep slow
//! or numerous clients from monopolising the server. [`InProcessApi`] passes requests of konnectors to the public
//! routes without a connection. [`registry_server()`] is a router of its own, which offers the bundles of a directory.
//!
//! The routes of each resource are in the module of that name. A route reads a request, calls a handle of the platform
//! and writes the result. On the public API, the host of a request names the instance, and a token names the caller and
//! its permissions. Errors become an `ApiError`; the format of its body depends on the route. Both APIs describe
//! themselves at `/openapi.json`.
//!
//! The rules of the domain belong to the platform. This crate stores nothing, and never uses the store behind the
//! handles.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use axum::body::Body;
//! use http::{Request, StatusCode};
//! use konnector_egress::{Gate, GateOptions};
//! use konnector_platform::clock::SystemClock;
//! use konnector_platform::instance::InstancePatch;
//! use konnector_platform::principal::Audience;
//! use konnector_platform::{Config, Platform, PlatformParts};
//! use konnector_sandbox::{Sandbox, SandboxOptions};
//! use konnector_store::{MasterKey, Store};
//! use tower::ServiceExt as _;
//!
//! let options = SandboxOptions { max_runs: 1, memory_ceiling: 16 << 20, ..SandboxOptions::default() };
//! let cache_dir = tempfile::tempdir()?;
//! let platform = Platform::new(PlatformParts {
//!     store: Store::in_memory(),
//!     sandbox: Arc::new(Sandbox::new(options)?),
//!     gate: Gate::new(GateOptions::default())?,
//!     key: MasterKey::generate()?,
//!     clock: Arc::new(SystemClock),
//!     config: Config::new(cache_dir.path().to_owned()),
//! })
//! .await?;
//! let alice = platform.instances().create("alice.example", &InstancePatch::default()).await?;
//! let token = platform.auth().issue_token(&alice, Audience::Cli, "CLI", "io.cozy.bills:POST")?;
//!
//! let request = Request::post("/data/io.cozy.bills/")
//!     .header("host", "alice.example")
//!     .header("authorization", format!("Bearer {token}"))
//!     .body(Body::from(r#"{ "amount": 12 }"#))?;
//! let response = konnector_api::public(platform).oneshot(request).await?;
//! assert_eq!(response.status(), StatusCode::CREATED);
//! # Ok(())
//! # }
//! ```

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
mod request_span;
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
