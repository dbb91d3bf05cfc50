//! Several registries: real ones, asked over the network, in the order in which the operator named them.

use konnector_egress::AddressRule;
use konnector_platform::konnector::BundleDirectory;
use konnector_platform::principal::Audience;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::{Api, TestRequest, TestResponse, manifest, write_bundle};

/// A registry with these konnectors, whose version is told.
struct RegistryFixture {
    folder: TempDir,
    url: String,
    serving: JoinHandle<std::io::Result<()>>,
}

impl RegistryFixture {
    async fn with(version: &str, slugs: &[&str]) -> Self {
        let shelf = TempDir::new().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = konnector_api::registry_server(
            BundleDirectory::new(shelf.path().to_owned(), |_| {}).expect("a shelf"),
            None,
        );
        let serving = tokio::spawn(konnector_api::serve(listener, router, std::future::pending()));
        let registry = Self { folder: shelf, url, serving };
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

/// A server that knows these registries.
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

/// Slug and version of all konnectors, page by page.
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

/// All that the first has, then what only the second has; no matter how the pages fall.
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
        // That the rest is what others have is not known before it was looked at.
        assert!(pages.iter().rev().skip(1).all(|page| !page.is_empty()), "limit {limit}: {pages:?}");
    }
    assert_eq!(list(&api, "").await.concat(), ALL);
    // What is shown and installed is the same.
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
    let slugs = |answer: TestResponse| -> Vec<String> {
        let apps = answer.json();
        apps.as_array().expect("a list").iter().map(|app| app["slug"].as_str().expect("a slug").to_owned()).collect()
    };
    let api = server(&[&own, &public]).await;
    assert_eq!(slugs(get(&api, "/registry/maintenance").await), ["a"]);
    own.close("b");
    assert_eq!(slugs(get(&api, "/registry/maintenance").await), ["b", "a"]);
}

/// It may be the operator's own, whose konnectors nobody must be able to replace by keeping it from answering.
#[tokio::test]
async fn a_registry_that_fails_is_an_error_and_not_passed_over() {
    let (own, public) =
        (RegistryFixture::with("1.0.0", &["b"]).await, RegistryFixture::with("2.0.0", &["a", "b"]).await);
    let api = server(&[&own, &public]).await;
    assert_eq!(list(&api, "limit=1").await.concat(), ["b 1.0.0", "a 2.0.0"]);
    own.serving.abort();
    drop(own.serving.await);
    for path in ["/registry?limit=1", "/registry?cursor=1|", "/registry/b", "/registry/a", "/registry/maintenance"] {
        let answer = get(&api, path).await;
        assert!(answer.status >= 400, "{path}: {answer}");
        assert!(answer.text().contains(&own.url), "{path}: {answer}");
    }
    let answer = api.send(TestRequest::post("/konnectors/b").token(&api.token("*"))).await;
    assert_eq!(answer.status, 404, "{answer}");
    assert!(answer.text().contains(&own.url), "{answer}");
}

#[tokio::test]
async fn a_cursor_that_is_none_is_refused() {
    let registry = RegistryFixture::with("1.0.0", &["b"]).await;
    let api = server(&[&registry]).await;
    for cursor in ["x", "x|", "0", "-1|"] {
        let answer = get(&api, &format!("/registry?cursor={cursor}")).await;
        assert_eq!(answer.status, 400, "{cursor}: {answer}");
    }
    assert_eq!(get(&api, "/registry?cursor=7|").await.json()["data"], serde_json::json!([]));
}
