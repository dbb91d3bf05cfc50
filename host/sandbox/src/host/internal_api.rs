//! The internal API for a run. Each request is billed to the run.

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use url::Url;

use super::Context;
use crate::request_cpu::RequestCpuMeter;
use konnector_egress::{InternalApi, InternalBody};

/// The internal API, with the meter of a run.
pub(super) struct MeteredApi<'a> {
    context: &'a Context,
    api: &'a dyn InternalApi,
}

impl Context {
    pub(super) fn internal_api(&self) -> Option<MeteredApi<'_>> {
        self.capabilities.api.as_deref().map(|api| MeteredApi { context: self, api })
    }
}

#[async_trait]
impl InternalApi for MeteredApi<'_> {
    fn url(&self) -> &Url {
        self.api.url()
    }

    fn host(&self) -> HeaderValue {
        self.api.host()
    }

    fn token(&self) -> &str {
        self.api.token()
    }

    fn may_contain_secrets(&self) -> bool {
        self.api.may_contain_secrets()
    }

    async fn call(&self, mut request: http::Request<InternalBody>) -> Response<InternalBody> {
        let bill = RequestCpuMeter::new(self.context.meter.clone(), self.context.capabilities.limits.cpu);
        request.extensions_mut().insert(bill.clone());
        match bill.limit(self.api.call(request)).await {
            Ok(response) => response,
            Err(_) => cpu_exhausted_response(),
        }
    }
}

fn cpu_exhausted_response() -> Response<InternalBody> {
    let text = r#"{"errors":[{"status":"503","title":"Service Unavailable","detail":"the request uses too much CPU time; request less data at a time"}]}"#;
    let mut response =
        Response::new(Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.api+json"));
    response
}
