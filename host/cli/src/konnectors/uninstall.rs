//! Uninstalls a konnector and waits until it has cleaned up at its vendor.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{ApiClient, encode_segment};
use crate::error::{Error, Result};
use crate::output::{Output, cell, done, note};

/// Uninstalls a konnector; returns when it is deleted, or remains because it could not clean up. The server reports
/// both.
pub async fn run(session: &ApiClient, output: Output, slug: &str, force: bool) -> Result<()> {
    let query: &[_] = if force { &[("Force", "true")] } else { &[] };
    let advice = "check whether it is still installed: konnector konnectors ls";
    let mut events = session
        .events(Method::DELETE, &format!("konnectors/{}", encode_segment(slug)), query, advice.to_owned())
        .await?;
    while let Some(event) = events.next().await? {
        match event.name.as_str() {
            "cleaning" if !output.json => note(&format!("{slug} is cleaning up at its vendor …")),
            "deleted" => {
                output.show(&json!({ "uninstalled": slug }), || {
                    done(&format!("uninstalled {slug}, with its accounts and triggers"));
                });
                return Ok(());
            }
            "error" => return Err(clean_up_error(slug, &event.data)),
            _ => {}
        }
    }
    Err(Error::failed(format!("the server stopped before {slug} was uninstalled"), advice))
}

fn clean_up_error(slug: &str, reason: &Value) -> Error {
    Error::failed(
        format!("{slug} remains installed: {}; `konnector jobs ls` shows why", cell(Some(reason))),
        format!("uninstall it again to retry, or skip the clean-up: konnector konnectors uninstall {slug} --force"),
    )
}
