//! Random sequences of attempts to get the secrets of another konnector's account.

use konnector_tests::client::{StatusAndBody, TestClient};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    AccountsFixture, BANK, BANK_PASSWORD_PREFIX, OTHER_PASSWORD, THIEF, attributes, id, message, path, push, trigger,
};

/// An attempt: the action, its author, the target konnector, and the account.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    route: usize,
    by_thief: bool,
    konnector: &'static str,
    of_bank: bool,
}

const ROUTES: usize = 24;

fn attempts() -> impl Strategy<Value = Vec<Attempt>> {
    // The most important case is the thief with the account of the bank.
    let attempt = (0..ROUTES, any::<bool>(), proptest::bool::weighted(0.8), proptest::bool::weighted(0.8));
    let attempt = attempt.prop_map(|(route, by_thief, thief, of_bank)| Attempt {
        route,
        by_thief,
        konnector: if thief { THIEF } else { BANK },
        of_bank,
    });
    vec(attempt, 1..16)
}

/// The accounts of a sequence of attempts.
struct AttemptAccounts {
    of_bank: String,
    of_thief: String,
    /// The initial account of the bank, its secrets sealed.
    sealed: Value,
}

impl Attempt {
    /// Makes the attempt; returns the responses.
    async fn run(self, fixture: &AccountsFixture, accounts: &AttemptAccounts) -> Vec<StatusAndBody> {
        let client = if self.by_thief { &fixture.thief } else { &fixture.client };
        let account = if self.of_bank { &accounts.of_bank } else { &accounts.of_thief };
        let job = || message(self.konnector, account);
        let launch = async |created: StatusAndBody, target: &str| match id(&created) {
            Some(id) => vec![client.post(&target.replace("{id}", &id), json!({ "a": 1 })).await, created],
            None => vec![created],
        };
        let put = async |change: &dyn Fn(&mut Value)| {
            let (status, mut body) = client.request(Method::GET, &path(account), None).await;
            if status != 200 {
                return vec![(status, body)];
            }
            change(&mut body);
            vec![client.request(Method::PUT, &path(account), Some(body)).await]
        };
        let sealed = &accounts.sealed["auth"];
        match self.route {
            0 => vec![push(client, job()).await],
            1 => {
                let mut job = job();
                job["account_deleted"] = json!(true);
                vec![push(client, job).await]
            }
            2 => launch(trigger(client, "@cron", "0 0 3 * * *", job()).await, "/jobs/triggers/{id}/launch").await,
            3 => vec![trigger(client, "@in", "1s", job()).await],
            4 => launch(trigger(client, "@event", "io.cozy.bills:CREATED", job()).await, "/data/io.cozy.bills/").await,
            5 => launch(trigger(client, "@webhook", "", job()).await, "/jobs/webhooks/{id}").await,
            6 => launch(trigger(client, "@webhook", "", job()).await, "/jobs/webhooks/{id}?Manual=true").await,
            7 => vec![trigger(client, "@client", "", job()).await],
            8 => {
                let path = format!("/konnectors/{}/trigger?AccountID={account}&ExecNow=true", self.konnector);
                launch(client.post(&path, Value::Null).await, "/jobs/triggers/{id}/launch").await
            }
            9 => {
                let created = trigger(client, "@cron", "0 0 3 * * *", message(THIEF, &accounts.of_thief)).await;
                let Some(id) = id(&created) else { return vec![created] };
                let patch = Some(attributes(json!({ "message": job() })));
                let patched = client.request(Method::PATCH, &format!("/jobs/triggers/{id}"), patch).await;
                vec![patched, client.post(&format!("/jobs/triggers/{id}/launch"), Value::Null).await]
            }
            10 => put(&|body| body["account_type"] = json!(self.konnector)).await,
            // A share written by a person is consent, so only the thief tries.
            11 if self.by_thief => put(&|body| body["shared_with"] = json!([self.konnector])).await,
            11 => put(&|body| body["shared_with"] = json!([])).await,
            12 => put(&|body| body["auth"] = sealed.clone()).await,
            13 => put(&|body| body["auth"]["url"] = json!("http://127.0.0.1:1")).await,
            14 | 15 => {
                let mut body = accounts.sealed.clone();
                body["account_type"] = json!(self.konnector);
                if self.route == 15 {
                    body["_rev"] = json!("9-0123456789abcdef0123456789abcdef");
                    body["_revisions"] = json!({ "start": 9, "ids": ["0123456789abcdef0123456789abcdef"] });
                }
                let docs = json!({ "new_edits": self.route == 14, "docs": [body] });
                vec![client.post("/data/io.cozy.accounts/_bulk_docs", docs).await]
            }
            16 => {
                let body = json!({ "account_type": self.konnector, "auth": sealed });
                launch_account(client, client.post("/data/io.cozy.accounts/", body).await).await
            }
            17 => {
                let (_, document) = client.request(Method::GET, &path(account), None).await;
                let rev = document["_rev"].as_str().unwrap_or_default();
                let deleted = client.request(Method::DELETE, &format!("{}?rev={rev}", path(account)), None).await;
                let body = json!({ "account_type": self.konnector, "auth": sealed });
                vec![deleted, client.request(Method::PUT, &path(account), Some(body)).await, push(client, job()).await]
            }
            18 => {
                let reads = ["", "?include=credentials", "?open_revs=all", "?revs=true&include=credentials"];
                let mut responses = Vec::new();
                for query in reads {
                    responses.push(client.request(Method::GET, &format!("{}{query}", path(account)), None).await);
                }
                responses
            }
            19 => {
                let mut responses = Vec::new();
                for list in
                    ["_all_docs?include_docs=true", "_normal_docs?include=credentials", "_changes?include_docs=true"]
                {
                    responses.push(client.request(Method::GET, &format!("/data/io.cozy.accounts/{list}"), None).await);
                }
                responses
            }
            20 => {
                let all = |path: &str| format!("/data/io.cozy.accounts/{path}");
                vec![
                    client.post(&all("_find"), json!({ "selector": { "_id": account } })).await,
                    client.post(&all("_bulk_get"), json!({ "docs": [{ "id": account }] })).await,
                    client.post(&all("_all_docs?include_docs=true"), json!({ "keys": [account] })).await,
                ]
            }
            21 => vec![client.post(&format!("/accounts/{}/{account}/refresh", self.konnector), Value::Null).await],
            22 => vec![client.post("/data/io.cozy.bills/", json!({ "amount": 1 })).await],
            _ => {
                let codes = json!({ "data": { "type": "io.cozy.permissions", "attributes": {
                    "permissions": { "accounts": { "type": "io.cozy.accounts" } } } } });
                let created = client.post("/permissions?codes=fence", codes).await;
                let Some(code) = created.1["data"]["attributes"]["codes"]["fence"].as_str() else {
                    return vec![created];
                };
                let fence = client.with_token(code);
                let (status, mut body) =
                    fence.request(Method::GET, &format!("{}?include=credentials", path(account)), None).await;
                let read = (status, body.clone());
                body["shared_with"] = json!([THIEF]);
                body["account_type"] = json!(self.konnector);
                vec![read, fence.request(Method::PUT, &path(account), Some(body)).await, created]
            }
        }
    }
}

