//! The operator's API, on a separate listener (Cozy API: admin).

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use konnector_platform::Platform;
use serde_json::json;

use crate::error::ApiError;
use crate::extract::request_host;
use crate::openapi;
use crate::server::LocalAddress;
use crate::{Passphrase, account_types, auth, backup, credentials, instances, limits, maintenance};

/// The version of the contract between host and konnectors.
const WIT_PACKAGE: &str = "konnector:host@0.1.0";

/// Public facts about the server, shown by `/status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Version of the program.
    pub version: String,
    /// Address under which clients reach the public API.
    pub public_url: String,
}

/// Returns the admin API. Requests need the passphrase as the password of HTTP Basic. The host of a request must be a
/// name of this machine, so that no web page reaches the API through its own name that resolves to this machine (DNS
/// rebinding).
pub fn admin(platform: Platform, passphrase: Passphrase, info: ServerInfo) -> Router {
    let status = json!({ "version": info.version, "public_url": info.public_url, "wit": WIT_PACKAGE });
    let status =
        get_with(async move || Json(status), |op| op.summary("Shows the version and the public URL of the server"));
    let routes = ApiRouter::new()
        .api_route("/status", status)
        .merge(instances::routes())
        .merge(account_types::routes())
        .merge(auth::operator::routes())
        .merge(maintenance::routes())
        .merge(backup::routes());
    let routes = openapi::admin(limits::with_request_timeout(routes))
        .fallback(limits::no_such_route)
        .method_not_allowed_fallback(limits::no_such_method)
        .layer(middleware::from_fn_with_state(passphrase, check_passphrase))
        .layer(middleware::from_fn(check_host));
    limits::with_common_middleware(routes, None).with_state(platform)
}

async fn check_passphrase(State(passphrase): State<Passphrase>, request: Request, next: Next) -> Response {
    match credentials::basic_password(request.headers()) {
        None => ApiError::unauthenticated("missing basic auth", "Basic realm=\"konnector\"").into_response(),
        Some(guess) if passphrase.matches(&guess) => next.run(request).await,
        Some(_) => ApiError::forbidden("bad passphrase").into_response(),
    }
}

async fn check_host(request: Request, next: Next) -> Response {
    let local = request.extensions().get::<LocalAddress>().map(|LocalAddress(address)| address.ip());
    let host = request_host(request.uri(), request.headers()).unwrap_or_default();
    let name = strip_port(host);
    let is_own_name = matches!(name, "localhost" | "127.0.0.1" | "[::1]")
        || local.is_some_and(|ip| name.trim_matches(['[', ']']).parse() == Ok(ip));
    if is_own_name {
        return next.run(request).await;
    }
    ApiError::forbidden(format!(
        "the admin API does not accept the host name '{name}'; use the address it listens on, for example 127.0.0.1"
    ))
    .into_response()
}

/// Returns the host without its port; an IPv6 address keeps its brackets.
fn strip_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_not_part_of_the_name() {
        let table =
            [("localhost:6060", "localhost"), ("localhost", "localhost"), ("[::1]:6060", "[::1]"), ("[::1]", "[::1]")];
        for (host, name) in table {
            assert_eq!(strip_port(host), name, "{host}");
        }
    }
}
