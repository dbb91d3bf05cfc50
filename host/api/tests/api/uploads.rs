//! `/files`: uploads and changes by clients.

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use http::header::{CONTENT_TYPE, DATE, IF_MATCH};
use http::{HeaderName, header::CONTENT_LENGTH};
use konnector_platform::clock::Clock as _;
use konnector_platform::doctype::UPLOAD_METADATA;
use konnector_platform::file::{ROOT_ID, TRASH_ID};
use konnector_platform::instance::InstancePatch;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use crate::support::{Api, TestRequest, TestResponse};

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
/// MD5 of "foo", in base64 (RFC 1321).
const FOO: &str = "rL0Y20zC+Fzt72VPzMSk2A==";

async fn upload(api: &Api, dir: &str, query: &str, content: &str) -> Value {
    let call = TestRequest::post(&format!("/files/{dir}?Type=file&{query}")).token(&api.token("io.cozy.files"));
    let response = api.send(call.header(CONTENT_TYPE, "text/plain").text(content.to_owned())).await;
    assert_eq!(response.status, 201, "{response}");
    response.json()["data"].clone()
}

async fn directory(api: &Api, dir: &str, name: &str) -> String {
    let call =
        TestRequest::post(&format!("/files/{dir}?Type=directory&Name={name}")).token(&api.token("io.cozy.files"));
    let response = api.send(call).await;
    assert_eq!(response.status, 201, "{response}");
    response.id()
}

/// Returns the number of stored blobs, without the icon of the installed konnector.
async fn contents(api: &Api) -> usize {
    api.platform.raw_store().blobs().list().await.expect("a list").len() - 1
}

fn id(file: &Value) -> &str {
    file["id"].as_str().expect("an id")
}

