//! `/jobs/webhooks`.

use serde_json::{Value, json};

use crate::support::{Api, TestRequest};
use crate::triggers::{create, cron, post};

/// The subject of a token is the creator.
#[tokio::test]
async fn j12_a_webhook_has_an_address() {
    let api = Api::new().await;
    let webhook = json!({ "type": "@webhook", "arguments": "whatever", "debounce": "1m30s" });
    insta::assert_snapshot!(api.transcript([post(&api.token("*"), webhook)]).await, @r#"
    POST /jobs/triggers
    201 application/vnd.api+json
    {
      "data": {
        "type": "io.cozy.triggers",
        "id": "<id>",
        "attributes": {
          "domain": "alice.example",
          "type": "@webhook",
          "arguments": "whatever",
          "worker": "konnector",
          "message": {
            "konnector": "bank"
          },
          "debounce": "1m30s",
          "time_zone": "UTC",
          "missed_policy": "coalesce",
          "overlap_policy": "skip",
          "cozyMetadata": {
            "doctypeVersion": "1",
            "metadataVersion": 1,
            "createdAt": "2026-11-20T12:00:00Z",
            "updatedAt": "2026-11-20T12:00:00Z",
            "createdByApp": "CLI"
          },
          "_id": "<id>"
        },
        "meta": {
          "rev": "1-<id>"
        },
        "links": {
          "self": "/jobs/triggers/<id>",
          "webhook": "http://alice.example/jobs/webhooks/<id>"
        }
      }
    }
    "#);
}

/// A caller needs only the id.
#[tokio::test]
async fn j27_a_webhook_is_called_without_a_token() {
    let api = Api::new().await;
    let token = api.token("*");
    let message = json!({ "konnector": "bank" });
    let hook = create(&api, json!({ "type": "@webhook", "worker": "konnector", "message": message })).await;
    let timed = create(&api, cron("bank")).await;
    let path = format!("/jobs/webhooks/{hook}");
    assert_eq!(api.send(TestRequest::post(&path).text("no json")).await.status, 204);
    assert_eq!(api.send(TestRequest::post(&format!("{path}?Manual=true")).json(&json!({ "n": 1 }))).await.status, 204);
    let jobs = api.send(TestRequest::get(&format!("/jobs/triggers/{hook}/jobs")).token(&token)).await.json();
    let attribute = |job: usize, name: &str| jobs["data"][job]["attributes"][name].clone();
    assert_eq!((attribute(0, "payload"), attribute(0, "manual_execution")), (json!("eyJuIjoxfQ=="), json!(true)));
    assert_eq!((attribute(1, "payload"), attribute(1, "manual_execution")), (json!("bm8ganNvbg=="), Value::Null));
    let rejected = [
        TestRequest::post("/jobs/webhooks/0123456789abcdef0123456789abcdef"),
        TestRequest::post(&format!("/jobs/webhooks/{timed}")),
        TestRequest::post(&path).host("bob.example"),
        TestRequest::post(&path).text(vec![b'x'; (1 << 20) + 1]),
    ];
    insta::assert_snapshot!(api.transcript(rejected).await);
}
