//! `/files/_changes`.

use serde_json::{Value, json};

use crate::support::{Api, TestRequest};

const KEPT: &str = "0123456789abcdef0123456789abcde0";
const TRASHED: &str = "0123456789abcdef0123456789abcde1";
const DELETED: &str = "0123456789abcdef0123456789abcde2";

/// Creates three files, moves one to the trash, and deletes one.
async fn with_files() -> Api {
    let api = Api::new().await;
    for (id, name) in [(KEPT, "kept.txt"), (TRASHED, "trashed.txt"), (DELETED, "deleted.txt")] {
        api.add_file(id, "/Folder", name, b"content").await;
    }
    let token = api.token("*");
    assert_eq!(api.send(TestRequest::delete(&format!("/files/{TRASHED}")).token(&token)).await.status, 200);
    let delete = TestRequest::patch(&format!("/files/{DELETED}")).token(&token);
    assert_eq!(api.send(delete.attributes(json!({ "permanent_delete": true }))).await.status, 204);
    api
}

async fn feed(api: &Api, query: &str) -> Value {
    let response =
        api.send(TestRequest::get(&format!("/files/_changes?{query}")).token(&api.token("io.cozy.files:GET"))).await;
    assert_eq!(response.status, 200, "{response}");
    response.json()
}

fn lines(feed: &Value) -> &Vec<Value> {
    feed["results"].as_array().expect("a list")
}

fn line<'a>(feed: &'a Value, id: &str) -> Option<&'a Value> {
    lines(feed).iter().find(|line| line["id"] == id)
}

#[tokio::test]
async fn f18_the_feed_follows_its_parameters() {
    let api = with_files().await;
    let token = api.token("io.cozy.files:GET");
    let calls = [
        "",
        "?include_docs=true&fields=type,name,dir_id",
        "?include_docs=true&fields=trashed&include_file_path=true",
        "?skip_deleted=true&skip_trashed=true",
    ];
    let calls = calls.map(|query| TestRequest::get(&format!("/files/_changes{query}")).token(&token));
    let seq = regex::Regex::new(r#"seq": "[^"]+"#).expect("a pattern");
    insta::assert_snapshot!(seq.replace_all(&api.transcript(calls).await, r#"seq": "<seq>"#));

    let page = feed(&api, "include_docs=true").await;
    let document = &line(&page, KEPT).expect("a line")["doc"];
    assert_eq!((&document["size"], document.get("_content")), (&json!("7"), None));
    assert_eq!(feed(&api, "skip_deleted=true&skip_trashed=true").await["last_seq"], page["last_seq"]);
}

#[tokio::test]
async fn changes_come_in_pages_and_go_on() {
    let api = with_files().await;
    let (mut since, mut ids) = ("0".to_owned(), Vec::new());
    loop {
        let page = feed(&api, &format!("limit=2&since={since}")).await;
        ids.extend(lines(&page).iter().map(|line| line["id"].as_str().expect("an id").to_owned()));
        since = page["last_seq"].as_str().expect("a place").to_owned();
        if page["pending"] == 0 {
            break;
        }
    }
    assert_eq!(ids.len(), 6);
    assert_eq!(feed(&api, &format!("since={since}")).await["results"], json!([]));
    let put = TestRequest::put(&format!("/files/{KEPT}")).token(&api.token("*")).text("other");
    assert_eq!(api.send(put).await.status, 200);
    let later = feed(&api, &format!("since={since}&include_docs=true")).await;
    assert_eq!(lines(&later).iter().map(|line| &line["doc"]["size"]).collect::<Vec<_>>(), ["5"]);
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused() {
    let api = with_files().await;
    let token = api.token("io.cozy.files");
    for (query, status) in [("limit=x", 400), ("since=x", 400), ("skip_delete=true", 400), ("seq_interval=x", 400)] {
        let response = api.send(TestRequest::get(&format!("/files/_changes?{query}")).token(&token)).await;
        assert_eq!(response.status, status, "{query}: {response}");
    }
    assert_eq!(api.send(TestRequest::get("/files/_changes")).await.status, 401);
    let narrow = api.token(&format!("io.cozy.files:GET:{KEPT}"));
    assert_eq!(api.send(TestRequest::get("/files/_changes").token(&narrow)).await.status, 403);
}