#[tokio::test]
async fn f1_what_cannot_be_created_is_refused() {
    let api = Api::new().await;
    upload(&api, "", "Name=taken.txt", "foo").await;
    let trashed = directory(&api, "", "gone").await;
    api.send(TestRequest::delete(&format!("/files/{trashed}")).token(&api.token("*"))).await;
    let token = api.token("io.cozy.files");
    let file = |query: &str| TestRequest::post(&format!("/files/?{query}")).token(&token).text("foo");
    let calls = [
        file("Name=x"),
        file("Type=file"),
        file("Type=directory"),
        file("Type=file&Name=coucou/with/slashs!"),
        file("Type=file&Name=.."),
        file("Type=file&Name=taken.txt"),
        file("Type=directory&Name=taken.txt"),
        TestRequest::post("/files/noooooop?Type=file&Name=x").token(&token).text("foo"),
        TestRequest::post("/files/noooooop?Type=directory&Name=x").token(&token),
        TestRequest::post(&format!("/files/{trashed}?Type=file&Name=x")).token(&token).text("foo"),
        file("Type=file&Name=x").header(CONTENT_TYPE, "no type at all"),
        file("Type=file&Name=x").header(CONTENT_TYPE, "foo € / bar"),
        file("Type=file&Name=x").header(CONTENT_MD5, "nonsense"),
        file("Type=file&Name=x").header(CONTENT_MD5, &STANDARD.encode([0; 16])),
        file("Type=file&Name=x&Size=7"),
        file("Type=file&Name=x&CreatedAt=yesterday"),
        file("Type=file&Name=x").header(CONTENT_LENGTH, "99999999999999"),
        TestRequest::post("/files/?Type=directory&Path=/a/b").token(&token),
        TestRequest::post("/files/?Type=file&Name=x").text("foo"),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
    let names =
        api.send(TestRequest::get(&format!("/files/{ROOT_ID}/relationships/contents")).token(&token)).await.json();
    let names: Vec<_> =
        names["data"].as_array().expect("a list").iter().map(|file| file["attributes"]["name"].clone()).collect();
    assert_eq!(names, ["taken.txt"], "nothing else was made, and the trash is not listed");
    assert_eq!(contents(&api).await, 1, "no content is left of what was refused");
}

#[tokio::test]
async fn f5_f6_a_content_is_created_and_replaced() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let query = "Name=a.txt&Tags=tax,tax,2026&Executable=true&CreatedAt=2026-01-02T03:04:05Z&SourceAccount=one&SourceAccountIdentifier=ana";
    let call =
        TestRequest::post(&format!("/files/?Type=file&{query}")).token(&token).header(CONTENT_MD5, FOO).text("foo");
    let created = api.send(call.header(CONTENT_TYPE, "text/plain; charset=utf-8")).await;
    assert_eq!(created.status, 201, "{created}");
    insta::assert_snapshot!(created);
    let created = created.json()["data"].clone();

    let path = format!("/files/{}", id(&created));
    let put = |query: &str, rev: &str| {
        let call = TestRequest::put(&format!("{path}?SourceAccount=two{query}")).token(&token).header(IF_MATCH, rev);
        call.header(DATE, "Tue, 17 Nov 2026 08:00:00 GMT").text("%PDF-1.7 more")
    };
    api.clock.set("2026-11-20T12:10:00Z".parse().expect("a date"));
    let rev = created["meta"]["rev"].as_str().expect("a revision");
    // The first source account of a file remains.
    let calls = [put("", "badrev"), put("&Executable=false&Encrypted=true", rev)];
    insta::assert_snapshot!(api.transcript(calls).await);
    let content = api.send(TestRequest::get(&format!("/files/download/{}", id(&created))).token(&token)).await;
    assert_eq!(content.text(), "%PDF-1.7 more");
    assert_eq!(contents(&api).await, 2, "the former one is a version");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f4_of_many_at_the_same_time_one_wins() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let create = |_| TestRequest::post("/files/?Type=directory&Name=same").token(&token);
    let responses = api.send_concurrently((0..100).map(create)).await;
    let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1);
    assert!(statuses.iter().all(|status| [201, 409, 503].contains(status)), "{statuses:?}");

    let file = upload(&api, "", "Name=a.txt", "first").await;
    let path = format!("/files/{}", id(&file));
    let texts: Vec<String> = (0..100).map(|number| format!("content {number}")).collect();
    let put = |content: &String| TestRequest::put(&path).token(&token).text(content.clone());
    let responses = api.send_concurrently(texts.iter().map(put)).await;
    assert!(responses.iter().all(|response| [200, 409, 503].contains(&response.status)));
    let mut generations: Vec<u64> = responses
        .iter()
        .filter(|response| response.status == 200)
        .map(|response| generation(&response.json()["data"]))
        .collect();
    generations.sort_unstable();
    assert!(!generations.is_empty());
    assert_eq!(generations, (2..2 + generations.len() as u64).collect::<Vec<_>>(), "each has its own revision");
    let winners = responses.iter().zip(&texts).filter(|(response, _)| response.status == 200).map(|(_, text)| text);
    let last = api.send(TestRequest::get(&format!("/files/download/{}", id(&file))).token(&token)).await;
    assert!(winners.into_iter().any(|content| content == last.text()));
    assert_eq!(contents(&api).await, 2, "those that lost left nothing, the first is a version");
    assert_eq!(
        api.platform.files().disk_usage(&api.alice).await.expect("a number"),
        (last.text().len() + "first".len()) as u64
    );
}

