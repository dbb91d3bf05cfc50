//! A small browser: cookies, and forms filled in as on the page.

use anyhow::{Context, Result};
use demo_vendor::{DEFAULT_LOGIN, DEFAULT_PASSWORD, Switches, Vendor, VendorHandle, VendorOptions};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response};
use scraper::{Html, Selector};

pub struct Browser {
    client: Client,
    root: String,
}

/// Starts a vendor with these switches, and a browser without cookies.
pub async fn start(change: impl FnOnce(&mut Switches)) -> Result<(VendorHandle, Browser)> {
    let mut options = VendorOptions::default();
    change(&mut options.switches);
    let vendor = Vendor::start(options).await?;
    let browser = Browser::new(&vendor, Policy::default())?;
    Ok((vendor, browser))
}

/// Starts a vendor with these switches, and a browser that is logged in.
pub async fn start_signed_in(change: impl FnOnce(&mut Switches)) -> Result<(VendorHandle, Browser)> {
    let (vendor, browser) = start(change).await?;
    let home = browser.log_in(DEFAULT_PASSWORD).await?;
    anyhow::ensure!(home.url().path() == "/account/home", "the login ended at {}", home.url());
    Ok((vendor, browser))
}

/// Creates a client builder without decompression: other packages of the workspace may enable it in reqwest, but the
/// tests check the bytes as sent.
fn builder() -> ClientBuilder {
    provide_tls();
    Client::builder().no_gzip().no_brotli().no_deflate().no_zstd().cookie_store(true)
}

impl Browser {
    pub fn new(vendor: &VendorHandle, redirects: Policy) -> Result<Self> {
        Ok(Self { client: builder().redirect(redirects).build()?, root: vendor.url().to_owned() })
    }

    pub async fn get(&self, path: &str) -> Result<Response> {
        self.get_with(path, &[]).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
        let mut request = self.client.get(format!("{}{path}", self.root));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.send().await?)
    }

    pub async fn page(&self, path: &str) -> Result<Html> {
        Ok(Html::parse_document(&self.get(path).await?.text().await?))
    }

    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Result<Response> {
        Ok(self.client.post(format!("{}{path}", self.root)).form(fields).send().await?)
    }

    /// Submits the form of a page with these fields and the page's CSRF token.
    pub async fn send_form(&self, page: &str, form: &str, fields: &[(&str, &str)]) -> Result<Response> {
        let (action, csrf) = {
            let html = self.page(page).await?;
            let action = attribute(&html, form, "action").with_context(|| format!("no form {form}"))?;
            let token = attribute(&html, &format!("{form} input[name=csrf_token]"), "value").context("no token")?;
            (action, token)
        };
        let mut fields = fields.to_vec();
        fields.push(("csrf_token", &csrf));
        self.post(&action, &fields).await
    }

    pub async fn log_in(&self, password: &str) -> Result<Response> {
        self.send_form("/login", "form#login", &[("login", DEFAULT_LOGIN), ("password", password)]).await
    }
}

pub fn select(css: &str) -> Selector {
    Selector::parse(css).expect("a CSS selector")
}

/// Returns the text of every match.
pub fn texts(html: &Html, css: &str) -> Vec<String> {
    html.select(&select(css)).map(|element| element.text().collect::<String>().trim().to_owned()).collect()
}

/// Returns the attribute of the first match.
pub fn attribute(html: &Html, css: &str, name: &str) -> Option<String> {
    html.select(&select(css)).next()?.attr(name).map(str::to_owned)
}

/// Installs a TLS provider. Nothing here uses TLS, but if another package of the workspace compiles it in, the library
/// requires a default cryptography provider.
pub fn provide_tls() {
    drop(rustls::crypto::ring::default_provider().install_default());
}
