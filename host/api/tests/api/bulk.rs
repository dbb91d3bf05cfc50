//! Many documents in one request.

use serde_json::{Value, json};

use crate::support::{Api, Call};

const BILLS: &str = "/data/io.cozy.bills";

#[tokio::test]
async fn each_document_of_many_is_for_itself() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    let bulk = async |docs: Value| {
        let call = Call::post(&format!("{BILLS}/_bulk_docs")).token(&token).json(&json!({ "docs": docs }));
        let answer = api.send(call).await;
        assert_eq!(answer.status, 201, "{answer}");
        answer.json()
    };
    let first =
        bulk(json!([{ "_id": "one", "n": 1 }, { "_id": "two", "n": 2 }, { "n": 3 }, { "_id": "one", "n": 4 }])).await;
    let outcomes: Vec<_> =
        first.as_array().expect("a list").iter().map(|one| (one["ok"].clone(), one["error"].clone())).collect();
    assert_eq!(
        outcomes,
        [
            (json!(true), Value::Null),
            (json!(true), Value::Null),
            (json!(true), Value::Null),
            (Value::Null, json!("conflict"))
        ]
    );
    let (one, two) = (&first[0]["rev"], &first[1]["rev"]);
    let second = bulk(json!([
        { "_id": "one", "_rev": one, "n": 10 },
        { "_id": "two", "_rev": two, "_deleted": true },
        { "_id": "one", "_rev": one, "n": 11 },
        { "_id": "unknown", "_rev": one },
        { "_id": "_hidden" },
        { "_deleted": true },
    ]))
    .await;
    let outcomes: Vec<_> =
        second.as_array().expect("a list").iter().map(|one| one.get("error").cloned().unwrap_or_default()).collect();
    assert_eq!(
        outcomes,
        [Value::Null, Value::Null, json!("conflict"), json!("not_found"), json!("bad_id"), json!("bad_request")]
    );

    let wanted = json!({ "docs": [{ "id": "one" }, { "id": "one", "rev": one }, { "id": "two" }] });
    let got = api.send(Call::post(&format!("{BILLS}/_bulk_get")).token(&token).json(&wanted)).await.json();
    assert_eq!(got["results"][0]["docs"][0]["ok"]["n"], 10);
    assert_eq!(got["results"][1]["docs"][0]["error"]["reason"], "missing");
    assert_eq!(got["results"][2]["docs"][0]["error"]["reason"], "deleted");

    for (body, status) in [
        (json!({}), 400),
        (json!({ "docs": [1] }), 400),
        (json!({ "docs": [], "new_edits": false }), 400),
        (json!({ "docs": vec![json!({}); 1_001] }), 413),
    ] {
        assert_eq!(api.send(Call::post(&format!("{BILLS}/_bulk_docs")).token(&token).json(&body)).await.status, status);
    }
    let narrow = api.token("io.cozy.bills:ALL:one");
    let call = Call::post(&format!("{BILLS}/_bulk_docs")).token(&narrow).json(&json!({ "docs": [] }));
    assert_eq!(api.send(call).await.status, 403);
}

#[tokio::test]
async fn documents_are_listed_by_keys_and_members() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    let docs = json!({ "docs": [{ "_id": "one", "a": { "b": 1, "c": 2 }, "d": 3 }, { "_id": "two", "d": 4 }] });
    api.send(Call::post(&format!("{BILLS}/_bulk_docs")).token(&token).json(&docs)).await;
    let keys = json!({ "keys": ["two", "unknown", "one"] });
    let rows =
        api.send(Call::post(&format!("{BILLS}/_all_docs?include_docs=true")).token(&token).json(&keys)).await.json();
    assert_eq!((&rows["rows"][0]["doc"]["d"], &rows["rows"][1]["error"]), (&json!(4), &json!("not_found")));
    assert_eq!(rows["rows"][2]["id"], "one");
    let rows = api.send(Call::get(&format!("{BILLS}/_all_docs?Fields=a.b,d")).token(&token)).await.json();
    assert_eq!(rows["rows"][0]["doc"], json!({ "a": { "b": 1 }, "d": 3 }));
    assert_eq!(api.send(Call::post(&format!("{BILLS}/_all_docs")).token(&token).json(&json!({}))).await.status, 400);
}

/// D11.
#[tokio::test]
async fn all_documents_of_a_type_are_deleted() {
    let api = Api::new().await;
    let docs: Vec<Value> = (0..250).map(|n| json!({ "n": n })).collect();
    api.send(Call::post(&format!("{BILLS}/_bulk_docs")).token(&api.token("*")).json(&json!({ "docs": docs }))).await;
    let delete = async |scope: &str, path: &str| api.send(Call::delete(path).token(&api.token(scope))).await;
    assert_eq!(delete("io.cozy.bills:GET", &format!("{BILLS}/")).await.status, 403);
    assert_eq!(delete("*", "/data/io.cozy.files/").await.status, 403);
    let answer = delete("io.cozy.bills", &format!("{BILLS}/")).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "deleted": true })));
    let left = api.send(Call::get(&format!("{BILLS}/_all_docs")).token(&api.token("*"))).await.json();
    assert_eq!(left["total_rows"], 0);
}
