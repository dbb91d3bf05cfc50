//! Expensive requests: none blocks the threads that serve connections, and none causes a server error.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::openapi::operations;
use crate::support::{Api, TestRequest, TestResponse};

/// Maximum CPU time of one poll on a thread that serves connections. It counts this thread only, so the load of the
/// machine does not matter.
const MAX_POLL_TIME: Duration = Duration::from_millis(60);

/// Future that measures its longest poll.
struct PollTimer<F> {
    inner: Pin<Box<F>>,
    longest: Duration,
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("nanoseconds"))
}

impl<F: Future> Future for PollTimer<F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let start = processor_time();
        let polled = self.inner.as_mut().poll(context);
        self.longest = self.longest.max(processor_time() - start);
        polled.map(|output| (output, self.longest))
    }
}

/// Sends a request that may take very long; returns the response and the longest poll.
async fn send_timed(api: &Api, call: TestRequest) -> (TestResponse, Duration) {
    PollTimer { inner: Box::pin(api.send(call)), longest: Duration::ZERO }.await
}

/// Returns bodies of about 1 MiB, each the worst case of some route.
fn bodies() -> Vec<(&'static str, String)> {
    let regex = json!({ "a": { "$regex": "a?".repeat(400_000) } });
    let fields: Vec<String> = (0..90_000).map(|number| format!("f{number}")).collect();
    let many: Vec<u32> = (0..150_000).collect();
    let texts: Vec<String> = (0..40_000).map(|number| format!("{number:020x}")).collect();
    let rules: serde_json::Map<String, Value> = (0..12_000)
        .map(|number| (format!("r{number}"), json!({ "type": format!("io.cozy.t{number}"), "values": ["x"] })))
        .collect();
    let selectors: Vec<Value> = (0..900).map(|_| json!({ "a": { "$in": ["x", "y", "z"] } })).collect();
    let everything = |list: &Value| {
        json!({
            "selector": { "a": { "$in": list } }, "keys": list, "doc_ids": list, "fields": list, "sort": list,
            "index": { "fields": list }, "docs": [], "data": { "attributes": {} },
        })
    };
    let attributes = json!({
        "ids": &texts[..20_000], "files": &texts[..20_000], "name": "n".repeat(10_000), "type": "@cron", "arguments": "* ".repeat(50_000),
        "message": { "konnector": "bank" },
    });
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    vec![
        ("a regular expression", json!({ "selector": regex, "index": { "fields": ["a"] } }).to_string()),
        ("fields", json!({ "selector": {}, "fields": fields }).to_string()),
        ("a small value many times", format!("{{\"selector\":{{}},\"x\":[{}0]}}", "0,".repeat(500_000))),
        ("small objects", format!("{{\"docs\":[{}{{}}],\"x\":0}}", "{\"a\":0},".repeat(110_000))),
        ("nesting", format!("{{\"data\":{}}}", deep("[", "]"))),
        ("lists of numbers", everything(&json!(many[..20_000])).to_string()),
        ("lists of texts", everything(&json!(texts[..5_000])).to_string()),
        ("selectors", json!({ "selector": { "$or": selectors, "$and": selectors, "$nor": selectors } }).to_string()),
        ("rules", json!({ "data": { "attributes": { "permissions": rules } } }).to_string()),
        ("attributes", json!({ "data": { "attributes": attributes } }).to_string()),
        ("members", json!({ "data": { "attributes": texts.iter().map(|name| (name.clone(), json!(0))).collect::<serde_json::Map<_, _>>() } }).to_string()),
        ("a long text", json!({ "data": "x".repeat(1_000_000), "selector": "x", "keys": "x" }).to_string()),
    ]
}

