//! The HTTP gate, through which all outbound traffic of a run passes.
//!
//! A request passes these checks in order: the run's budget; its form ([`Request`]); the manifest's rules; the vetting
//! of addresses ([`AddressRule`], one resolution per connection, only vetted addresses are dialled). Then it is sent,
//! and every byte is metered and recorded in the receipt ([`HostRecord`]). A redirect is a new request and passes all
//! checks again. The cookie jar, the secrets, decompression and charsets are handled by the gate, so they work the
//! same for a konnector in any language.
//!
//! There are two entry points. [`Session::send`] and [`Session::open`] take a request as a value.
//! [`Session::send_streaming`] is for guests with their own HTTP client. Bodies are streams, and the guest handles
//! redirects, cookies and decompression. The checks are the same.
//!
//! One [`Gate`] serves a process, one [`Session`] serves a run. Sessions share the trusted certificates and the limit
//! on connections, but no connection, TLS ticket or cookie.
//!
//! The guest writes placeholders instead of secrets. The session inserts the values of its [`SecretTable`] into
//! requests for which the rules allow them, and redacts them in responses. The gate stores nothing; the caller saves
//! the cookies and the receipt of a session.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use konnector_egress::{Gate, GateOptions, HttpBudget, HttpError, Request, SecretTable, SessionOptions};
//! use konnector_manifest::Permissions;
//! use serde_json::Map;
//!
//! let permissions: Permissions = serde_json::from_str(
//!     r#"{ "vendor": { "type": "http", "verbs": ["GET"], "values": ["https://www.bank101.example"] } }"#,
//! )?;
//! let session = Gate::new(GateOptions::default())?.session(SessionOptions {
//!     rules: permissions.http_rules(&Map::new())?,
//!     cookies: None,
//!     budget: HttpBudget::default(),
//!     secrets: Arc::new(SecretTable::new([])?),
//!     account: None,
//! });
//!
//! // No rule names this host, so the request is denied before the name is resolved.
//! let error = session.send(Request::get("https://tracker.example/pixel")).await.unwrap_err();
//! assert!(matches!(error, HttpError::Denied(message) if message.contains("https://tracker.example")));
//! let usage = session.network_usage();
//! assert_eq!((usage[0].host.as_str(), usage[0].requests, usage[0].denied), ("https://tracker.example", 0, 1));
//! # Ok(())
//! # }
//! ```

mod address;
mod body;
mod body_fields;
mod budget;
mod charset;
mod client_error;
mod content_coding;
mod cookie_date;
mod cookies;
mod echo_budget;
mod error;
mod form;
mod gate;
mod guess;
mod internal_api;
pub mod log_limit;
mod mask;
mod multipart;
mod network_usage;
mod origin_pool;
mod redirect;
mod request;
mod resolve;
mod response_stream;
mod secret;
mod secret_redactor;
mod secret_replacer;
mod session;
mod streaming;
mod substitute;
pub mod text;
mod upload;
pub mod yield_budget;
mod yielding_connection;

pub use address::{AddressRule, is_public};
pub use budget::{HttpBudget, MAX_SUBSTITUTIONS};
pub use cookies::MAX_COOKIE_JAR_BYTES;
pub use echo_budget::MAX_ECHOED_REQUEST_BYTES;
pub use error::{HttpError, Phase, SetupError};
pub use gate::{Gate, GateOptions, Timeouts};
pub use internal_api::{InternalApi, InternalBody, MayContainSecrets};
pub use mask::MASKED;
pub use network_usage::HostRecord;
pub use redirect::MAX_REDIRECTS;
pub use request::{BodyFormat, DecodedBody, MAX_METHOD_LENGTH, Request, Response};
pub use resolve::{Resolver, SystemResolver};
pub use response_stream::ResponseStream;
pub use secret::{SecretTable, SecretValue};
pub use session::{Session, SessionOptions};
pub use streaming::{RequestTimeouts, StreamingBody};
pub use substitute::{MAX_SECRET_BODY, MAX_SUBSTITUTIONS_PER_REQUEST};
