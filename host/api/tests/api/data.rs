//! `/data`.

use http::header::IF_MATCH;
use konnector_platform::token::Audience;
use serde_json::{Value, json};

use crate::support::{Api, Call};

/// Creates a bill under an id; its revision.
async fn put(api: &Api, id: &str, body: Value) -> String {
    let answer = api.send(Call::put(&format!("/data/io.cozy.bills/{id}")).token(&api.token("*")).json(&body)).await;
    assert_eq!(answer.status, 200, "{answer}");
    answer.json()["rev"].as_str().expect("a revision").to_owned()
}

/// D1, D3, and the errors of reading.
#[tokio::test]
async fn documents_are_created_and_read() {
    let api = Api::new().await;
    let token = api.token("*");
    put(&api, "with%2Fslash", json!({ "amount": 12 })).await;
    let calls = [
        Call::post("/data/io.cozy.never.used/").token(&token).json(&json!({ "amount": 1, "_private": true })),
        Call::post("/data/io.cozy.bills/").token(&token).json(&json!({ "_id": "mine" })),
        Call::post("/data/io.cozy.bills/").token(&token).text("[1]"),
        Call::post("/data/io.cozy.files/").token(&token).json(&json!({})),
        Call::get("/data/io.cozy.bills/with%2Fslash").token(&token),
        Call::get("/data/io.cozy.bills/with%2fslash").token(&token),
        Call::get("/data/io.cozy.bills/unknown").token(&token),
        Call::get("/data/io.cozy.unknown/one").token(&token),
        Call::get("/data/io.cozy.bills/_foo").token(&token),
        Call::get("/data/io.cozy.permissions/one").token(&token),
        Call::get("/data/NOT-A-TYPE/one").token(&token),
        Call::patch("/data/io.cozy.bills/one").token(&token),
        Call::get("/data/_all_doctypes").token(&token),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

/// D2 and §8.3: what is closed is closed to every route.
#[tokio::test]
async fn reserved_types_are_closed_to_every_route() {
    let api = Api::new().await;
    let token = api.token("*");
    let rev = format!("1-{}", "0".repeat(32));
    let update = json!({ "_id": "one", "_rev": rev });
    let reads = |name: &str| {
        let path = |end: &str| format!("/data/{name}/{end}");
        [
            Call::get(&path("one")),
            Call::get(&path("_all_docs")),
            Call::post(&path("_all_docs")).json(&json!({ "keys": ["one"] })),
            Call::get(&path("_normal_docs")),
            Call::get(&path("_changes")),
            Call::post(&path("_changes")).json(&json!({})),
            Call::post(&path("_revs_diff")).json(&json!({ "one": [rev] })),
            Call::post(&path("_bulk_get")).json(&json!({ "docs": [{ "id": "one" }] })),
            Call::post(&path("_find")).json(&json!({ "selector": {} })),
            Call::post(&path("_index")).json(&json!({ "index": { "fields": ["n"] } })),
            Call::get(&path("_design_docs")),
            Call::get(&path("_design/one")),
            Call::get(&path("one/relationships/references")),
        ]
    };
    let writes = |name: &str| {
        let path = |end: &str| format!("/data/{name}/{end}");
        [
            Call::post(&path("")).json(&json!({ "n": 1 })),
            Call::put(&path("one")).json(&json!({ "n": 1 })),
            Call::put(&path("one")).json(&update),
            Call::delete(&path(&format!("one?rev={rev}"))),
            Call::delete(&path("")),
            Call::post(&path("_bulk_docs")).json(&json!({ "docs": [{ "n": 1 }] })),
            Call::delete(&path(&format!("_design/one?rev={rev}"))),
        ]
    };
    let refused = async |call: Call, name: &str, what: &str| {
        let line = call.line();
        let answer = api.send(call.token(&token)).await;
        let reserved = answer.text().contains(&format!("reserved doctype {name} {what}"));
        assert!(answer.status == 403 && reserved, "{line}: {answer}");
    };
    for name in ["io.cozy.permissions", "io.cozy.certified.carbon_copy", "io.cozy.notes.url"] {
        for call in reads(name) {
            refused(call, name, "unreadable").await;
        }
        for call in writes(name) {
            refused(call, name, "un").await;
        }
    }
    for name in ["io.cozy.files", "io.cozy.jobs", "io.cozy.notifications"] {
        for call in writes(name) {
            refused(call, name, "unwritable").await;
        }
        for call in reads(name) {
            let line = call.line();
            let answer = api.send(call.token(&token)).await;
            assert_ne!(answer.status, 403, "{line}: {answer}");
        }
    }
}

/// D4.
#[tokio::test]
async fn a_put_creates_or_updates_by_what_the_body_names() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    let first = put(&api, "one", json!({ "amount": 1 })).await;
    let write = async |body: Value| api.send(Call::put("/data/io.cozy.bills/one").token(&token).json(&body)).await;
    let second = write(json!({ "_id": "one", "_rev": first, "amount": 2 })).await;
    assert_eq!(second.status, 200, "{second}");
    let second = second.json();
    assert!(second["rev"].as_str().expect("a revision").starts_with("2-"));
    assert_eq!(second["data"]["amount"], 2);
    let refusals = [
        (json!({ "_id": "two", "_rev": first }), 400),
        (json!({ "_id": "one" }), 400),
        (json!({ "_rev": first }), 400),
        (json!({ "_id": "one", "_rev": "new" }), 400),
        (json!({ "_id": "one", "_rev": first }), 409),
        // Neither creates, and there is one already.
        (json!({}), 409),
    ];
    for (body, status) in refusals {
        let answer = write(body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {answer}");
        assert_eq!(answer.json()["status"], status.to_string());
    }
}

#[tokio::test]
async fn a_document_is_deleted_by_its_revision() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    let path = "/data/io.cozy.bills/one";
    let old = put(&api, "one", json!({})).await;
    let rev = put(&api, "one", json!({ "_id": "one", "_rev": old })).await;
    let delete = |query: &str| Call::delete(&format!("{path}{query}")).token(&token);
    assert_eq!(api.send(delete("")).await.status, 400);
    assert_eq!(api.send(delete(&format!("?rev={rev}")).header(IF_MATCH, &old)).await.status, 400);
    assert_eq!(api.send(delete(&format!("?rev={old}"))).await.status, 409);
    let answer = api.send(delete("").header(IF_MATCH, &format!("\"{rev}\""))).await.json();
    assert_eq!((&answer["deleted"], &answer["id"]), (&json!(true), &json!("one")));
    let gone = api.send(Call::get(path).token(&token)).await;
    assert_eq!((gone.status, &gone.json()["reason"]), (404, &json!("deleted")));
}

/// D10.
#[tokio::test]
async fn all_documents_of_a_type_are_listed_in_pages() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    for id in ["a", "b", "c", "d"] {
        put(&api, id, json!({ "name": id })).await;
    }
    let list =
        async |path: &str| api.send(Call::get(&format!("/data/io.cozy.bills/{path}")).token(&token)).await.json();
    let ids = |page: &Value, member: &str| -> Vec<String> {
        let rows = page["rows"].as_array().expect("rows").iter();
        rows.map(|row| row[member].as_str().expect("an id").to_owned()).collect()
    };
    let first = list("_normal_docs?limit=2").await;
    assert_eq!((ids(&first, "_id"), &first["total_rows"]), (vec!["a".to_owned(), "b".to_owned()], &json!(4)));
    let bookmark = first["bookmark"].as_str().expect("a bookmark");
    let second = list(&format!("_normal_docs?limit=2&bookmark={bookmark}")).await;
    assert_eq!((ids(&second, "_id"), &second["bookmark"]), (vec!["c".to_owned(), "d".to_owned()], &json!("")));
    assert_eq!(ids(&list("_normal_docs?skip=3").await, "_id"), ["d"]);
    assert_eq!(api.send(Call::get("/data/io.cozy.bills/_normal_docs?limit=x").token(&token)).await.status, 400);

    let all = list("_all_docs?limit=2&startkey=%22b%22&include_docs=true").await;
    assert_eq!(
        (ids(&all, "id"), &all["total_rows"], &all["offset"]),
        (vec!["b".to_owned(), "c".to_owned()], &json!(4), &json!(1))
    );
    assert_eq!(
        (&all["rows"][0]["doc"]["name"], &all["rows"][0]["value"]["rev"]),
        (&json!("b"), &all["rows"][0]["doc"]["_rev"])
    );

    let all = list("_all_docs?DesignDocs=false").await;
    assert_eq!((ids(&all, "id").concat().as_str(), &all["offset"]), ("abcd", &json!(0)));
    let stats = list("_normal_docs?limit=1&execution_stats=true").await;
    assert_eq!(stats["execution_stats"]["results_returned"], 1);

    let other = api.token("io.cozy.empty");
    let empty = api.send(Call::get("/data/io.cozy.empty/_normal_docs").token(&other)).await.json();
    assert_eq!(empty, json!({ "rows": [], "total_rows": 0, "bookmark": "" }));
}

