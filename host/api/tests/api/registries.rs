//! Several registries on real sockets, in the operator's order.

use konnector_egress::AddressRule;
use konnector_platform::konnector::BundleDirectory;
use konnector_platform::principal::Audience;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::{Api, TestRequest, TestResponse, manifest, write_bundle};

/// Registry on a real socket.
struct RegistryFixture {
    folder: TempDir,
    url: String,
    serving: JoinHandle<std::io::Result<()>>,
}

impl RegistryFixture {
    async fn with(version: &str, slugs: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = konnector_api::registry_server(
            BundleDirectory::new(folder.path().to_owned(), |_| {}).expect("a shelf"),
            None,
        );
        let serving = tokio::spawn(konnector_api::serve(listener, router, std::future::pending()));
        let registry = Self { folder, url, serving };
        for slug in slugs {
            write_bundle(&registry.folder.path().join(slug).join(version), &manifest(version, &["io.cozy.bills"]));
        }
        registry
    }

    /// Puts a konnector into maintenance.
    fn close(&self, slug: &str) {
        std::fs::write(self.folder.path().join(slug).join("maintenance.json"), "{}").expect("written");
    }
}

/// Starts a server with these registries.
async fn server(registries: &[&RegistryFixture]) -> Api {
    Api::with_config(|config, gate| {
        config.registries = registries.iter().map(|registry| registry.url.parse().expect("an address")).collect();
        gate.allowed_private = vec!["127.0.0.0/8".parse::<AddressRule>().expect("a rule")];
    })
    .await
}

async fn get(api: &Api, path: &str) -> TestResponse {
    api.send(TestRequest::get(path).token(&api.token_of(Audience::App, "store", "io.cozy.apps"))).await
}

/// Returns slug and version of all konnectors, page by page.
async fn list(api: &Api, query: &str) -> Vec<Vec<String>> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(api, &format!("/registry?{query}&cursor={cursor}")).await.json();
        let apps = page["data"].as_array().expect("a list");
        assert_eq!(page["meta"]["count"], apps.len());
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        pages.push(
            apps.iter()
                .map(|app| format!("{} {}", text(&app["slug"]), text(&app["latest_version"]["version"])))
                .collect(),
        );
        cursor = text(&page["meta"]["next_cursor"]);
        if cursor.is_empty() {
            return pages;
        }
        assert!(pages.len() < 20, "it does not end: {pages:?}");
    }
}

/// The konnectors of the first registry, then those that only the second has, whatever the page size.
const ALL: [&str; 6] = ["b 1.0.0", "d 1.0.0", "f 1.0.0", "a 2.0.0", "c 2.0.0", "e 2.0.0"];

#[tokio::test]
async fn a_list_has_each_konnector_once_and_that_of_the_first_registry() {
    let (own, public) = (
        RegistryFixture::with("1.0.0", &["b", "d", "f"]).await,
        RegistryFixture::with("2.0.0", &["a", "b", "c", "d", "e", "f"]).await,
    );
    let api = server(&[&own, &public]).await;
    for limit in 1..=7 {
        let pages = list(&api, &format!("limit={limit}")).await;
        assert_eq!(pages.concat(), ALL, "limit {limit}");
        assert!(pages.iter().all(|page| page.len() <= limit), "limit {limit}: {pages:?}");
        // Duplicates are detected only while reading, so the last page may be empty.
        assert!(pages.iter().rev().skip(1).all(|page| !page.is_empty()), "limit {limit}: {pages:?}");
    }
    assert_eq!(list(&api, "").await.concat(), ALL);
    // The shown version is the installed one.
    assert_eq!(get(&api, "/registry/d").await.json()["latest_version"]["version"], "1.0.0");
    assert_eq!(api.follow(TestRequest::post("/konnectors/d")).await, ["installing 1.0.0", "ready 1.0.0"]);
    assert_eq!(api.follow(TestRequest::post("/konnectors/e")).await, ["installing 2.0.0", "ready 2.0.0"]);
    assert_eq!(get(&api, "/registry?filter[type]=webapp").await.json()["data"], serde_json::json!([]));
}

#[tokio::test]
async fn the_first_registry_has_the_word_on_maintenance() {
    let (own, public) =
        (RegistryFixture::with("1.0.0", &["b"]).await, RegistryFixture::with("2.0.0", &["a", "b", "c"]).await);
    for slug in ["a", "b"] {
        public.close(slug);
    }
    let slugs = |response: TestResponse| -> Vec<String> {
        let apps = response.json();
        apps.as_array().expect("a list").iter().map(|app| app["slug"].as_str().expect("a slug").to_owned()).collect()
    };
    let api = server(&[&own, &public]).await;
    assert_eq!(slugs(get(&api, "/registry/maintenance").await), ["a"]);
    own.close("b");
    assert_eq!(slugs(get(&api, "/registry/maintenance").await), ["b", "a"]);
}

/// It may be the operator's own; an attacker who blocks it must not be able to replace its konnectors.
#[tokio::test]
async fn a_registry_that_fails_is_an_error_and_not_passed_over() {
    let (own, public) =
        (RegistryFixture::with("1.0.0", &["b"]).await, RegistryFixture::with("2.0.0", &["a", "b"]).await);
    let api = server(&[&own, &public]).await;
    assert_eq!(list(&api, "limit=1").await.concat(), ["b 1.0.0", "a 2.0.0"]);
    own.serving.abort();
    drop(own.serving.await);
    for path in ["/registry?limit=1", "/registry?cursor=1|", "/registry/b", "/registry/a", "/registry/maintenance"] {
        let response = get(&api, path).await;
        assert!(response.status >= 400, "{path}: {response}");
        assert!(response.text().contains(&own.url), "{path}: {response}");
    }
    let response = api.send(TestRequest::post("/konnectors/b").token(&api.token("*"))).await;
    assert_eq!(response.status, 404, "{response}");
    assert!(response.text().contains(&own.url), "{response}");
}

#[tokio::test]
async fn a_cursor_that_is_none_is_refused() {
    let registry = RegistryFixture::with("1.0.0", &["b"]).await;
    let api = server(&[&registry]).await;
    for cursor in ["x", "x|", "0", "-1|"] {
        let response = get(&api, &format!("/registry?cursor={cursor}")).await;
        assert_eq!(response.status, 400, "{cursor}: {response}");
    }
    assert_eq!(get(&api, "/registry?cursor=7|").await.json()["data"], serde_json::json!([]));
}
