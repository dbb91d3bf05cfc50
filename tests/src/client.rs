//! A minimal client of the public API for the tests.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

/// A client with a token.
pub struct TestClient {
    pub(crate) http: reqwest::Client,
    /// Address of the public API.
    pub url: String,
    /// Domain of the instance; does not change when a server restarts on another port.
    pub domain: String,
    /// The token, which determines the rights.
    pub token: String,
}

/// A status and a JSON body, `Null` if there is none.
pub type StatusAndBody = (u16, Value);

impl TestClient {
    /// The same client for a server at another address, as after a restart.
    #[must_use]
    pub fn with_url(&self, url: &str) -> Self {
        let Self { http, domain, token, .. } = self;
        Self { http: http.clone(), url: url.to_owned(), domain: domain.clone(), token: token.clone() }
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: token.into(), ..self.with_url(&self.url) }
    }

    /// Sends a request.
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> StatusAndBody {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .header("Host", &self.domain)
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a text");
        (
            status,
            serde_json::from_str(&text).unwrap_or_else(|_| if text.is_empty() { Value::Null } else { json!(text) }),
        )
    }

    /// GET that must return 200.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.request(Method::GET, path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    /// POST.
    pub async fn post(&self, path: &str, body: Value) -> StatusAndBody {
        self.request(Method::POST, path, Some(body)).await
    }

    /// Raw bytes of a response that must be 200.
    pub async fn bytes(&self, path: &str) -> Vec<u8> {
        let response = self
            .http
            .get(format!("{}{path}", self.url))
            .header("Host", &self.domain)
            .bearer_auth(&self.token)
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), 200, "GET {path}");
        response.bytes().await.expect("a body").to_vec()
    }

    /// Installs a bundle and waits until it is ready; returns the final event.
    pub async fn install(&self, slug: &str, source: &str) -> StatusAndBody {
        let url = url::Url::parse_with_params(&format!("{}/konnectors/{slug}", self.url), [("Source", source)])
            .expect("a URL");
        let response =
            self.http.post(url).header("Host", &self.domain).bearer_auth(&self.token).send().await.expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a text");
        let body = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        if status == 202 {
            let deadline = Instant::now() + Duration::from_secs(120);
            while self.request(Method::GET, &format!("/konnectors/{slug}"), None).await.0 != 200 {
                assert!(Instant::now() < deadline, "{slug} is not ready in time");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        (status, body)
    }

    /// Installs a bundle and follows its events to the end.
    pub async fn install_events(&self, slug: &str, source: &str) -> Vec<Value> {
        let url = url::Url::parse_with_params(&format!("{}/konnectors/{slug}", self.url), [("Source", source)])
            .expect("a URL");
        let request = self.http.post(url).header("Host", &self.domain).header("Accept", "text/event-stream");
        let response = request.bearer_auth(&self.token).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        let text = response.text().await.expect("events");
        text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
    }

    /// Creates an account; returns its id.
    pub async fn create_account(&self, slug: &str, auth: Value) -> String {
        let (status, body) = self.post("/data/io.cozy.accounts/", json!({ "account_type": slug, "auth": auth })).await;
        assert_eq!(status, 201, "{body}");
        body["id"].as_str().expect("an id").to_owned()
    }

    /// Creates the trigger of an account; returns its id.
    pub async fn create_trigger(&self, slug: &str, account: &str) -> String {
        let (status, body) = self.post(&format!("/konnectors/{slug}/trigger?AccountID={account}"), Value::Null).await;
        assert_eq!(status, 201, "{body}");
        body["data"]["id"].as_str().expect("an id").to_owned()
    }

    /// Launches a trigger; returns the job's id.
    pub async fn launch(&self, trigger: &str) -> String {
        let (status, body) = self.post(&format!("/jobs/triggers/{trigger}/launch"), Value::Null).await;
        assert_eq!(status, 201, "{body}");
        body["data"]["id"].as_str().expect("an id").to_owned()
    }

    /// Waits for the end of a job; returns its attributes.
    pub async fn wait_for_job(&self, job: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let body = self.get(&format!("/jobs/{job}")).await;
            let attributes = body["data"]["attributes"].clone();
            if matches!(attributes["state"].as_str(), Some("done" | "errored")) {
                return attributes;
            }
            assert!(Instant::now() < deadline, "the job does not end: {attributes:#}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Launches a trigger and waits for the end.
    pub async fn run(&self, trigger: &str) -> Value {
        let job = self.launch(trigger).await;
        self.wait_for_job(&job).await
    }

    /// All documents of a doctype; empty if the doctype does not exist yet.
    pub async fn documents(&self, doctype: &str) -> Vec<Value> {
        let (mut rows, mut bookmark) = (Vec::new(), String::new());
        loop {
            let path = format!("/data/{doctype}/_normal_docs?limit=1000&bookmark={bookmark}");
            let (status, body) = self.request(Method::GET, &path, None).await;
            match status {
                200 => rows.extend(body["rows"].as_array().expect("rows").iter().cloned()),
                404 => return rows,
                _ => panic!("{status}: {body}"),
            }
            bookmark = body["bookmark"].as_str().unwrap_or_default().to_owned();
            if bookmark.is_empty() {
                return rows;
            }
        }
    }

    /// All files, without directories.
    pub async fn files(&self) -> Vec<Value> {
        let mut files = self.documents("io.cozy.files").await;
        files.retain(|file| file["type"] == "file" && file["trashed"] != true);
        files
    }
}
