//! OAuth clients: registration, tokens and removal (§1.3 of the behaviour reference).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CONTENT_TYPE, LOCATION};
use konnector_platform::principal::Audience;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::support::{Api, TestRequest, TestResponse};

const REDIRECT_URI: &str = "https://app.example/callback";

fn metadata() -> Value {
    json!({ "redirect_uris": [REDIRECT_URI], "client_name": "An <App>", "software_id": "github.com/example/app", "client_kind": "mobile" })
}

async fn register(api: &Api) -> Value {
    let response = api.send(TestRequest::post("/auth/register").json(&metadata())).await;
    assert_eq!(response.status, 201, "{response}");
    response.json()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().expect(name)
}

async fn session_code(api: &Api) -> String {
    let response = api.send(TestRequest::post("/auth/session_code").token(&api.token("*"))).await;
    assert_eq!(response.status, 201, "{response}");
    text(&response.json(), "session_code").to_owned()
}

/// Returns the fields of an authorization request.
fn authorization_parameters<'a>(client: &'a Value, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        ("client_id", text(client, "client_id")),
        ("redirect_uri", REDIRECT_URI),
        ("response_type", "code"),
        ("state", "a state"),
        ("scope", "io.cozy.bills:GET io.cozy.files"),
    ];
    for (name, value) in more {
        fields.retain(|(own, _)| own != name);
        fields.push((name, value));
    }
    fields
}

fn query(path: &str, fields: &[(&str, &str)]) -> TestRequest {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    TestRequest::get(&format!("{path}?{query}"))
}

/// Returns the code in the redirect URL.
fn code(response: &TestResponse) -> String {
    assert_eq!(response.status, 303, "{response}");
    let back: Url = response.header(LOCATION).parse().expect("an address");
    assert_eq!(back.as_str().split('?').next(), Some(REDIRECT_URI));
    let find = |name: &str| back.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value.into_owned());
    assert_eq!(find("state").as_deref(), Some("a state"));
    assert_eq!(find("code"), find("access_code"));
    find("code").expect("a code")
}

async fn exchange(api: &Api, client: &Value, more: &[(&str, &str)]) -> TestResponse {
    let mut fields = vec![("client_id", text(client, "client_id")), ("client_secret", text(client, "client_secret"))];
    fields.extend(more);
    api.send(TestRequest::post("/auth/access_token").form(&fields)).await
}

