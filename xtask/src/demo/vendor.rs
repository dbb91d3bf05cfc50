//! Client of the demo vendor, which acts like a customer's browser.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use ureq::Agent;

use super::processes::Processes;
use crate::command::Command;
use crate::workspace::Workspace;

/// The running web site of the bank.
pub struct VendorSite {
    /// URL of the site, without a trailing slash.
    pub url: String,
    /// The customer's login name.
    pub login: String,
    /// The customer's password.
    pub password: String,
}

impl VendorSite {
    /// Starts the vendor on a free port.
    pub fn start(workspace: &Workspace, folder: &Path, background: &Processes) -> Result<Self> {
        let log = folder.join("vendor.log");
        let program = Command::new(workspace.program("demo-vendor")).args(["--listen", "127.0.0.1:0"]);
        crate::term::timed("vendor started", || {
            background.start("the demo vendor", program, &log)?;
            background.wait_until("starting the demo vendor", || Self::parse_greeting(&fs::read_to_string(&log).ok()?))
        })
    }

    /// Parses the vendor's complete output when it is ready.
    fn parse_greeting(output: &str) -> Option<Self> {
        let value =
            |prefix: &str| output.lines().find_map(|line| line.strip_prefix(prefix)).map(|rest| rest.trim().to_owned());
        value("switches: ")?;
        Some(Self { url: value("Bank101 is at ")?, login: value("login: ")?, password: value("password: ")? })
    }

    /// Returns host and port.
    pub fn authority(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Fetches the references of all bills from the bank.
    pub fn references(&self) -> Result<Vec<String>> {
        let text = agent().get(format!("{}/_control/bills", self.url)).call()?.body_mut().read_to_string()?;
        let bills: Value = serde_json::from_str(&text).context("the vendor's list of bills is not valid JSON")?;
        let bills = bills.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(bills.iter().filter_map(|bill| bill.get("reference")?.as_str()).map(str::to_owned).collect())
    }

    /// Signs in like the customer; returns the session's cookie.
    pub fn sign_in(&self) -> Result<String> {
        let url = format!("{}/login", self.url);
        let mut page = agent().get(&url).call()?;
        let visitor = cookie(&page).context("the login page sets no cookie")?;
        let text = page.body_mut().read_to_string()?;
        let token = text.split_once("name=\"csrf_token\" value=\"").and_then(|(_, rest)| rest.split('"').next());
        let token = token.context("the login page has no csrf_token")?;
        let form = [("csrf_token", token), ("login", &self.login), ("password", &self.password)];
        let response = agent().post(&url).header("Cookie", &visitor).send_form(form)?;
        if !response.status().is_redirection() {
            bail!("the vendor rejected the login of the demo customer (status {})", response.status());
        }
        Ok(cookie(&response).unwrap_or(visitor))
    }

    /// Downloads the PDF of a bill from the site itself.
    pub fn pdf(&self, session: &str, reference: &str) -> Result<Vec<u8>> {
        let url = format!("{}/account/bills/{reference}.pdf", self.url);
        Ok(agent().get(url).header("Cookie", session).call()?.body_mut().read_to_vec()?)
    }
}

/// Creates an HTTP client that does not follow redirects, because the redirect of the login carries the cookie.
fn agent() -> Agent {
    Agent::config_builder().max_redirects(0).max_redirects_will_error(false).build().into()
}

fn cookie(response: &ureq::http::Response<ureq::Body>) -> Option<String> {
    let text = response.headers().get("set-cookie")?.to_str().ok()?;
    text.split(';').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_counts_only_when_it_is_complete() {
        let greeting = "Bank101 is at http://127.0.0.1:9\nlogin: ada\npassword: correct horse\n";
        assert!(VendorSite::parse_greeting(greeting).is_none());
        let site = VendorSite::parse_greeting(&format!("{greeting}switches: …\n")).unwrap();
        assert_eq!(
            (site.url.as_str(), site.authority(), site.password.as_str()),
            ("http://127.0.0.1:9", "127.0.0.1:9", "correct horse")
        );
    }
}
