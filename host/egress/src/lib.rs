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
