//! Several documents in one request.

use serde_json::{Value, json};

use crate::support::{Api, TestRequest};

const BILLS: &str = "/data/io.cozy.bills";

#[tokio::test]
async fn each_document_of_many_is_for_itself() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    let bulk = async |docs: Value| {
        let call = TestRequest::post(&format!("{BILLS}/_bulk_docs")).token(&token).json(&json!({ "docs": docs }));
        let response = api.send(call).await;
        assert_eq!(response.status, 201, "{response}");
        response.json()
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

    let requested = json!({ "docs": [{ "id": "one" }, { "id": "one", "rev": one }, { "id": "two" }] });
    let found = api.send(TestRequest::post(&format!("{BILLS}/_bulk_get")).token(&token).json(&requested)).await.json();
    assert_eq!(found["results"][0]["docs"][0]["ok"]["n"], 10);
    assert_eq!(found["results"][1]["docs"][0]["error"]["reason"], "missing");
    assert_eq!(found["results"][2]["docs"][0]["ok"]["_deleted"], true);

    for (body, status) in
        [(json!({}), 400), (json!({ "docs": [1] }), 400), (json!({ "docs": vec![json!({}); 1_001] }), 413)]
    {
        assert_eq!(
            api.send(TestRequest::post(&format!("{BILLS}/_bulk_docs")).token(&token).json(&body)).await.status,
            status
        );
    }
    let narrow = api.token("io.cozy.bills:ALL:one");
    let call = TestRequest::post(&format!("{BILLS}/_bulk_docs")).token(&narrow).json(&json!({ "docs": [] }));
    assert_eq!(api.send(call).await.status, 403);
}

/// Revisions of another database are stored unchanged if they descend from the stored revision.
#[tokio::test]
async fn documents_of_another_database_keep_their_revisions() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    let digits = |digit: char| digit.to_string().repeat(32);
    let bulk = async |docs: Value| {
        let body = json!({ "docs": docs, "new_edits": false });
        let response = api.send(TestRequest::post(&format!("{BILLS}/_bulk_docs")).token(&token).json(&body)).await;
        assert_eq!(response.status, 201, "{response}");
        let failed = response.json().as_array().expect("a list").clone();
        failed.iter().map(|one| one["error"].as_str().expect("an error").to_owned()).collect::<Vec<_>>()
    };
    let get = async || api.send(TestRequest::get(&format!("{BILLS}/one")).token(&token)).await.json();
    let third = json!({
        "_id": "one", "_rev": format!("3-{}", digits('c')), "n": 3,
        "_revisions": { "start": 3, "ids": [digits('c'), digits('b'), digits('a')] },
    });
    assert_eq!(bulk(json!([third])).await, [""; 0]);
    assert_eq!(get().await, json!({ "_id": "one", "_rev": third["_rev"], "_type": "io.cozy.bills", "n": 3 }));
    assert_eq!(bulk(json!([third])).await, [""; 0], "it is here already");
    // A descendant, a sibling and an ancestor of the stored revision.
    let fifth = json!({
        "_id": "one", "_rev": format!("5-{}", digits('e')), "n": 5,
        "_revisions": { "start": 5, "ids": [digits('e'), digits('d'), digits('c')] },
    });
    assert_eq!(bulk(json!([fifth])).await, [""; 0]);
    let sibling = json!({ "_id": "one", "_rev": format!("6-{}", digits('0')), "n": 6 });
    assert_eq!(bulk(json!([sibling, third])).await, ["conflict", "conflict"]);
    assert_eq!(get().await["n"], 5);
    // A local edit descends from it.
    let edit =
        TestRequest::put(&format!("{BILLS}/one")).token(&token).json(&json!({ "_id": "one", "_rev": fifth["_rev"] }));
    let rev = api.send(edit).await.json()["rev"].as_str().expect("a revision").to_owned();
    assert!(rev.starts_with("6-"), "{rev}");
    let deletion = json!({
        "_id": "one", "_rev": format!("7-{}", digits('f')), "_deleted": true,
        "_revisions": { "start": 7, "ids": [digits('f'), rev.trim_start_matches("6-")] },
    });
    assert_eq!(bulk(json!([deletion, { "_id": "never", "_rev": deletion["_rev"], "_deleted": true }])).await, [""; 0]);
    assert_eq!(get().await["reason"], "deleted");
    let malformed = json!([
        { "_id": "two" },
        { "_rev": fifth["_rev"] },
        { "_id": "two", "_rev": fifth["_rev"], "_revisions": { "start": 1, "ids": [digits('e')] } },
        { "_id": "two", "_rev": fifth["_rev"], "_revisions": [] },
    ]);
    assert_eq!(bulk(malformed).await, ["bad_request"; 4]);
}

