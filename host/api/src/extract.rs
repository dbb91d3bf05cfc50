//! Extractors of handlers: instance, caller, parameters and bodies.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Uri};
use konnector_manifest::json_budget::{JsonBudget, JsonBudgetExceeded};
use konnector_manifest::{Doctype, Slug, Verb};
use konnector_platform::cursor;
use konnector_platform::instance::Instance;
use konnector_platform::principal::Principal;
use konnector_platform::{Error, Platform};
use konnector_store::Map;
use percent_encoding::percent_decode;
use serde_json::Value;

use crate::bodies;
use crate::credentials;
use crate::decode;
use crate::error::ApiError;
use crate::offload::client_threads;

/// Maximum size of a body that is parsed in place. Parsing such a body takes less time than a switch to another thread.
const SMALL_BODY: usize = 16 << 10;

/// Returns the host of a request (RFC 9112 §3.2): that of the request line if present, otherwise that of the `Host`
/// header.
pub fn request_host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    uri.authority().map(http::uri::Authority::as_str).or_else(|| headers.get(HOST)?.to_str().ok())
}

/// The instance that the request's host names.
#[derive(Debug, Clone)]
pub struct HostInstance(pub Arc<Instance>);

impl FromRequestParts<Platform> for HostInstance {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, platform: &Platform) -> Result<Self, ApiError> {
        let missing_host =
            || ApiError::bad_request("the request has no Host header; it is required to select the instance");
        let host = request_host(&parts.uri, &parts.headers).ok_or_else(missing_host)?;
        Ok(Self(platform.instances().get(host)?))
    }
}

/// An authenticated caller and the instance it accesses. Without a token, the extractor returns 401.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The accessed instance.
    pub instance: Arc<Instance>,
    /// Identity and permissions of the caller.
    pub principal: Principal,
}

impl Caller {
    /// Rejects callers without a rule for the whole doctype.
    pub fn check_type(&self, verb: Verb, doctype: &Doctype) -> Result<(), ApiError> {
        Ok(self.principal.check_type(verb, doctype)?)
    }

    /// Rejects callers without a rule for any document of the doctype, before the requested document is known.
    pub fn check_any(&self, verb: Verb, doctype: &Doctype) -> Result<(), ApiError> {
        Ok(self.principal.check_any(verb, doctype)?)
    }

    /// Rejects callers without a rule for the doctype, the document's id, or one of its fields.
    pub fn check_document(&self, verb: Verb, doctype: &Doctype, id: &str, body: &Map) -> Result<(), ApiError> {
        Ok(self.principal.check_document(verb, doctype, id, body)?)
    }

    /// Rejects callers without a rule for the jobs or triggers of a worker; `id` is empty for a new job or trigger.
    pub fn check_worker(&self, verb: Verb, doctype: &Doctype, id: &str, worker: &str) -> Result<(), ApiError> {
        let fields = Map::from_iter([("worker".to_owned(), Value::String(worker.to_owned()))]);
        self.check_document(verb, doctype, id, &fields)
    }

    /// Returns the konnector that sent the request, if any.
    pub fn konnector(&self) -> Result<Option<Slug>, ApiError> {
        let invalid_slug = |_| ApiError::forbidden("the subject of the token is not a valid konnector slug");
        self.principal.konnector().map(|slug| slug.parse().map_err(invalid_slug)).transpose()
    }

    /// Rejects all callers except the owner, who has all permissions and is not a konnector.
    pub fn check_owner(&self) -> Result<(), ApiError> {
        self.principal.check_may_outlive_run("act as the owner")?;
        if self.principal.permissions.is_everything() {
            return Ok(());
        }
        Err(ApiError::forbidden("this operation requires a token with the scope *"))
    }
}

impl FromRequestParts<Platform> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, platform: &Platform) -> Result<Self, ApiError> {
        // The token was checked before the body was read.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let HostInstance(instance) = HostInstance::from_request_parts(parts, platform).await?;
        let token = credentials::bearer(&parts.headers)
            .or_else(|| credentials::basic_password(&parts.headers))
            .or_else(|| Params::from_uri(&parts.uri).get("bearer_token").map(str::to_owned))
            .ok_or_else(|| ApiError::unauthenticated("No token in request", "Bearer"))?;
        let principal = platform.auth().authenticate(&instance, &token)?;
        Ok(Self { instance, principal })
    }
}

