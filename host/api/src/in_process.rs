//! The public API without a connection: konnectors that speak to `COZY_URL` are answered inside of the process.

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use konnector_platform::{Platform, PublicApi};
use konnector_sandbox::capability::OwnBody;
use konnector_sandbox::http::HttpError;

/// Hands requests to the routes of the public API.
pub struct InProcess(Router<Platform>);

impl Default for InProcess {
    /// The same routes as those of [`public`](crate::public).
    fn default() -> Self {
        Self(crate::public_routes())
    }
}

#[async_trait]
impl PublicApi for InProcess {
    async fn answer(&self, platform: &Platform, request: http::Request<OwnBody>) -> http::Response<OwnBody> {
        let service = TowerToHyperService::new(self.0.clone().with_state(platform.clone()));
        let Ok(response) = service.call(request.map(Body::new)).await;
        response.map(|body| body.map_err(|error| HttpError::Other(error.to_string())).boxed_unsync())
    }
}
