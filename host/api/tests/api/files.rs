//! `/files`.

use http::Method;
use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, RANGE,
};
use konnector_platform::clock::Clock as _;
use konnector_platform::file::{ROOT_ID, Reference};
use serde_json::json;

use crate::support::{Api, TestRequest};

const BILL: &str = "0123456789abcdef0123456789abcde0";

async fn with_bill() -> Api {
    let api = Api::new().await;
    api.add_file(BILL, "/Administrative/Bank", "bill n°1.html", b"0123456789").await;
    api
}

#[tokio::test]
async fn f9_files_and_directories_are_shown_by_id_and_path() {
    let api = with_bill().await;
    let token = api.token("io.cozy.files:GET");
    let calls = [
        TestRequest::get(&format!("/files/{BILL}")).token(&token),
        TestRequest::get("/files/metadata?Path=/Administrative/Bank").token(&token),
        TestRequest::get("/files/metadata?Path=/Administrative/Bank/bill%20n%C2%B01.html").token(&token),
        TestRequest::get("/files/metadata?Path=/nothing/here").token(&token),
        TestRequest::get("/files/metadata?Path=relative").token(&token),
        TestRequest::get("/files/metadata").token(&token),
        TestRequest::get("/files/unknown").token(&token),
        TestRequest::new(Method::HEAD, &format!("/files/{BILL}")).token(&token),
        TestRequest::new(Method::HEAD, &format!("/files/{BILL}?Type=directory")).token(&token),
        TestRequest::new(Method::HEAD, "/files/unknown?Type=file").token(&token),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

#[tokio::test]
async fn a_directory_embeds_thirty_children_and_pages_the_rest() {
    let api = Api::new().await;
    for number in 0..35 {
        let path = format!("/Many/{number:02} & more");
        api.platform.files().ensure_directory(&api.alice, &path).await.expect("a directory");
    }
    let token = api.token("io.cozy.files");
    let directory = api.send(TestRequest::get("/files/metadata?Path=/Many").token(&token)).await.json();
    assert_eq!(directory["included"].as_array().map(Vec::len), Some(30));
    let contents = &directory["data"]["relationships"]["contents"];
    assert_eq!(contents["data"][29]["id"], directory["included"][29]["id"]);
    let mut names = Vec::new();
    let id = directory["data"]["id"].as_str().expect("an id");
    let mut next = Some(format!("/files/{id}/relationships/contents?page[limit]=10"));
    let mut pages = 0;
    while let Some(path) = next {
        let page = api.send(TestRequest::get(&path).token(&token)).await.json();
        let children = page["data"].as_array().expect("a list").iter();
        names.extend(children.map(|child| child["attributes"]["name"].as_str().expect("a name").to_owned()));
        next = page["links"]["next"].as_str().map(str::to_owned);
        pages += 1;
    }
    assert_eq!(pages, 4);
    assert_eq!(names, (0..35).map(|number| format!("{number:02} & more")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cursor_that_comes_from_no_page_of_the_list_is_refused() {
    let api = Api::new().await;
    for name in ["One/a", "One/b", "Two/a", "Two/b"] {
        api.platform.files().ensure_directory(&api.alice, &format!("/{name}")).await.expect("a directory");
    }
    let token = api.token("*");
    let contents = async |path: &str| {
        let directory = api.send(TestRequest::get(&format!("/files/metadata?Path={path}")).token(&token)).await.json();
        format!("/files/{}/relationships/contents", directory["data"]["id"].as_str().expect("an id"))
    };
    let (one, two) = (contents("/One").await, contents("/Two").await);
    let page = api.send(TestRequest::get(&format!("{one}?page[limit]=1")).token(&token)).await.json();
    let next = page["links"]["next"].as_str().expect("a next page");
    let cursor = next.split_once("page[cursor]=").expect("a cursor").1;
    assert_eq!(api.send(TestRequest::get(next).token(&token)).await.status, 200);
    let lists = [
        one.as_str(),
        &two,
        "/files/trash",
        &format!("/files/{ROOT_ID}"),
        "/jobs/triggers",
        "/jobs/triggers?page[limit]=1",
        "/permissions/doctype/io.cozy.files/shared-by-link",
        "/data/io.cozy.photos.albums/1/relationships/references",
    ];
    for path in lists {
        let joint = if path.contains('?') { '&' } else { '?' };
        for wrong in ["zzz", "a", cursor].into_iter().filter(|wrong| path != one || *wrong != cursor) {
            let call = TestRequest::get(&format!("{path}{joint}page[cursor]={wrong}")).token(&token);
            let response = api.send(call).await;
            assert!(response.status == 400 && response.text().contains("page[cursor]: "), "{path} {wrong}: {response}");
        }
    }
    // A query without an index continues after an id.
    for (path, body) in [
        ("/data/io.cozy.bills/_find", json!({ "selector": {}, "bookmark": "zzz" })),
        ("/data/io.cozy.bills/_find", json!({ "selector": { "_id": "a" }, "bookmark": "zzz" })),
        ("/files/_find", json!({ "selector": {}, "bookmark": "zzz" })),
    ] {
        let response = api.send(TestRequest::post(path).token(&token).json(&body)).await;
        assert!(response.status == 400 && response.text().contains("bookmark: "), "{path} {body}: {response}");
    }
}

/// Requests of `statById` in cozy-client.
#[tokio::test]
async fn a_directory_shows_the_page_of_its_children_that_is_asked_for() {
    let api = Api::new().await;
    for number in 0..8 {
        api.platform.files().ensure_directory(&api.alice, &format!("/Many/{number}")).await.expect("a directory");
    }
    for name in ["!first", "last"] {
        api.platform.files().ensure_directory(&api.alice, &format!("/{name}")).await.expect("a directory");
    }
    let token = api.token("io.cozy.files");
    let show = async |path: &str| {
        let document = api.send(TestRequest::get(path).token(&token)).await.json();
        let contents = document["data"]["relationships"]["contents"].clone();
        let children = document["included"].as_array().cloned().unwrap_or_default();
        let names: Vec<String> = children.iter().map(|child| child["attributes"]["name"].to_string()).collect();
        assert_eq!(contents["data"].as_array().map(Vec::len), Some(names.len()));
        assert_eq!(document["links"]["next"], contents["links"]["next"]);
        let next = contents["links"]["next"].as_str().map(str::to_owned);
        (names.join(" ").replace('"', ""), contents["meta"]["count"].clone(), next)
    };
    let directory = api.send(TestRequest::get("/files/metadata?Path=/Many").token(&token)).await.json();
    let many = format!("/files/{}", directory["data"]["id"].as_str().expect("an id"));
    let (names, count, next) = show(&format!("{many}?page[limit]=3")).await;
    assert_eq!((names.as_str(), count), ("0 1 2", json!(8)));
    let next = next.expect("a next page");
    let cursor = next.split_once("page[cursor]=").expect("a cursor").1.to_owned();
    assert_eq!(show(&format!("{many}?page[limit]=3&page[cursor]={cursor}")).await.0, "3 4 5");
    let following = api.send(TestRequest::get(&next).token(&token)).await.json();
    assert_eq!((&following["meta"]["count"], following["data"].as_array().map(Vec::len)), (&json!(8), Some(3)));
    assert_eq!(show(&format!("{many}?page[skip]=6&page[limit]=5")).await, ("6 7".to_owned(), json!(8), None));
    assert_eq!(show(&format!("{many}?page[skip]=1&page[limit]=1&page[cursor]={cursor}")).await.0, "4");
    assert_eq!(show(&format!("{many}?page[skip]=8")).await, (String::new(), json!(8), None));
    assert_eq!(show(&format!("{many}?page[skip]=99")).await, (String::new(), json!(8), None));
    // The root does not list the trash, wherever the page begins.
    let root = format!("/files/{ROOT_ID}");
    assert_eq!(show(&root).await, ("!first Many last".to_owned(), json!(3), None));
    for (skip, names) in [(1, "Many last"), (2, "last"), (3, "")] {
        assert_eq!(show(&format!("{root}?page[skip]={skip}")).await, (names.to_owned(), json!(3), None), "{skip}");
    }
    let (names, _, next) = show(&format!("{root}?page[limit]=1")).await;
    assert_eq!(names, "!first");
    let page = api.send(TestRequest::get(&next.expect("a next page")).token(&token)).await.json();
    assert_eq!(page["data"][0]["attributes"]["name"], "Many");
    let wrong = api.send(TestRequest::get(&format!("{root}?page[skip]=x")).token(&token)).await;
    assert_eq!(wrong.status, 400, "{wrong}");
}

#[tokio::test]
async fn a_query_tells_its_cost_and_who_refers_to_a_directory() {
    let api = Api::new().await;
    let directory = api.platform.files().ensure_directory(&api.alice, "/Bills").await.expect("a directory");
    let reference = Reference { doctype: "io.cozy.bills".to_owned(), id: "one".to_owned() };
    api.platform.files().add_references(&api.alice, &directory.id, &[reference]).await.expect("a reference");
    let token = api.token("io.cozy.files");
    let selector = json!({ "_id": directory.id });
    let query = json!({ "selector": selector, "fields": ["name", "referenced_by"], "execution_stats": true });
    let mut found = api.send(TestRequest::post("/files/_find").token(&token).json(&query)).await.json();
    let stats = found["meta"]["execution_stats"].take();
    assert_eq!((&stats["total_docs_examined"], &stats["results_returned"]), (&json!(1), &json!(1)), "{stats}");
    assert_eq!(found["data"][0]["attributes"]["referenced_by"], json!([{ "type": "io.cozy.bills", "id": "one" }]));
}

#[tokio::test]
async fn a_content_is_downloaded_whole_in_parts_and_conditionally() {
    let api = with_bill().await;
    let token = api.token("io.cozy.files");
    let download = || TestRequest::get(&format!("/files/download/{BILL}")).token(&token);
    let whole = api.send(download()).await;
    assert_eq!((whole.status, whole.text(), whole.header(CONTENT_LENGTH)), (200, "0123456789", "10"));
    assert_eq!((whole.header(CONTENT_TYPE), whole.header(ACCEPT_RANGES)), ("text/html", "bytes"));
    assert!(whole.header(CONTENT_SECURITY_POLICY).starts_with("sandbox;"));
    assert_eq!(
        whole.header(CONTENT_DISPOSITION),
        "inline; filename=\"bill n_1.html\"; filename*=UTF-8''bill%20n%C2%B01.html"
    );
    let attachment =
        TestRequest::get("/files/download?Path=/Administrative/Bank/bill%20n%C2%B01.html&Dl=1").token(&token);
    let attachment = api.send(attachment).await;
    assert!(attachment.header(CONTENT_DISPOSITION).starts_with("attachment;"), "{attachment}");

    let part = api.send(download().header(RANGE, "bytes=2-4")).await;
    assert_eq!((part.status, part.text(), part.header(CONTENT_LENGTH)), (206, "234", "3"));
    assert_eq!(part.header(CONTENT_RANGE), "bytes 2-4/10");
    let outside = api.send(download().header(RANGE, "bytes=10-")).await;
    assert_eq!((outside.status, outside.header(CONTENT_RANGE)), (416, "bytes */10"));

    let known = api.send(download().header(IF_NONE_MATCH, whole.header(ETAG))).await;
    assert_eq!((known.status, known.text(), known.header(ETAG)), (304, "", whole.header(ETAG)));
    assert_eq!(api.send(download().header(IF_NONE_MATCH, "\"other\"")).await.status, 200);

    let head = api.send(TestRequest::new(Method::HEAD, &format!("/files/download/{BILL}")).token(&token)).await;
    assert_eq!((head.status, head.text(), head.header(CONTENT_LENGTH)), (200, "", "10"));
    assert_eq!(api.send(TestRequest::get(&format!("/files/download/{ROOT_ID}")).token(&token)).await.status, 400);
}

/// A large file arrives completely, in chunks.
#[tokio::test]
async fn a_large_content_is_streamed() {
    let api = Api::new().await;
    let content: &'static [u8] = (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().leak();
    api.add_file(BILL, "/", "large.bin", content).await;
    let response =
        api.send(TestRequest::get(&format!("/files/download/{BILL}")).token(&api.token("io.cozy.files"))).await;
    assert!(response.body == content, "{} bytes", response.body.len());
}

#[tokio::test]
async fn a_rule_reaches_what_lies_below_its_directory() {
    let api = with_bill().await;
    let id_of = async |path: &str| {
        api.send(TestRequest::get(&format!("/files/metadata?Path={path}")).token(&api.token("*"))).await.id()
    };
    let (bank, administrative) = (id_of("/Administrative/Bank").await, id_of("/Administrative").await);
    api.platform.files().ensure_directory(&api.alice, "/Other").await.expect("a directory");
    let other = id_of("/Other").await;
    for allowed in [
        format!("io.cozy.files:GET:{BILL}"),
        format!("io.cozy.files:GET:{bank}"),
        format!("io.cozy.files:GET:{administrative}"),
        format!("io.cozy.files:GET:{ROOT_ID}"),
        "io.cozy.files:GET:text:class".to_owned(),
        "io.cozy.files:GET:tax:tags".to_owned(),
        "io.cozy.files:GET:Bank:name".to_owned(),
    ] {
        let token = api.token(&allowed);
        for path in [format!("/files/{BILL}"), format!("/files/download/{BILL}")] {
            assert_eq!(api.send(TestRequest::get(&path).token(&token)).await.status, 200, "{allowed} {path}");
        }
    }
    for rejected in [
        format!("io.cozy.files:GET:{other}"),
        format!("io.cozy.files:POST:{bank}"),
        // Only the file has a class, not its directory.
        "io.cozy.files:GET:directory:type".to_owned(),
    ] {
        let token = api.token(&rejected);
        let by_path = "/files/download?Path=/Administrative/Bank/bill%20n%C2%B01.html";
        for path in [format!("/files/{BILL}"), format!("/files/download/{BILL}"), by_path.to_owned()] {
            assert_eq!(api.send(TestRequest::get(&path).token(&token)).await.status, 403, "{rejected} {path}");
        }
    }
    assert_eq!(
        api.send(TestRequest::get(&format!("/files/{BILL}")).token(&api.token("*"))).await.json()["data"]["attributes"]
            ["tags"],
        json!(["tax"])
    );
}

#[tokio::test]
async fn a_link_works_for_an_hour_without_a_token() {
    let api = with_bill().await;
    let token = api.token("io.cozy.files");
    let created = api.send(TestRequest::post(&format!("/files/downloads?Id={BILL}")).token(&token)).await.json();
    let link = created["links"]["related"].as_str().expect("a link").to_owned();
    assert!(link.starts_with("/files/downloads/") && link.ends_with("/bill%20n%C2%B01%2Ehtml"), "{link}");
    let get = async |link: &str| api.send(TestRequest::get(link)).await;
    assert_eq!(get(&link).await.text(), "0123456789");
    assert!(get(&format!("{link}?Dl=1")).await.header(CONTENT_DISPOSITION).starts_with("attachment;"));
    assert_eq!(get(&link.replacen("/files/downloads/", "/files/downloads/x", 1)).await.status, 404);
    let elsewhere = TestRequest::get(&link).host("bob.example");
    assert_eq!(api.send(elsewhere).await.status, 404, "another instance");
    api.clock.set(api.clock.now() + chrono::Duration::seconds(3_601));
    assert_eq!(get(&link).await.status, 404);
    for (path, status) in [
        ("/files/downloads?Path=/Administrative".to_owned(), 400),
        ("/files/downloads?Id=unknown".to_owned(), 404),
        ("/files/downloads".to_owned(), 422),
    ] {
        assert_eq!(api.send(TestRequest::post(&path).token(&api.token("*"))).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn f16_references_are_added_and_removed() {
    let api = with_bill().await;
    let token = api.token("io.cozy.files");
    let path = format!("/files/{BILL}/relationships/referenced_by");
    let reference = |id: &str| json!({ "type": "io.cozy.bills", "id": id });
    let calls = [
        TestRequest::post(&path).token(&token).json(&json!({ "data": reference("one") })),
        TestRequest::post(&path).token(&token).json(&json!({ "data": [reference("one"), reference("two")] })),
        TestRequest::delete(&path).token(&token).json(&json!({ "data": [reference("one"), reference("unknown")] })),
        TestRequest::post(&path).token(&token).json(&json!({ "data": { "type": "no type", "id": "1" } })),
        TestRequest::post(&path).token(&token).json(&json!({})),
        TestRequest::post(&path).token(&api.token("io.cozy.files:GET")).json(&json!({ "data": [] })),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

#[tokio::test]
async fn f15_files_are_listed_by_their_ids() {
    let api = with_bill().await;
    let token = api.token("io.cozy.files");
    let keys = json!({ "keys": [ROOT_ID, "unknown", BILL] });
    let found = api.send(TestRequest::post("/files/_all_docs").token(&token).json(&keys)).await;
    insta::assert_snapshot!(found);
}

#[tokio::test]
async fn files_are_found() {
    let api = with_bill().await;
    let token = api.token("io.cozy.files");
    let size = async |id: &str| {
        let response = api.send(TestRequest::get(&format!("/files/{id}/size")).token(&token)).await.json();
        response["data"]["attributes"]["size"].clone()
    };
    assert_eq!((size(BILL).await, size(ROOT_ID).await), (json!("10"), json!("10")));

    let index = json!({ "index": { "fields": ["type", "name"] } });
    let index = TestRequest::post("/data/io.cozy.files/_index").token(&token).json(&index);
    assert_eq!(api.send(index).await.status, 200);
    let mut query = json!({ "selector": { "type": "directory", "name": { "$gt": null } }, "sort": ["type", "name"], "fields": ["name"], "limit": 2 });
    let mut names = Vec::new();
    let mut path = "/files/_find".to_owned();
    loop {
        let page = api.send(TestRequest::post(&path).token(&token).json(&query)).await.json();
        let files = page["data"].as_array().unwrap_or_else(|| panic!("{page}"));
        names.extend(files.iter().map(|file| file["attributes"]["name"].clone()));
        for file in files {
            let fields: Vec<&String> = file["attributes"].as_object().expect("an object").keys().collect();
            assert_eq!(fields, ["type", "name", "trashed"], "{file}");
        }
        match page["links"]["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(names, ["", ".cozy_trash", "Administrative", "Bank"]);
    query = json!({ "selector": { "size": "10" } });
    let rejected = api.send(TestRequest::post("/files/_find").token(&token).json(&query)).await;
    assert_eq!(rejected.status, 400, "{rejected}");
}

/// Every directory that can be created can also be trashed and restored.
#[tokio::test]
async fn the_deepest_directory_goes_into_the_trash_and_back() {
    let api = Api::new().await;
    let token = api.token("io.cozy.files");
    let mut parents = vec![String::new()];
    loop {
        let parent = parents.last().expect("a directory");
        let created =
            api.send(TestRequest::post(&format!("/files/{parent}?Type=directory&Name=d")).token(&token)).await;
        if created.status != 201 {
            assert_eq!(created.status, 413, "{created}");
            break;
        }
        parents.push(created.id());
    }
    assert_eq!(parents.len(), 33);
    let trashed = api.send(TestRequest::delete(&format!("/files/{}", parents[1])).token(&token)).await;
    assert_eq!(trashed.status, 200, "{trashed}");
    let restored = api.send(TestRequest::post(&format!("/files/trash/{}", parents[1])).token(&token)).await;
    assert_eq!(restored.status, 200, "{restored}");
    let deepest = api.send(TestRequest::get(&format!("/files/{}", parents[32])).token(&token)).await.json();
    assert_eq!(deepest["data"]["attributes"]["path"], "/d".repeat(32));
}