#[tokio::test]
async fn a_rule_on_ids_or_members_reaches_only_those() {
    let api = Api::new().await;
    put(&api, "one", json!({ "kind": "gas" })).await;
    put(&api, "two", json!({ "kind": "water" })).await;
    let status = async |scope: &str, id: &str| {
        api.send(Call::get(&format!("/data/io.cozy.bills/{id}")).token(&api.token(scope))).await.status
    };
    assert_eq!(status("io.cozy.bills:GET:one", "one").await, 200);
    assert_eq!(status("io.cozy.bills:GET:one", "two").await, 403);
    assert_eq!(status("io.cozy.bills:GET:water:kind", "two").await, 200);
    assert_eq!(status("io.cozy.bills:GET:water:kind", "one").await, 403);
    // Whether it exists is told only to those who may know.
    assert_eq!(status("io.cozy.bills:GET:one", "three").await, 403);
}

/// D13: the konnector reads the password, everybody else its sealed form.
#[tokio::test]
async fn a_password_is_clear_only_to_the_konnector() {
    let api = Api::new().await;
    api.install("vault", json!({ "accounts": { "type": "io.cozy.accounts" } })).await;
    let account = json!({ "account_type": "vault", "auth": { "login": "me", "password": "s3cret" } });
    let created =
        api.send(Call::post("/data/io.cozy.accounts/").token(&api.token("io.cozy.accounts")).json(&account)).await;
    assert_eq!(created.status, 201, "{created}");
    assert!(!created.text().contains("s3cret"), "{created}");
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    let read = |token: String| api.send(Call::get(&format!("/data/io.cozy.accounts/{id}")).token(&token));
    let sealed = read(api.token("io.cozy.accounts")).await.json();
    assert!(sealed["auth"]["credentials_encrypted"].is_string() && sealed["auth"]["password"].is_null(), "{sealed}");
    let clear = read(api.token_of(Audience::Konnector, "vault", "")).await.json();
    assert_eq!(clear["auth"]["password"], "s3cret");
    let list = Call::get("/data/io.cozy.accounts/_all_docs?include_docs=true");
    let list = api.send(list.token(&api.token_of(Audience::Konnector, "vault", ""))).await;
    assert!(list.status == 200 && !list.text().contains("s3cret"), "{list}");
}