#[tokio::test]
async fn documents_are_listed_by_keys_and_members() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    let docs = json!({ "docs": [{ "_id": "one", "a": { "b": 1, "c": 2 }, "d": 3 }, { "_id": "two", "d": 4 }] });
    api.send(TestRequest::post(&format!("{BILLS}/_bulk_docs")).token(&token).json(&docs)).await;
    let keys = json!({ "keys": ["two", "unknown", "one"] });
    let rows = api
        .send(TestRequest::post(&format!("{BILLS}/_all_docs?include_docs=true")).token(&token).json(&keys))
        .await
        .json();
    assert_eq!((&rows["rows"][0]["doc"]["d"], &rows["rows"][1]["error"]), (&json!(4), &json!("not_found")));
    assert_eq!(rows["rows"][2]["id"], "one");
    let rows = api.send(TestRequest::get(&format!("{BILLS}/_all_docs?Fields=a.b,d")).token(&token)).await.json();
    assert_eq!(rows["rows"][0]["doc"], json!({ "a": { "b": 1 }, "d": 3 }));
    let ask = |body: Value| api.send(TestRequest::post(&format!("{BILLS}/_all_docs")).token(&token).json(&body));
    assert_eq!(ask(json!({})).await.json()["rows"].as_array().map(Vec::len), Some(2), "without keys it is as GET");
    assert_eq!(ask(json!({ "keys": "one" })).await.status, 400);
}

#[tokio::test]
async fn d11_all_documents_of_a_type_are_deleted() {
    let api = Api::new().await;
    let docs: Vec<Value> = (0..250).map(|n| json!({ "n": n })).collect();
    api.send(TestRequest::post(&format!("{BILLS}/_bulk_docs")).token(&api.token("*")).json(&json!({ "docs": docs })))
        .await;
    let delete = |scope: &str, path: &str| TestRequest::delete(path).token(&api.token(scope));
    let calls = [
        delete("io.cozy.bills:GET", &format!("{BILLS}/")),
        delete("*", "/data/io.cozy.files/"),
        delete("io.cozy.bills", &format!("{BILLS}/")),
        TestRequest::get(&format!("{BILLS}/_all_docs")).token(&api.token("*")),
    ];
    insta::assert_snapshot!(api.transcript(calls).await, @r#"
    DELETE /data/io.cozy.bills/
    403 application/json
    {
      "error": "code=403, message=the token does not allow DELETE on io.cozy.bills; use one whose scope has io.cozy.bills:DELETE"
    }

    DELETE /data/io.cozy.files/
    403 application/json
    {
      "error": "code=403, message=reserved doctype io.cozy.files unwritable"
    }

    DELETE /data/io.cozy.bills/
    200 application/json
    {
      "deleted": true
    }

    GET /data/io.cozy.bills/_all_docs
    200 application/json
    {
      "rows": [],
      "offset": 0,
      "total_rows": 0
    }
    "#);
}

/// Without a limit the list is complete: `cozy-stack-client` relies on it for types with more than 1,000 documents.
#[tokio::test]
async fn all_docs_are_all() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    for batch in 0..3 {
        let docs: Vec<Value> = (0..400).map(|n| json!({ "_id": format!("{batch}-{n:03}"), "n": n })).collect();
        let written = TestRequest::post(&format!("{BILLS}/_bulk_docs")).token(&token).json(&json!({ "docs": docs }));
        assert_eq!(api.send(written).await.status, 201);
    }
    let list =
        async |query: &str| api.send(TestRequest::get(&format!("{BILLS}/_all_docs{query}")).token(&token)).await.json();
    let ids = |list: &Value| -> Vec<String> {
        let rows = list["rows"].as_array().expect("rows").iter();
        rows.map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
    };
    let all = list("?include_docs=true").await;
    let found = ids(&all);
    assert_eq!((found.len(), found.is_sorted(), &all["total_rows"]), (1_200, true, &json!(1_200)));
    assert_eq!(all["rows"][1_199]["doc"]["n"], 399);
    let part = list("?limit=2&skip=1&startkey=%221-000%22").await;
    assert_eq!((ids(&part), &part["offset"]), (vec!["1-001".to_owned(), "1-002".to_owned()], &json!(401)));
    assert_eq!(part["total_rows"], 1_200);
    let keys = json!({ "keys": found });
    let some = api.send(TestRequest::post(&format!("{BILLS}/_all_docs")).token(&token).json(&keys)).await.json();
    assert_eq!(some["rows"].as_array().map(Vec::len), Some(1_200));
}

