//! Accounts that change their konnector, are shared, or lose their konnector.

use std::time::{Duration, Instant};

use konnector_tests::server::run_command;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{AccountsFixture, BANK, BANK_PASSWORD_PREFIX, OTHER_PASSWORD, THIEF, path};

#[tokio::test]
async fn an_account_that_changes_its_konnector_loses_its_secrets() {
    let fixture = AccountsFixture::new().await;
    let client = &fixture.client;
    let account = fixture.account(BANK, BANK_PASSWORD_PREFIX).await;
    let bank = client.create_trigger(BANK, &account).await;
    assert_eq!(client.run(&bank).await["state"], "done");
    fixture.bank_vendor.take_requests();
    assert_eq!(client.run(&bank).await["state"], "done");
    let requests = fixture.bank_vendor.take_requests().join("\n");
    assert!(requests.contains("kept-by-bank") && requests.contains("of-bank"), "{requests}");

    let mut body = client.get(&path(&account)).await;
    body["account_type"] = json!(THIEF);
    body["oauth"] = json!({ "access_token": "given with it" });
    let (status, response) = client.request(Method::PUT, &path(&account), Some(body)).await;
    assert_eq!((status, &response["data"]["auth"]), (200, &json!({ "login": "ada" })), "{response}");
    let thief = client.create_trigger(THIEF, &account).await;
    assert_eq!(client.run(&thief).await["state"], "done");
    let requests = fixture.thief_vendor.take_requests().join("\n");
    assert!(requests.contains("given with it") && requests.contains("ada"), "{requests}");
    for secret in [BANK_PASSWORD_PREFIX, "kept-by-bank", "of-bank"] {
        assert!(!requests.contains(secret), "{requests}");
    }
}

#[tokio::test]
async fn an_account_is_shared_while_its_owner_consents() {
    let fixture = AccountsFixture::new().await;
    let client = &fixture.client;
    let account = fixture.account(BANK, BANK_PASSWORD_PREFIX).await;
    let bank = client.create_trigger(BANK, &account).await;
    assert_eq!(client.run(&bank).await["state"], "done");

    let cli = |arguments: &[&str]| run_command(fixture.data.path(), arguments);
    let unknown = cli(&["accounts", "share", &account, "nobody"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("'nobody' is not installed"), "{unknown:?}");
    let shared = cli(&["accounts", "share", &account, THIEF]);
    assert_eq!(shared.code, Some(0), "{shared:?}");
    assert_eq!(client.get(&path(&account)).await["shared_with"], json!([THIEF]));
    let thief = client.create_trigger(THIEF, &account).await;
    for _ in 0..2 {
        assert_eq!(client.run(&thief).await["state"], "done");
    }
    let requests = fixture.thief_vendor.take_requests().join("\n");
    // The secrets are shared; each konnector has its own state and session.
    assert_eq!(requests.matches(BANK_PASSWORD_PREFIX).count(), 4, "{requests}");
    assert!(requests.contains("kept-by-thief") && requests.contains("of-thief"), "{requests}");
    assert!(!requests.contains("kept-by-bank") && !requests.contains("of-bank"), "{requests}");
    let account_document = fixture.thief.get(&path(&account)).await;
    assert_eq!(account_document["auth"]["password"], BANK_PASSWORD_PREFIX, "{account_document}");
    // It may write the fields that it may use, but not give them away.
    for (field, value) in [("shared_with", json!([THIEF, BANK])), ("account_type", json!(THIEF))] {
        let mut body = account_document.clone();
        body[field] = value;
        let (status, response) = fixture.thief.request(Method::PUT, &path(&account), Some(body)).await;
        assert!(status == 403 && response.to_string().contains(&format!("{field}: only the owner")), "{response}");
    }
    let mut body = account_document;
    body["note"] = json!("by the thief");
    body.as_object_mut().expect("an object").remove("shared_with");
    assert_eq!(fixture.thief.request(Method::PUT, &path(&account), Some(body)).await.0, 200);
    assert_eq!(client.get(&path(&account)).await["shared_with"], json!([THIEF]));

    let unshared = cli(&["accounts", "unshare", &account, THIEF]);
    assert_eq!(unshared.code, Some(0), "{unshared:?}");
    assert!(!fixture.thief.get(&path(&account)).await.to_string().contains(BANK_PASSWORD_PREFIX));
    let launched = client.post(&format!("/jobs/triggers/{thief}/launch"), Value::Null).await;
    assert_eq!(launched.0, 422, "{launched:?}");
    fixture.bank_vendor.take_requests();
    assert_eq!(client.run(&bank).await["state"], "done");
    let requests = fixture.bank_vendor.take_requests().join("\n");
    assert!(
        requests.contains(BANK_PASSWORD_PREFIX)
            && requests.contains("kept-by-bank")
            && !requests.contains("kept-by-thief"),
        "{requests}"
    );
    // Shared again, the other konnector starts from scratch.
    assert_eq!(cli(&["accounts", "share", &account, THIEF]).code, Some(0));
    assert_eq!(client.run(&thief).await["state"], "done");
    let requests = fixture.thief_vendor.take_requests().join("\n");
    assert!(requests.contains(BANK_PASSWORD_PREFIX) && !requests.contains("kept-by"), "{requests}");
}

#[tokio::test]
async fn uninstalling_a_konnector_deletes_its_own_accounts_only() {
    let fixture = AccountsFixture::new().await;
    let client = &fixture.client;
    let (shared, moved) =
        (fixture.account(BANK, BANK_PASSWORD_PREFIX).await, fixture.account(THIEF, OTHER_PASSWORD).await);
    let own = fixture.account(THIEF, OTHER_PASSWORD).await;
    assert_eq!(run_command(fixture.data.path(), &["accounts", "share", &shared, THIEF]).code, Some(0));
    for account in [&shared, &moved, &own] {
        client.create_trigger(THIEF, account).await;
    }
    let mut body = client.get(&path(&moved)).await;
    body["account_type"] = json!(BANK);
    assert_eq!(client.request(Method::PUT, &path(&moved), Some(body)).await.0, 200);
    assert_eq!(client.request(Method::DELETE, "/konnectors/thief", None).await.0, 202);
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.request(Method::GET, "/konnectors/thief", None).await.0 != 404 {
        assert!(Instant::now() < deadline, "{}", fixture.server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut remaining: Vec<_> =
        client.documents("io.cozy.accounts").await.iter().map(|account| account["_id"].clone()).collect();
    remaining.sort_by_key(ToString::to_string);
    let mut expected = vec![json!(shared), json!(moved)];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(remaining, expected);
    assert_eq!(client.get("/jobs/triggers").await["data"], json!([]));
    // A new konnector of that name gets nothing that was shared with the old one.
    assert_eq!(client.get(&path(&shared)).await["shared_with"], json!([]));
}
