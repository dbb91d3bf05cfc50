//! `/data`.

use http::header::IF_MATCH;
use serde_json::{Value, json};

use crate::support::{Api, TestRequest};

/// Creates a bill with an id; returns its revision.
async fn put(api: &Api, id: &str, body: Value) -> String {
    let response =
        api.send(TestRequest::put(&format!("/data/io.cozy.bills/{id}")).token(&api.token("*")).json(&body)).await;
    assert_eq!(response.status, 200, "{response}");
    response.json()["rev"].as_str().expect("a revision").to_owned()
}

#[tokio::test]
async fn d1_d2_d3_documents_are_created_and_read() {
    let api = Api::new().await;
    let token = api.token("*");
    put(&api, "with%2Fslash", json!({ "amount": 12 })).await;
    let calls = [
        TestRequest::post("/data/io.cozy.bills/").token(&token).json(&json!({ "amount": 1, "_type": "io.cozy.bills" })),
        TestRequest::post("/data/io.cozy.bills/").token(&token).json(&json!({ "amount": 1, "_private": true })),
        TestRequest::post("/data/io.cozy.never.used/").token(&token).json(&json!({ "amount": 1 })),
        TestRequest::post("/data/io.cozy.bills/").token(&token).json(&json!({ "_id": "mine" })),
        TestRequest::post("/data/io.cozy.bills/").token(&token).text("[1]"),
        TestRequest::post("/data/io.cozy.files/").token(&token).json(&json!({})),
        TestRequest::get("/data/io.cozy.bills/with%2Fslash").token(&token),
        TestRequest::get("/data/io.cozy.bills/with%2fslash").token(&token),
        TestRequest::get("/data/io.cozy.bills/with%2Fslash"),
        TestRequest::get("/data/io.cozy.unknown/one"),
        TestRequest::get("/data/io.cozy.bills/unknown").token(&token),
        TestRequest::get("/data/io.cozy.unknown/one").token(&token),
        TestRequest::get("/data/io.cozy.bills/_foo").token(&token),
        TestRequest::get("/data/io.cozy.permissions/one").token(&token),
        TestRequest::get("/data/NOT-A-TYPE/one").token(&token),
        TestRequest::patch("/data/io.cozy.bills/one").token(&token),
        TestRequest::get("/data/_all_doctypes").token(&token),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

/// The reserved types of §8.3 are closed to every route.
#[tokio::test]
async fn d2_reserved_types_are_closed_to_every_route() {
    let api = Api::new().await;
    let token = api.token("*");
    let rev = format!("1-{}", "0".repeat(32));
    let update = json!({ "_id": "one", "_rev": rev });
    let reads = |name: &str| {
        let path = |end: &str| format!("/data/{name}/{end}");
        [
            TestRequest::get(&path("one")),
            TestRequest::get(&path("_all_docs")),
            TestRequest::post(&path("_all_docs")).json(&json!({ "keys": ["one"] })),
            TestRequest::get(&path("_normal_docs")),
            TestRequest::get(&path("_changes")),
            TestRequest::post(&path("_changes")).json(&json!({})),
            TestRequest::post(&path("_revs_diff")).json(&json!({ "one": [rev] })),
            TestRequest::post(&path("_bulk_get")).json(&json!({ "docs": [{ "id": "one" }] })),
            TestRequest::post(&path("_find")).json(&json!({ "selector": {} })),
            TestRequest::post(&path("_index")).json(&json!({ "index": { "fields": ["n"] } })),
            TestRequest::get(&path("_design_docs")),
            TestRequest::get(&path("_design/one")),
            TestRequest::get(&path("one/relationships/references")),
        ]
    };
    let writes = |name: &str| {
        let path = |end: &str| format!("/data/{name}/{end}");
        [
            TestRequest::post(&path("")).json(&json!({ "n": 1 })),
            TestRequest::put(&path("one")).json(&json!({ "n": 1 })),
            TestRequest::put(&path("one")).json(&update),
            TestRequest::delete(&path(&format!("one?rev={rev}"))),
            TestRequest::delete(&path("")),
            TestRequest::post(&path("_bulk_docs")).json(&json!({ "docs": [{ "n": 1 }] })),
            TestRequest::delete(&path(&format!("_design/one?rev={rev}"))),
        ]
    };
    let rejected = async |call: TestRequest, name: &str, reason: &str| {
        let line = call.request_line();
        let response = api.send(call.token(&token)).await;
        let reserved = response.text().contains(&format!("reserved doctype {name} {reason}"));
        assert!(response.status == 403 && reserved, "{line}: {response}");
    };
    for name in ["io.cozy.permissions", "io.cozy.certified.carbon_copy", "io.cozy.notes.url"] {
        for call in reads(name) {
            rejected(call, name, "unreadable").await;
        }
        for call in writes(name) {
            rejected(call, name, "un").await;
        }
    }
    for name in ["io.cozy.files", "io.cozy.jobs", "io.cozy.notifications"] {
        for call in writes(name) {
            rejected(call, name, "unwritable").await;
        }
        for call in reads(name) {
            let line = call.request_line();
            let response = api.send(call.token(&token)).await;
            assert_ne!(response.status, 403, "{line}: {response}");
        }
    }
}

#[tokio::test]
async fn d4_a_put_creates_or_updates_by_what_the_body_names() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    let rev = put(&api, "one", json!({ "amount": 1 })).await;
    let write =
        |id: &str, body: Value| TestRequest::put(&format!("/data/io.cozy.bills/{id}")).token(&token).json(&body);
    let calls = [
        write("new", json!({ "amount": 1 })),
        write("one", json!({ "_id": "one", "_rev": rev, "amount": 2 })),
        write("one", json!({ "_id": "one", "_rev": rev })),
        write("one", json!({ "_id": "two", "_rev": rev })),
        write("one", json!({ "_id": "one" })),
        write("one", json!({ "_rev": rev })),
        write("one", json!({ "_id": "one", "_rev": "new" })),
        // Without `_id` and `_rev` it would create, but the document exists.
        write("one", json!({})),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

#[tokio::test]
async fn a_document_is_deleted_by_its_revision() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    let path = "/data/io.cozy.bills/one";
    let old = put(&api, "one", json!({})).await;
    let rev = put(&api, "one", json!({ "_id": "one", "_rev": old })).await;
    let delete = |query: &str| TestRequest::delete(&format!("{path}{query}")).token(&token);
    assert_eq!(api.send(delete("")).await.status, 400);
    assert_eq!(api.send(delete(&format!("?rev={rev}")).header(IF_MATCH, &old)).await.status, 400);
    assert_eq!(api.send(delete(&format!("?rev={old}"))).await.status, 409);
    let response = api.send(delete("").header(IF_MATCH, &format!("\"{rev}\""))).await.json();
    assert_eq!((&response["deleted"], &response["id"]), (&json!(true), &json!("one")));
    let missing = api.send(TestRequest::get(path).token(&token)).await;
    assert_eq!((missing.status, &missing.json()["reason"]), (404, &json!("deleted")));
}

/// As in a CouchDB that keeps one revision of each document, including deleted ones.
#[tokio::test]
async fn the_history_of_a_document_is_its_last_revision() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    let old = put(&api, "one", json!({ "amount": 1 })).await;
    let rev = put(&api, "one", json!({ "_id": "one", "_rev": old, "amount": 2 })).await;
    let deleted_rev = put(&api, "gone", json!({ "amount": 3 })).await;
    let deleted = TestRequest::delete(&format!("/data/io.cozy.bills/gone?rev={deleted_rev}")).token(&token);
    let deleted = api.send(deleted).await.json()["rev"].as_str().expect("a revision").to_owned();
    let get = |path: &str| TestRequest::get(&format!("/data/io.cozy.bills/{path}")).token(&token);
    let requested =
        json!({ "docs": [{ "id": "one", "rev": old }, { "id": "gone", "rev": deleted }, { "id": "never" }] });
    let calls = [
        get(&format!("one?rev={rev}&revs=true&revs_info=true")),
        get(&format!("one?rev={old}")),
        get("one?open_revs=all&revs=true"),
        get(&format!("one?open_revs=[%22{old}%22,%22{rev}%22]")),
        get("gone?open_revs=all"),
        get("never?open_revs=all"),
        get(&format!("never?open_revs=[%22{rev}%22]")),
        get("one?open_revs=some"),
        // A token for a single document does not reveal its deletion.
        TestRequest::get("/data/io.cozy.bills/gone?open_revs=all").token(&api.token("io.cozy.bills:GET:gone")),
        TestRequest::post("/data/io.cozy.bills/_bulk_get?revs=true").token(&token).json(&requested),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

#[tokio::test]
async fn d10_documents_of_a_type_are_listed_in_pages() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills io.cozy.empty");
    for id in ["a", "b", "c", "d"] {
        put(&api, id, json!({ "name": id })).await;
    }
    let index = TestRequest::post("/data/io.cozy.bills/_index").token(&token);
    assert_eq!(api.send(index.json(&json!({ "index": { "fields": ["name"] } }))).await.status, 200);
    let list = |query: &str| TestRequest::get(&format!("/data/{query}")).token(&token);
    let calls = [
        list("io.cozy.bills/_normal_docs?limit=2"),
        list("io.cozy.bills/_normal_docs?limit=2&skip=2"),
        list("io.cozy.bills/_normal_docs?limit=2&bookmark=sF4O_2GcYg"),
        list("io.cozy.bills/_normal_docs?limit=2&bookmark=b"),
        list("io.cozy.bills/_normal_docs?limit=1&execution_stats=true"),
        list("io.cozy.empty/_normal_docs"),
        list("io.cozy.bills/_normal_docs?limit=x"),
    ];
    let transcript = api.transcript(calls).await;
    let time = regex::Regex::new(r#""execution_time_ms": [0-9.e-]+"#).expect("a pattern");
    insta::assert_snapshot!(time.replace_all(&transcript, "(differs each time)"));
}

#[tokio::test]
async fn all_documents_of_a_type_are_listed_from_a_key_on() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    for id in ["a", "b", "c", "d"] {
        put(&api, id, json!({ "name": id })).await;
    }
    let list = async |path: &str| {
        api.send(TestRequest::get(&format!("/data/io.cozy.bills/{path}")).token(&token)).await.json()
    };
    let ids = |page: &Value| -> Vec<String> {
        let rows = page["rows"].as_array().expect("rows").iter();
        rows.map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
    };
    let all = list("_all_docs?limit=2&startkey=%22b%22&include_docs=true").await;
    assert_eq!(
        (ids(&all), &all["total_rows"], &all["offset"]),
        (vec!["b".to_owned(), "c".to_owned()], &json!(4), &json!(1))
    );
    assert_eq!(
        (&all["rows"][0]["doc"]["name"], &all["rows"][0]["value"]["rev"]),
        (&json!("b"), &all["rows"][0]["doc"]["_rev"])
    );

    let all = list("_all_docs?DesignDocs=false").await;
    assert_eq!((ids(&all).concat().as_str(), &all["offset"]), ("abcd", &json!(0)));
}

#[tokio::test]
async fn p3_a_rule_on_ids_or_members_reaches_only_those() {
    let api = Api::new().await;
    put(&api, "one", json!({ "kind": "gas" })).await;
    put(&api, "two", json!({ "kind": "water" })).await;
    let by_id = api.token("io.cozy.bills:GET:one");
    let by_member = api.token("io.cozy.bills:GET:water,one:kind");
    let get = |id: &str, token: &str| TestRequest::get(&format!("/data/io.cozy.bills/{id}")).token(token);
    let calls = [
        get("one", &by_id),
        get("two", &by_id),
        get("_all_docs", &by_id),
        // Do not reveal existence to callers without read access.
        get("three", &by_id),
        get("two", &by_member),
        get("one", &by_member),
        get("_all_docs", &by_member),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}
