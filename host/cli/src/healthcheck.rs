//! `konnector healthcheck`: for containers and service managers.

use serde_json::json;

use crate::client::{self, Connection};
use crate::error::{Error, Result};
use crate::output::Output;

/// Checks that the server is ready; needs no passphrase if the data folder has its address.
pub async fn run(connection: &Connection, output: Output) -> Result<()> {
    let url = match connection.data().read_server_file() {
        Some(addresses) if connection.admin_url.is_none() => addresses.public_url,
        _ => {
            let status = connection.admin()?.json(reqwest::Method::GET, "status", &[]).await?;
            crate::output::cell(status.get("public_url"))
        }
    };
    let response = client::build_http_client()?
        .get(format!("{url}/readyz"))
        .timeout(std::time::Duration::from_secs(5))
        .send()
        .await;
    match response {
        Ok(response) if response.status().is_success() => {
            output.show(&json!({ "ready": true, "url": url }), || say!("ready: {url}"));
            Ok(())
        }
        Ok(response) => {
            Err(Error::failed(format!("{url} is not ready: {}", response.status()), "see the server's log"))
        }
        Err(error) => Err(Error::failed(
            format!("{url} does not respond: {error}"),
            "start the server with `konnector serve`; if it is running, see its log",
        )),
    }
}