#[tokio::test]
async fn all_docs_takes_the_parameters_of_couchdb() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    let docs: Vec<Value> = ["a", "b", "c", "d", "e"].iter().map(|id| json!({ "_id": id })).collect();
    api.send(TestRequest::post(&format!("{BILLS}/_bulk_docs")).token(&token).json(&json!({ "docs": docs }))).await;
    let path = |query: &str| format!("{BILLS}/_all_docs?{query}");
    let list = async |call: TestRequest| {
        let response = api.send(call.token(&token)).await;
        assert_eq!(response.status, 200, "{response}");
        let response = response.json();
        let rows = response["rows"].as_array().expect("rows").iter();
        let ids: String = rows.map(|row| row["id"].as_str().unwrap_or("-")).collect();
        format!("{ids} {} {}", response["offset"], response["total_rows"])
    };
    for (query, expected) in [
        ("", "abcde 0 5"),
        ("startkey=%22b%22&endkey=%22d%22", "bcd 1 5"),
        ("start_key=%22b%22&end_key=%22d%22&inclusive_end=false", "bc 1 5"),
        ("endkey=%22c%22&limit=2", "ab 0 5"),
        ("key=%22c%22", "c 2 5"),
        ("key=%22x%22", " 5 5"),
        ("descending=true", "edcba 0 5"),
        ("descending=true&startkey=%22d%22&endkey=%22b%22", "dcb 1 5"),
        ("descending=true&startkey=%22d%22&endkey=%22b%22&inclusive_end=false&skip=1", "c 2 5"),
        ("startkey=%22d%22&endkey=%22b%22", " 2 5"),
        ("keys=%5B%22d%22,%22x%22,%22a%22%5D", "d-a 0 3"),
        ("keys=%5B%22d%22,%22x%22,%22a%22%5D&descending=true&skip=1&limit=1", "- 0 3"),
        ("update_seq=false&stable=true&update=true&_nonce=1", "abcde 0 5"),
    ] {
        assert_eq!(list(TestRequest::get(&path(query))).await, expected, "{query}");
    }
    let of = |body: Value| TestRequest::post(&path("limit=2")).json(&body);
    assert_eq!(list(of(json!({ "startkey": "b", "limit": 4, "descending": null }))).await, "bc 1 5");
    assert_eq!(list(of(json!({ "keys": ["e", "d", "c"] }))).await, "ed 0 3");
    let get = |query: &str| TestRequest::get(&path(query)).token(&token);
    let rejections = [
        get("descending=yes"),
        get("include_docs=1"),
        get("limit=many"),
        get("update_seq=true"),
        get("group_level=1"),
        get("keys=one"),
        get("keys=%5B%22a%22%5D&key=%22a%22"),
        of(json!({ "queries": [] })).token(&token),
        of(json!({ "keys": vec!["a"; 10_001] })).token(&token),
    ];
    let mut reasons = Vec::new();
    for call in rejections {
        let response = api.send(call).await;
        assert_eq!(response.status, 400, "{response}");
        let reason = response.json();
        reasons.push(format!(
            "{}: {}",
            reason["error"].as_str().expect("a name"),
            reason["reason"].as_str().expect("a sentence")
        ));
    }
    insta::assert_snapshot!(reasons.join("\n"), @r#"
    query_parse_error: the parameter descending must be true or false, not 'yes'
    query_parse_error: the parameter include_docs must be true or false, not '1'
    bad_request: limit: 'many' is not valid; expected a whole number of at least 0
    query_parse_error: update_seq: this parameter is not supported; omit it
    query_parse_error: group_level: this parameter is not supported; omit it
    query_parse_error: keys: the value is not a list of ids, such as ["one", "two"]
    query_parse_error: keys: the list cannot be combined with key, startkey or endkey; use only one of them
    query_parse_error: queries: this parameter is not supported; omit it
    query_parse_error: keys: there are 10001 ids; at most 10000 are allowed per request
    "#);
}

