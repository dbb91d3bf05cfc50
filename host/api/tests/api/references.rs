//! Files that reference a document (spec §9.1).

use std::sync::Arc;

use http::Method;
use konnector_egress::{Gate, GateOptions};
use konnector_platform::doctype::{FILES, SETTINGS};
use konnector_platform::{Config, Platform, PlatformParts};
use konnector_sandbox::{Sandbox, SandboxOptions};
use konnector_store::{Changes, DocRef, InstanceId, MasterKey};
use serde_json::{Value, json};

use crate::support::{Api, TestRequest, TestResponse};

const ALBUM: &str = "/data/io.cozy.photos.albums/1%2F2/relationships/references";

async fn photos() -> Api {
    let api = Api::new().await;
    for number in 0..5 {
        api.add_file(&format!("photo-{number}"), "/Photos", &format!("{number}.jpg"), b"x").await;
    }
    api
}

fn data(ids: impl IntoIterator<Item = u8>) -> Value {
    let files = ids.into_iter().map(|id| json!({ "type": "io.cozy.files", "id": format!("photo-{id}") }));
    json!({ "data": files.collect::<Vec<_>>() })
}

async fn send(api: &Api, method: Method, scope: &str, body: &Value) -> u16 {
    api.send(TestRequest::new(method, ALBUM).token(&api.token(scope)).json(body)).await.status
}

