//! Uninstalls a konnector and waits until it has cleaned up at its vendor.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{ApiClient, encode_segment, flatten, flatten_list};
use crate::confirm::{Confirmation, count};
use crate::data;
use crate::error::{Error, Result};
use crate::hint;
use crate::output::{Output, cell, done, note};

/// Says what an uninstallation removes.
fn summary(slug: &str, accounts: usize, triggers: usize, cleans_up: bool) -> String {
    let (accounts, triggers) = (count(accounts, "account"), count(triggers, "trigger"));
    let clean_up = if cleans_up { "; it cleans up at its vendor first" } else { "" };
    format!("this removes {slug}, {accounts} and {triggers}; saved documents and files remain{clean_up}")
}

/// Uninstalls a konnector after a confirmation; returns when it is deleted, or remains because it could not clean up. The server reports
/// both.
pub async fn run(
    session: &ApiClient,
    output: Output,
    slug: &str,
    force: bool,
    confirmation: &Confirmation,
) -> Result<()> {
    let konnector = flatten(&session.get(&format!("konnectors/{}", encode_segment(slug)), &[]).await?);
    let has_field = |value: &Value, name: &str| value.get(name).and_then(Value::as_str) == Some(slug);
    let accounts = data::all_documents(session, "io.cozy.accounts").await?;
    let accounts = accounts.iter().filter(|account| has_field(account, "account_type")).count();
    let triggers = flatten_list(&session.get("jobs/triggers", &[]).await?);
    let runs_it = |trigger: &&Value| trigger.get("message").is_some_and(|message| has_field(message, "konnector"));
    let triggers = triggers.iter().filter(runs_it).count();
    let cleans_up = accounts > 0 && konnector.get("on_delete_account").is_some_and(|file| !file.is_null());
    confirmation.ask(output, &summary(slug, accounts, triggers, cleans_up))?;
    let query: &[_] = if force { &[("Force", "true")] } else { &[] };
    let advice = format!("check whether it is still installed: {}", hint::command("konnectors ls"));
    let mut events =
        session.events(Method::DELETE, &format!("konnectors/{}", encode_segment(slug)), query, advice.clone()).await?;
    while let Some(event) = events.next().await? {
        match event.name.as_str() {
            "cleaning" if !output.json && cleans_up => note(&format!("{slug} is cleaning up at its vendor …")),
            "cleaning" if !output.json => note(&format!("removing the accounts of {slug} …")),
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
        format!("{slug} remains installed: {}; `{}` shows why", cell(Some(reason)), hint::command("jobs ls")),
        format!(
            "uninstall it again to retry, or skip the clean-up: {}",
            hint::command(&format!("konnectors uninstall {slug} --force"))
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_what_is_removed() {
        insta::assert_snapshot!([summary("bank101", 1, 2, true), summary("bank101", 0, 0, false)].join("\n"), @r"
        this removes bank101, 1 account and 2 triggers; saved documents and files remain; it cleans up at its vendor first
        this removes bank101, 0 accounts and 0 triggers; saved documents and files remain
        ");
    }
}
