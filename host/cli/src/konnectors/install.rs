//! Installs and updates konnectors, showing each state.

use reqwest::Method;
use serde_json::Value;

use crate::client::{ApiClient, encode_segment, flatten};
use crate::error::{Error, Result};
use crate::output::{Output, cell, done, note, warning};

/// Sends the request and shows each state until the konnector is ready.
pub async fn follow(
    session: &ApiClient,
    output: Output,
    method: Method,
    slug: &str,
    query: &[(&str, &str)],
) -> Result<()> {
    let advice = format!(
        "{slug} is either installed completely or unchanged; check with `konnector konnectors show {slug}`, then run the command again"
    );
    let mut events = session.events(method, &format!("konnectors/{}", encode_segment(slug)), query, advice).await?;
    let mut last = Value::Null;
    while let Some(event) = events.next().await? {
        match event.name.as_str() {
            "state" => {
                last = flatten(&event.data);
                let state = cell(last.get("state"));
                if !output.json && state != "ready" {
                    note(&format!("{slug}: {state} …"));
                }
            }
            "error" => {
                return Err(Error::failed(format!("{slug}: {}", cell(Some(&event.data))), "nothing was changed"));
            }
            _ => {}
        }
    }
    if last.get("state").and_then(Value::as_str) != Some("ready") {
        return Err(Error::failed(
            format!("the server stopped before {slug} was ready"),
            format!("check its state: konnector konnectors show {slug}"),
        ));
    }
    output.show(&last, || {
        done(&format!("{} {} is ready", cell(last.get("name")), cell(last.get("version"))));
        let accepted = last.get("accepted_changes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if !accepted.is_empty() {
            warning("this update accepted what the new version adds; with --safe, the old version would have stayed:");
            for change in accepted {
                note(&format!("  {}", cell(Some(change))));
            }
        }
        if let Some(newer) = last.get("available_version").and_then(Value::as_str) {
            warning(&format!("version {newer} requires your consent: konnector konnectors update {slug}"));
            for change in last.get("available_changes").and_then(Value::as_array).into_iter().flatten() {
                note(&format!("  {}", cell(Some(change))));
            }
        }
        if last.get("reads_secrets").and_then(Value::as_bool) == Some(true) {
            warning(&format!("{slug} can read the passwords of its accounts, not only use them"));
        }
        super::warn_clamped_limits(&last);
    });
    Ok(())
}