/// The parameters of the query string. Names are case-sensitive; if a name occurs several times, the first occurrence
/// counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Parses the query string of a URI, and replaces what is not UTF-8.
    pub fn from_uri(uri: &Uri) -> Self {
        Self(url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// Parses a query string or a form.
    ///
    /// # Errors
    ///
    /// If a name or a value is not UTF-8 (status 400); otherwise, a file could get a name with replacement characters.
    fn parse(encoded: &[u8]) -> Result<Self, ApiError> {
        let is_text = |text: &[u8]| percent_decode(text).decode_utf8().is_ok();
        match encoded.split(|byte| *byte == b'&').find(|pair| !is_text(pair)) {
            None => Ok(Self(url::form_urlencoded::parse(encoded).into_owned().collect())),
            Some(pair) => {
                let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
                let name = percent_decode(name).decode_utf8_lossy();
                Err(ApiError::bad_request(format!("{name}: the parameter is not valid UTF-8; encode it as UTF-8")))
            }
        }
    }

    /// Returns the names of all parameters.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Returns all parameters, in order.
    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// Returns the raw value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the raw value of a parameter; an empty one counts as absent.
    pub fn get_non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Adds parameters; existing ones take precedence over new ones of the same name.
    #[must_use]
    pub fn and(mut self, parameters: impl IntoIterator<Item = (String, String)>) -> Self {
        self.0.extend(parameters);
        self
    }

    /// Returns all parameters except one.
    pub fn without(&self, name: &str) -> Vec<(String, String)> {
        self.0.iter().filter(|(key, _)| key != name).cloned().collect()
    }

    /// Parses a comma-separated list, without its empty items.
    pub fn list(&self, name: &str) -> Vec<String> {
        let items = self.get(name).unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    }

    /// Returns whether a parameter is true; `absent` if it is missing. Values that are neither true nor false count as
    /// false, because a client that sends `PermissionsAcked=no` has not accepted anything.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| matches!(value, "1" | "t" | "T" | "true" | "True" | "TRUE"))
    }

    /// Parses a number; an empty one counts as absent, because clients send all the parameters they know.
    ///
    /// # Errors
    ///
    /// If the value is not a number (status 400).
    pub fn number(&self, name: &'static str) -> Result<Option<usize>, ApiError> {
        let parse = |value: &str| {
            value.parse().map_err(|_| {
                ApiError::bad_request(format!("{name}: '{value}' is not valid; expected a whole number of at least 0"))
            })
        };
        self.get_non_empty(name).map(parse).transpose()
    }

    /// Returns the position in a list from which a page is requested, from a cursor of [`cursor::encode`]; an empty
    /// one counts as absent.
    ///
    /// # Errors
    ///
    /// If the value is not a cursor of this list (status 400). A page after an unknown position would lack items, or
    /// be empty like that of an empty list.
    pub fn cursor(&self, name: &'static str, list: &str) -> Result<Option<String>, ApiError> {
        let decode = |text: &str| {
            cursor::decode(list, text).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "{name}: '{text}' does not come from a page of this list; send the one of the previous page, or \
                     omit it to begin with the first page"
                ))
            })
        };
        self.get_non_empty(name).map(decode).transpose()
    }

    /// Parses a JSON object.
    ///
    /// # Errors
    ///
    /// If the value is not a JSON object (status 400).
    pub fn object(&self, name: &'static str) -> Result<Option<Map>, ApiError> {
        let parse = |value: &str| {
            serde_json::from_str(value)
                .map_err(|error| ApiError::bad_request(format!("the parameter {name} {}", decode::reason(&error))))
        };
        self.get_non_empty(name).map(parse).transpose()
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::parse(parts.uri.query().unwrap_or_default().as_bytes())
    }
}

/// A form (`a=1&b=2`) as the body; the media type is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormBody(pub Params);

impl<S: Send + Sync> FromRequest<S> for FormBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let (body, _charge) = bodies::read(&parts.extensions, body)
            .await
            .map_err(|error| error.into_error("the form is larger than 1 MiB"))?;
        Params::parse(&body).map(Self)
    }
}

/// A JSON object as the body; the media type is ignored.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonObject(pub Map);

