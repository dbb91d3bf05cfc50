//! Client of the public API, with a token of one instance.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HOST};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::events::EventStream;
use super::response;
use crate::error::Result;

/// Characters that remain unencoded in a path segment (RFC 3986 §2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes a string as one segment of a path.
pub fn encode_segment(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// A client of the public API.
pub struct ApiClient {
    http: reqwest::Client,
    url: Url,
    domain: String,
    token: String,
}

impl ApiClient {
    pub(super) const fn new(http: reqwest::Client, url: Url, domain: String, token: String) -> Self {
        Self { http, url, domain, token }
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Result<RequestBuilder> {
        let url = response::join_url(&self.url, path, query)?;
        // The connection goes to the server's address; the request names the instance.
        Ok(self.http.request(method, url).bearer_auth(&self.token).header(HOST, &self.domain))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        response::check_status(request.send().await.map_err(|error| response::connection_error(&self.url, &error))?)
            .await
    }

    /// Sends a request without a body; returns the response as JSON.
    pub async fn call(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let response = self.send(self.request(method, path, query)?).await?;
        response::parse(&response::text(response).await?)
    }

    /// Returns a URL of the instance, for a browser.
    pub fn address(&self, path: &str, query: &[(&str, &str)]) -> Result<Url> {
        // The instance may have a name other than the server's address.
        let base = Url::parse(&format!("{}://{}/", self.url.scheme(), self.domain));
        response::join_url(base.as_ref().unwrap_or(&self.url), path, query)
    }

    /// Sends a `GET` request; returns the response as JSON.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        self.call(Method::GET, path, query).await
    }

    /// Sends a `GET` request for a resource that may be missing; returns `None` for 404.
    pub async fn find(&self, path: &str) -> Result<Option<Value>> {
        let request = self.request(Method::GET, path, &[])?;
        let response = request.send().await.map_err(|error| response::connection_error(&self.url, &error))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        response::parse(&response::text(response).await?).map(Some)
    }

    /// Sends a request with a JSON body; returns the response as JSON.
    pub async fn send_json(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let request = self.request(method, path, &[])?.header(CONTENT_TYPE, "application/json").body(body.to_string());
        let response = self.send(request).await?;
        response::parse(&response::text(response).await?)
    }

    /// Sends a request with the attributes of a JSON:API resource.
    pub async fn send_attributes(&self, method: Method, path: &str, attributes: &Value) -> Result<Value> {
        self.send_json(method, path, &json!({ "data": { "attributes": attributes } })).await
    }

    /// Sends a `GET` request; returns the response as a string.
    pub async fn text(&self, path: &str) -> Result<String> {
        let response = self.send(self.request(Method::GET, path, &[])?).await?;
        response::text(response).await
    }

    /// Sends a `GET` request with a large response, to be read chunk by chunk.
    pub async fn download(&self, path: &str, query: &[(&str, &str)]) -> Result<Response> {
        self.send(self.request(Method::GET, path, query)?).await
    }

    /// Sends a request that returns an event stream; `advice` is for the user if the stream is interrupted.
    pub async fn events(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        advice: String,
    ) -> Result<EventStream> {
        let request = self.request(method, path, query)?.header(ACCEPT, "text/event-stream");
        Ok(EventStream::new(self.send(request).await?, advice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_with_slashes_is_one_segment() {
        assert_eq!(encode_segment("io.cozy.konnectors/bank101"), "io.cozy.konnectors%2Fbank101");
        assert_eq!(encode_segment("a?b#é"), "a%3Fb%23%C3%A9");
    }
}
