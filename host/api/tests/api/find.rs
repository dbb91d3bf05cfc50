//! `/data/:type/_find` and the indexes that it needs.

use serde_json::{Value, json};

use crate::support::{Api, TestRequest};

async fn post(api: &Api, path: &str, body: Value) -> Value {
    let response = api
        .send(TestRequest::post(&format!("/data/io.cozy.bills/{path}")).token(&api.token("io.cozy.bills")).json(&body))
        .await;
    let mut json = response.json();
    if let Some(stats) = json.get_mut("execution_stats").and_then(Value::as_object_mut) {
        assert!(stats.remove("execution_time_ms").is_some_and(|time| time.is_f64()));
    }
    json
}

/// Runs a query; returns the field `n` of the documents, and whether there are more.
async fn find(api: &Api, query: Value) -> (Vec<i64>, bool) {
    let response = post(api, "_find", query.clone()).await;
    let docs = response["docs"].as_array().unwrap_or_else(|| panic!("{query}: {response}"));
    (docs.iter().map(|doc| doc["n"].as_i64().expect("a number")).collect(), response["next"].as_bool().expect("a flag"))
}

/// Creates twelve bills of two vendors, with `n` from 0; every third one is unpaid.
async fn bills() -> Api {
    let api = Api::new().await;
    for n in 0..12 {
        let mut bill = json!({ "n": n, "vendor": if n % 2 == 0 { "Bank" } else { "Élec" }, "date": format!("2026-{:02}-01", 12 - n) });
        if n % 3 > 0 {
            bill["paid"] = json!(true);
        }
        post(&api, "", bill).await;
    }
    api
}