impl<S: Send + Sync> FromRequest<S> for JsonObject {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let (body, charge) = bodies::read(&parts.extensions, body)
            .await
            .map_err(|error| error.into_error("the JSON body is larger than 1 MiB"))?;
        let length = body.len();
        let read = move || {
            let _charge = charge;
            JsonBudget::for_request(body.len()).check(&body).map_err(|error| match error {
                JsonBudgetExceeded::Depth => Error::BadRequest(format!("the body is {error}")),
                JsonBudgetExceeded::Heap { .. } => Error::TooLarge(format!("the body is too large: {error}")),
            })?;
            serde_json::from_slice(&body)
                .map(Self)
                .map_err(|error| Error::BadRequest(format!("the body {}", decode::reason(&error))))
        };
        Ok(if length > SMALL_BODY { client_threads().run(read).await? } else { read()? })
    }
}

/// The attributes in a JSON:API body, `{"data": {"attributes": {…}}}`; empty if `data` has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Attributes(Map);

impl Attributes {
    /// Takes an attribute; null counts as absent.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Takes a string.
    ///
    /// # Errors
    ///
    /// If the attribute has another type (status 422).
    pub fn take_string(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::attribute(name, format!("the attribute {name} must be a string"))),
        }
    }

    /// Takes a list of strings.
    ///
    /// # Errors
    ///
    /// If the attribute has another type (status 422).
    pub fn take_strings(&mut self, name: &'static str) -> Result<Option<Vec<String>>, ApiError> {
        let wrong_type = |_| ApiError::attribute(name, format!("the attribute {name} must be a list of strings"));
        self.take(name).map(|value| serde_json::from_value(value).map_err(wrong_type)).transpose()
    }

    /// Returns all attributes, for a document that consists of them.
    #[must_use]
    pub fn into_map(self) -> Map {
        self.0
    }

    /// Takes a boolean; false if it is absent.
    ///
    /// # Errors
    ///
    /// If the attribute has another type (status 422).
    pub fn take_bool(&mut self, name: &'static str) -> Result<bool, ApiError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(ApiError::attribute(name, format!("the attribute {name} must be true or false"))),
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Attributes {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let JsonObject(mut body) = JsonObject::from_request(request, state).await?;
        // The first half is Cozy's text.
        let malformed = || {
            ApiError::bad_request(
                "JSON input is malformed or is missing mandatory fields; send {\"data\": {\"attributes\": {…}}}",
            )
        };
        let Some(Value::Object(mut data)) = body.shift_remove("data") else { return Err(malformed()) };
        match data.shift_remove("attributes") {
            Some(Value::Object(attributes)) => Ok(Self(attributes)),
            None => Ok(Self(Map::new())),
            Some(_) => Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn params(query: &str) -> Params {
        Params::from_uri(&format!("/?{query}").parse().expect("an address"))
    }

    #[test]
    fn a_flag_that_reads_as_nothing_is_false() {
        assert!(params("").flag("PermissionsAcked", true));
        for yes in ["1", "t", "true", "TRUE"] {
            assert!(params(&format!("PermissionsAcked={yes}")).flag("PermissionsAcked", true), "{yes}");
        }
        for no in ["0", "false", "maybe", "", "yes", "tRuE"] {
            assert!(!params(&format!("PermissionsAcked={no}")).flag("PermissionsAcked", true), "{no}");
        }
    }

    #[test]
    fn parameters_must_be_utf_8() {
        for (query, parameter) in [("Name=%ff%fe", "Name"), ("a=1&Tags=b,%c3&c=2", "Tags")] {
            let failure = Params::parse(query.as_bytes()).expect_err(query);
            assert_eq!(failure.status, StatusCode::BAD_REQUEST, "{query}");
            assert!(failure.message.starts_with(&format!("{parameter}: ")), "{query}: {}", failure.message);
        }
        let params = Params::parse(b"Name=caf%C3%A9+1&empty").expect("UTF-8");
        assert_eq!((params.get("Name"), params.get("empty")), (Some("caf\u{e9} 1"), Some("")));
    }

    #[test]
    fn parameters_are_decoded_and_have_a_case() {
        let params = params("Source=file%3A%2F%2F%2Fa+b&Worker=a,%20b,,c&page[limit]=12");
        assert_eq!(params.get("Source"), Some("file:///a b"));
        assert_eq!(params.get("source"), None);
        assert_eq!(params.list("Worker"), ["a", "b", "c"]);
        assert_eq!(params.number("page[limit]"), Ok(Some(12)));
        assert_eq!(params.number("Source").map_err(|failure| failure.status), Err(StatusCode::BAD_REQUEST));
    }
}
