//! Clients of a server's admin API and public API.

mod events;
mod response;
mod session;

use std::path::PathBuf;

use serde_json::Value;
use url::Url;

use crate::data_dir::{self, DataDir};
use crate::error::{Error, Result};
use crate::hint;

pub use events::Event;
pub use response::{flatten, flatten_list};
pub use session::{ApiClient, encode_segment};

/// Selects the server and the instance. `serve` uses some of these flags, too.
#[derive(Debug, clap::Args)]
pub struct Connection {
    /// Data folder of the server [default: data].
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        env = "KONNECTOR_DATA_DIR",
        hide_env_values = true,
        help_heading = "Server"
    )]
    pub data_dir: Option<PathBuf>,
    /// URL of the admin API [default: that of the server on the data folder].
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "KONNECTOR_ADMIN_URL",
        hide_env_values = true,
        help_heading = "Server"
    )]
    pub admin_url: Option<String>,
    /// Domain of the instance to use [default: the only one].
    #[arg(
        long,
        global = true,
        value_name = "DOMAIN",
        env = "KONNECTOR_DOMAIN",
        hide_env_values = true,
        help_heading = "Server"
    )]
    pub domain: Option<String>,
    /// Print JSON for programs.
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
}

/// A client of the admin API.
pub struct AdminClient {
    http: reqwest::Client,
    url: Url,
    passphrase: String,
}

impl Connection {
    /// Returns the selected data folder.
    pub fn data(&self) -> DataDir {
        DataDir::new(self.data_dir.clone().unwrap_or_else(|| PathBuf::from(data_dir::DEFAULT_DATA_DIR)))
    }

    /// Returns the URL of the admin API.
    pub fn admin_address(&self) -> Result<Url> {
        let announced = || self.data().read_server_file().map(|addresses| addresses.admin_url);
        let text = self.admin_url.clone().or_else(announced).unwrap_or_else(|| "http://127.0.0.1:6060".to_owned());
        text.parse().map_err(|error| {
            Error::usage(
                format!("--admin-url: '{text}' is not a valid URL: {error}"),
                "use a URL such as http://127.0.0.1:6060",
            )
        })
    }

    /// Creates a client of the admin API.
    pub fn admin(&self) -> Result<AdminClient> {
        Ok(AdminClient { http: build_http_client()?, url: self.admin_address()?, passphrase: self.passphrase()? })
    }

    fn passphrase(&self) -> Result<String> {
        const VARIABLE: &str = "KONNECTOR_ADMIN_PASSPHRASE";
        if let Ok(passphrase) = std::env::var(VARIABLE) {
            return Ok(passphrase);
        }
        if let Some(path) = std::env::var_os(format!("{VARIABLE}_FILE")).map(PathBuf::from) {
            let text = std::fs::read_to_string(&path).map_err(crate::error::file("read", &path))?;
            return Ok(text.trim().to_owned());
        }
        let data = self.data();
        data.passphrase()?.ok_or_else(|| {
            Error::usage(
                format!("there is no admin passphrase in {}", data.passphrase_file().display()),
                format!("select the server's data folder with --data-dir, or set {VARIABLE}; `konnector serve` starts a server"),
            )
        })
    }

    /// Creates a client of the public API for the selected instance, with a new token.
    pub async fn session(&self) -> Result<ApiClient> {
        let admin = self.admin()?;
        let domain = match &self.domain {
            Some(domain) => domain.clone(),
            None => admin.only_instance().await?,
        };
        let query = [("Domain", domain.as_str()), ("Audience", "cli"), ("Subject", "konnector"), ("Scope", "*")];
        let token = admin.text(reqwest::Method::POST, "instances/token", &query).await?;
        let status = admin.json(reqwest::Method::GET, "status", &[]).await?;
        let public = status.get("public_url").and_then(Value::as_str).unwrap_or_default();
        let url = public.parse().map_err(|error| {
            Error::failed(
                format!("the server reports a public address that is not a valid URL, '{public}': {error}"),
                "",
            )
        })?;
        Ok(ApiClient::new(admin.http, url, domain, token.trim().to_owned()))
    }
}

impl AdminClient {
    /// Sends a request without a body; returns the response as a string.
    pub async fn text(&self, method: reqwest::Method, path: &str, query: &[(&str, &str)]) -> Result<String> {
        let url = response::join_url(&self.url, path, query)?;
        let request = self.http.request(method, url).basic_auth("admin", Some(&self.passphrase));
        let response = request.send().await.map_err(|error| response::connection_error(&self.url, &error))?;
        response::text(response).await
    }

    /// Sends a request with a large response, to be read chunk by chunk.
    pub async fn download(&self, method: reqwest::Method, path: &str) -> Result<reqwest::Response> {
        let url = response::join_url(&self.url, path, &[])?;
        let request = self.http.request(method, url).basic_auth("admin", Some(&self.passphrase));
        response::check_status(request.send().await.map_err(|error| response::connection_error(&self.url, &error))?)
            .await
    }

    /// Sends a request without a body; returns the response as JSON, null if it is empty.
    pub async fn json(&self, method: reqwest::Method, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        response::parse(&self.text(method, path, query).await?)
    }

    /// Sends a request with a JSON body; returns the response as JSON.
    pub async fn send_json(&self, method: reqwest::Method, path: &str, body: &Value) -> Result<Value> {
        let url = response::join_url(&self.url, path, &[])?;
        let request = self.http.request(method, url).basic_auth("admin", Some(&self.passphrase)).body(body.to_string());
        let response = request.send().await.map_err(|error| response::connection_error(&self.url, &error))?;
        response::parse(&response::text(response).await?)
    }

    /// Returns all instances, flattened.
    pub async fn instances(&self) -> Result<Vec<Value>> {
        Ok(flatten_list(&self.json(reqwest::Method::GET, "instances", &[("page[limit]", "1000")]).await?))
    }

    async fn only_instance(&self) -> Result<String> {
        let instances = self.instances().await?;
        let domains: Vec<_> = instances.iter().filter_map(|instance| instance.get("domain")?.as_str()).collect();
        match domains.as_slice() {
            [only] => Ok((*only).to_owned()),
            [] => {
                let add = hint::command("instances add alice.example.com");
                Err(Error::usage("the server has no instances", format!("add one: {add}")))
            }
            several => Err(Error::usage(
                format!("the server has {} instances", several.len()),
                format!("choose one with --domain: {}", several.join(", ")),
            )),
        }
    }
}

/// Creates an HTTP client with timeouts for connecting and for pauses in a response.
pub fn build_http_client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .connect_timeout(std::time::Duration::from_secs(5))
        .read_timeout(std::time::Duration::from_secs(60))
        // The server is on this machine or in a network that the operator trusts; a proxy would see the passphrase.
        .no_proxy()
        .user_agent(concat!("konnector-cli/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Error::failed(format!("cannot set up the HTTP client: {error}"), ""))
}