#[tokio::test]
async fn p8_a_client_gets_tokens_for_a_code_and_others_for_its_refresh_token() {
    let api = Api::new().await;
    let client = register(&api).await;
    let session = session_code(&api).await;
    let code = code(
        &api.send(query("/auth/authorize", &authorization_parameters(&client, &[("session_code", &session)]))).await,
    );
    let grant = [("grant_type", "authorization_code"), ("code", code.as_str())];
    let tokens = exchange(&api, &client, &grant).await;
    assert_eq!(tokens.status, 200, "{tokens}");
    let tokens = tokens.json();
    assert_eq!(
        (&tokens["token_type"], &tokens["scope"]),
        (&json!("bearer"), &json!("io.cozy.bills:GET io.cozy.files"))
    );
    let reads = async |token: &str| api.send(TestRequest::get("/data/io.cozy.bills/_all_docs").token(token)).await;
    assert_eq!(reads(text(&tokens, "access_token")).await.status, 200);
    // Authorization codes and session codes can be used once.
    let again = exchange(&api, &client, &grant).await;
    assert_eq!((again.status, &again.json()["error"]), (400, &json!("invalid_grant")));
    let reused =
        api.send(query("/auth/authorize", &authorization_parameters(&client, &[("session_code", &session)]))).await;
    assert_eq!(reused.status, 403, "{reused}");

    // Thirty days later.
    api.clock.set("2026-12-20T12:00:00Z".parse().expect("a date"));
    let expired = api.send(TestRequest::get("/permissions/self").token(text(&tokens, "access_token"))).await;
    insta::assert_snapshot!(expired, @r#"
    400 text/plain; charset=utf-8
    www-authenticate: Bearer error="invalid_token" error_description="The access token expired"
    Expired token
    "#);
    let refresh = text(&tokens, "refresh_token");
    let refreshed = exchange(&api, &client, &[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await;
    assert_eq!(refreshed.status, 200, "{refreshed}");
    let refreshed = refreshed.json();
    assert_eq!(refreshed["refresh_token"], Value::Null);
    assert_eq!(reads(text(&refreshed, "access_token")).await.status, 200);
    // Neither of the other two tokens permits requests.
    for other in [refresh, text(&client, "registration_access_token")] {
        assert_eq!(reads(other).await.status, 400);
    }
}

#[tokio::test]
async fn p8_a_removed_client_has_no_tokens_any_more() {
    let api = Api::new().await;
    let client = register(&api).await;
    let token = api.token_of(Audience::Access, text(&client, "client_id"), "*");
    let refresh = api.token_of(Audience::Refresh, text(&client, "client_id"), "*");
    let path = format!("/auth/register/{}", text(&client, "client_id"));
    let registration = text(&client, "registration_access_token");
    assert_eq!(api.send(TestRequest::delete(&path).token(&token)).await.status, 401);
    assert_eq!(api.send(TestRequest::delete(&path)).await.status, 401);
    assert_eq!(api.send(TestRequest::delete(&path).token(registration)).await.status, 204);
    insta::assert_snapshot!(api.send(TestRequest::get("/permissions/self").token(&token)).await, @r#"
    400 text/plain; charset=utf-8
    www-authenticate: Bearer error="invalid_token"
    Invalid JWT token
    "#);
    let refreshed = exchange(&api, &client, &[("grant_type", "refresh_token"), ("refresh_token", &refresh)]).await;
    assert_eq!((refreshed.status, &refreshed.json()["error"]), (400, &json!("invalid_client")));
    let deleted = api.send(TestRequest::get(&path).token(registration)).await;
    assert!(deleted.status == 404 && deleted.text().contains("Client not found"), "{deleted}");
}

#[tokio::test]
async fn the_owner_is_asked_on_a_page() {
    let api = Api::new().await;
    let client = register(&api).await;
    let page =
        api.send(query("/auth/authorize", &authorization_parameters(&client, &[("state", "\"><script>")]))).await;
    assert_eq!((page.status, page.header(CONTENT_TYPE)), (200, "text/html; charset=utf-8"));
    assert!(page.text().contains("<li><code>io.cozy.files</code></li>"), "{page}");
    assert!(!page.text().contains("<script>") && !page.text().contains("<App>"), "{page}");
    let session = session_code(&api).await;
    let rejected = api
        .send(
            TestRequest::post("/auth/authorize").form(&authorization_parameters(&client, &[("session_code", "guess")])),
        )
        .await;
    assert_eq!(rejected.status, 403);
    let approved = api
        .send(
            TestRequest::post("/auth/authorize")
                .form(&authorization_parameters(&client, &[("session_code", &session)])),
        )
        .await;
    let code = code(&approved);
    assert_eq!(exchange(&api, &client, &[("grant_type", "authorization_code"), ("code", &code)]).await.status, 200);
}

#[tokio::test]
async fn only_registered_redirect_uris_are_used() {
    let api = Api::new().await;
    let client = register(&api).await;
    for (name, value) in [
        ("client_id", "unknown"),
        ("redirect_uri", "https://evil.example/"),
        ("redirect_uri", "https://app.example/callback/"),
        ("response_type", "token"),
        ("state", ""),
        ("scope", ""),
        ("scope", "io.cozy.bills:FETCH"),
    ] {
        let session = session_code(&api).await;
        let response = api
            .send(query(
                "/auth/authorize",
                &authorization_parameters(&client, &[(name, value), ("session_code", &session)]),
            ))
            .await;
        assert_eq!((response.status, response.header(LOCATION)), (400, ""), "{name}={value}");
    }
}

#[tokio::test]
async fn a_code_belongs_to_its_client_and_to_who_began() {
    let api = Api::new().await;
    let (client, other) = (register(&api).await, register(&api).await);
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest("verifier"));
    let authorize = async || {
        let session = session_code(&api).await;
        let more =
            [("session_code", session.as_str()), ("code_challenge", &challenge), ("code_challenge_method", "S256")];
        code(&api.send(query("/auth/authorize", &authorization_parameters(&client, &more))).await)
    };
    for (redeemer, verifier, status) in
        [(&other, "verifier", 400), (&client, "guess", 400), (&client, "", 400), (&client, "verifier", 200)]
    {
        let code = authorize().await;
        let more = [("grant_type", "authorization_code"), ("code", &*code), ("code_verifier", verifier)];
        assert_eq!(exchange(&api, redeemer, &more).await.status, status, "{verifier}");
    }
    let code = authorize().await;
    api.clock.set("2026-11-20T12:06:00Z".parse().expect("a date"));
    let more = [("grant_type", "authorization_code"), ("code", &*code), ("code_verifier", "verifier")];
    assert_eq!(exchange(&api, &client, &more).await.status, 400);
    let unsupported = exchange(&api, &client, &[("grant_type", "password")]).await;
    assert_eq!((unsupported.status, &unsupported.json()["error"]), (400, &json!("unsupported_grant_type")));
    let mut wrong = client.clone();
    wrong["client_secret"] = json!("guess");
    assert_eq!(exchange(&api, &wrong, &more).await.json()["error"], "invalid_client");
}

#[tokio::test]
async fn an_incomplete_request_of_a_client_gets_the_names_of_rfc_6749() {
    let api = Api::new().await;
    let client = register(&api).await;
    let id = text(&client, "client_id");
    let long = "x".repeat(20_000);
    let cases: [(&[(&str, &str)], &str); 10] = [
        (&[], "invalid_request"),
        (&[("client_id", id)], "invalid_request"),
        (&[("grant_type", "foo")], "unsupported_grant_type"),
        (&[("grant_type", "authorization_code"), ("code", "x")], "invalid_request"),
        (&[("grant_type", "authorization_code"), ("client_id", id)], "invalid_request"),
        (&[("grant_type", "refresh_token"), ("client_id", id)], "invalid_request"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "x"), ("client_id", id)], "invalid_client"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "x"), ("client_id", "_a")], "invalid_client"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "x"), ("client_id", "\u{0}")], "invalid_client"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "x"), ("client_id", &*long)], "invalid_client"),
    ];
    for (form, error) in cases {
        let response = api.send(TestRequest::post("/auth/access_token").form(form)).await;
        assert_eq!((response.status, &response.json()["error"]), (400, &json!(error)), "{form:?}: {response}");
    }
    let page = api.send(TestRequest::get("/auth/authorize")).await;
    assert!(page.status == 400 && page.text().contains("client_id: the parameter is missing"), "{page}");
    let page = api.send(query("/auth/authorize", &authorization_parameters(&client, &[("client_id", "\u{0}")]))).await;
    assert!(page.status == 400 && page.text().contains("client_id: no client has the id"), "{page}");
}

