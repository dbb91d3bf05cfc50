//! The SDK for konnectors: programs that fetch a person's bills, documents and data from a remote account.
//!
//! A konnector is one function. The attribute [`konnector`] makes it the entry point of the program:
//!
//! ```no_run
//! use konnector_sdk::prelude::*;
//!
//! #[konnector(saves("io.cozy.bills", "io.cozy.files"))]
//! fn run(context: Context) -> Result<Report> {
//!     let account = context.account()?;
//!     let client = Client::new("https://www.bank101.example")?;
//!
//!     let page = client.get("/login").html()?;
//!     let form = page.form("#login")?.set("login", account.field("login")?)?.set("password", account.secret("password")?)?;
//!     if form.submit(&client)?.html()?.has(".error")? {
//!         return Err(Error::bad_credentials("the bank rejected the password"));
//!     }
//!
//!     let mut bills = Vec::new();
//!     for row in client.get("/bills").html()?.select("table.bills tbody tr")? {
//!         let amount = parse::amount(&row.text(".amount")?)?;
//!         let date = parse::date(&row.text(".date")?)?;
//!         bills.push(Bill::new("bank101", amount, date, row.link("a.pdf")?));
//!     }
//!     Ok(save_bills(&client, bills)?.into())
//! }
//! # fn main() {}
//! ```
//!
//! The host handles redirects, cookies, decompression and charsets. Passwords stay with the host: a [`Secret`] is a
//! placeholder that the host replaces in requests to the hosts that the manifest names. On the author's own machine
//! the SDK runs against [`testing::Host`](crate::testing), so a konnector can be tested with `cargo test`.

mod account;
mod context;
pub mod documents;
mod error;
pub mod files;
mod host;
pub mod html;
pub mod http;
pub mod log;
pub mod parse;
mod progress;
mod report;
pub mod save;
mod secret;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

#[doc(hidden)]
pub mod entry;

/// The contract with the host, generated from `wit/`; for features that the SDK does not wrap.
#[expect(missing_docs, reason = "generated from the WIT text, which is documented")]
#[allow(clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
pub mod bindings {
    #[cfg(not(feature = "reveal"))]
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        world: "konnector",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "konnector_sdk::bindings",
        generate_all,
    });
    #[cfg(feature = "reveal")]
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        world: "konnector-with-reveal",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "konnector_sdk::bindings",
        generate_all,
    });
}

pub use account::{Account, Fields};
pub use chrono;
pub use context::{Context, Language};
pub use error::{Error, Result};
pub use konnector_sdk_macros::konnector;
pub use progress::{ask_code, ask_code_again, login_succeeded, remaining_time, report_progress, request_approval};
pub use report::Report;
pub use secret::Secret;
pub use serde_json;
pub use url::Url;

/// What the user must do at the vendor, for [`Error::UserAction`].
pub use bindings::exports::konnector::host::run::Action;
/// Why a run was started.
pub use bindings::exports::konnector::host::run::Cause;
/// How a one-time code reaches the user, for [`ask_code`].
pub use bindings::konnector::host::progress::CodeChannel;
/// Identifies one document or file by its id or by the key that it was saved under.
pub use bindings::konnector::host::types::Locator;

/// Everything that a konnector usually needs: `use konnector_sdk::prelude::*`.
pub mod prelude {
    pub use crate::html::{Element, Form, Page, Select};
    pub use crate::http::{Client, FileSource, Response};
    pub use crate::save::{
        Bill, File, Item, Metadata, SaveSummary, delete_documents, save_bills, save_documents, save_files, trash_files,
        update_documents,
    };
    pub use crate::{
        Account, Action, CodeChannel, Context, Error, Locator, Report, Result, Secret, Url, ask_code, ask_code_again,
        debug, error, info, konnector, login_succeeded, parse, remaining_time, report_progress, request_approval, warn,
    };
    pub use crate::{documents, files};
    pub use chrono::NaiveDate;
    pub use serde_json::json;
}
