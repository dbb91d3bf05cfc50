//! Deletion of an account, or of a konnector with accounts: the konnector cleans up at its vendor.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Api, TestRequest, component, manifest, write_bundle};

/// Installs a konnector; `cleans` says whether it cleans up, and whether that succeeds.
async fn install(api: &Api, slug: &str, cleans: Option<bool>) {
    let folder = api.folder.path().join(slug);
    let mut manifest = manifest("1.0.0", &["io.cozy.bills"]);
    if cleans.is_some() {
        manifest["on_delete_account"] = json!("onDeleteAccount.js");
    }
    let source = write_bundle(&folder, &manifest);
    std::fs::write(folder.join("konnector.wasm"), component(cleans != Some(false))).expect("written");
    let events = api.follow(TestRequest::post(&format!("/konnectors/{slug}?Source={source}"))).await;
    assert_eq!(events.last().map(String::as_str), Some("ready 1.0.0"), "{events:?}");
}

async fn add_account(api: &Api, slug: &str) -> (String, String) {
    let account = json!({ "account_type": slug, "auth": { "login": "ada", "password": "s3cret" } });
    let response =
        api.send(TestRequest::post("/data/io.cozy.accounts/").token(&api.token("*")).json(&account)).await.json();
    let text = |name: &str| response[name].as_str().expect("a text").to_owned();
    (text("id"), text("rev"))
}

async fn queued(api: &Api) -> Vec<Value> {
    let response = api.send(TestRequest::get("/jobs/queue/konnector").token(&api.token("*"))).await.json();
    response["data"].as_array().expect("a list").iter().map(|job| job["attributes"].clone()).collect()
}

/// Returns the number of failed clean-up jobs.
async fn failed(api: &Api) -> usize {
    let found = api.send(TestRequest::get("/data/io.cozy.jobs/_normal_docs").token(&api.token("*"))).await.json();
    let jobs = found["rows"].as_array().expect("a list");
    jobs.iter().filter(|job| job["cause"] == "account_deleted" && job["state"] == "errored").count()
}

/// Returns the number of copies of deleted accounts.
fn copies(api: &Api) -> usize {
    let doctype = "io.cozy.accounts.soft_deleted".parse().expect("a doctype");
    api.platform.raw_store().list(&api.alice.id, &doctype, None, 10).expect("a list").len()
}

async fn status(api: &Api, path: &str) -> u16 {
    api.send(TestRequest::get(path).token(&api.token("*"))).await.status
}

#[tokio::test]
async fn x9_a_deleted_account_is_cleaned_up_after_by_its_konnector() {
    let api = Api::new().await;
    install(&api, "shop", Some(true)).await;
    let (id, rev) = add_account(&api, "shop").await;
    let token = api.token("*");
    api.send(TestRequest::post(&format!("/konnectors/shop/trigger?AccountID={id}")).token(&token)).await;
    let delete = TestRequest::delete(&format!("/data/io.cozy.accounts/{id}?rev={rev}")).token(&token);
    assert_eq!(api.send(delete).await.status, 200);
    let jobs = queued(&api).await;
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    assert_eq!(
        jobs[0]["message"],
        json!({ "account": id, "account_rev": rev, "konnector": "shop", "account_deleted": true })
    );
    assert_eq!((&jobs[0]["manual_execution"], &jobs[0]["cause"]), (&json!(true), &json!("account_deleted")));
    assert_eq!(copies(&api), 1);
    // The copy cannot be read through the API.
    assert_eq!(status(&api, &format!("/data/io.cozy.accounts.soft_deleted/{id}")).await, 403);
    let triggers = api.send(TestRequest::get("/jobs/triggers").token(&token)).await.json();
    assert_eq!(triggers["meta"]["count"], 0);
    api.start().await;
    api.wait_until(0, async || copies(&api)).await;
}

#[tokio::test]
async fn without_a_konnector_that_cleans_up_nothing_is_kept() {
    let api = Api::new().await;
    install(&api, "plain", None).await;
    install(&api, "shop", Some(true)).await;
    let token = api.token("*");
    for slug in ["plain", "absent"] {
        let (id, rev) = add_account(&api, slug).await;
        api.send(TestRequest::delete(&format!("/data/io.cozy.accounts/{id}?rev={rev}")).token(&token)).await;
    }
    // A client may declare that it cleans up itself.
    let account = json!({ "account_type": "shop", "manual_cleaning": true });
    let created = api.send(TestRequest::post("/data/io.cozy.accounts/").token(&token).json(&account)).await.json();
    let path = format!(
        "/data/io.cozy.accounts/{}?rev={}",
        created["id"].as_str().expect("an id"),
        created["rev"].as_str().expect("a rev")
    );
    assert_eq!(api.send(TestRequest::delete(&path).token(&token)).await.status, 200);
    assert_eq!((queued(&api).await.len(), copies(&api)), (0, 0));
}

