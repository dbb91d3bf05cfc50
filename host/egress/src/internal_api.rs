//! Our own API, for a guest that was written for the environment contract and speaks to `COZY_URL`.

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use http_body_util::combinators::UnsyncBoxBody;
use url::Url;

use super::error::HttpError;

/// A body on its way to or from our own API.
pub type InternalBody = UnsyncBoxBody<Bytes, HttpError>;

/// What an answer carries, as an extension, that can hold passwords of the run's account; it is counted for the receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MayContainSecrets;

/// Our own public API for one instance, answered inside of the process: there is no connection, and nothing is resolved. What may be done
/// is what the token in a request says, as for any other client.
#[async_trait]
pub trait InternalApi: Send + Sync {
    /// Where it is reached: scheme, host, port and a slash (`COZY_URL`).
    fn url(&self) -> &Url;
    /// The `Host` that leads to the instance.
    fn host(&self) -> HeaderValue;
    /// The konnector's token (`COZY_CREDENTIALS`).
    fn token(&self) -> &str;
    /// Whether its answers can hold the account's passwords.
    fn may_contain_secrets(&self) -> bool;
    /// Answers a request in origin form. Cancel-safe as far as a connection that is cut off would be.
    async fn call(&self, request: http::Request<InternalBody>) -> http::Response<InternalBody>;
}
