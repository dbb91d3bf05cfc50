//! Change feed: `_changes` and `_revs_diff`.

use serde_json::{Value, json};

use crate::support::{Api, TestRequest, TestResponse};

const CHANGES: &str = "/data/io.cozy.bills/_changes";

/// Writes a bill; returns its revision.
async fn put(api: &Api, id: &str, body: Value) -> String {
    let response =
        api.send(TestRequest::put(&format!("/data/io.cozy.bills/{id}")).token(&api.token("*")).json(&body)).await;
    assert_eq!(response.status, 200, "{response}");
    response.json()["rev"].as_str().expect("a revision").to_owned()
}

/// Creates three bills, then changes the first and deletes the second.
async fn bills() -> Api {
    let api = Api::new().await;
    let first = put(&api, "a", json!({ "n": 1 })).await;
    let second = put(&api, "b", json!({ "n": 2 })).await;
    put(&api, "c", json!({ "n": 3 })).await;
    put(&api, "a", json!({ "_id": "a", "_rev": first, "n": 4 })).await;
    let delete = TestRequest::delete(&format!("/data/io.cozy.bills/b?rev={second}")).token(&api.token("*"));
    assert_eq!(api.send(delete).await.status, 200);
    api
}

async fn get(api: &Api, query: &str) -> TestResponse {
    api.send(TestRequest::get(&format!("{CHANGES}{query}")).token(&api.token("io.cozy.bills:GET"))).await
}

fn ids(response: &TestResponse) -> String {
    assert_eq!(response.status, 200, "{response}");
    let results = response.json()["results"].as_array().expect("results").clone();
    results.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
}

/// Returns the body without the numbers of this run.
fn stable_body(response: &TestResponse) -> String {
    let mut body = response.json();
    let hide = |seq: &mut Value| {
        let number = seq.as_str().expect("a text").split('-').next().expect("a number").len();
        *seq = json!(if number == 1 && seq == "0" { "0" } else { "<seq>" });
    };
    hide(&mut body["last_seq"]);
    for row in body["results"].as_array_mut().expect("results") {
        hide(&mut row["seq"]);
    }
    serde_json::to_string_pretty(&body).expect("a text")
}