/// Runs the thief for an account that it created.
async fn launch_account(client: &TestClient, created: StatusAndBody) -> Vec<StatusAndBody> {
    match id(&created) {
        Some(account) => vec![push(client, message(THIEF, &account)).await, created],
        None => vec![created],
    }
}

#[test]
fn no_attempt_of_a_konnector_reveals_a_secret_of_another_one() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let fixture = runtime.block_on(AccountsFixture::new());
    let config = Config { cases: 40, failure_persistence: None, max_shrink_iters: 40, ..Config::default() };
    let outcome = TestRunner::new(config).run(&attempts(), |attempts| {
        runtime.block_on(async {
            let (of_bank, of_thief) =
                (fixture.account(BANK, BANK_PASSWORD_PREFIX).await, fixture.account(THIEF, OTHER_PASSWORD).await);
            let sealed = fixture.client.get(&path(&of_bank)).await;
            let accounts = AttemptAccounts { of_bank, of_thief, sealed };
            for attempt in attempts {
                for (status, body) in attempt.run(&fixture, &accounts).await {
                    prop_assert!(!body.to_string().contains(BANK_PASSWORD_PREFIX), "{attempt:?}: {status} {body}");
                    prop_assert!(status != 500, "{attempt:?}: {body}");
                }
            }
            fixture.wait_idle().await;
            let sent = fixture.thief_vendor.take_requests().join("\n");
            prop_assert!(!sent.contains(BANK_PASSWORD_PREFIX), "{sent}");
            // The test can detect leaks: both konnectors send their own secrets.
            fixture.bank_vendor.take_requests();
            for (slug, vendor, secret) in
                [(BANK, &fixture.bank_vendor, BANK_PASSWORD_PREFIX), (THIEF, &fixture.thief_vendor, OTHER_PASSWORD)]
            {
                let account = fixture.account(slug, secret).await;
                prop_assert!(push(&fixture.client, message(slug, &account)).await.0 == 202);
                fixture.wait_idle().await;
                let sent = vendor.take_requests().join("\n");
                prop_assert!(sent.contains(secret), "{sent}");
            }
            delete_leftovers(&fixture).await;
            Ok::<_, TestCaseError>(())
        })
    });
    outcome.expect("no secret is shown");
}

/// Deletes the data of a case, so that the next one starts from scratch.
async fn delete_leftovers(fixture: &AccountsFixture) {
    let client = &fixture.client;
    for trigger in client.get("/jobs/triggers").await["data"].as_array().expect("a list") {
        let id = trigger["id"].as_str().expect("an id");
        client.request(Method::DELETE, &format!("/jobs/triggers/{id}"), None).await;
    }
    assert_eq!(client.request(Method::DELETE, "/data/io.cozy.accounts/", None).await.0, 200);
}
