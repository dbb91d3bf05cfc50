//! Missing and damaged blobs: no route serves them as if they were intact.

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, RANGE};
use http_body_util::BodyExt as _;
use konnector_api::{Passphrase, ServerInfo};
use konnector_platform::doctype::VERSIONS;
use konnector_platform::principal::Audience;
use konnector_store::{BlobId, FsckOptions, FsckProgress};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::{Api, TestRequest};

/// Kind of damage to a blob.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Missing,
    Truncated,
    Extended,
    FirstByte,
    LastByte,
}

const ALL: [Damage; 5] = [Damage::Missing, Damage::Truncated, Damage::Extended, Damage::FirstByte, Damage::LastByte];

async fn damage(api: &Api, blob: &BlobId, kind: Damage) {
    let blobs = api.platform.raw_store().blobs();
    let mut bytes = blobs.read(blob).expect("a content");
    blobs.remove(blob).await.expect("removed");
    let last = bytes.len() - 1;
    match kind {
        Damage::Missing => return,
        Damage::Truncated => bytes.truncate(last),
        Damage::Extended => bytes.push(0),
        Damage::FirstByte => bytes[0] ^= 1,
        Damage::LastByte => bytes[last] ^= 1,
    }
    let mut writer = blobs.create_as(*blob).await.expect("a blob");
    writer.write(bytes.into()).await.expect("written");
    writer.finish().await.expect("finished");
}

/// Sends a request; returns status and body, `None` if the body is interrupted.
async fn fetch(api: &Api, call: TestRequest) -> (u16, Option<Bytes>) {
    let router = konnector_api::public(api.platform.clone());
    let response = router.oneshot(Request::from(call.token(&api.token("*")))).await.expect("infallible");
    let status = response.status().as_u16();
    assert!(status < 400 || response.headers().get(ETAG).is_none(), "a failure has the tag of no content");
    (status, response.into_body().collect().await.ok().map(http_body_util::Collected::to_bytes))
}

/// Returns the blob of a file.
fn blob(api: &Api, id: &str) -> BlobId {
    api.platform.files().get(&api.alice, id).expect("a file").content.expect("a content").blob
}

async fn upload(api: &Api, name: &str, content: Vec<u8>) -> String {
    let call = TestRequest::post(&format!("/files/?Type=file&Name={name}")).token(&api.token("*")).text(content);
    api.send(call.header(CONTENT_TYPE, "application/octet-stream")).await.id()
}

