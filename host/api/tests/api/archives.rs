//! `/files`: archives.

use konnector_platform::clock::Clock as _;
use std::io::{Cursor, Read as _};

use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde_json::{Value, json};
use zip::ZipArchive;

use crate::support::{Api, TestRequest, TestResponse};

const BILL: &str = "0123456789abcdef0123456789abcde0";
const OTHER: &str = "0123456789abcdef0123456789abcde1";

async fn with_files() -> Api {
    let api = Api::new().await;
    api.add_file(BILL, "/Administrative/Bank", "bill n°1.html", b"first").await;
    api.add_file(OTHER, "/Administrative", "bill n°1.html", b"second").await;
    api.add_file("0123456789abcdef0123456789abcde2", "/Administrative", "BILL n°1.html", b"loud").await;
    api.platform.files().ensure_directory(&api.alice, "/Administrative/Empty").await.expect("a directory");
    api
}

/// Returns the names in an archive with their contents; `None` for a directory.
fn unpack(response: &TestResponse) -> Vec<(String, Option<String>)> {
    let mut archive = ZipArchive::new(Cursor::new(&response.body)).expect("an archive");
    (0..archive.len())
        .map(|number| {
            let mut entry = archive.by_index(number).expect("an entry");
            let mut content = String::new();
            entry.read_to_string(&mut content).expect("a text whose checksum is right");
            (entry.name().expect("a name").into_owned(), entry.is_file().then_some(content))
        })
        .collect()
}

fn create(attributes: Value) -> TestRequest {
    TestRequest::post("/files/archive").attributes(attributes)
}

#[tokio::test]
async fn an_archive_is_sent_at_once() {
    let api = with_files().await;
    let attributes = json!({ "name": "project X", "ids": [BILL, OTHER], "files": ["/Administrative"] });
    let response = api.send(create(attributes).token(&api.token("*")).accept("application/zip")).await;
    assert_eq!((response.status, response.header(CONTENT_TYPE)), (200, "application/zip"));
    assert_eq!(response.header(CONTENT_DISPOSITION), "attachment; filename=\"project X.zip\"");
    let file = |name: &str, content: &str| (format!("project X/{name}"), Some(content.to_owned()));
    let directory = |name: &str| (format!("project X/{name}/"), None);
    assert_eq!(
        unpack(&response),
        [
            file("bill n°1.html", "first"),
            file("bill n°1 (2).html", "second"),
            directory("Administrative"),
            file("Administrative/BILL n°1.html", "loud"),
            directory("Administrative/Bank"),
            directory("Administrative/Empty"),
            // Names that differ only in case are equal on many systems.
            file("Administrative/bill n°1 (2).html", "second"),
            file("Administrative/Bank/bill n°1.html", "first"),
        ]
    );
}

#[tokio::test]
async fn an_archive_lies_under_a_link_for_an_hour() {
    let api = with_files().await;
    let call =
        create(json!({ "name": "bills", "ids": [BILL] })).token(&api.token(&format!("io.cozy.files:GET:{BILL}")));
    let created = api.send(call).await;
    assert_eq!(created.status, 200, "{created}");
    let created = created.json();
    let link = created["links"]["related"].as_str().expect("a link").to_owned();
    assert_eq!(created["data"]["type"], "io.cozy.files.archives");
    assert_eq!(created["data"]["attributes"], json!({ "name": "bills", "ids": [BILL], "files": [], "href": link }));
    assert!(link.starts_with("/files/archive/") && link.ends_with("/bills.zip"), "{link}");
    for _ in 0..2 {
        let response = api.send(TestRequest::get(&link)).await;
        assert_eq!(unpack(&response), [("bills/bill n°1.html".to_owned(), Some("first".to_owned()))]);
    }
    assert_eq!(api.send(TestRequest::get(&link).host("bob.example")).await.status, 404);
    assert_eq!(api.send(TestRequest::get(&link.replace("/archive/", "/downloads/"))).await.status, 404);
    api.clock.set(api.clock.now() + chrono::Duration::seconds(3_601));
    assert_eq!(api.send(TestRequest::get(&link)).await.status, 404);
}

