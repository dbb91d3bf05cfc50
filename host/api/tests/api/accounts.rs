//! OAuth accounts (§7.4 of the behaviour reference), and access to the secrets of accounts (§7.2).

use std::time::Duration;

use http::header::{LOCATION, SET_COOKIE};
use konnector_platform::doctype::KONNECTORS;
use konnector_platform::principal::Audience;
use konnector_store::Changes;
use serde_json::{Value, json};
use url::Url;

use crate::provider::{FakeProvider, ProviderBehavior};
use crate::support::{Api, TestRequest, TestResponse, object};

struct OAuthFixture {
    api: Api,
    provider: FakeProvider,
}

impl OAuthFixture {
    /// Creates the account type `service`; `more` overrides its fields.
    async fn new(more: Value) -> Self {
        let service = Self { api: Api::new().await, provider: FakeProvider::start().await };
        service.api.install("service", json!({ "accounts": { "type": "io.cozy.accounts" } })).await;
        service.set("service", more).await;
        service
    }

    async fn set(&self, id: &str, more: Value) {
        let mut kind = json!({
            "grant_mode": "authorization_code", "client_id": "the client", "client_secret": "s&cret",
            "auth_endpoint": "https://provider.example/login?lang=fr", "token_endpoint": self.provider.url("/token"),
        });
        for (name, value) in object(more) {
            kind[name] = value;
        }
        self.api.platform.account_types().set(id, object(kind)).await.expect("an account type");
    }

    async fn session(&self) -> String {
        let code = self.api.send(TestRequest::post("/auth/session_code").token(&self.api.token("*"))).await;
        code.json()["session_code"].as_str().expect("a code").to_owned()
    }

    /// Starts the login; returns the provider URL to which the user is redirected.
    async fn start(&self, query: &str) -> Url {
        let session = self.session().await;
        let response =
            self.api.send(TestRequest::get(&format!("/accounts/service/start?session_code={session}&{query}"))).await;
        assert_eq!(response.status, 303, "{response}");
        response.header(LOCATION).parse().expect("an address")
    }

    /// Calls the redirect URI, as the provider does.
    async fn callback(&self, query: &str) -> TestResponse {
        self.api.send(TestRequest::get(&format!("/accounts/service/redirect?{query}"))).await
    }

    /// Connects an account; returns its id.
    async fn connect(&self) -> String {
        let state = param(&self.start("scope=bills").await, "state").expect("a state");
        let response = self.callback(&format!("code=the-code&state={state}")).await;
        assert_eq!(response.status, 303, "{response}");
        param(&response.header(LOCATION).parse().expect("an address"), "account").expect("an account")
    }

    async fn read(&self, id: &str, token: &str) -> Value {
        self.api.send(TestRequest::get(&format!("/data/io.cozy.accounts/{id}")).token(token)).await.json()
    }

    /// Reads an account with the token of its konnector.
    async fn read_clear(&self, id: &str) -> Value {
        self.read(id, &self.api.token_of(Audience::Konnector, "service", "")).await
    }

    async fn refresh(&self, id: &str) -> TestResponse {
        let token = self.api.token_of(Audience::Konnector, "service", "");
        self.api.send(TestRequest::post(&format!("/accounts/service/{id}/refresh")).token(&token)).await
    }
}

fn param(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
}