fn generation(file: &Value) -> u64 {
    let rev = file["meta"]["rev"].as_str().expect("a revision");
    rev.split('-').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Returns the revision after the only successful change; all others must have been refused for their revision.
fn only_winner(what: &str, answers: Vec<TestResponse>) -> String {
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    let statuses: Vec<_> = lost.iter().map(|answer| answer.status).collect();
    assert!(won.len() == 1 && statuses.iter().all(|status| *status == 412), "{what}: {} won, {statuses:?}", won.len());
    won[0].json()["data"]["meta"]["rev"].as_str().expect("a revision").to_owned()
}

/// Of many who saw the same revision, one changes it; whatever the others wanted, nothing of it is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_saw_a_revision_changes_that_one_or_nothing() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let file = upload(&api, "", "Name=a.txt", "first").await;
    let path = format!("/files/{}", id(&file));
    let mut rev = file["meta"]["rev"].as_str().expect("a revision").to_owned();
    for round in 0..6 {
        let calls = (0..60).map(|number| {
            let call = match (round + number) % 3 {
                0 => TestRequest::put(&path).text(format!("{round} {number}")),
                1 => TestRequest::patch(&path).attributes(json!({ "name": format!("{round} {number}.txt") })),
                _ => TestRequest::patch(&path).attributes(json!({ "metadata": { "round": round, "number": number } })),
            };
            call.token(&token).header(IF_MATCH, &rev)
        });
        let responses = api.send_concurrently(calls).await;
        let (won, lost): (Vec<_>, Vec<_>) = responses.into_iter().partition(|response| response.status == 200);
        assert_eq!(won.len(), 1, "round {round}");
        assert!(lost.iter().all(|response| response.status == 412), "round {round}");
        let current = api.send(TestRequest::get(&path).token(&token)).await.json()["data"].clone();
        let winner = won[0].json()["data"].clone();
        assert_eq!((&current["meta"], &current["attributes"]), (&winner["meta"], &winner["attributes"]));
        rev = winner["meta"]["rev"].as_str().expect("a revision").to_owned();
    }
    // The trash, and the way out of it.
    let from_trash = format!("/files/trash/{}", id(&file));
    let before = rev.clone();
    for round in 0..6 {
        let trash = (0..30).map(|number| match number % 2 {
            0 => TestRequest::delete(&path).token(&token).header(IF_MATCH, &rev),
            _ => TestRequest::patch(&path)
                .token(&token)
                .attributes(json!({ "move_to_trash": true }))
                .header(IF_MATCH, &rev),
        });
        rev = only_winner(&format!("trash {round}"), api.send_concurrently(trash).await);
        if round == 5 {
            break;
        }
        let restore = (0..30).map(|_| TestRequest::post(&from_trash).token(&token).header(IF_MATCH, &rev));
        rev = only_winner(&format!("restore {round}"), api.send_concurrently(restore).await);
    }
    let rev = before;
    let stale = TestRequest::post(&from_trash).token(&token).header(IF_MATCH, &rev);
    assert_eq!(api.send(stale).await.status, 412);
    let stale = TestRequest::delete(&from_trash).token(&token).header(IF_MATCH, &rev);
    assert_eq!(api.send(stale).await.status, 412);
    let without_rev = TestRequest::post(&format!("/files/trash/{}?rev=", id(&file))).token(&token).header(IF_MATCH, "");
    assert_eq!(api.send(without_rev).await.status, 200, "Cozy's client sends an empty If-Match when it saw none");
}

/// Used by uploads of the same instance within a day.
#[tokio::test]
async fn f5_f6_metadata_is_left_for_an_upload() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let metadata = json!({ "category": "report", "datetime": "2017-04-22T01:00:00-05:00" });
    let saved = api.send(TestRequest::post("/files/upload/metadata").token(&token).attributes(metadata.clone())).await;
    let (status, saved) = (saved.status, saved.json()["data"].clone());
    assert_eq!((status, &saved["type"], &saved["attributes"]), (201, &json!("io.cozy.files.metadata"), &metadata));
    let file = upload(&api, "", &format!("Name=a.txt&MetadataID={}", id(&saved)), "foo").await;
    assert_eq!(file["attributes"]["metadata"], metadata);
    let put = |metadata_id: &str| {
        TestRequest::put(&format!(
            "/files/{}?MetadataID={metadata_id}&Encrypted=true&Executable=true&SourceAccount=one&SourceAccountIdentifier=ana",
            id(&file)
        ))
        .token(&token)
        .text("bar")
    };
    assert_eq!(api.send(put("unknown")).await.status, 422);
    let replaced = api.send(put(id(&saved))).await.json()["data"]["attributes"].clone();
    assert_eq!((&replaced["metadata"], &replaced["encrypted"]), (&metadata, &json!(true)));
    assert_eq!(replaced["executable"], true);
    let source = ["sourceAccount", "sourceAccountIdentifier"].map(|name| &replaced["cozyMetadata"][name]);
    assert_eq!(source, ["one", "ana"], "it had none");
    let overwritten =
        api.send(TestRequest::put(&format!("/files/{}", id(&file))).token(&token).text("bar")).await.json();
    assert_eq!(overwritten["data"]["attributes"]["metadata"], metadata, "a new content says nothing of it");
    let elsewhere = api.platform.files().upload_metadata(&api.bob, id(&saved)).expect("read");
    assert_eq!(elsewhere, None, "another instance");
    let large = json!({ "text": "x".repeat(70_000) });
    let large = TestRequest::post("/files/upload/metadata").token(&token).attributes(large);
    assert_eq!(api.send(large).await.status, 413);
    let denied =
        TestRequest::post("/files/upload/metadata").token(&api.token("io.cozy.files:GET")).attributes(json!({}));
    assert_eq!(api.send(denied).await.status, 403);
    api.clock.set(api.clock.now() + chrono::Duration::seconds(86_401));
    let token = api.token("io.cozy.files");
    let expired =
        TestRequest::put(&format!("/files/{}?MetadataID={}", id(&file), id(&saved))).token(&token).text("bar");
    insta::assert_snapshot!(api.send(expired).await, @r#"
    422 application/vnd.api+json
    {
      "errors": [
        {
          "status": "422",
          "title": "Invalid Parameter",
          "detail": "MetadataID: '<id>' does not exist; metadata expires after a day",
          "source": {
            "parameter": "MetadataID"
          }
        }
      ]
    }
    "#);
    let again = TestRequest::post("/files/upload/metadata").token(&token).attributes(json!({}));
    assert_eq!(api.send(again).await.status, 201);
    let saved = api.platform.raw_store().list(&api.alice.id, &UPLOAD_METADATA, None, 10).expect("a list");
    assert_eq!(saved.len(), 1, "what is over is forgotten");
}

