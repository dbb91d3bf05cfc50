//! Our own API, for a guest that uses the environment contract and calls `COZY_URL`.

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use http_body_util::combinators::UnsyncBoxBody;
use url::Url;

use super::error::HttpError;

/// Body of a request to, or a response from, our own API.
pub type InternalBody = UnsyncBoxBody<Bytes, HttpError>;

/// Extension of a response that can hold passwords of the run's account; such responses are counted for the receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MayContainSecrets;

/// Our own public API for one instance, served inside the process without a connection or name resolution. The token in
/// a request determines what is allowed, as for any other client.
#[async_trait]
pub trait InternalApi: Send + Sync {
    /// Returns the URL of the API: scheme, host, port and a slash (`COZY_URL`).
    fn url(&self) -> &Url;
    /// Returns the `Host` header that selects the instance.
    fn host(&self) -> HeaderValue;
    /// Returns the konnector's token (`COZY_CREDENTIALS`).
    fn token(&self) -> &str;
    /// Returns whether responses of the API can hold the account's passwords.
    fn may_contain_secrets(&self) -> bool;
    /// Handles a request in origin form. As cancel-safe as a connection that is cut off.
    async fn call(&self, request: http::Request<InternalBody>) -> http::Response<InternalBody>;
}