#[tokio::test]
async fn no_body_holds_a_thread_up_that_serves_connections() {
    let api = Api::new().await;
    let token = api.token("*");
    let description = api.send(TestRequest::get("/openapi.json")).await.json();
    let bodies = bodies();
    let mut slow = Vec::new();
    for (operation, _) in operations(&description) {
        let (method, path) = operation.split_once(' ').expect("a method and a path");
        if !matches!(method, "post" | "put" | "patch") {
            continue;
        }
        let path =
            path.replace("{doctype}", "io.cozy.bills").replace("{slug}", "bank").replace("{worker}", "konnector");
        let path = path.replace(['{', '}'], "");
        let method: Method = method.to_uppercase().parse().expect("a method");
        for (name, body) in &bodies {
            assert!(body.len() <= 1 << 20, "{name}: {}", body.len());
            let call = TestRequest::new(method.clone(), &path).token(&token).text(body.clone());
            let (response, longest) = send_timed(&api, call).await;
            assert_ne!(response.status, 500, "{method} {path} with {name}: {response}");
            assert!(response.body.len() < 4 << 20, "{method} {path} with {name} answers {} bytes", response.body.len());
            if longest > MAX_POLL_TIME {
                slow.push(format!("{method} {path} with {name}: {longest:?}"));
            }
        }
    }
    assert!(slow.is_empty(), "{}", slow.join("\n"));
}

/// Stored documents may be as large as bodies, and there may be more of them.
#[tokio::test]
async fn no_list_holds_a_thread_up_that_serves_connections() {
    let api = Api::new().await;
    let token = api.token("*");
    for number in 0..300 {
        let body = json!({ "n": number, "items": vec![json!({ "a": number }); 200] });
        let stored = api.send(TestRequest::post("/data/io.cozy.bills/").token(&token).json(&body)).await;
        assert_eq!(stored.status, 201, "{stored}");
    }
    let all = json!({ "selector": { "$or": vec![json!({ "items": { "$elemMatch": { "a": { "$gt": 1_000 } } } }); 20], "_id": { "$gt": null } } });
    let ids: Vec<String> =
        api.send(TestRequest::get("/data/io.cozy.bills/_all_docs").token(&token)).await.json()["rows"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| row["id"].as_str().expect("an id").to_owned())
            .collect();
    let keys: Vec<&String> = ids.iter().cycle().take(10_000).collect();
    let docs: Vec<Value> = ids.iter().cycle().take(1_000).map(|id| json!({ "id": id })).collect();
    let fields = (0..4_000).map(|number| format!("f{number}")).collect::<Vec<_>>().join(",");
    let calls = [
        TestRequest::get("/data/io.cozy.bills/_all_docs?include_docs=true"),
        TestRequest::get(&format!("/data/io.cozy.bills/_all_docs?Fields={fields}")),
        TestRequest::get("/data/io.cozy.bills/_normal_docs?limit=1000"),
        TestRequest::get("/data/io.cozy.bills/_changes?include_docs=true"),
        TestRequest::post("/data/io.cozy.bills/_find").json(&all),
        TestRequest::post("/data/io.cozy.bills/_all_docs?include_docs=true").json(&json!({ "keys": keys })),
        TestRequest::post("/data/io.cozy.bills/_bulk_get").json(&json!({ "docs": docs })),
    ];
    for call in calls {
        let line = call.request_line().chars().take(100).collect::<String>();
        let (response, longest) = send_timed(&api, call.token(&token)).await;
        assert_eq!(response.status, 200, "{line}: {}", response.summary());
        assert!(longest <= MAX_POLL_TIME, "{line}: {longest:?}");
    }
}

