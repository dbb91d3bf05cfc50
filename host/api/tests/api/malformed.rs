//! Malformed bodies on every route: each is accepted or rejected, and no error uses Rust's terms.

use http::Method;
use serde_json::{Value, json};

use crate::openapi::operations;
use crate::support::{Api, TestRequest};

/// Names of fields that some route reads, in the body or its attributes.
const FIELDS: &[&str] = &[
    "_id",
    "_rev",
    "_attachments",
    "account",
    "arguments",
    "attributes",
    "bookmark",
    "client_name",
    "codes",
    "data",
    "debounce",
    "dir_id",
    "docs",
    "execution_stats",
    "fields",
    "files",
    "id",
    "ids",
    "index",
    "keys",
    "konnector",
    "limit",
    "manual",
    "message",
    "metadata",
    "name",
    "new_edits",
    "options",
    "permissions",
    "rev",
    "redirect_uris",
    "relationships",
    "selector",
    "skip",
    "software_id",
    "sort",
    "source",
    "state",
    "tags",
    "trashed",
    "type",
    "updated_at",
    "use_index",
    "worker",
];

/// Terms of serde and Rust.
const JARGON: &[&str] = &[
    "struct ",
    "enum ",
    "u8",
    "u32",
    "u64",
    "i64",
    "usize",
    "f64",
    "a map",
    "a sequence",
    "sequence,",
    "map,",
    "any variant",
    "newtype",
    "tuple ",
    "the store failed",
    "borrowed",
    "unit ",
];

fn values() -> [Value; 4] {
    [json!(-1), json!("x"), json!([1]), json!({ "max_exec_count": "x" })]
}

#[tokio::test]
async fn a_body_of_the_wrong_shape_is_refused_in_plain_words() {
    let api = Api::new().await;
    api.add_file("report", "/Reports", "report.html", b"<p>").await;
    let token = api.token("*");
    let mut sent = 0;
    let description = api.send(TestRequest::get("/openapi.json")).await.json();
    for (operation, _) in operations(&description) {
        let (method, template) = operation.split_once(' ').expect("a method and a path");
        let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
        if !matches!(method, Method::POST | Method::PUT | Method::PATCH) {
            continue;
        }
        let path = template
            .replace("{doctype}", "io.cozy.bills")
            .replace("{worker}", "konnector")
            .replace("{slug}", "bank")
            .replace("{type}", "bank")
            .replace("{id}", "report")
            .replace("{client_id}", "report")
            .replace("{version}", "1");
        let mut bodies = vec!["".to_owned(), "{".to_owned(), "[1".to_owned(), "\u{0}".to_owned(), "nul".to_owned()];
        bodies.extend(values().iter().map(Value::to_string));
        for (field, value) in FIELDS.iter().flat_map(|field| values().into_iter().map(move |value| (field, value))) {
            bodies.push(json!({ *field: value }).to_string());
            bodies.push(json!({ "data": { "type": "x", "attributes": { *field: value } } }).to_string());
        }
        for body in bodies {
            let call = TestRequest::new(method.clone(), &path).header(http::header::CONTENT_TYPE, "application/json");
            let response = api.send(call.token(&token).text(body.clone())).await;
            sent += 1;
            assert!(response.status < 500 || response.status == 502, "{operation} {body}: {response}");
            if response.status >= 400 {
                let text = String::from_utf8_lossy(&response.body).into_owned();
                let found = JARGON.iter().find(|word| text.contains(**word));
                assert_eq!(found, None, "{operation} {body}: {text}");
            }
        }
    }
    assert!(sent > 5_000, "{sent}");
}