#[tokio::test]
async fn d6_indexes_are_declared_and_queries_need_them() {
    let api = bills().await;
    let token = api.token("io.cozy.bills");
    let call =
        |path: &str, body: Value| TestRequest::post(&format!("/data/io.cozy.bills/{path}")).token(&token).json(&body);
    let calls = [
        call("_find", json!({ "selector": { "vendor": "Bank" } })),
        call("_index", json!({ "index": { "fields": ["vendor"] } })),
        call("_index", json!({ "index": { "fields": ["vendor"] } })),
        call(
            "_index",
            json!({ "index": { "fields": [{ "vendor": "asc" }, "n"] }, "ddoc": "by-vendor-and-n", "name": "mine" }),
        ),
        call(
            "_find",
            json!({ "selector": { "vendor": "Bank" }, "fields": ["n"], "limit": 2, "execution_stats": true }),
        ),
        call("_find", json!({ "selector": { "vendor": { "$foo": 1 } } })),
        call("_find", json!({ "selector": { "vendor": "Bank" }, "sort": [{ "vendor": "asc" }, { "n": "desc" }] })),
        call("_find", json!({ "selector": { "vendor": "Bank" }, "limit": -1 })),
        call("_find", json!({ "selector": { "vendor": "Bank" }, "bookmark": "nonsense!" })),
        call("_find", json!({})),
        call("_index", json!({ "index": {} })),
        call("_index", json!({ "index": { "fields": ["a..b"] } })),
        TestRequest::get("/data/io.cozy.bills/_design/by-vendor-and-n").token(&token),
        TestRequest::get("/data/io.cozy.bills/_design/unknown").token(&token),
        TestRequest::post("/data/io.cozy.bills/_design/by-vendor-and-n/copy")
            .token(&token)
            .header(http::HeaderName::from_static("destination"), "_design/copy"),
        TestRequest::get("/data/io.cozy.bills/_design_docs").token(&token),
        TestRequest::post("/data/io.cozy.bills/_find")
            .token(&api.token("io.cozy.contacts"))
            .json(&json!({ "selector": {} })),
        TestRequest::post("/data/io.cozy.permissions/_find").token(&api.token("*")).json(&json!({ "selector": {} })),
    ];
    let transcript = api.transcript(calls).await;
    let new =
        regex::Regex::new(r#"("execution_time_ms"|"bookmark"): [0-9.e-]+|"bookmark": "[^"]+""#).expect("a pattern");
    insta::assert_snapshot!(new.replace_all(&transcript, "(differs each time)"));
}

#[tokio::test]
async fn queries_are_answered_in_the_order_of_their_index() {
    let api = bills().await;
    for fields in [json!(["vendor", "date"]), json!(["date"]), json!(["n"])] {
        post(&api, "_index", json!({ "index": { "fields": fields } })).await;
    }
    let bank = json!({ "vendor": "Bank", "date": { "$gt": null } });
    assert_eq!(find(&api, json!({ "selector": bank, "sort": ["vendor", "date"] })).await.0, [10, 8, 6, 4, 2, 0]);
    let descending = json!([{ "vendor": "desc" }, { "date": "desc" }]);
    assert_eq!(find(&api, json!({ "selector": bank, "sort": descending })).await.0, [0, 2, 4, 6, 8, 10]);
    assert_eq!(find(&api, json!({ "selector": bank, "sort": ["date"] })).await.0, [10, 8, 6, 4, 2, 0]);
    let between = json!({ "selector": { "n": { "$gte": 3, "$lt": 6 } } });
    assert_eq!(find(&api, between).await, (vec![3, 4, 5], false));
    assert_eq!(find(&api, json!({ "selector": { "n": { "$in": [4, 5, 99] } }, "skip": 1 })).await, (vec![5], false));
    // Fields outside of the index are filtered afterwards.
    let unpaid = json!({ "selector": { "n": { "$gt": 0 }, "paid": { "$exists": false } } });
    assert_eq!(find(&api, unpaid).await.0, [3, 6, 9]);
    assert_eq!(
        find(&api, json!({ "selector": {}, "limit": 5_000 })).await.0.len(),
        12,
        "too many are as good as none said"
    );
}

#[tokio::test]
async fn a_misspelt_field_of_a_query_is_refused() {
    let api = bills().await;
    for (field, path) in [("lmit", "/data/io.cozy.bills/_find"), ("sorts", "/files/_find")] {
        let query = json!({ "selector": {}, field: 5 });
        let refused = api.send(TestRequest::post(path).token(&api.token("*")).json(&query)).await;
        assert!(
            refused.status == 400 && refused.text().contains(&format!("{field}: the field is unknown")),
            "{refused}"
        );
    }
    // Clients of CouchDB send these.
    let known = json!({ "selector": {}, "conflicts": false, "r": 1, "stable": true, "update": true, "limit": 1 });
    assert_eq!(post(&api, "_find", known).await["docs"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_bookmark_leads_to_the_next_page() {
    let api = bills().await;
    post(&api, "_index", json!({ "index": { "fields": ["n"] } })).await;
    let mut numbers = Vec::new();
    let mut bookmark = json!(null);
    loop {
        let query =
            json!({ "selector": { "n": { "$gte": 2 } }, "sort": [{ "n": "desc" }], "limit": 4, "bookmark": bookmark });
        let response = post(&api, "_find", query).await;
        numbers.extend(
            response["docs"].as_array().expect("documents").iter().map(|doc| doc["n"].as_i64().expect("a number")),
        );
        if response["next"] == false {
            break;
        }
        bookmark = response["bookmark"].clone();
    }
    assert_eq!(numbers, [11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
}

/// `$exists: false` needs a partial index, which a query must name (CouchDB documentation, "Partial Indexes").
#[tokio::test]
async fn a_partial_index_is_used_by_who_names_it() {
    let api = bills().await;
    let index = json!({ "index": { "fields": ["date"], "partial_filter_selector": { "paid": { "$exists": false } } }, "ddoc": "unpaid" });
    assert_eq!(post(&api, "_index", index).await["id"], "_design/unpaid");
    let query = json!({ "selector": { "date": { "$gt": "2026-05" } } });
    assert_eq!(post(&api, "_find", query.clone()).await["error"], "no_index");
    for name in [json!("_design/unpaid"), json!("unpaid"), json!(["_design/unpaid"])] {
        let mut query = query.clone();
        query["use_index"] = name;
        assert_eq!(find(&api, query).await.0, [6, 3, 0]);
    }
}

/// An index may be created before the first document; the server's own indexes cannot be deleted.
#[tokio::test]
async fn d6_d11_design_documents_need_rights_of_their_own() {
    let api = Api::new().await;
    let all = api.token("*");
    let declare = TestRequest::post("/data/io.cozy.new/_index").token(&all);
    let created = api.send(declare.json(&json!({ "index": { "fields": ["n"] }, "ddoc": "by-n" }))).await;
    insta::assert_snapshot!(created, @r#"
    200 application/json
    {
      "result": "created",
      "id": "_design/by-n",
      "name": "a1b014cb93a0fb211ec263dc8845914f1a6f2fad"
    }
    "#);
    assert_eq!(
        api.send(TestRequest::get("/data/io.cozy.new/_changes").token(&all)).await.status,
        200,
        "the type is there"
    );
    let design = api.send(TestRequest::get("/data/io.cozy.new/_design/by-n").token(&all)).await.json();
    let path = format!("/data/io.cozy.new/_design/by-n?rev={}", design["_rev"].as_str().expect("a revision"));
    let status = async |call: TestRequest, scope: &str| api.send(call.token(&api.token(scope))).await.status;
    let copy = || {
        let name = http::HeaderName::from_static("destination");
        TestRequest::post("/data/io.cozy.new/_design/by-n/copy").header(name, "_design/copy")
    };
    assert_eq!(status(copy(), "io.cozy.new:GET").await, 403);
    insta::assert_snapshot!(api.send(copy().token(&api.token("io.cozy.new:GET,POST"))).await, @r#"
    201 application/json
    {
      "ok": true,
      "id": "_design/copy",
      "rev": "1-<id>"
    }
    "#);
    assert_eq!(status(TestRequest::delete(&path), "io.cozy.new:GET").await, 403);
    assert_eq!(status(TestRequest::delete(&path), "io.cozy.new:DELETE").await, 200);
    let server_design = format!("/data/io.cozy.files/_design/dir-by-path?rev=1-{}", "0".repeat(32));
    insta::assert_snapshot!(api.send(TestRequest::delete(&server_design).token(&all)).await, @r#"
    403 application/json
    {
      "error": "code=403, message=reserved doctype io.cozy.files unwritable"
    }
    "#);
    let counted = api.send(TestRequest::get("/data/io.cozy.new/_normal_docs").token(&all)).await.json();
    assert_eq!(counted, json!({ "rows": [], "total_rows": 0, "bookmark": "" }), "design documents are none");
    // Deleting a type deletes its indexes.
    assert_eq!(status(TestRequest::delete("/data/io.cozy.new/"), "*").await, 200);
    let remaining = api.send(TestRequest::get("/data/io.cozy.new/_design_docs").token(&all)).await.json();
    assert_eq!(remaining["total_rows"], 0);
    assert_eq!(
        api.send(TestRequest::get("/data/io.cozy.new/_changes").token(&all)).await.json()["reason"],
        "wrong_doctype"
    );
}

/// Deleting a design document deletes its index, unless another design document uses it.
#[tokio::test]
async fn an_index_goes_with_the_last_design_document() {
    let api = bills().await;
    let token = api.token("io.cozy.bills");
    let query = json!({ "selector": { "n": { "$gt": 9 } } });
    for name in ["one", "two"] {
        post(&api, "_index", json!({ "index": { "fields": ["n"] }, "ddoc": name })).await;
    }
    for (name, remains) in [("one", true), ("two", false)] {
        let path = format!("/data/io.cozy.bills/_design/{name}");
        let rev = api.send(TestRequest::get(&path).token(&token)).await.json()["_rev"]
            .as_str()
            .expect("a revision")
            .to_owned();
        let response = api.send(TestRequest::delete(&format!("{path}?rev={rev}")).token(&token)).await;
        assert_eq!(response.status, 200, "{response}");
        assert_eq!(post(&api, "_find", query.clone()).await.get("docs").is_some(), remains);
    }
    let rows = api.send(TestRequest::get("/data/io.cozy.bills/_all_docs").token(&token)).await.json();
    assert_eq!(rows["total_rows"], 12, "design documents are none of the bills");
}

/// Queries neither return nor reveal secrets of accounts.
#[tokio::test]
async fn secrets_are_neither_shown_nor_asked_for() {
    let api = Api::new().await;
    let token = api.token("*");
    let account = json!({ "account_type": "bank101", "auth": { "login": "ana", "password": "hunter22" } });
    api.send(TestRequest::post("/data/io.cozy.accounts/").token(&token).json(&account)).await;
    let find = async |selector: Value| {
        api.send(TestRequest::post("/data/io.cozy.accounts/_find").token(&token).json(&json!({ "selector": selector })))
            .await
    };
    let all = find(json!({ "_id": { "$gt": null } })).await.to_string();
    assert!(all.contains("ana") && !all.contains("hunter22"), "{all}");
    let index = json!({ "index": { "fields": ["auth.password"] } });
    api.send(TestRequest::post("/data/io.cozy.accounts/_index").token(&token).json(&index)).await;
    let guessed = find(json!({ "auth.password": { "$gte": "hunter" } })).await.json();
    assert_eq!(guessed["docs"], json!([]));
}
