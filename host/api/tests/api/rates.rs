//! Hourly limits.

use http::header::RETRY_AFTER;
use serde_json::json;

use crate::support::{Api, TestRequest, TestResponse};

async fn push(api: &Api) -> TestResponse {
    let call = TestRequest::post("/jobs/queue/client").token(&api.token("*"));
    api.send(call.attributes(json!({ "arguments": {} }))).await
}

/// Cozy responds with 400; a 429 says when to retry.
#[tokio::test]
async fn j19_the_eleventh_job_is_refused_and_the_twelfth_still() {
    let api = Api::with_config(|config, _| config.hourly_limits.jobs = 10).await;
    for number in 0..10 {
        assert_eq!(push(&api).await.status, 202, "{number}");
    }
    for _ in 0..2 {
        let rejected = push(&api).await;
        assert_eq!(
            (rejected.status, rejected.header(RETRY_AFTER)),
            (429, "Fri, 20 Nov 2026 13:00:00 GMT"),
            "{rejected}"
        );
    }
    // Other instances and the next hour are not affected.
    let bob = api
        .platform
        .auth()
        .issue_token(&api.bob, konnector_platform::principal::Audience::Cli, "CLI", "*")
        .expect("a token");
    let call = TestRequest::post("/jobs/queue/client").host("bob.example").token(&bob);
    assert_eq!(api.send(call.attributes(json!({ "arguments": {} }))).await.status, 202);
    api.clock.set("2026-11-20T13:00:00Z".parse().expect("a date"));
    assert_eq!(push(&api).await.status, 202);
}

#[tokio::test]
async fn zero_is_no_limit_and_each_kind_has_its_own() {
    let api = Api::with_config(|config, _| {
        config.hourly_limits.jobs = 0;
        config.hourly_limits.tokens = 1;
        config.hourly_limits.oauth_clients = 1;
    })
    .await;
    for _ in 0..20 {
        assert_eq!(push(&api).await.status, 202);
    }
    let statuses = async |path: &str, token: &str| {
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let call = TestRequest::post(path).token(token).json(&json!({
                "redirect_uris": ["https://a.example/"], "client_name": "a", "software_id": "b",
            }));
            statuses.push(api.send(call).await.status);
        }
        statuses
    };
    assert_eq!(statuses("/auth/session_code", &api.token("*")).await, [201, 429]);
    assert_eq!(statuses("/auth/register", "").await, [201, 429]);
    assert_eq!(api.send(TestRequest::post("/auth/access_token")).await.status, 429);
}
