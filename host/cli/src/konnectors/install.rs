//! Installs and updates konnectors, showing each state.

use reqwest::Method;
use serde_json::Value;

use crate::client::{ApiClient, encode_segment, flatten};
use crate::error::{Error, Result};
use crate::hint;
use crate::output::{Output, cell, done, note, warning};

/// Sends the request and shows each state until the konnector is ready.
pub async fn follow(
    session: &ApiClient,
    output: Output,
    method: Method,
    slug: &str,
    query: &[(&str, &str)],
) -> Result<()> {
    let show = hint::command(&format!("konnectors show {slug}"));
    let advice =
        format!("{slug} is either installed completely or unchanged; check with `{show}`, then run the command again");
    let events = session.events(method, &format!("konnectors/{}", encode_segment(slug)), query, advice).await;
    let mut events = events.map_err(|error| advise_update(error, slug))?;
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
                let error = Error::failed(format!("{slug}: {}", cell(Some(&event.data))), "nothing was changed");
                return Err(advise_update(error, slug));
            }
            _ => {}
        }
    }
    if last.get("state").and_then(Value::as_str) != Some("ready") {
        return Err(Error::failed(
            format!("the server stopped before {slug} was ready"),
            format!("check its state: {show}"),
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
            let update = hint::command(&format!("konnectors update {slug}"));
            warning(&format!("version {newer} requires your consent: {update}"));
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

/// Adds the advice to update to the error for a konnector that is installed already. The sentence is Cozy's.
fn advise_update(error: Error, slug: &str) -> Error {
    if error.to_string().contains("Application with same slug already exists") {
        return Error::failed(
            format!("{slug} is already installed"),
            format!("update it: {}", hint::command(&format!("konnectors update {slug}"))),
        );
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_konnector_is_updated() {
        let error = advise_update(Error::message("Application with same slug already exists"), "bank101");
        assert!(
            matches!(&error, Error::Failed { message, advice }
                if message == "bank101 is already installed"
                    && advice == "update it: konnector konnectors update bank101"),
            "{error:?}"
        );
        assert_eq!(advise_update(Error::message("other"), "bank101").to_string(), "other");
    }
}