fn contents() -> [(&'static str, Vec<u8>); 2] {
    // The first is read completely before it is sent, the second is streamed.
    [("small", b"0123456789".to_vec()), ("large", (0..3_000_000_u32).map(|index| (index / 7) as u8).collect())]
}

#[tokio::test]
async fn a_damaged_blob_is_never_served() {
    for (size, content) in contents() {
        for kind in ALL {
            let api = Api::new().await;
            let id = upload(&api, "a.bin", content.clone()).await;
            damage(&api, &blob(&api, &id), kind).await;
            let archive = json!({ "data": { "attributes": { "ids": [id] } } });
            for (route, call) in [
                ("id", TestRequest::get(&format!("/files/download/{id}"))),
                ("path", TestRequest::get("/files/download?Path=/a.bin")),
                ("the whole as a range", TestRequest::get(&format!("/files/download/{id}")).header(RANGE, "bytes=0-")),
                ("archive", TestRequest::post("/files/archive").accept("application/zip").json(&archive)),
            ] {
                let (status, body) = fetch(&api, call).await;
                assert!(status == 500 || body.is_none(), "{size} {kind:?} by {route}: {status} and a whole body");
                assert!(size == "large" || route == "archive" || status == 500, "{size} {kind:?} by {route}: {status}");
            }
            // For a range of a large file, only the total size is verified.
            let part = TestRequest::get(&format!("/files/download/{id}")).header(RANGE, "bytes=1-3");
            let (status, _) = fetch(&api, part).await;
            let sized = matches!(kind, Damage::FirstByte | Damage::LastByte);
            assert_eq!(status, if size == "large" && sized { 206 } else { 500 }, "{size} {kind:?}");
            // It is neither copied nor stored as a version.
            for call in [
                TestRequest::post(&format!("/files/{id}/copy")),
                TestRequest::post(&format!("/files/{id}/versions")).attributes(json!({ "a": "b" })),
            ] {
                let line = call.request_line();
                let (status, _) = fetch(&api, call).await;
                assert_eq!(status, 500, "{size} {kind:?} by {line}");
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_version_cannot_be_restored() {
    let api = Api::new().await;
    let id = upload(&api, "a.bin", b"first".to_vec()).await;
    let token = api.token("*");
    assert_eq!(api.send(TestRequest::put(&format!("/files/{id}")).token(&token).text("second")).await.status, 200);
    let version = api.platform.raw_store().list(&api.alice.id, &VERSIONS, None, 2).expect("versions").remove(0);
    let content: BlobId = version.body["_content"]["blob"].as_str().expect("a blob").parse().expect("a blob");
    let rev = version.id.split_once('/').expect("an id").1.to_owned();
    damage(&api, &content, Damage::LastByte).await;
    assert_eq!(fetch(&api, TestRequest::get(&format!("/files/download/{id}/{rev}"))).await.0, 500);
    assert_eq!(fetch(&api, TestRequest::post(&format!("/files/revert/{id}/{rev}"))).await.0, 500);
    let (status, body) = fetch(&api, TestRequest::get(&format!("/files/download/{id}"))).await;
    assert_eq!((status, body.as_deref()), (200, Some(b"second".as_slice())), "the file is as it was");
}

/// New content repairs a file; the damaged content does not become a version.
#[tokio::test]
async fn another_content_heals_a_file() {
    for kind in ALL {
        let api = Api::new().await;
        let id = upload(&api, "a.bin", b"first".to_vec()).await;
        damage(&api, &blob(&api, &id), kind).await;
        let token = api.token("*");
        assert_eq!(api.send(TestRequest::put(&format!("/files/{id}")).token(&token).text("first")).await.status, 200);
        assert_eq!(
            fetch(&api, TestRequest::get(&format!("/files/download/{id}"))).await.1.as_deref(),
            Some(b"first".as_slice())
        );
        let mut problems = Vec::new();
        let on_progress = &mut |event: FsckProgress<'_>| {
            if let FsckProgress::Found(problem) = event {
                problems.push(problem.to_string());
            }
        };
        let check = FsckOptions { deep: true, repair: false };
        api.platform.raw_store().fsck(&konnector_platform::Schema, check, on_progress).await.expect("checked");
        assert_eq!(problems, [""; 0], "{kind:?}");
    }
}

#[tokio::test]
async fn a_backup_that_lacks_a_content_fails_and_says_which() {
    let api = Api::new().await;
    let id = upload(&api, "a.bin", vec![7; 200_000]).await;
    let info = || ServerInfo { version: "0".to_owned(), public_url: "http://localhost".to_owned() };
    let back_up = async |call: TestRequest| {
        let router = konnector_api::admin(api.platform.clone(), Passphrase::new("pass"), info());
        // `:pass`.
        let call = call.host("localhost").header(AUTHORIZATION, "Basic OnBhc3M=");
        let response = router.oneshot(Request::from(call)).await.expect("infallible");
        (response.status().as_u16(), response.into_body().collect().await.map(http_body_util::Collected::to_bytes).ok())
    };
    let (status, whole) = back_up(TestRequest::post("/backup")).await;
    assert!(status == 200 && whole.is_some());
    let outcome = async || -> Value {
        let (_, body) = back_up(TestRequest::get("/backup")).await;
        serde_json::from_slice(&body.expect("a body")).expect("JSON")
    };
    assert_eq!(outcome().await, json!({ "error": null }));
    damage(&api, &blob(&api, &id), Damage::LastByte).await;
    let (_, broken) = back_up(TestRequest::post("/backup")).await;
    assert!(broken.is_none(), "the connection breaks off");
    let error = outcome().await["error"].as_str().expect("an error").to_owned();
    assert!(error.contains(&format!("io.cozy.files/{id}")) && error.contains("is damaged: its SHA-256"), "{error}");
}

/// No route shows a konnector a file whose content is lost, so that the konnector saves it again.
#[tokio::test]
async fn a_konnector_saves_again_what_is_lost() {
    for kind in [Damage::Missing, Damage::Truncated, Damage::Extended] {
        let api = Api::new().await;
        api.install("saver", json!({ "files": { "type": "io.cozy.files" } })).await;
        let (person, konnector) = (api.token("*"), api.token_of(Audience::Konnector, "saver", ""));
        let id = upload(&api, "a.bin", b"first".to_vec()).await;
        let create = |token: &str| TestRequest::post("/files/?Type=file&Name=a.bin").token(token).text("first");
        assert_eq!(api.send(create(&konnector)).await.status, 409, "it is there");
        damage(&api, &blob(&api, &id), kind).await;
        for path in [
            format!("/files/{id}"),
            "/files/metadata?Path=/a.bin".to_owned(),
            format!("/files/download/{id}"),
            "/files/download?Path=/a.bin".to_owned(),
        ] {
            assert_eq!(api.send(TestRequest::get(&path).token(&konnector)).await.status, 404, "{kind:?} {path}");
        }
        assert_eq!(
            api.send(TestRequest::get(&format!("/files/{id}")).token(&person)).await.status,
            200,
            "people see it"
        );
        assert_eq!(api.send(create(&person)).await.status, 409);
        let again = api.send(create(&konnector)).await;
        assert_eq!((again.status, again.id()), (201, id.clone()), "{kind:?}");
        assert_eq!(api.send(create(&konnector)).await.status, 409, "it is there again");
        let content = api.send(TestRequest::get(&format!("/files/download/{id}")).token(&konnector)).await;
        assert_eq!((content.status, content.text()), (200, "first"));
    }
}
