//! Bank101, a fictitious vendor with a web site that the example konnectors log into.
//!
//! It behaves like the sites that konnectors visit: a login form with a CSRF token and a session cookie, redirects,
//! bills in paginated HTML tables with French and English dates and amounts, PDFs, a page in ISO-8859-1, JSON inside
//! a script. Its [`Switches`] simulate the failures of a vendor; set them by flags, over HTTP under `/_control`, or
//! in process:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), demo_vendor::Error> {
//! use demo_vendor::{Vendor, VendorOptions};
//!
//! let vendor = Vendor::start(VendorOptions::default()).await?;
//! vendor.control().set(|switches| switches.maintenance = true);
//! assert_eq!(vendor.control().counters().logins, 0);
//! vendor.shutdown().await
//! # }
//! ```
//!
//! Nothing in it depends on the date, so the same vendor always shows the same bills, with the same bytes.

#![expect(clippy::disallowed_methods, reason = "the site is not part of our API and needs no description")]

mod bill;
mod contract;
mod control;
mod counters;
mod customer;
mod error;
mod handle;
mod language;
mod ledger;
mod options;
mod pdf;
mod session;
mod site;
mod switches;
mod web;

pub use bill::{Amount, Bill, NewBill};
pub use contract::Contract;
pub use control::{Control, State};
pub use counters::Counters;
pub use customer::{CUSTOMER, Customer};
pub use error::Error;
pub use handle::{Vendor, VendorHandle};
pub use language::Language;
pub use ledger::BILLS_PER_PAGE;
pub use options::{DEFAULT_BILLS, DEFAULT_LOGIN, DEFAULT_PASSWORD, VendorOptions};
pub use session::SESSION_COOKIE;
pub use switches::{Layout, Switches};
