//! OAuth tokens of a run's account, from the account's provider.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use konnector_accounts::Account;

/// A provider that gives the same response to all requests; returns its address and the counter of requests.
async fn provider(status: &'static str, body: &'static str) -> (String, Arc<std::sync::atomic::AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/token", listener.local_addr().unwrap());
    let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut request = vec![0; 4_096];
            let _ = stream.read(&mut request).await;
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

/// Connects the account of the run, with a token that is valid until `expires_at`.
async fn connect_account(run: &TestRun, token_endpoint: &str, expires_at: &str) -> Account {
    let (domain, instance) = (&run.scope.domain, &run.scope.instance);
    let kind = json!({
        "grant_mode": "authorization_code", "slug": "bank101", "client_id": "us", "client_secret": "s",
        "auth_endpoint": "https://provider.example/", "token_endpoint": token_endpoint,
    });
    domain.account_types().set("provider", object(kind)).await.unwrap();
    let oauth = json!({ "access_token": "old", "refresh_token": "r1", "expires_at": expires_at });
    let change = |body: &mut Object| {
        body.insert("oauth".to_owned(), oauth.clone());
        domain.accounts().seal(instance, "account", body)
    };
    domain.accounts().update(instance, "account", change).await.unwrap();
    domain.accounts().get(instance, "account").unwrap()
}

fn secret(run: &TestRun, account: &Account, name: &str) -> Option<String> {
    let grant = account.clone().authorize(&run.scope.konnector.slug).unwrap();
    let secrets = run.scope.domain.accounts().secrets(&run.scope.instance, &grant).unwrap();
    secrets.into_iter().find(|(own, _)| own == name).map(|(_, value)| value)
}

/// Also if the manifest has no parameters.
#[tokio::test]
async fn x5_the_operators_secret_is_among_the_parameters() {
    let run = TestRun::unrestricted().await;
    let (domain, job) = (&run.scope.domain, &run.scope.job);
    let parameters = || super::super::parameters(domain, job, &run.manifest).unwrap();
    assert_eq!(Value::Object(parameters()), json!({}));
    let kind = json!({ "grant_mode": "secret", "slug": "bank101", "secret": "s3cr3t" });
    domain.account_types().set("bank", object(kind)).await.unwrap();
    assert_eq!(Value::Object(parameters()), json!({ "secret": "s3cr3t" }));
    let other = json!({ "grant_mode": "secret", "slug": "other", "secret": { "key": 1 } });
    domain.account_types().set("bank", object(other)).await.unwrap();
    assert_eq!(Value::Object(parameters()), json!({}));
}

#[tokio::test]
async fn a_token_that_ends_soon_is_refreshed_before_the_run() {
    let run = TestRun::unrestricted().await;
    let answer = r#"{"access_token":"new","refresh_token":"r2","expires_in":3600}"#;
    let (address, asked) = provider("200 OK", answer).await;
    let (domain, instance) = (&run.scope.domain, &run.scope.instance);
    for (end, tokens, times) in [
        ("2026-11-03T08:06:00Z", ["old", "r1"], 0),
        ("2026-11-03T08:04:00Z", ["new", "r2"], 1),
        ("nonsense", ["old", "r1"], 1),
    ] {
        let account = connect_account(&run, &address, end).await;
        let account = domain.accounts().ensure_fresh_token(instance, account).await.unwrap();
        let found = ["access_token", "refresh_token"].map(|name| secret(&run, &account, name).unwrap());
        assert_eq!(
            (found, asked.load(std::sync::atomic::Ordering::SeqCst)),
            (tokens.map(str::to_owned), times),
            "{end}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_is_gone_is_not_tried() {
    let run = TestRun::unrestricted().await;
    let (address, _) = provider("400 Bad Request", r#"{"error":"invalid_grant"}"#).await;
    let account = connect_account(&run, &address, "2026-11-03T07:00:00Z").await;
    let refused = run.scope.domain.accounts().ensure_fresh_token(&run.scope.instance, account).await.unwrap_err();
    assert!(matches!(refused, crate::Error::ReconnectRequired), "{refused}");
    let verdict = konnector_jobs::job::JobFailure::reconnect();
    assert_eq!(
        (verdict.code.to_string().as_str(), verdict.pauses_schedule),
        ("USER_ACTION_NEEDED.OAUTH_OUTDATED", true)
    );
}

/// Rotating the master key reseals the secrets of account types, too.
#[tokio::test]
async fn the_secrets_of_account_types_move_to_another_key() {
    let run = TestRun::unrestricted().await;
    let domain = &run.scope.domain;
    let folder = tempfile::tempdir().unwrap();
    let next = MasterKey::create(&folder.path().join("key")).unwrap();
    let kind = json!({ "grant_mode": "secret", "slug": "bank101", "secret": "s3cr3t" });
    domain.account_types().set("bank", object(kind)).await.unwrap();
    let sealed =
        konnector_platform::key::rotate(domain.core().store(), domain.core().key(), &next, |_| ()).await.unwrap();
    assert_eq!(sealed, 1);
    assert!(domain.account_types().konnector_secret("bank101").is_err(), "the old key opens it still");
    let body = domain.core().store().get(&konnector_store::DocRef::new(
        &konnector_store::InstanceId::global(),
        &konnector_documents::doctype::ACCOUNT_TYPES,
        "bank",
    ));
    let body = body.unwrap().unwrap().body;
    assert!(next.is_sealed(body["_sealed"]["secret"].as_str().unwrap()));
}