/// The account stores the tokens encrypted. The client passes a URL to return to; without one, the browser ends on a
/// page of the server.
#[tokio::test]
async fn a1_an_account_is_connected_by_a_code() {
    let service = OAuthFixture::new(json!({ "extras": { "prompt": "consent" } })).await;
    let url = service.start("scope=a+b&state=mine&nonce=n1&redirect_url=https://home.example/x?y=1").await;
    assert_eq!((url.host_str(), url.path()), (Some("provider.example"), "/login"));
    for (name, value) in [
        ("lang", "fr"),
        ("scope", "a b"),
        ("client_id", "the client"),
        ("response_type", "code"),
        ("redirect_uri", "http://alice.example/accounts/service/redirect"),
        ("prompt", "consent"),
    ] {
        assert_eq!(param(&url, name).as_deref(), Some(value), "{name}");
    }
    let state = param(&url, "state").expect("a state");
    let response = service.callback(&format!("code=the-code&state={state}")).await;
    let back: Url = response.header(LOCATION).parse().expect("an address");
    assert_eq!(
        (response.status, back.host_str(), param(&back, "y").as_deref()),
        (303, Some("home.example"), Some("1"))
    );
    assert_eq!(param(&back, "state").as_deref(), Some("mine"));
    let request = &service.provider.requests()[0];
    assert_eq!((request.method.as_str(), &request.authorization), ("POST", &None));
    for (name, value) in [
        ("grant_type", "authorization_code"),
        ("code", "the-code"),
        ("redirect_uri", "http://alice.example/accounts/service/redirect"),
        ("client_id", "the client"),
        ("client_secret", "s&cret"),
        ("state", &state),
        ("nonce", "n1"),
    ] {
        assert_eq!(request.get(name), Some(value), "{name}");
    }
    let id = param(&back, "account").expect("an account");
    let konnector = service.api.token_of(Audience::Konnector, "service", "");
    let clear = service.api.send(TestRequest::get(&format!("/data/io.cozy.accounts/{id}")).token(&konnector)).await;
    insta::assert_snapshot!(clear, @r#"
    200 application/json
    {
      "_id": "<id>",
      "_rev": "1-<id>",
      "_type": "io.cozy.accounts",
      "account_type": "service",
      "oauth": {
        "token_type": "Bearer",
        "expires_at": "2026-11-20T13:00:00Z",
        "access_token": "access-1",
        "refresh_token": "refresh-1"
      },
      "oauth_callback_results": {
        "customer": "c-42"
      }
    }
    "#);
    let sealed = service.read(&id, &service.api.token("*")).await.to_string();
    assert!(!sealed.contains("access-1") && !sealed.contains("refresh-1"), "{sealed}");
    // The state can be used once.
    assert_eq!(service.callback(&format!("code=the-code&state={state}")).await.status, 400);
    let state = param(&service.start("").await, "state").expect("a state");
    let back = service.callback(&format!("code=the-code&state={state}")).await;
    let back: Url = back.header(LOCATION).parse().expect("an address");
    assert_eq!((back.host_str(), back.path()), (Some("alice.example"), "/accounts/service/done"));
}

#[tokio::test]
async fn the_three_ways_to_say_who_asks() {
    let form = [Some("the client"), Some("s&cret")];
    for (mode, method, authorization, fields) in [
        ("form", "POST", None, form),
        ("get", "GET", None, form),
        ("basic", "POST", Some("Basic dGhlK2NsaWVudDpzJTI2Y3JldA=="), [None, None]),
    ] {
        let service = OAuthFixture::new(json!({ "token_mode": mode, "skip_state_on_token": true })).await;
        let id = service.connect().await;
        assert_eq!(service.refresh(&id).await.status, 200);
        let requests = service.provider.requests();
        assert_eq!(requests.len(), 2);
        for request in &requests {
            assert_eq!((request.method.as_str(), request.authorization.as_deref()), (method, authorization), "{mode}");
            assert_eq!(["client_id", "client_secret"].map(|name| request.get(name)), fields, "{mode}");
            assert_eq!(request.get("state"), None);
        }
    }
}

/// Each start needs a session code: there is no cookie that a page could use without the owner.
#[tokio::test]
async fn a1_only_the_owner_starts() {
    let service = OAuthFixture::new(json!({})).await;
    let start = async |query: &str| {
        service.api.send(TestRequest::get(&format!("/accounts/service/start?{query}"))).await.status
    };
    insta::assert_snapshot!(service.api.transcript([TestRequest::get("/accounts/service/start")]).await, @r#"
    GET /accounts/service/start
    403 text/plain; charset=utf-8
    the session code is missing; get a session code with `konnector instances session-code alice.example` or POST /auth/session_code, and pass it as session_code
    "#);
    let session = service.session().await;
    let started = service.api.send(TestRequest::get(&format!("/accounts/service/start?session_code={session}"))).await;
    assert_eq!((started.status, started.header(SET_COOKIE)), (303, ""));
    assert_eq!(start("session_code=guess").await, 403);
    let session = service.session().await;
    assert_eq!(start(&format!("session_code={session}")).await, 303);
    assert_eq!(start(&format!("session_code={session}")).await, 403);
    let expired = service.session().await;
    service.api.clock.set("2026-11-20T12:05:00Z".parse().expect("a date"));
    assert_eq!(start(&format!("session_code={expired}")).await, 403);
    assert_eq!(start("redirect_url=javascript:alert(1)").await, 422);
    let foreign = TestRequest::post("/auth/session_code").host("bob.example");
    let bobs = service.api.platform.auth().issue_token(&service.api.bob, Audience::Cli, "CLI", "*").expect("a token");
    let foreign = service.api.send(foreign.token(&bobs)).await.json();
    assert_eq!(start(&format!("session_code={}", foreign["session_code"].as_str().expect("a code"))).await, 403);
    let session = service.session().await;
    let unknown = TestRequest::get(&format!("/accounts/unknown/start?session_code={session}"));
    assert_eq!(service.api.send(unknown).await.status, 404);
}

#[tokio::test]
async fn a_state_is_bound_to_instance_account_type_and_time() {
    let service = OAuthFixture::new(json!({})).await;
    service.set("other", json!({})).await;
    let state = async || param(&service.start("").await, "state").expect("a state");
    for (host, path) in [("bob.example", "service"), ("alice.example", "other")] {
        let query = format!("/accounts/{path}/redirect?code=the-code&state={}", state().await);
        assert_eq!(service.api.send(TestRequest::get(&query).host(host)).await.status, 400, "{host} {path}");
    }
    assert_eq!(service.callback("code=the-code").await.status, 400);
    assert_eq!(service.callback("access_token=x").await.status, 400);
    let expired = state().await;
    service.api.clock.set("2026-11-20T12:15:00Z".parse().expect("a date"));
    assert_eq!(service.callback(&format!("code=the-code&state={expired}")).await.status, 400);
    assert!(service.provider.requests().is_empty());
    // The redirect URI may be shared by all instances: the state identifies the instance.
    let query = format!("/accounts/service/redirect?code=the-code&state={}", state().await);
    assert_eq!(service.api.send(TestRequest::get(&query).host("oauthcallback.example")).await.status, 303);
}

#[tokio::test]
async fn what_the_provider_refuses_makes_no_account() {
    let service = OAuthFixture::new(json!({})).await;
    let state = param(&service.start("").await, "state").expect("a state");
    let denied = service.callback(&format!("error=access_denied&state={state}")).await;
    let back: Url = denied.header(LOCATION).parse().expect("an address");
    assert_eq!((back.path(), param(&back, "error").as_deref()), ("/accounts/service/done", Some("access_denied")));
    assert!(
        service
            .api
            .send(TestRequest::get(&format!("{}?{}", back.path(), back.query().expect("a query"))))
            .await
            .text()
            .contains("not connected")
    );
    for (code, behavior) in [
        ("wrong", ProviderBehavior::Normal),
        ("the-code", ProviderBehavior::Broken),
        ("the-code", ProviderBehavior::Redirecting),
    ] {
        service.provider.set_behavior(behavior);
        let state = param(&service.start("").await, "state").expect("a state");
        assert_eq!(service.callback(&format!("code={code}&state={state}")).await.status, 502, "{behavior:?}");
    }
    assert!(service.api.platform.accounts().list(&service.api.alice, None).expect("accounts").is_empty());
}

/// The redirect contains the token; connecting the same connection again updates the same account.
#[tokio::test]
async fn a1_a_connection_is_one_account() {
    let service = OAuthFixture::new(json!({ "grant_mode": "token_redirect_url" })).await;
    let connect = async |token: &str, connection: &str| {
        let url = service.start("").await;
        assert_eq!(param(&url, "redirect_url").as_deref(), Some("http://alice.example/accounts/service/redirect"));
        assert_eq!(param(&url, "client_id"), None);
        let state = param(&url, "state").expect("a state");
        let response =
            service.callback(&format!("access_token={token}&connection_id={connection}&state={state}")).await;
        param(&response.header(LOCATION).parse().expect("an address"), "account").expect("an account")
    };
    let first = connect("t1", "7").await;
    let again = connect("t2", "7").await;
    let other = connect("t3", "8").await;
    assert_eq!(first, again);
    assert_ne!(first, other);
    let account = service.read_clear(&first).await;
    insta::assert_snapshot!(serde_json::to_string_pretty(&account["oauth"]).expect("a text"), @r#"
    {
      "query": {
        "connection_id": [
          "7"
        ]
      },
      "access_token": "t2"
    }
    "#);
}

#[tokio::test]
async fn a_konnector_that_exchanges_the_code_itself_gets_what_it_needs() {
    let service = OAuthFixture::new(json!({ "grant_mode": "bi_webauth", "token_endpoint": null })).await;
    let oauth = service.read_clear(&service.connect().await).await["oauth"].clone();
    assert_eq!(oauth, json!({ "client_id": "the client", "client_secret": "s&cret", "code": "the-code" }));
    assert!(service.provider.requests().is_empty());
}

#[tokio::test]
async fn the_user_manages_and_renews_a_connection() {
    let service = OAuthFixture::new(json!({
        "grant_mode": "token_redirect_url", "manage_endpoint": "https://provider.example/manage",
        "reconnect_endpoint": "https://provider.example/again",
    }))
    .await;
    let state = param(&service.start("").await, "state").expect("a state");
    let first = service.callback(&format!("access_token=t1&connection_id=7&state={state}")).await;
    let id = param(&first.header(LOCATION).parse().expect("an address"), "account").expect("an account");
    for (path, page) in [("manage", "/manage"), ("reconnect", "/again")] {
        let session = service.session().await;
        let call = TestRequest::get(&format!("/accounts/service/{id}/{path}?session_code={session}"));
        let url: Url = service.api.send(call).await.header(LOCATION).parse().expect("an address");
        assert_eq!((url.path(), param(&url, "connection_id").as_deref()), (page, Some("7")));
        let state = param(&url, "state").expect("a state");
        assert_eq!(service.callback(&format!("access_token={path}&connection_id=7&state={state}")).await.status, 303);
        assert_eq!(service.read_clear(&id).await["oauth"]["access_token"], path);
        assert_eq!(service.api.send(TestRequest::get(&format!("/accounts/service/{id}/{path}"))).await.status, 403);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_refreshes_at_once_are_one_request() {
    let service = OAuthFixture::new(json!({})).await;
    let id = service.connect().await;
    // Long enough for all requests to arrive, even on a busy machine.
    service.provider.state.lock().expect("a book").delay = Duration::from_secs(3);
    let responses = futures_util::future::join_all((0..100).map(|_| service.refresh(&id))).await;
    assert!(responses.iter().all(|response| response.status == 200), "{}", responses[0]);
    // The first request exchanged the code.
    assert_eq!(service.provider.requests().len(), 2);
    assert_eq!(service.provider.requests()[1].get("refresh_token"), Some("refresh-1"));
    for response in &responses {
        let oauth = &response.json()["data"]["attributes"]["oauth"];
        assert_eq!((&oauth["access_token"], &oauth["refresh_token"]), (&json!("access-2"), &json!("refresh-2")));
    }
    // A failing refresh is a single request too, and all callers get its error.
    service.provider.set_behavior(ProviderBehavior::Revoked);
    let responses = futures_util::future::join_all((0..100).map(|_| service.refresh(&id))).await;
    assert!(responses.iter().all(|response| response.status == 401), "{}", responses[0]);
    assert_eq!(service.provider.requests().len(), 3);
}

/// The rotated token is stored even if the client disconnects.
#[tokio::test]
async fn a_refresh_that_nobody_waits_for_is_stored() {
    let service = OAuthFixture::new(json!({})).await;
    let id = service.connect().await;
    service.provider.state.lock().expect("a book").delay = Duration::from_millis(500);
    let impatient = tokio::time::timeout(Duration::from_millis(100), service.refresh(&id)).await;
    assert!(impatient.is_err());
    for _ in 0..100 {
        if service.read_clear(&id).await["oauth"]["refresh_token"] == "refresh-2" {
            assert_eq!(service.refresh(&id).await.status, 200);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the tokens were lost: {}", service.read_clear(&id).await);
}

#[tokio::test]
async fn a2_a_refresh_that_fails_says_what_to_do() {
    let service = OAuthFixture::new(json!({})).await;
    let id = service.connect().await;
    service.provider.set_behavior(ProviderBehavior::Revoked);
    insta::assert_snapshot!(service.refresh(&id).await, @r#"
    401 application/vnd.api+json
    {
      "errors": [
        {
          "status": "401",
          "title": "Unauthorized",
          "detail": "OAuth refresh token is invalid or expired; reconnect account.",
          "source": {},
          "code": "oauth_refresh_invalid_token"
        }
      ]
    }
    "#);
    let request = service.provider.requests().pop().expect("a request");
    assert_eq!((request.method.as_str(), request.authorization.as_deref()), ("POST", None));
    for (name, value) in [
        ("grant_type", "refresh_token"),
        ("refresh_token", "refresh-1"),
        ("client_id", "the client"),
        ("client_secret", "s&cret"),
    ] {
        assert_eq!(request.get(name), Some(value), "{name}");
    }
    service.provider.set_behavior(ProviderBehavior::Broken);
    assert_eq!(service.refresh(&id).await.status, 502);
    // Neither failure invalidated the token.
    service.provider.set_behavior(ProviderBehavior::Normal);
    assert_eq!(service.refresh(&id).await.status, 200);

    let bare = TestRequest::post("/data/io.cozy.accounts/").token(&service.api.token("*"));
    let bare = service.api.send(bare.json(&json!({ "account_type": "service", "auth": { "login": "me" } }))).await;
    let bare = bare.json()["id"].as_str().expect("an id").to_owned();
    let unrefreshable = service.refresh(&bare).await;
    assert!(unrefreshable.status == 400 && unrefreshable.text().contains("this account can not be refreshed"));
    let call = |path: &str| TestRequest::post(path);
    let token = service.api.token("io.cozy.accounts:GET");
    for (path, token, status) in [
        (format!("/accounts/service/{id}/refresh"), None, 401),
        (format!("/accounts/service/{id}/refresh"), Some(service.api.token("io.cozy.bills")), 403),
        ("/accounts/service/unknown/refresh".to_owned(), Some(token.clone()), 404),
        (format!("/accounts/unknown/{id}/refresh"), Some(token.clone()), 404),
    ] {
        let call = match token {
            Some(token) => call(&path).token(&token),
            None => call(&path),
        };
        assert_eq!(service.api.send(call).await.status, status, "{path}");
    }
    // Other callers than the konnector get the new tokens encrypted.
    let sealed = service.api.send(call(&format!("/accounts/service/{id}/refresh")).token(&token)).await;
    assert!(sealed.status == 200 && !sealed.text().contains("access-"), "{sealed}");
}

#[tokio::test]
async fn a_provider_in_a_private_network_is_not_contacted() {
    let service = OAuthFixture::new(json!({ "token_endpoint": "http://10.0.0.1/token" })).await;
    let state = param(&service.start("").await, "state").expect("a state");
    let rejected = service.callback(&format!("code=the-code&state={state}")).await;
    assert!(rejected.status == 502 && rejected.text().contains("cannot be reached"), "{rejected}");
}

/// A konnector reads the secrets of its accounts, an app those that it requests; others get encrypted strings that
/// may be sent back (§7.2).
#[tokio::test]
async fn d13_who_sees_the_secrets_of_an_account() {
    let service = OAuthFixture::new(json!({})).await;
    let api = &service.api;
    let account = json!({
        "account_type": "service",
        "auth": { "login": "me", "password": "s3cret" },
        "data": { "auth": { "login": "you", "password": "s4cret" }, "bank": 7 },
    });
    let created = api.send(TestRequest::post("/data/io.cozy.accounts/").token(&api.token("*")).json(&account)).await;
    assert!(created.status == 201 && !created.text().contains("cret\""), "{created}");
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    let app = api.token_of(Audience::App, "home", "io.cozy.accounts");
    let read = async |token: &str, query: &str| {
        api.send(TestRequest::get(&format!("/data/io.cozy.accounts/{id}{query}")).token(token)).await.text().to_owned()
    };
    let has_secrets = |text: &str| text.contains("s3cret") && text.contains("s4cret");
    let client = api.client_token("io.cozy.accounts").await;
    assert!(has_secrets(&read(&api.token_of(Audience::Konnector, "service", ""), "").await));
    assert!(has_secrets(&read(&app, "?include=credentials").await));
    for (token, query) in [
        (&app, ""),
        (&api.token("*"), "?include=credentials"),
        (&client, "?include=credentials"),
        (&app, "?include=other"),
    ] {
        let document = read(token, query).await;
        assert!(
            !document.contains("s3cret") && !document.contains("s4cret") && document.contains("credentials_encrypted"),
            "{document}"
        );
    }
    let konnector = api.token_of(Audience::Konnector, "service", "");
    let list = TestRequest::get("/data/io.cozy.accounts/_all_docs?include_docs=true").token(&konnector);
    let list = api.send(list).await;
    assert!(list.status == 200 && !list.text().contains("cret\""), "{list}");
    // Encrypted strings that are sent back leave the secrets unchanged.
    let sealed: Value = serde_json::from_str(&read(&client, "").await).expect("JSON");
    let put = api.send(TestRequest::put(&format!("/data/io.cozy.accounts/{id}")).token(&client).json(&sealed)).await;
    assert!(put.status == 200 && !put.text().contains("s3cret"), "{put}");
    assert!(has_secrets(&read(&api.token_of(Audience::Konnector, "service", ""), "").await));
    // Strings that were encrypted for another account, or elsewhere, are rejected.
    let stolen = TestRequest::post("/data/io.cozy.accounts/").token(&client);
    let stolen = api.send(stolen.json(&json!({ "account_type": "service", "auth": sealed["auth"] }))).await;
    assert!(stolen.status == 400 && stolen.text().contains("credentials_encrypted cannot be accepted"), "{stolen}");
    // The response to a konnector's own change contains the secrets in clear.
    let mut clear = service.read_clear(&id).await;
    clear["auth"]["token"] = json!("s3cret too");
    let put = api.send(TestRequest::put(&format!("/data/io.cozy.accounts/{id}")).token(&konnector).json(&clear)).await;
    assert!(put.status == 200 && put.text().contains("s3cret too"), "{put}");
    // Each encryption yields another string.
    let again: Value = serde_json::from_str(&read(&client, "").await).expect("JSON");
    assert_ne!(again["data"]["auth"]["credentials_encrypted"], sealed["data"]["auth"]["credentials_encrypted"]);
}

/// Unlike Cozy's, the encrypted string does not contain the login, so the login may be empty and change separately.
#[tokio::test]
async fn d13_a_password_is_clear_to_the_konnector_alone() {
    let service = OAuthFixture::new(json!({})).await;
    let api = &service.api;
    let client = api.client_token("io.cozy.accounts").await;
    let post = TestRequest::post("/data/io.cozy.accounts/").token(&client);
    let account = json!({ "account_type": "service", "auth": { "login": "", "password": "s3cret" } });
    let id = api.send(post.json(&account)).await.json()["id"].as_str().expect("an id").to_owned();
    let get = || TestRequest::get(&format!("/data/io.cozy.accounts/{id}"));
    let calls = [get().token(&api.token_of(Audience::Konnector, "service", "")), get().token(&client)];
    let sealed = regex::Regex::new(r"sealed-v2\.[\w.-]+").expect("a pattern");
    insta::assert_snapshot!(sealed.replace_all(&api.transcript(calls).await, "<sealed>"));
}

/// As through `secrets.put`: values that the user typed stay, unless the field says that the vendor rotates them.
#[tokio::test]
async fn a_konnector_does_not_replace_what_the_user_typed() {
    let api = Api::new().await;
    for slug in ["bank101", "budget"] {
        api.install(slug, json!({ "accounts": { "type": "io.cozy.accounts" } })).await;
    }
    let doc_ref = api.alice.doc(&KONNECTORS, "io.cozy.konnectors/bank101");
    let mut found = api.platform.raw_store().get(&doc_ref).expect("read").expect("a konnector");
    let fields = json!({
        "login": { "type": "text" }, "pin": { "type": "password" }, "key": { "type": "password", "rotates": true },
    });
    found.body.insert("fields".to_owned(), fields);
    let mut changes = Changes::new();
    changes.put(doc_ref, &found.rev, found.body);
    api.platform.raw_store().commit(changes).await.expect("stored");
    let typed = json!({ "login": "ada", "password": "p4ssword", "pin": "1234", "key": "k3y" });
    let account = json!({ "account_type": "bank101", "shared_with": ["budget"], "auth": typed });
    let created = api.send(TestRequest::post("/data/io.cozy.accounts/").token(&api.token("*")).json(&account)).await;
    assert_eq!(created.status, 201, "{created}");
    let path = format!("/data/io.cozy.accounts/{}", created.json()["id"].as_str().expect("an id"));
    let konnector = api.token_of(Audience::Konnector, "bank101", "");
    let read = async |token: &str| api.send(TestRequest::get(&path).token(token)).await.json();
    let put = async |token: &str, body: &Value| api.send(TestRequest::put(&path).token(token).json(body)).await;
    let before = read(&konnector).await;
    assert_eq!(before["auth"], typed);

    let changed = |change: &dyn Fn(&mut Value)| {
        let mut body = before.clone();
        change(&mut body);
        body
    };
    let without = |name: &'static str| {
        changed(&move |body| drop(body["auth"].as_object_mut().map(|auth| auth.shift_remove(name))))
    };
    let rejected = [
        changed(&|body| body["auth"]["password"] = json!("replaced")),
        changed(&|body| body["auth"]["pin"] = json!("replaced")),
        changed(&|body| body["auth"]["pin"] = Value::Null),
        changed(&|body| body["auth"]["pin"] = json!(1234.5)),
        changed(&|body| body["auth"] = json!({ "login": "ada" })),
        changed(&|body| body["auth"] = json!([])),
        // It would shadow the user's value.
        changed(&|body| body["data"] = json!({ "auth": { "pin": "shadow" } })),
        changed(&|body| body["oauth"] = json!({ "password": "shadow" })),
        without("password"),
        without("pin"),
    ];
    for body in &rejected {
        let response = put(&konnector, body).await;
        assert_eq!(response.status, 403, "{body}: {response}");
        let bulk =
            TestRequest::post("/data/io.cozy.accounts/_bulk_docs").token(&konnector).json(&json!({ "docs": [body] }));
        let bulk = api.send(bulk).await;
        assert!(bulk.text().contains("only the user may set or remove this secret"), "{bulk}");
    }
    assert_eq!(read(&konnector).await, before);
    let response = put(&konnector, &rejected[1]).await;
    assert!(response.text().contains("auth.pin: only the user may set or remove this secret"), "{response}");

    // For a konnector that shares the account, the form of the account's own konnector decides.
    let guest = api.token_of(Audience::Konnector, "budget", "");
    let mut document = read(&guest).await;
    document["auth"]["pin"] = json!("replaced");
    assert_eq!(put(&guest, &document).await.status, 403);

    // Rotating fields, fields without a user's value, and unchanged values may be written.
    let mut body = before.clone();
    body["auth"]["key"] = json!("rotated");
    body["auth"]["login"] = json!("ada@example.org");
    body["oauth"] = json!({ "access_token": "given" });
    let response = put(&konnector, &body).await;
    assert_eq!(response.status, 200, "{response}");
    let mut sealed = read(&api.client_token("io.cozy.accounts").await).await;
    sealed["state"] = json!("sent back sealed");
    let response = put(&konnector, &sealed).await;
    assert_eq!(response.status, 200, "{response}");
    let mut after = read(&konnector).await;
    assert_eq!((&after["auth"]["pin"], &after["auth"]["key"]), (&json!("1234"), &json!("rotated")));
    // The user may replace any value.
    after["auth"]["pin"] = json!("4321");
    let response = put(&api.token("*"), &after).await;
    assert_eq!(response.status, 200, "{response}");
}
