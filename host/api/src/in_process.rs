//! The public API without a connection: konnectors that speak to `COZY_URL` are answered inside of the process.

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use konnector_platform::PublicApi;
use konnector_sandbox::capability::OwnBody;
use konnector_sandbox::http::HttpError;

/// Hands requests to a router.
pub struct InProcess(TowerToHyperService<Router>);

impl InProcess {
    /// The router of [`public`](crate::public).
    #[must_use]
    pub fn new(public: Router) -> Self {
        Self(TowerToHyperService::new(public))
    }
}

#[async_trait]
impl PublicApi for InProcess {
    async fn answer(&self, request: http::Request<OwnBody>) -> http::Response<OwnBody> {
        let Ok(response) = self.0.call(request.map(Body::new)).await;
        response.map(|body| body.map_err(|error| HttpError::Other(error.to_string())).boxed_unsync())
    }
}