/// The feed includes deletions.
#[tokio::test]
async fn d8_the_feed_lists_each_document_once_at_its_last_change() {
    let api = bills().await;
    insta::assert_snapshot!(stable_body(&get(&api, "?include_docs=true").await), @r#"
    {
      "last_seq": "<seq>",
      "pending": 0,
      "results": [
        {
          "seq": "<seq>",
          "id": "c",
          "changes": [
            {
              "rev": "1-ef981dcd2ff0c2b6ea2c21432cf3deba"
            }
          ],
          "doc": {
            "_id": "c",
            "_rev": "1-ef981dcd2ff0c2b6ea2c21432cf3deba",
            "_type": "io.cozy.bills",
            "n": 3
          }
        },
        {
          "seq": "<seq>",
          "id": "a",
          "changes": [
            {
              "rev": "2-860a2b026fa756980e6bcb0ba15be4e0"
            }
          ],
          "doc": {
            "_id": "a",
            "_rev": "2-860a2b026fa756980e6bcb0ba15be4e0",
            "_type": "io.cozy.bills",
            "n": 4
          }
        },
        {
          "seq": "<seq>",
          "id": "b",
          "changes": [
            {
              "rev": "2-4fe4d83127a1b4b387a60eb053fb4f3d"
            }
          ],
          "deleted": true,
          "doc": {
            "_id": "b",
            "_rev": "2-4fe4d83127a1b4b387a60eb053fb4f3d",
            "_deleted": true
          }
        }
      ]
    }
    "#);
    assert_eq!(ids(&get(&api, "?style=all_docs").await), "cab");
    assert_eq!(ids(&get(&api, "?descending=true").await), "bac");
    let page = get(&api, "?limit=2&_nonce=x&feed=normal&heartbeat=true&timeout=1000&seq_interval=5").await;
    assert_eq!((ids(&page).as_str(), &page.json()["pending"]), ("ca", &json!(1)));
    let since = page.json()["last_seq"].as_str().expect("a place").to_owned();
    let rest = get(&api, &format!("?since={since}")).await;
    assert_eq!((ids(&rest).as_str(), &rest.json()["pending"]), ("b", &json!(0)));
    let now = get(&api, "?since=now").await;
    assert_eq!((ids(&now).as_str(), &now.json()["last_seq"]), ("", &rest.json()["last_seq"]));
}

#[tokio::test]
async fn d8_the_feed_can_be_limited_to_some_documents() {
    let api = bills().await;
    let token = api.token("io.cozy.bills:GET");
    let post = async |query: &str, body: Value| {
        api.send(TestRequest::post(&format!("{CHANGES}{query}")).token(&token).json(&body)).await
    };
    let some = json!({ "doc_ids": ["a", "c", "never"] });
    insta::assert_snapshot!(stable_body(&post("?filter=_doc_ids", some.clone()).await), @r#"
    {
      "last_seq": "<seq>",
      "pending": 0,
      "results": [
        {
          "seq": "<seq>",
          "id": "c",
          "changes": [
            {
              "rev": "1-ef981dcd2ff0c2b6ea2c21432cf3deba"
            }
          ]
        },
        {
          "seq": "<seq>",
          "id": "a",
          "changes": [
            {
              "rev": "2-860a2b026fa756980e6bcb0ba15be4e0"
            }
          ]
        }
      ]
    }
    "#);
    assert_eq!(ids(&post("?include_docs=true&filter=_doc_ids", some.clone()).await), "ca");
    assert_eq!(ids(&post("?filter=_doc_ids&limit=1", some.clone()).await), "c");
    assert_eq!(ids(&post("?filter=_doc_ids&descending=true", some.clone()).await), "ac");
    assert_eq!(ids(&post("", json!({})).await), "cab");
    for (query, body) in [
        ("?filter=_selector", some.clone()),
        ("?filter=_doc_ids", json!({ "doc_ids": [1, 2] })),
        ("?filter=_doc_ids", json!({})),
    ] {
        assert_eq!(post(query, body).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn d8_only_known_parameters_are_taken() {
    let api = bills().await;
    let mut rejections = Vec::new();
    for query in [
        "?feed=continuous",
        "?style=not_a_valid_style",
        "?limit=not_a_number",
        "?inlcude_docs=true",
        "?include_docs=yes",
        "?filter=_doc_ids",
        "?since=soon",
        "?heartbeat=x",
    ] {
        let response = get(&api, query).await;
        assert_eq!(response.status, 400, "{response}");
        rejections.push(response.json()["reason"].as_str().expect("a reason").to_owned());
    }
    insta::assert_snapshot!(rejections.join("\n"), @r#"
    the parameter feed must be normal, not 'continuous'
    the parameter style must be main_only or all_docs, not 'not_a_valid_style'
    limit: 'not_a_number' is not valid; expected a whole number of at least 0
    the parameter 'inlcude_docs' is unknown; the parameters of _changes are _nonce, bearer_token, descending, feed, heartbeat, include_docs, limit, seq_interval, since, style, timeout
    the parameter include_docs must be true or false, not 'yes'
    the parameter filter requires POST with doc_ids in the body
    invalid since: "soon" is not a valid position; use the last_seq of an earlier response, or 0 for all changes
    heartbeat: 'x' is not valid; expected a whole number of at least 0
    "#);
}

/// The token must permit the whole type; reserved and unknown types have no changes.
#[tokio::test]
async fn changes_need_a_rule_on_the_whole_type() {
    let api = bills().await;
    let status = async |scope: &str, doctype: &str| {
        api.send(TestRequest::get(&format!("/data/{doctype}/_changes")).token(&api.token(scope))).await.status
    };
    assert_eq!(status("io.cozy.bills:GET:a", "io.cozy.bills").await, 403);
    assert_eq!(status("io.cozy.files", "io.cozy.bills").await, 403);
    assert_eq!(status("*", "io.cozy.permissions").await, 403);
    assert_eq!(status("*", "io.cozy.never").await, 404);
    assert_eq!(status("*", "io.cozy.files").await, 200);
    assert_eq!(api.send(TestRequest::get(CHANGES)).await.status, 401);
}

/// Deleting a whole type also removes the changes of its deleted documents.
#[tokio::test]
async fn a_type_that_is_deleted_has_no_changes() {
    let api = bills().await;
    let token = api.token("*");
    assert_eq!(api.send(TestRequest::delete("/data/io.cozy.bills/").token(&token)).await.status, 200);
    assert_eq!(get(&api, "").await.json()["reason"], "wrong_doctype");
    let again = put(&api, "a", json!({})).await;
    assert!(again.starts_with("1-"), "{again}");
    assert_eq!(ids(&get(&api, "").await), "a");
}

#[tokio::test]
async fn secrets_are_not_among_the_changes() {
    let api = Api::new().await;
    let account = json!({ "account_type": "vault", "auth": { "login": "me", "password": "s3cret" } });
    let token = api.token("*");
    api.send(TestRequest::post("/data/io.cozy.accounts/").token(&token).json(&account)).await;
    let response = api.send(TestRequest::get("/data/io.cozy.accounts/_changes?include_docs=true").token(&token)).await;
    assert!(response.status == 200 && response.text().contains("account_type"), "{response}");
    assert!(!response.text().contains("s3cret") && !response.text().contains("_sealed"), "{response}");
}

#[tokio::test]
async fn revisions_that_are_not_here_are_missing() {
    let api = Api::new().await;
    let rev = put(&api, "a", json!({})).await;
    let (old, new) = (format!("1-{}", "0".repeat(32)), format!("2-{}", "0".repeat(32)));
    let requested = json!({ "a": [rev, old, new], "b": [new], "c": [], "d": [old] });
    let known = put(&api, "d", json!({})).await;
    let diff = |body: &Value| {
        TestRequest::post("/data/io.cozy.bills/_revs_diff").token(&api.token("io.cozy.bills")).json(body)
    };
    let response = api.send(diff(&requested)).await;
    assert_eq!(
        response.json(),
        json!({
            "a": { "missing": [old, new], "possible_ancestors": [rev] },
            "b": { "missing": [new] },
            "d": { "missing": [old] },
        })
    );
    assert_eq!(api.send(diff(&json!({ "d": [known] }))).await.json(), json!({}));
    assert_eq!(api.send(diff(&json!({ "d": ["x"] }))).await.status, 400);
    assert_eq!(api.send(diff(&json!({ "d": "x" }))).await.status, 400);
}
