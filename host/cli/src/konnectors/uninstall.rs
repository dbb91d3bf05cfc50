//! Uninstalling, and waiting for the konnector to clean up at its vendor.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Session, flat_list, segment};
use crate::error::{Error, Result};
use crate::output::{Output, done, note};

/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(500);

/// Removes a konnector; ends when it is gone, or stays because it could not clean up.
pub async fn run(session: &Session, output: Output, slug: &str, force: bool) -> Result<()> {
    let query: &[_] = if force { &[("Force", "true")] } else { &[] };
    session.call(Method::DELETE, &format!("konnectors/{}", segment(slug)), query).await?;
    let (mut told, mut idle) = (false, 0);
    while is_installed(session, slug).await? {
        if cleans_up(session, slug).await? {
            idle = 0;
            if !told && !output.json {
                note(&format!("{slug} cleans up at its vendor …"));
                told = true;
            }
        } else {
            idle += 1;
        }
        // Between the end of a job and what follows from it, a moment goes by.
        if idle > 4 {
            return Err(Error::failed(
                format!(
                    "{slug} stays installed, because it could not clean up at its vendor; `konnector jobs ls` shows why"
                ),
                format!(
                    "uninstall it again to have it try again, or give that up: konnector konnectors uninstall {slug} --force"
                ),
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
    output.show(&json!({ "uninstalled": slug }), || {
        done(&format!("{slug} is uninstalled, with its accounts and triggers"))
    });
    Ok(())
}

/// By the list: its own route might update it from its registry.
async fn is_installed(session: &Session, slug: &str) -> Result<bool> {
    let konnectors = flat_list(&session.get("konnectors/", &[("limit", "1000")]).await?);
    Ok(konnectors.iter().any(|konnector| konnector.get("slug").and_then(Value::as_str) == Some(slug)))
}

/// Whether a job of it is on its way that cleans up after an account.
async fn cleans_up(session: &Session, slug: &str) -> Result<bool> {
    let jobs = flat_list(&session.get("jobs/queue/konnector", &[]).await?);
    Ok(jobs.iter().filter_map(|job| job.get("message")).any(|message| {
        message.get("konnector").and_then(Value::as_str) == Some(slug)
            && message.get("account_deleted") == Some(&Value::Bool(true))
    }))
}