/// An expensive query is rejected, and others get responses in the meantime.
#[tokio::test]
async fn a_query_ends_when_it_has_cost_enough() {
    let api = Api::new().await;
    let token = api.token("*");
    let index = json!({ "index": { "fields": ["n"] } });
    assert_eq!(api.send(TestRequest::post("/data/io.cozy.bills/_index").token(&token).json(&index)).await.status, 200);
    let body = json!({ "n": 1, "a": (0..20_000).map(|number| format!("{number:05}")).collect::<Vec<_>>() });
    for _ in 0..40 {
        assert_eq!(api.send(TestRequest::post("/data/io.cozy.bills/").token(&token).json(&body)).await.status, 201);
    }
    let selector = json!({ "n": { "$gt": null }, "a": { "$in": vec!["x"; 10_000] } });
    let call = || TestRequest::post("/data/io.cozy.bills/_find").token(&token).json(&json!({ "selector": selector }));
    let (response, longest) = send_timed(&api, call()).await;
    assert_eq!(response.status, 400, "{response}");
    insta::assert_snapshot!(response.json()["reason"].as_str().expect("a reason"), @"the query is too expensive; narrow its selector, or create an index for the fields that it uses");
    assert!(longest <= MAX_POLL_TIME, "{longest:?}");
}

/// No request head causes a server error, and no response contains the store's internal errors.
#[tokio::test]
async fn absurd_paths_hosts_and_headers_are_refused() {
    let api = Api::new().await;
    let token = api.token("*");
    let description = api.send(TestRequest::get("/openapi.json")).await.json();
    let long = "x".repeat(8_000);
    let parts = [
        long.as_str(),
        "%00",
        "%ff",
        "%C3%28",
        "%ed%a0%80",
        "..",
        "%2e%2e%2f%2e%2e",
        "%0d%0aX-Injected:%201",
        "%E2%80%AE",
        "_design",
        "a%2Fb",
        "%25",
        "io.cozy.files.root-dir",
    ];
    for (operation, _) in operations(&description) {
        let (method, path) = operation.split_once(' ').expect("a method and a path");
        let method: Method = method.to_uppercase().parse().expect("a method");
        for part in parts {
            let mut filled = path.to_owned();
            while let (Some(start), Some(end)) = (filled.find('{'), filled.find('}')) {
                filled.replace_range(start..=end, part);
            }
            for path in [
                filled.clone(),
                path.replace("{doctype}", "io.cozy.bills").replace(['{', '}'], "")
                    + "?page[cursor]="
                    + part
                    + "&rev="
                    + part
                    + "&bookmark="
                    + part,
            ] {
                if path == operation {
                    continue;
                }
                let call = TestRequest::new(method.clone(), &path)
                    .token(&token)
                    .json(&json!({ "data": { "attributes": {} } }));
                let (response, longest) = send_timed(&api, call).await;
                let line = format!("{method} {}", path.chars().take(80).collect::<String>());
                assert!(!matches!(response.status, 500 | 507), "{line}: {}", response.summary());
                let text = String::from_utf8_lossy(&response.body);
                assert!(!text.contains('\0') && !text.contains("\\u0000"), "{line}: {text}");
                assert!(longest <= MAX_POLL_TIME, "{line}: {longest:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_host_is_not_found() {
    let api = Api::new().await;
    let token = api.token("*");
    for host in [
        "x".repeat(70_000),
        "\u{ff}".to_owned(),
        "a b".to_owned(),
        "alice.example:99999999".to_owned(),
        ":".to_owned(),
        "[::1".to_owned(),
        "..".to_owned(),
    ] {
        let response = api.send(TestRequest::get("/data/io.cozy.bills/1").host(&host).token(&token)).await;
        let summary = response.summary();
        assert!(matches!(response.status, 400 | 401 | 404), "{summary}");
        assert!(summary.len() < 500, "{} bytes", summary.len());
    }
}

#[tokio::test]
async fn a_header_that_decides_is_there_once() {
    use http::header::{AUTHORIZATION, HOST};
    let api = Api::new().await;
    let token = api.token("*");
    for name in [HOST, AUTHORIZATION] {
        let mut request: http::Request<axum::body::Body> =
            TestRequest::get("/data/io.cozy.bills/1").token(&token).into();
        let same = request.headers()[&name].clone();
        request.headers_mut().append(name.clone(), same);
        let response =
            tower::ServiceExt::oneshot(konnector_api::public(api.platform.clone()), request).await.expect("infallible");
        assert_eq!(response.status(), 400, "{name}");
    }
}