#[tokio::test]
async fn an_archive_holds_only_what_may_be_read() {
    let api = with_files().await;
    let token = api.token(&format!("io.cozy.files:GET:{BILL}"));
    let rejected = [
        create(json!({ "ids": [BILL, OTHER] })).token(&token),
        create(json!({ "files": ["/Administrative"] })).token(&token),
        create(json!({ "ids": [BILL] })),
        create(json!({ "ids": ["unknown"] })).token(&api.token("io.cozy.files")),
        create(json!({ "files": ["/unknown"] })).token(&api.token("io.cozy.files")),
        create(json!({ "name": "empty" })).token(&token),
        create(json!({ "name": "a/b", "ids": [BILL] })).token(&token),
        create(json!({ "ids": "one" })).token(&token),
        create(json!({ "ids": [BILL], "pages": [{ "id": BILL, "page": 1 }] })).token(&token),
    ];
    let mut statuses = Vec::new();
    for call in rejected {
        statuses.push(api.send(call).await.status);
    }
    assert_eq!(statuses, [403, 403, 401, 404, 404, 400, 400, 422, 422]);
}

/// A large file is packed completely.
#[tokio::test]
async fn a_large_archive_is_streamed() {
    let api = Api::new().await;
    let text: &'static str = (0..400_000_u32).map(|number| format!("{number:x}\n")).collect::<String>().leak();
    api.add_file(BILL, "/", "large.txt", text.as_bytes()).await;
    let response = api.send(create(json!({ "ids": [BILL] })).token(&api.token("*")).accept("application/zip")).await;
    assert!(response.body.len() < text.len() / 2, "{} bytes", response.body.len());
    assert!(unpack(&response) == [("archive/large.txt".to_owned(), Some(text.to_owned()))]);
}

#[tokio::test]
async fn what_is_named_many_times_is_packed_once_and_too_much_is_refused() {
    let api = with_files().await;
    let token = api.token("*");
    let call = |attributes: Value| create(attributes).token(&token).accept("application/zip");
    let response = api
        .send(call(
            json!({ "name": "a", "ids": vec![BILL; 5_000], "files": vec!["/Administrative/Bank/bill n°1.html"; 100] }),
        ))
        .await;
    assert_eq!(unpack(&response), [("a/bill n°1.html".to_owned(), Some("first".to_owned()))]);
    for (attributes, about) in [
        (json!({ "ids": vec![BILL; 10_001] }), "/data/attributes/ids"),
        (json!({ "ids": [BILL], "name": "n".repeat(201) }), "/data/attributes/name"),
    ] {
        let rejected = api.send(call(attributes)).await;
        assert_eq!((rejected.status, &rejected.json()["errors"][0]["source"]["pointer"]), (422, &json!(about)));
    }
}

/// Each archive occupies a thread until its client has received it. An archive without a free thread is rejected, and
/// other requests still get responses.
#[tokio::test]
async fn a_few_archives_are_packed_at_a_time() {
    let api = with_files().await;
    let token = api.token("*");
    // Larger than the buffer for a client, and incompressible.
    let random: Vec<u8> =
        (0_u64..400_000).map(|number| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect();
    api.add_file("0123456789abcdef0123456789abcdef", "/Large", "large.bin", random.leak()).await;
    let router = konnector_api::public(api.platform.clone());
    let call = || -> http::Request<axum::body::Body> {
        create(json!({ "name": "a", "files": ["/Large"] })).token(&token).accept("application/zip").into()
    };
    let mut begun = Vec::new();
    let rejected = loop {
        let response = tower::ServiceExt::oneshot(router.clone(), call()).await.expect("infallible");
        if response.status() != 200 {
            break response;
        }
        // Its body is not read.
        begun.push(response);
        assert!(begun.len() < 100, "there is no limit");
    };
    assert_eq!(rejected.status(), 503);
    assert_eq!(rejected.headers()["retry-after"], "2");
    assert!(begun.len() >= 2, "{}", begun.len());
    assert_eq!(api.send(TestRequest::get("/readyz")).await.status, 200);
    drop(begun);
    // An abandoned archive frees its thread.
    api.wait_until(200, async || {
        tower::ServiceExt::oneshot(router.clone(), call()).await.expect("infallible").status().as_u16()
    })
    .await;
}