#[tokio::test]
async fn a_registration_is_read_and_changed_by_its_client() {
    let api = Api::new().await;
    let client = register(&api).await;
    let path = format!("/auth/register/{}", text(&client, "client_id"));
    let token = text(&client, "registration_access_token");
    let read = api.send(TestRequest::get(&path).token(token)).await.json();
    assert_eq!((&read["client_name"], &read["client_secret"]), (&json!("An <App>"), &Value::Null));
    let other = register(&api).await;
    let foreign = text(&other, "registration_access_token");
    let rejected = api.send(TestRequest::get(&path).token(foreign)).await;
    assert_eq!((rejected.status, &rejected.json()["error"]), (401, &json!("invalid_token")));

    let mut changed = metadata();
    changed["client_name"] = json!("Another");
    changed["client_id"] = client["client_id"].clone();
    let put = async |body: &Value| api.send(TestRequest::put(&path).token(token).json(body)).await;
    let updated = put(&changed).await.json();
    assert_eq!((&updated["client_name"], &updated["client_secret"]), (&json!("Another"), &Value::Null));
    changed["client_secret"] = client["client_secret"].clone();
    let rotated = put(&changed).await.json();
    assert_ne!(text(&rotated, "client_secret"), text(&client, "client_secret"));
    assert_eq!(put(&changed).await.json()["error"], "invalid_client_secret");

    for (name, value, error) in [
        ("redirect_uris", json!([]), "invalid_redirect_uri"),
        ("redirect_uris", json!(["/relative"]), "invalid_redirect_uri"),
        ("redirect_uris", json!(["https://a.example/#fragment"]), "invalid_redirect_uri"),
        ("redirect_uris", json!(["javascript:alert(1)"]), "invalid_redirect_uri"),
        ("client_name", json!(""), "invalid_client_metadata"),
        ("software_id", Value::Null, "invalid_client_metadata"),
        ("logo_uri", json!(7), "invalid_client_metadata"),
    ] {
        let mut wrong = metadata();
        wrong[name] = value;
        let response = api.send(TestRequest::post("/auth/register").json(&wrong)).await;
        assert_eq!((response.status, &response.json()["error"]), (400, &json!(error)), "{wrong}");
    }
}

#[tokio::test]
async fn only_the_owner_gets_session_codes_and_tokens_of_konnectors() {
    let api = Api::new().await;
    for path in ["/auth/session_code", "/auth/tokens/konnectors/bank"] {
        assert_eq!(api.send(TestRequest::post(path)).await.status, 401);
        assert_eq!(api.send(TestRequest::post(path).token(&api.token("io.cozy.files"))).await.status, 403);
    }
    let token = api.send(TestRequest::post("/auth/tokens/konnectors/bank").token(&api.client_token("*").await)).await;
    assert_eq!(token.status, 201);
    let own =
        api.send(TestRequest::get("/permissions/self").token(token.json().as_str().expect("a token"))).await.json();
    assert_eq!(own["data"]["attributes"]["source_id"], "io.cozy.konnectors/bank");
    assert_eq!(api.send(TestRequest::post("/auth/tokens/konnectors/none").token(&api.token("*"))).await.status, 404);
}

#[tokio::test]
async fn the_owner_lists_and_removes_clients() {
    let api = Api::new().await;
    let client = register(&api).await;
    let list = api.send(TestRequest::get("/settings/clients").token(&api.token("io.cozy.oauth.clients"))).await;
    assert_eq!(list.json()["data"][0]["attributes"]["client_name"], "An <App>");
    assert!(!list.text().contains("secret"), "{list}");
    let path = format!("/settings/clients/{}", text(&client, "client_id"));
    assert_eq!(api.send(TestRequest::delete(&path).token(&api.token("io.cozy.oauth.clients:GET"))).await.status, 403);
    assert_eq!(api.send(TestRequest::delete(&path).token(&api.token("io.cozy.oauth.clients"))).await.status, 204);
    assert_eq!(api.send(TestRequest::delete(&path).token(&api.token("io.cozy.oauth.clients"))).await.status, 404);
}
