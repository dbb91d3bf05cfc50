//! The gate: the only door from a run to the network.
//!
//! A request passes, in this order: the run's budget; the checks of its form ([`Request`]); the manifest's rules; the vetting of addresses
//! ([`AddressRule`], one resolution per connection, only vetted addresses are dialled); then it is sent, and every byte is metered and
//! entered into the receipt ([`HostRecord`]). A redirect is a new request and passes all of it again. The cookie jar, the secrets,
//! decompression and charsets are the gate's work, so that a konnector in any language gets them alike.
//!
//! There are two doors. [`Session::send`] and [`Session::open`] take a request as a value. [`Session::forward`] is for guests with an HTTP
//! client of their own: bodies are streams, and redirects, cookies and decompression stay with the guest. The checks are the same.
//!
//! One [`Gate`] serves a process, one [`Session`] serves a run. Sessions share the trusted certificates and the number of connections, and
//! nothing else: no connection, no TLS ticket, no cookie.

mod address;
mod body;
mod budget;
mod charset;
mod coding;
mod cookie_date;
mod cookies;
mod echo;
mod echo_budget;
mod error;
mod failure;
mod fields;
mod form;
mod forward;
mod gate;
mod guess;
mod ledger;
pub mod log_limit;
mod mask;
mod multipart;
mod own;
pub mod pace;
mod paced;
mod redirect;
mod request;
mod resolve;
mod secret;
mod session;
mod site;
mod stream;
mod substitute;
pub mod text;
mod upload;
mod veil;

pub use address::{AddressRule, is_public};
pub use budget::{HttpBudget, MAX_SUBSTITUTIONS};
pub use cookies::MAX_JAR;
pub use echo_budget::MAX_TEXT_BESIDE_ECHO;
pub use error::{HttpError, Phase, SetupError};
pub use forward::{ForwardBody, Patience};
pub use gate::{Gate, GateOptions, Timeouts};
pub use ledger::HostRecord;
pub use mask::MASKED;
pub use own::{OwnApi, OwnBody, SecretsShown};
pub use redirect::MAX_REDIRECTS;
pub use request::{Body, Expect, MAX_METHOD, Request, Response};
pub use resolve::{Resolver, SystemResolver};
pub use secret::{SecretTable, SecretValue};
pub use session::{Session, SessionOptions};
pub use stream::Stream;
pub use substitute::{MAX_BODY as MAX_SECRET_BODY, MAX_SUBSTITUTIONS_PER_REQUEST};