fn ids(response: &TestResponse) -> Vec<String> {
    assert_eq!(response.status, 200, "{response}");
    let data = response.json()["data"].as_array().expect("data").clone();
    data.iter().map(|file| file["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn the_files_of_a_document_are_listed() {
    let api = photos().await;
    let token = api.token("io.cozy.photos.albums io.cozy.files");
    let list = async |query: &str| api.send(TestRequest::get(&format!("{ALBUM}{query}")).token(&token)).await;
    assert_eq!(ids(&list("").await), [""; 0]);
    assert_eq!(send(&api, Method::POST, "io.cozy.photos.albums", &data([2, 0, 1])).await, 204);
    assert_eq!(send(&api, Method::POST, "io.cozy.photos.albums", &data([2])).await, 204, "again");
    // A document whose id is a prefix of this one's.
    let other = "/data/io.cozy.photos.albums/1/relationships/references";
    api.send(TestRequest::post(other).token(&token).json(&data([4]))).await;
    assert_eq!(ids(&list("").await), ["photo-0", "photo-1", "photo-2"]);

    let first = list("?include=files&page%5Blimit%5D=2&sort=datetime").await;
    assert_eq!(
        (ids(&first), &first.json()["meta"]),
        (vec!["photo-0".into(), "photo-1".into()], &json!({ "count": 3 }))
    );
    assert_eq!(first.json()["included"][1]["attributes"]["name"], "1.jpg");
    let next = first.json()["links"]["next"].as_str().expect("a next page").to_owned();
    let second = api.send(TestRequest::get(&next).token(&token)).await;
    assert_eq!((ids(&second), &second.json()["links"]), (vec!["photo-2".to_owned()], &json!({})));
    assert_eq!(second.json()["included"].as_array().map(Vec::len), Some(1), "the next page includes files, too");

    assert_eq!(send(&api, Method::DELETE, "io.cozy.photos.albums", &data([0, 3])).await, 204);
    assert_eq!(ids(&list("").await), ["photo-1", "photo-2"]);
}

/// The list follows every way in which references and dates change.
#[tokio::test]
async fn the_list_follows_from_the_files() {
    let api = photos().await;
    let token = api.token("*");
    let list = async || ids(&api.send(TestRequest::get(ALBUM).token(&token)).await);
    let album = json!({ "data": { "type": "io.cozy.photos.albums", "id": "1/2" } });
    for id in [1, 0] {
        let add =
            TestRequest::post(&format!("/files/photo-{id}/relationships/referenced_by")).token(&token).json(&album);
        assert_eq!(api.send(add).await.status, 200);
    }
    assert_eq!(list().await, ["photo-0", "photo-1"]);
    // The file with the earlier picture comes first.
    let patch = json!({ "data": { "attributes": { "metadata": { "datetime": "2001-01-01T00:00:00+02:00" } } } });
    let patch = TestRequest::patch("/files/photo-1").token(&token).json(&patch);
    assert_eq!(api.send(patch).await.status, 200);
    assert_eq!(list().await, ["photo-1", "photo-0"]);
    assert_eq!(api.send(TestRequest::delete("/files/photo-1").token(&token)).await.status, 200);
    assert_eq!(list().await, ["photo-1", "photo-0"], "it lies in the trash");
    assert_eq!(api.send(TestRequest::delete("/files/trash/photo-1").token(&token)).await.status, 204);
    assert_eq!(list().await, ["photo-0"]);
    let uploaded = TestRequest::post("/files/io.cozy.files.root-dir?Type=file&Name=x.txt&ReferencedBy=1").token(&token);
    assert!(api.send(uploaded.text("x")).await.status < 300);
    assert_eq!(list().await, ["photo-0"]);
    let check = konnector_store::FsckOptions { deep: true, repair: false };
    let mut problems = Vec::new();
    let mut on_progress = |event: konnector_store::FsckProgress<'_>| {
        if let konnector_store::FsckProgress::Found(problem) = event {
            problems.push(problem.to_string());
        }
    };
    api.platform.raw_store().fsck(&konnector_platform::Schema, check, &mut on_progress).await.expect("checked");
    problems.retain(|problem| !problem.contains("io.cozy.konnectors"));
    assert_eq!(problems, [""; 0]);
}

/// A store from before the index gets it at startup.
#[tokio::test]
async fn references_of_an_older_store_are_found() {
    let api = Api::new().await;
    api.add_file("old", "/Photos", "old.jpg", b"x").await;
    // As an earlier version wrote it, bypassing the platform.
    let file_ref = api.alice.doc(&FILES, "old");
    let mut found = api.platform.raw_store().get(&file_ref).expect("read").expect("a file");
    found.body.insert("referenced_by".to_owned(), json!([{ "type": "io.cozy.photos.albums", "id": "1/2" }]));
    let mark_ref = DocRef::new(&InstanceId::global(), &SETTINGS, "files.references");
    let mark = api.platform.raw_store().get(&mark_ref).expect("read").expect("a mark");
    let mut changes = Changes::new();
    changes.put(file_ref, &found.rev, found.body).delete(mark_ref, &mark.rev);
    api.platform.raw_store().commit(changes).await.expect("stored");
    let token = api.token("*");
    let list = async || ids(&api.send(TestRequest::get(ALBUM).token(&token)).await);
    assert_eq!(list().await, [""; 0]);
    Platform::new(PlatformParts {
        store: api.platform.raw_store().clone(),
        sandbox: Arc::new(Sandbox::new(SandboxOptions::default()).expect("a sandbox")),
        gate: Gate::new(GateOptions::default()).expect("a gate"),
        key: MasterKey::load(&api.folder.path().join("key")).expect("read").expect("a key"),
        clock: api.clock.clone(),
        config: Config::new(api.folder.path().join("cache")),
    })
    .await
    .expect("a start");
    assert_eq!(list().await, ["old"]);
}

/// A rule on the document or on all files suffices.
#[tokio::test]
async fn references_need_a_rule_on_the_document_or_on_all_files() {
    let api = photos().await;
    for (scope, allowed) in [
        ("io.cozy.photos.albums:PUT", true),
        ("io.cozy.photos.albums:PUT:1/2", true),
        ("io.cozy.files:PATCH", true),
        ("io.cozy.photos.albums:GET", false),
        ("io.cozy.photos.albums:PUT:3", false),
        ("io.cozy.files:PATCH:photo-1", false),
    ] {
        let status = send(&api, Method::POST, scope, &data([1])).await;
        assert_eq!(status, if allowed { 204 } else { 403 }, "{scope}");
    }
    let listed =
        api.send(TestRequest::get(&format!("{ALBUM}?include=files")).token(&api.token("io.cozy.photos.albums:GET")));
    let listed = listed.await;
    assert_eq!(ids(&listed), ["photo-1"]);
    assert_eq!(listed.json()["included"], json!([]), "its name is for those who may read files");
    for scope in ["io.cozy.photos.albums:POST", "io.cozy.bills"] {
        assert_eq!(api.send(TestRequest::get(ALBUM).token(&api.token(scope))).await.status, 403, "{scope}");
    }
    assert_eq!(api.send(TestRequest::get(ALBUM)).await.status, 401);
    for (body, status) in
        [(json!({}), 400), (json!({ "data": [{ "type": "io.cozy.bills", "id": "photo-1" }] }), 400), (data([9]), 404)]
    {
        assert_eq!(send(&api, Method::POST, "*", &body).await, status, "{body}");
    }
}

/// Unlike doctypes, the types of references may contain capitals.
#[tokio::test]
async fn a_reference_may_have_a_type_with_capitals() {
    let api = photos().await;
    let token = api.token("io.cozy.files");
    let kind = "io.cozy.accounts.sourceAccountIdentifier";
    let body = json!({ "data": [{ "type": kind, "id": "one@bank.example" }] });
    let referenced_by = "/files/photo-0/relationships/referenced_by";
    let added = api.send(TestRequest::post(referenced_by).token(&token).json(&body)).await;
    assert_eq!((added.status, &added.json()["data"]), (200, &body["data"]), "{added}");
    let path = format!("/data/{kind}/one%40bank.example/relationships/references");
    assert_eq!(api.send(TestRequest::post(&path).token(&token).json(&data([1]))).await.status, 204);
    assert_eq!(ids(&api.send(TestRequest::get(&path).token(&token)).await), ["photo-0", "photo-1"]);
    // No rule can name such a type.
    assert_eq!(api.send(TestRequest::get(&path).token(&api.token("io.cozy.accounts"))).await.status, 403);
    for (doctype, id) in [("", "x"), ("a..b", "x"), ("a b", "x"), (kind, "")] {
        let body = json!({ "data": [{ "type": doctype, "id": id }] });
        let rejected = api.send(TestRequest::post(referenced_by).token(&token).json(&body)).await;
        assert_eq!(rejected.status, 400, "{doctype}/{id}: {rejected}");
    }
}
