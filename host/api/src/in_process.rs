//! The public API without a connection: requests of konnectors to `COZY_URL` are handled inside this process.

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use konnector_egress::HttpError;
use konnector_platform::{Platform, PublicApi};
use konnector_sandbox::capability::InternalBody;

use crate::error::ApiError;
use crate::offload::KonnectorRequest;

/// Public API that passes requests directly to its routes.
pub struct InProcessApi(Router<Platform>);

impl Default for InProcessApi {
    /// Creates an API with the same routes as [`public`](crate::public).
    fn default() -> Self {
        Self(crate::public_routes(None))
    }
}

/// Returns whether a path is forbidden to konnectors. Such paths need no token, or a token other than a konnector's,
/// and create something lasting: OAuth clients and their tokens, accounts that are connected by OAuth, jobs by webhook.
/// On all other paths, the token of the run decides.
fn is_denied(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    matches!(
        (parts.next(), parts.next(), parts.next(), parts.next()),
        (Some("auth"), ..)
            | (Some("jobs"), Some("webhooks"), ..)
            | (Some("accounts"), _, Some("start" | "done" | "redirect"), _)
            | (Some("accounts"), _, _, Some("manage" | "reconnect"))
    )
}

#[async_trait]
impl PublicApi for InProcessApi {
    async fn call(&self, platform: &Platform, request: http::Request<InternalBody>) -> http::Response<InternalBody> {
        let response = if is_denied(request.uri().path()) {
            ApiError::forbidden("a konnector cannot use this route, because its permissions end with its run")
                .into_response()
        } else {
            let service = TowerToHyperService::new(self.0.clone().with_state(platform.clone()));
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(KonnectorRequest);
            request.extensions_mut().insert(platform.clone());
            let Ok(response) = service.call(request).await;
            response
        };
        response.map(|body| body.map_err(|error| HttpError::Other(error.to_string())).boxed_unsync())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_reaches_no_route_without_a_konnector_token() {
        for closed in [
            "/auth/register",
            "/auth/register/client",
            "/auth/access_token",
            "/auth/session_code",
            "/auth/tokens/konnectors/bank",
            "/jobs/webhooks/secret",
            "/accounts/google/start",
            "/accounts/google/redirect",
            "/accounts/google/id/reconnect",
            "/accounts/google/id/manage",
        ] {
            assert!(is_denied(closed), "{closed}");
        }
        for open in [
            "/",
            "/data/io.cozy.accounts/auth",
            "/jobs/triggers/id",
            "/accounts/google/id/refresh",
            "/files/auth",
            "/version",
        ] {
            assert!(!is_denied(open), "{open}");
        }
    }
}