#[tokio::test]
async fn an_error_names_the_parameter_and_the_operation() {
    let api = Api::new().await;
    let token = api.token("*");
    let path = |path: &str| TestRequest::post(&format!("/files/?Type=directory&{path}")).token(&token);
    let calls = [
        path("Path=/one/../two"),
        path("Path=/one/../two&Recursive=true"),
        path("Path=/one/.."),
        path("Path=one"),
        path("Path=/"),
        TestRequest::get("/files/metadata?Path=/../x").token(&token),
        TestRequest::delete(&format!("/files/{ROOT_ID}")).token(&token),
        TestRequest::delete("/files/trash/io.cozy.files.trash-dir").token(&token),
        TestRequest::get("/files/trash?page[limit]=-1").token(&token),
    ];
    insta::assert_snapshot!(api.summary(calls).await, @r"
    POST /files/?Type=directory&Path=/one/../two → 422 Invalid Parameter (Path): Path: '/one/../two' is not a valid path: a file name must not be empty, '.' or '..'
    POST /files/?Type=directory&Path=/one/../two&Recursive=true → 422 Invalid Parameter (Path): Path: '/one/../two' is not a valid path: a file name must not be empty, '.' or '..'
    POST /files/?Type=directory&Path=/one/.. → 422 Invalid Parameter (Path): Path: '/one/..' is not a valid path: a file name must not be empty, '.' or '..'
    POST /files/?Type=directory&Path=one → 422 Invalid Parameter (Path): 'one' is not a valid path: it must begin with / and have at most 32 levels
    POST /files/?Type=directory&Path=/ → 409 Conflict: Path: the root directory exists already; name a directory below it
    GET /files/metadata?Path=/../x → 422 Invalid Parameter (Path): Path: '/../x' is not a valid path: a file name must not be empty, '.' or '..'
    DELETE /files/io.cozy.files.root-dir → 400 Bad Request: the root directory and the trash cannot be deleted or restored; name a file or directory in them
    DELETE /files/trash/io.cozy.files.trash-dir → 400 Bad Request: the root directory and the trash cannot be deleted or restored; name a file or directory in them
    GET /files/trash?page[limit]=-1 → 400 Bad Request: page[limit]: '-1' is not valid; expected a whole number of at least 0
    ");
}

#[tokio::test]
async fn a_patch_without_a_known_attribute_changes_nothing() {
    let api = Api::new().await;
    let token = api.token("*");
    let file = upload(&api, "", "Name=a.txt", "foo").await;
    let path = format!("/files/{}", id(&file));
    for attributes in
        [json!({}), json!({ "nme": "b.txt" }), json!({ "name": null }), json!({ "cozyMetadata": { "favrite": true } })]
    {
        let refused = api.send(TestRequest::patch(&path).token(&token).attributes(attributes.clone())).await;
        assert!(refused.status == 400 && refused.text().contains("nothing to change"), "{attributes}: {refused}");
    }
    let unchanged = api.send(TestRequest::get(&path).token(&token)).await.json();
    assert_eq!(unchanged["data"]["meta"]["rev"], file["meta"]["rev"]);
    // Clients send all attributes of a file back, of which some cannot be changed.
    let known = json!({ "name": "b.txt", "md5sum": "x", "class": "text" });
    assert_eq!(api.send(TestRequest::patch(&path).token(&token).attributes(known)).await.status, 200);
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_refused_and_not_replaced() {
    let api = Api::new().await;
    let token = api.token("*");
    let file = upload(&api, "", "Name=a.txt", "foo").await;
    let calls = [
        TestRequest::post("/files/?Type=directory&Name=%ff%fe").token(&token),
        TestRequest::post("/files/?Type=file&Name=b%ff.txt").token(&token).text("foo"),
        TestRequest::post("/files/?Type=directory&Path=/%c3").token(&token),
        TestRequest::post(&format!("/files/{}/copy?Name=%ff", id(&file))).token(&token),
        TestRequest::get("/files/%ff").token(&token),
        TestRequest::get("/jobs/%ff").token(&token),
    ];
    insta::assert_snapshot!(api.summary(calls).await, @r"
    POST /files/?Type=directory&Name=%ff%fe → 400 Bad Request: Name: the parameter is not valid UTF-8; encode it as UTF-8
    POST /files/?Type=file&Name=b%ff.txt → 400 Bad Request: Name: the parameter is not valid UTF-8; encode it as UTF-8
    POST /files/?Type=directory&Path=/%c3 → 400 Bad Request: Path: the parameter is not valid UTF-8; encode it as UTF-8
    POST /files/<id>/copy?Name=%ff → 400 Bad Request: Name: the parameter is not valid UTF-8; encode it as UTF-8
    GET /files/%ff → 400 Bad Request: path: the path of the request is not valid UTF-8; encode it as UTF-8
    GET /jobs/%ff → 400 Bad Request: path: the path of the request is not valid UTF-8; encode it as UTF-8
    ");
    let below_data = api.send(TestRequest::put("/data/io.cozy.bills/%ff").token(&token).json(&json!({}))).await;
    assert_eq!((below_data.status, &below_data.json()["error"]), (400, &json!("bad_request")), "{below_data}");
}

/// Names that look alike are equal, however a client composes them.
#[tokio::test]
async fn names_are_composed() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let file = upload(&api, "", "Name=re%CC%81sume%CC%81.txt", "foo").await;
    assert_eq!(file["attributes"]["name"], "r\u{e9}sum\u{e9}.txt");
    let same = TestRequest::post("/files/?Type=file&Name=r%C3%A9sum%C3%A9.txt").token(&token).text("foo");
    assert_eq!(api.send(same).await.status, 409);
    let by_path = TestRequest::get("/files/metadata?Path=/re%CC%81sum%C3%A9.txt").token(&token);
    assert_eq!(api.send(by_path).await.id(), id(&file));
    directory(&api, "", "cafe%CC%81").await;
    let rename = TestRequest::patch(&format!("/files/{}", id(&file))).token(&token);
    let renamed = api.send(rename.attributes(json!({ "name": "cafe\u{301}" }))).await;
    assert_eq!(renamed.status, 409, "{renamed}");
    let below =
        TestRequest::post("/files/?Type=directory&Path=/caf%C3%A9/e%CC%81te%CC%81&Recursive=true").token(&token);
    assert_eq!(api.send(below).await.json()["data"]["attributes"]["path"], "/caf\u{e9}/\u{e9}t\u{e9}");
}

#[tokio::test]
async fn f7_name_place_and_more_are_patched() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let (one, two) = (directory(&api, "", "one").await, directory(&api, "", "two").await);
    let below = directory(&api, &one, "below").await;
    let file = upload(&api, &below, "Name=a.txt", "foo").await;
    upload(&api, &two, "Name=taken.txt", "foo").await;
    let patch =
        |id: &str, attributes: Value| TestRequest::patch(&format!("/files/{id}")).token(&token).attributes(attributes);

    let changed = api.send(patch(id(&file), json!({ "name": "b.txt", "dir_id": two, "tags": ["bar", "bar", "baz"], "metadata": { "a": 1 }, "cozyMetadata": { "favorite": true } }))).await;
    insta::assert_snapshot!(changed);
    let changed = api.send(patch(id(&file), json!({ "metadata": { "b": 2 } }))).await.json();
    assert_eq!(changed["data"]["attributes"]["metadata"], json!({ "b": 2 }), "not merged");

    // Moving a directory moves its contents.
    assert_eq!(api.send(patch(&one, json!({ "dir_id": two, "name": "moved" }))).await.status, 200);
    let found = api.send(TestRequest::get(&format!("/files/{below}")).token(&token)).await.json();
    assert_eq!(found["data"]["attributes"]["path"], "/two/moved/below");

    let calls = [
        patch(id(&file), json!({ "name": "taken.txt" })),
        patch(id(&file), json!({ "name": "with/slash" })),
        patch(id(&file), json!({ "dir_id": "unknown" })),
        patch(id(&file), json!({ "dir_id": TRASH_ID })),
        patch(&two, json!({ "dir_id": below })),
        patch(&two, json!({ "dir_id": two })),
        patch(ROOT_ID, json!({ "name": "root" })),
        patch(id(&file), json!({ "updated_at": "2001-01-01T00:00:00Z" })),
        patch(id(&file), json!({ "tags": "one" })),
        patch("unknown", json!({ "name": "x" })),
        patch(id(&file), json!({ "name": "x" })).header(IF_MATCH, "1-badbadbadbadbadbadbadbadbadbadba"),
        TestRequest::patch("/files/metadata?Path=/two/unknown").token(&token).attributes(json!({})),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

#[tokio::test]
async fn f11_what_is_deleted_lies_in_the_trash() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let folder = directory(&api, "", "folder").await;
    let file = upload(&api, &folder, "Name=a.txt", "foo").await;
    let other = upload(&api, "", "Name=b.txt", "bar").await;
    let delete = |id: &str| TestRequest::delete(&format!("/files/{id}")).token(&token);
    let patch = |id: &str, change: Value| TestRequest::patch(&format!("/files/{id}")).token(&token).attributes(change);
    api.clock.set("2026-11-20T12:10:00Z".parse().expect("a date"));
    let calls = [
        delete(&folder).header(IF_MATCH, "badrev"),
        delete(&folder),
        delete(&folder),
        patch(id(&other), json!({ "move_to_trash": true })),
        // Its children count as trashed, but were not trashed themselves.
        TestRequest::get(&format!("/files/{}", id(&file))).token(&token),
        patch(id(&file), json!({ "dir_id": ROOT_ID })),
        TestRequest::get("/files/download?Path=/.cozy_trash/folder/a.txt").token(&token),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
    let listed = api.send(TestRequest::get("/files/trash").token(&token)).await.json();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn f13_the_trash_keeps_things_until_it_is_emptied() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let folder = directory(&api, "", "folder").await;
    let below = directory(&api, &folder, "below").await;
    let file = upload(&api, &below, "Name=a.txt", "foo").await;
    let get = async |id: &str| {
        api.send(TestRequest::get(&format!("/files/{id}")).token(&token)).await.json()["data"]["attributes"].clone()
    };
    let delete = |path: &str| TestRequest::delete(&format!("/files/{path}")).token(&token);
    api.send(delete(&folder)).await;

    // Restoring: the name is taken in the meantime, and a child's directories are created again.
    directory(&api, "", "folder").await;
    let restore = |id: &str| TestRequest::post(&format!("/files/trash/{id}")).token(&token);
    let child = api.send(restore(id(&file))).await.json();
    assert_eq!(child["data"]["attributes"]["path"], "/folder/below/a.txt");
    let restored = api.send(restore(&folder)).await.json();
    let attributes = &restored["data"]["attributes"];
    assert_eq!((&attributes["path"], &attributes["trashed"]), (&json!("/folder (2)"), &json!(false)));
    assert_eq!(get(&below).await["path"], "/folder (2)/below");
    assert_eq!(api.send(restore(&folder)).await.status, 400);

    // Permanently.
    assert_eq!(api.send(delete(&format!("trash/{}", id(&file)))).await.status, 400, "not in the trash");
    let single = directory(&api, "", "single").await;
    upload(&api, &below, "Name=b.txt", "bar").await;
    for id in [id(&file), &single, &folder] {
        assert_eq!(api.send(delete(id)).await.status, 200);
    }
    let calls = [
        delete(&format!("trash/{}", id(&file))),
        TestRequest::get(&format!("/files/{}", id(&file))).token(&token),
        delete(&format!("trash/{single}")),
        TestRequest::get(&format!("/files/{single}")).token(&token),
        delete("trash"),
        TestRequest::get("/files/trash").token(&token),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
    assert_eq!(contents(&api).await, 0);
    assert_eq!(api.platform.files().disk_usage(&api.alice).await.expect("a number"), 0);
}

/// A rule on one directory does not cover others.
#[tokio::test]
async fn p10_rules_hold_for_what_is_created_and_moved() {
    let api = Api::new().await;
    let (mine, other) = (directory(&api, "", "mine").await, directory(&api, "", "other").await);
    let file = upload(&api, &other, "Name=a.txt", "foo").await;
    let status = async |call: TestRequest, token: &str| api.send(call.token(token)).await.status;
    let token = api.token(&format!("io.cozy.files:ALL:{mine}"));
    let create = |dir: &str| TestRequest::post(&format!("/files/{dir}?Type=file&Name=new.txt")).text("foo");
    let calls = [
        create(""),
        create("").token(&api.token("io.cozy.contacts")),
        create("").token(&api.token("io.cozy.files:GET")),
        create("").token(&token),
        create(&other).token(&token),
        create(&mine).token(&token),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
    assert_eq!(status(TestRequest::post("/files/?Type=directory&Path=/other/x&Recursive=true"), &token).await, 403);
    assert_eq!(status(TestRequest::post("/files/?Type=directory&Path=/mine/x/y&Recursive=true"), &token).await, 201);
    for (method, path) in [
        (Method::PUT, format!("/files/{}", id(&file))),
        (Method::DELETE, format!("/files/{}", id(&file))),
        (Method::DELETE, "/files/trash".to_owned()),
        (Method::GET, "/files/trash".to_owned()),
        (Method::POST, format!("/files/{}/copy", id(&file))),
    ] {
        assert_eq!(status(TestRequest::new(method.clone(), &path), &token).await, 403, "{method} {path}");
    }
    let created_id = api.send(TestRequest::get("/files/metadata?Path=/mine/new.txt").token(&token)).await.id();
    let move_out = TestRequest::patch(&format!("/files/{created_id}")).attributes(json!({ "dir_id": other }));
    assert_eq!(status(move_out, &token).await, 403, "moved out of its reach");
}

#[tokio::test]
async fn a_copy_is_a_file_of_its_own() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let (file, folder) = (upload(&api, "", "Name=a.txt", "foo").await, directory(&api, "", "folder").await);
    let copy = |query: &str| TestRequest::post(&format!("/files/{}/copy{query}", id(&file))).token(&token);
    for (query, path) in [("", "/a (copy).txt"), ("", "/a (copy) (2).txt"), ("?Name=b.txt", "/b.txt")] {
        let response = api.send(copy(query)).await;
        assert_eq!((response.status, &response.json()["data"]["attributes"]["path"]), (201, &json!(path)));
    }
    let response = api.send(copy(&format!("?DirID={folder}"))).await.json();
    assert_eq!(response["data"]["attributes"]["path"], "/folder/a.txt", "the name is free there");
    let response = api.send(copy(&format!("?DirID={folder}&Name=a.txt"))).await.json();
    assert_eq!(response["data"]["attributes"]["path"], "/folder/a (2).txt");
    api.send(TestRequest::put(&format!("/files/{}", id(&file))).token(&token).text("changed")).await;
    let content = TestRequest::get(&format!("/files/download/{}", id(&response["data"]))).token(&token);
    assert_eq!(api.send(content).await.text(), "foo");
}

/// The quota applies before and during an upload.
#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let mut alice = api.alice.clone();
    alice.disk_quota = Some(10);
    let remaining = api.platform.files().remaining_space(&alice).await.expect("a number");
    assert_eq!(remaining, 10);
    let too_large = api.platform.files().remaining_space(&api.alice).await.expect("a number") + 1;
    let announced =
        TestRequest::post("/files/?Type=file&Name=x").token(&token).header(CONTENT_LENGTH, &too_large.to_string());
    assert_eq!(api.send(announced.text("foo")).await.status, 413);
    let mut content = api.platform.files().create_content_writer(&alice).await.expect("begun");
    assert!(content.write(bytes::Bytes::from_static(b"0123456789")).await.is_ok());
    assert!(content.write(bytes::Bytes::from_static(b"!")).await.is_err());
}

#[tokio::test]
async fn a_directory_has_the_dates_of_the_request() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let dates = async |query: &str, date: Option<&str>| {
        let call = TestRequest::post(&format!("/files/?Type=directory&{query}")).token(&token);
        let call = date.into_iter().fold(call, |call, date| call.header(DATE, date));
        let created = api.send(call).await;
        assert_eq!(created.status, 201, "{created}");
        let attributes = created.json()["data"]["attributes"].clone();
        (attributes["created_at"].clone(), attributes["updated_at"].clone())
    };
    let (created, updated) = ("2024-01-02T03:04:05Z", "2025-01-02T03:04:05Z");
    let query = format!("CreatedAt={created}&UpdatedAt={updated}");
    let date = Some("Tue, 17 Nov 2026 08:00:00 GMT");
    let header_date = "2026-11-17T08:00:00Z";
    assert_eq!(dates(&format!("Name=both&{query}"), date).await, (json!(created), json!(updated)));
    assert_eq!(dates(&format!("Path=/path&{query}"), None).await, (json!(created), json!(updated)));
    assert_eq!(dates("Name=header", date).await, (json!(header_date), json!(header_date)));
    assert_eq!(dates(&format!("Name=created&CreatedAt={created}"), date).await, (json!(created), json!(header_date)));
    let wrong =
        api.send(TestRequest::post("/files/?Type=directory&Name=wrong&CreatedAt=yesterday").token(&token)).await;
    assert_eq!(wrong.status, 422, "{wrong}");
}

/// The rule on dates applies to created and changed files alike.
#[tokio::test]
async fn nothing_is_changed_before_it_is_created() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let before = contents(&api).await;
    for kind in ["file", "directory"] {
        let early = "CreatedAt=2026-03-01T00:00:00Z&UpdatedAt=2026-01-01T00:00:00Z";
        let call = TestRequest::post(&format!("/files/?Type={kind}&Name=early&{early}")).token(&token).text("foo");
        let rejected = api.send(call).await;
        assert_eq!(rejected.status, 422, "{kind}: {rejected}");
        assert_eq!(rejected.json()["errors"][0]["source"]["pointer"], "/data/attributes/UpdatedAt", "{rejected}");
    }
    assert_eq!(contents(&api).await, before, "no content is left behind");
    // If only the date of change is set, the file was created at the latest then.
    let old = upload(&api, "", "Name=old&UpdatedAt=2016-01-01T00:00:00Z", "foo").await;
    assert_eq!(old["attributes"]["created_at"], old["attributes"]["updated_at"]);
}

#[tokio::test]
async fn tags_have_a_bound() {
    let api = Api::new().await;
    let tags = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    upload(&api, "", &format!("Name=some&Tags={}", tags(100)), "foo").await;
    let call = TestRequest::post(&format!("/files/?Type=file&Name=many&Tags={}", tags(101)));
    let rejected = api.send(call.token(&api.token("io.cozy.files")).text("foo")).await;
    assert_eq!(rejected.status, 422, "{rejected}");
    assert!(rejected.summary().contains("at most 100 are allowed"), "{rejected}");
}

/// Uploads in progress count, announced or not, until they are stored or abandoned.
#[tokio::test]
async fn uploads_at_the_same_time_stay_within_the_quota() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let used = api.platform.files().disk_usage(&api.alice).await.expect("a number");
    let quota = InstancePatch { disk_quota: Some(used + 10), ..InstancePatch::default() };
    let alice = api.platform.instances().update(&api.alice, &quota).await.expect("changed");
    let remaining = async || api.platform.files().remaining_space(&alice).await.expect("a number");
    let create = |name: &str| TestRequest::post(&format!("/files/?Type=file&Name={name}")).token(&token);
    for announced in [true, false] {
        let (mut client, body) = tokio::io::duplex(64);
        let slow = create("slow").text(Body::from_stream(ReaderStream::new(body)));
        let slow = if announced { slow.header(CONTENT_LENGTH, "6") } else { slow };
        let others = async {
            client.write_all(b"12345").await.expect("sent");
            while remaining().await > 5 {
                tokio::task::yield_now().await;
            }
            assert_eq!(api.send(create("large").header(CONTENT_LENGTH, "6").text("123456")).await.status, 413);
            assert_eq!(api.send(create("large").text("123456")).await.status, 413);
            let small = api.send(create("small").text("1234")).await;
            assert_eq!(small.status, 201, "{small}");
            client.write_all(b"6").await.expect("sent");
            drop(client);
            small.id()
        };
        let (stored, small) = tokio::join!(api.send(slow), others);
        assert_eq!((stored.status, remaining().await), (201, 0), "{stored}");
        for id in [stored.id(), small] {
            api.send(TestRequest::delete(&format!("/files/{id}")).token(&token)).await;
        }
        assert_eq!(api.send(TestRequest::delete("/files/trash").token(&token)).await.status, 204);
        assert_eq!(remaining().await, 10);
        // A client that disconnects leaves nothing.
        let (client, body) = tokio::io::duplex(64);
        let call = create("gone").header(CONTENT_LENGTH, "10").text(Body::from_stream(ReaderStream::new(body)));
        let abandoned = tokio::select! {
            response = api.send(call) => Some(response.status),
            () = async { while remaining().await > 0 { tokio::task::yield_now().await } } => None,
        };
        drop(client);
        assert_eq!((abandoned, remaining().await), (None, 10));
    }
}