#[tokio::test]
async fn a_document_that_may_not_be_written_is_forbidden() {
    let api = Api::new().await;
    let put = TestRequest::put(&format!("{BILLS}/one")).token(&api.token("*")).json(&json!({ "n": 1 }));
    let rev = api.send(put).await.json()["rev"].clone();
    let docs = json!([{ "_id": "one", "_rev": rev, "n": 2 }, { "_id": "two" }, { "_id": "one", "_rev": rev, "_deleted": true }]);
    let token = api.token("io.cozy.bills:POST");
    let call = TestRequest::post(&format!("{BILLS}/_bulk_docs")).token(&token).json(&json!({ "docs": docs }));
    let rows = api.send(call).await.json();
    let errors: Vec<_> = rows.as_array().expect("rows").iter().map(|row| (&row["id"], &row["error"])).collect();
    let (one, two, forbidden) = (json!("one"), json!("two"), json!("forbidden"));
    assert_eq!(errors, [(&one, &forbidden), (&two, &Value::Null), (&one, &forbidden)]);
    assert!(rows[0]["reason"].as_str().is_some_and(|reason| reason.contains("io.cozy.bills:PUT")), "{rows}");
}

/// A small request must not produce a response of gigabytes.
#[tokio::test]
async fn what_one_request_reads_is_bounded() {
    let api = Api::new().await;
    let token = api.token("io.cozy.bills");
    let large = json!({ "text": "x".repeat(900 << 10) });
    assert_eq!(api.send(TestRequest::put(&format!("{BILLS}/large")).token(&token).json(&large)).await.status, 200);
    let read = async |times: usize| {
        let docs = json!({ "docs": vec![json!({ "id": "large" }); times] });
        api.send(TestRequest::post(&format!("{BILLS}/_bulk_get")).token(&token).json(&docs)).await
    };
    let some = read(30).await;
    assert_eq!((some.status, some.json()["results"].as_array().map(Vec::len)), (200, Some(30)));
    let many = read(1_000).await;
    assert_eq!(many.status, 413, "{}", many.summary());
    insta::assert_snapshot!(many.json()["reason"].as_str().expect("a sentence"), @"docs: the documents occupy more than 32 MiB of memory; request fewer at a time");
}

/// If they were treated as absent, they would empty the document or create another one.
#[tokio::test]
async fn special_fields_of_the_wrong_type_change_nothing() {
    let api = Api::new().await;
    let token = api.token("io.cozy.things");
    let created =
        api.send(TestRequest::put("/data/io.cozy.things/one").token(&token).json(&json!({ "name": "one" }))).await;
    let rev = created.json()["rev"].as_str().expect("a revision").to_owned();
    let document = |name: &str, value: Value| {
        let mut document = json!({ "_id": "one", "_rev": rev, "name": "two" });
        document[name] = value;
        document
    };
    let wrong = [
        document("_deleted", json!("true")),
        document("_deleted", json!(1)),
        document("_rev", json!(5)),
        document("_id", json!(5)),
        document("_foo", json!(5)),
        document("_attachments", json!({ "a.pdf": { "data": "Zm9v" } })),
    ];
    let count = wrong.len();
    let response = api
        .send(TestRequest::post("/data/io.cozy.things/_bulk_docs").token(&token).json(&json!({ "docs": wrong })))
        .await;
    let response = response.json();
    assert_eq!(
        response.as_array().expect("a list").iter().filter(|one| one["error"].is_string()).count(),
        count,
        "{response}"
    );
    for body in [
        document("_deleted", json!(true)),
        document("_deleted", json!("true")),
        document("_rev", json!(5)),
        document("_foo", json!(5)),
    ] {
        let rejected = api.send(TestRequest::put("/data/io.cozy.things/one").token(&token).json(&body)).await;
        assert_eq!(rejected.status, 400, "{rejected}");
    }
    let malformed = json!({ "docs": [], "new_edits": 5 });
    assert_eq!(
        api.send(TestRequest::post("/data/io.cozy.things/_bulk_docs").token(&token).json(&malformed)).await.status,
        400
    );
    let unchanged = api.send(TestRequest::get("/data/io.cozy.things/one").token(&token)).await.json();
    assert_eq!((unchanged["name"].as_str(), unchanged["_rev"].as_str()), (Some("one"), Some(rev.as_str())));
    let all = api.send(TestRequest::get("/data/io.cozy.things/_all_docs").token(&token)).await.json();
    assert_eq!(all["rows"].as_array().expect("rows").len(), 1, "{all}");
}
