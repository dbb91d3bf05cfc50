//! Jobs and triggers for an account of another konnector.

use std::time::{Duration, Instant};

use konnector_tests::client::StatusAndBody;
use konnector_tests::server::run_command;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    AccountsFixture, BANK, BANK_PASSWORD_PREFIX, OTHER_PASSWORD, THIEF, attributes, id, message, path, push, trigger,
};

/// The first error of a response: its status, source and detail.
fn error_summary((status, body): &StatusAndBody) -> String {
    let error = &body["errors"][0];
    let source = error["source"].as_object().and_then(|source| source.values().next());
    format!(
        "{status} {}: {}",
        source.and_then(Value::as_str).unwrap_or_default(),
        error["detail"].as_str().unwrap_or("")
    )
}

#[tokio::test]
async fn a_job_for_an_account_of_another_konnector_is_rejected_on_every_route() {
    let fixture = AccountsFixture::new().await;
    let AccountsFixture { client, thief, .. } = &fixture;
    let (bank_account, own_account) =
        (fixture.account(BANK, BANK_PASSWORD_PREFIX).await, fixture.account(THIEF, OTHER_PASSWORD).await);
    let foreign_message = || message(THIEF, &bank_account);
    let own_trigger = client.create_trigger(THIEF, &own_account).await;
    let detail = format!(
        "the account '{bank_account}' belongs to the konnector 'bank' and is not shared with 'thief'; name an account \
         of 'thief', or share this one: konnector accounts share {bank_account} thief"
    );
    let job_error = format!("422 /data/attributes/arguments/account: {detail}");
    assert_eq!(error_summary(&push(client, foreign_message()).await), job_error);
    let trigger_error = format!("422 /data/attributes/message/account: {detail}");
    // For a konnector, a stricter rule rejects most of these, regardless of the account's owner; see the tests of a
    // konnector's jobs and triggers.
    let is_rejected =
        |(status, body): &StatusAndBody| matches!(status, 403 | 422) && id(&(*status, body.clone())).is_none();
    let own_push = attributes(json!({ "arguments": foreign_message() }));
    assert_eq!(error_summary(&thief.post("/jobs/queue/konnector", own_push).await), job_error);
    assert!(is_rejected(&push(thief, foreign_message()).await));
    for (kind, arguments) in [
        ("@cron", "0 0 3 * * *"),
        ("@every", "1h"),
        ("@in", "1s"),
        ("@event", "io.cozy.bills:CREATED"),
        ("@webhook", ""),
        ("@daily", ""),
        ("@client", ""),
    ] {
        assert_eq!(error_summary(&trigger(client, kind, arguments, foreign_message()).await), trigger_error, "{kind}");
        let response = trigger(thief, kind, arguments, foreign_message()).await;
        assert!(is_rejected(&response), "{kind}: {response:?}");
    }
    let patch = || Some(attributes(json!({ "message": foreign_message() })));
    let response = client.request(Method::PATCH, &format!("/jobs/triggers/{own_trigger}"), patch()).await;
    assert_eq!(error_summary(&response), trigger_error);
    assert!(is_rejected(&thief.request(Method::PATCH, &format!("/jobs/triggers/{own_trigger}"), patch()).await));
    let trigger_path = format!("/konnectors/thief/trigger?AccountID={bank_account}&ExecNow=true");
    assert_eq!(error_summary(&client.post(&trigger_path, Value::Null).await), format!("422 AccountID: {detail}"));
    assert!(is_rejected(&thief.post(&trigger_path, Value::Null).await));
    let output = run_command(
        fixture.data.path(),
        &["triggers", "add", THIEF, "--account", &bank_account, "--daily", "before 5am"],
    );
    assert!(output.code == Some(1) && output.stderr.contains("belongs to the konnector 'bank'"), "{output:?}");

    // An account that a person moves to the bank while the thief has triggers and a job for it.
    let moved = fixture.account(THIEF, OTHER_PASSWORD).await;
    let cron = client.create_trigger(THIEF, &moved).await;
    let hook = id(&trigger(client, "@webhook", "", message(THIEF, &moved)).await).expect("a webhook");
    let timer = id(&trigger(client, "@in", "2s", message(THIEF, &moved)).await).expect("a trigger");
    let event =
        id(&trigger(client, "@event", "io.cozy.bills:CREATED", message(THIEF, &moved)).await).expect("a trigger");
    let mut account = client.get(&path(&moved)).await;
    account["account_type"] = json!(BANK);
    account["auth"]["password"] = json!(BANK_PASSWORD_PREFIX);
    assert_eq!(client.request(Method::PUT, &path(&moved), Some(account)).await.0, 200);
    let response = client.post(&format!("/jobs/triggers/{cron}/launch"), Value::Null).await;
    assert!(error_summary(&response).starts_with("422 /data/attributes/message/account: the account"), "{response:?}");
    let edit = attributes(json!({ "arguments": "0 0 4 * * *" }));
    let response = client.request(Method::PATCH, &format!("/jobs/triggers/{cron}"), Some(edit)).await;
    assert!(error_summary(&response).starts_with("422 /data/attributes/message/account: the account"), "{response:?}");
    for query in ["", "?Manual=true"] {
        let response = client.post(&format!("/jobs/webhooks/{hook}{query}"), json!({ "order": 7 })).await;
        assert!(response.0 == 403 && !response.1.to_string().contains(BANK), "{response:?}");
    }
    assert_eq!(client.post("/data/io.cozy.bills/", json!({ "amount": 1 })).await.0, 201);
    for (trigger, cause) in [(timer, "schedule"), (event, "event")] {
        let deadline = Instant::now() + Duration::from_secs(30);
        while client.request(Method::GET, &format!("/jobs/triggers/{trigger}"), None).await.0 != 404 {
            assert!(Instant::now() < deadline, "the trigger of an account that moved is removed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        fixture.wait_idle().await;
        let jobs = client.documents("io.cozy.jobs").await;
        let job = jobs.iter().find(|job| job["trigger_id"] == *trigger).expect("its job");
        assert_eq!((&job["cause"], &job["state"]), (&json!(cause), &json!("errored")), "{job:#}");
        assert_eq!(job["error"], "UNKNOWN_ERROR.FOREIGN_ACCOUNT", "{job:#}");
        assert!(
            job["error_message"].as_str().expect("a sentence").contains("belongs to the konnector 'bank'"),
            "{job:#}"
        );
    }
    assert_eq!(fixture.thief_vendor.take_requests(), Vec::<String>::new());

    // The bank gets its password, as the value that the thief would have received.
    let bank = client.create_trigger(BANK, &bank_account).await;
    assert_eq!(client.run(&bank).await["state"], "done");
    let requests = fixture.bank_vendor.take_requests().join("\n");
    assert_eq!(requests.matches(BANK_PASSWORD_PREFIX).count(), 2, "{requests}");
}