#[tokio::test]
async fn x9_a_konnector_goes_after_its_accounts() {
    let api = Api::new().await;
    install(&api, "shop", Some(true)).await;
    let (id, _) = add_account(&api, "shop").await;
    let (other, _) = add_account(&api, "bank").await;
    let token = api.token("*");
    for _ in 0..2 {
        api.send(TestRequest::post(&format!("/konnectors/shop/trigger?AccountID={id}")).token(&token)).await;
    }
    api.send(TestRequest::post("/konnectors/shop/trigger?AccountID=gone").token(&token)).await;
    api.start().await;
    let response = api.send(TestRequest::delete("/konnectors/shop").token(&token)).await;
    assert_eq!((response.status, response.text()), (202, ""));
    api.wait_until(404, async || status(&api, "/konnectors/shop").await).await;
    assert_eq!(status(&api, &format!("/data/io.cozy.accounts/{id}")).await, 404);
    assert_eq!(status(&api, &format!("/data/io.cozy.accounts/{other}")).await, 200);
    assert_eq!(api.send(TestRequest::get("/jobs/triggers").token(&token)).await.json()["meta"]["count"], 0);
    assert_eq!(api.send(TestRequest::delete("/konnectors/shop").token(&token)).await.status, 404);
    api.wait_until(0, async || copies(&api)).await;
}

#[tokio::test]
async fn x9_a_konnector_that_fails_to_clean_up_stays() {
    let api = Api::new().await;
    install(&api, "shop", Some(false)).await;
    let (id, _) = add_account(&api, "shop").await;
    api.start().await;
    let token = api.token("*");
    assert_eq!(api.send(TestRequest::delete("/konnectors/shop").token(&token)).await.status, 202);
    api.wait_until(404, async || status(&api, &format!("/data/io.cozy.accounts/{id}")).await).await;
    api.wait_until(1, async || failed(&api).await).await;
    // A repeated request retries. Until then the konnector and its account data remain.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((status(&api, "/konnectors/shop").await, copies(&api)), (200, 1));
    assert_eq!(api.send(TestRequest::delete("/konnectors/shop").token(&token)).await.status, 202);
    api.wait_until(2, async || failed(&api).await).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((status(&api, "/konnectors/shop").await, copies(&api)), (200, 1));
    // The user forces the uninstallation.
    assert_eq!(api.send(TestRequest::delete("/konnectors/shop?Force=true").token(&token)).await.status, 202);
    api.wait_until(404, async || status(&api, "/konnectors/shop").await).await;
    api.wait_until(0, async || copies(&api)).await;
    assert_eq!(failed(&api).await, 3);
}

#[tokio::test]
async fn an_uninstallation_does_not_wait_for_a_clean_up_that_is_put_off() {
    let api = Api::new().await;
    install(&api, "shop", Some(false)).await;
    let (id, rev) = add_account(&api, "shop").await;
    api.start().await;
    let token = api.token("*");
    api.send(TestRequest::delete(&format!("/data/io.cozy.accounts/{id}?rev={rev}")).token(&token)).await;
    let postponed = async || queued(&api).await.iter().filter(|job| job["retry_of"].is_string()).count();
    api.wait_until(1, postponed).await;
    assert_eq!(api.send(TestRequest::delete("/konnectors/shop").token(&token)).await.status, 202);
    api.wait_until(2, async || failed(&api).await).await;
    assert_eq!((queued(&api).await.len(), status(&api, "/konnectors/shop").await, copies(&api)), (0, 200, 1));
}

/// The clean-up continues after the request, and counts for the next one.
#[tokio::test]
async fn x9_an_abandoned_deletion_of_an_instance_resumes() {
    let api = Api::new().await;
    install(&api, "shop", Some(true)).await;
    add_account(&api, "shop").await;
    let delete = || api.platform.delete_instance("alice.example");
    for _ in 0..2 {
        // No worker is running yet.
        assert!(tokio::time::timeout(Duration::from_millis(200), delete()).await.is_err());
        assert_eq!((queued(&api).await.len(), copies(&api)), (1, 1));
    }
    api.start().await;
    delete().await.expect("gone");
    assert_eq!(status(&api, "/konnectors/").await, 404);
}
