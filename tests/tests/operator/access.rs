//! Account types and accounts by OAuth, OAuth clients, session codes and tokens.

use konnector_tests::recorder::RecordingServer;
use konnector_tests::server::{TestServer, reqwest_client};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use url::Url;

use crate::{run_error, run_ok};

/// A browser that does not follow redirects but shows them.
fn browser() -> Client {
    // The library requires a default cryptography provider.
    drop(reqwest_client());
    Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client")
}

/// The target of a redirect.
async fn redirect_target(request: RequestBuilder) -> Url {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    let location = response.headers().get("location").map(|location| location.to_str().expect("text").to_owned());
    let text = response.text().await.expect("a text");
    assert_eq!(status, 303, "{text}");
    location.expect("a place").parse().expect("an address")
}

fn param(url: &Url, name: &str) -> String {
    let found = url.query_pairs().find(|(own, _)| own == name);
    found.map(|(_, value)| value.into_owned()).unwrap_or_else(|| panic!("{url} has no {name}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

#[tokio::test]
async fn an_account_is_connected_from_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    let server = TestServer::start(data);
    let provider = RecordingServer::start(|form| match form.contains("code=the-code") {
        true => {
            (200, r#"{"access_token":"access-1","refresh_token":"refresh-1","token_type":"Bearer","expires_in":3600}"#)
        }
        false => (400, r#"{"error":"invalid_grant"}"#),
    });
    let file = data.join("bank101.json").display().to_string();
    let kind = json!({
        "grant_mode": "authorization_code", "client_id": "me", "client_secret": "s3cret",
        "auth_endpoint": format!("{}/login", provider.url), "token_endpoint": format!("{}/token", provider.url),
    });
    std::fs::write(&file, kind.to_string()).expect("written");
    assert_eq!(run_ok(data, &["account-types", "ls"]), json!([]));
    run_ok(data, &["account-types", "set", "bank101", &file]);
    let listed = run_ok(data, &["account-types", "ls"]);
    assert_eq!((&listed[0]["id"], &listed[0]["secrets"]), (&json!("bank101"), &json!(["client_secret"])));
    assert!(!listed.to_string().contains("s3cret"), "{listed}");
    assert_eq!(run_ok(data, &["account-types", "show", "bank101"]), listed[0]);

    let address = text(&run_ok(data, &["accounts", "connect", "bank101", "--scope", "bills"])["address"]);
    let browser = browser();
    let login = redirect_target(browser.get(&address)).await;
    assert!(login.as_str().starts_with(&format!("{}/login?", provider.url)), "{login}");
    assert_eq!((param(&login, "client_id"), param(&login, "scope")), ("me".to_owned(), "bills".to_owned()));
    let back = Url::parse_with_params(
        &param(&login, "redirect_uri"),
        [("code", "the-code"), ("state", &param(&login, "state"))],
    )
    .expect("an address");
    let home = redirect_target(browser.get(back.clone())).await;
    let account = param(&home, "account");
    let requests = provider.take_requests();
    assert!(requests.len() == 1 && requests[0].contains("client_secret=s3cret"), "{requests:?}");

    let accounts = run_ok(data, &["accounts", "ls", "bank101"]);
    assert_eq!((accounts.as_array().expect("a list").len(), &accounts[0]["_id"]), (1, &json!(account)));
    let output = run_ok(data, &["accounts", "show", &account]).to_string();
    assert!(!output.contains("access-1") && !output.contains("refresh-1"), "{output}");
    // The URL was valid only once.
    let response = browser.get(&address).send().await.expect("an answer");
    assert_eq!(response.status(), 403);

    run_ok(data, &["account-types", "rm", "bank101"]);
    std::fs::write(&file, "{ \"grant_mode\": \"password\" }").expect("written");
    let empty = data.join("empty.json").display().to_string();
    std::fs::write(&empty, "{ \"grant_mode\": \"authorization_code\", }").expect("written");
    let refusals = [
        run_error(data, &["accounts", "connect", "bank101"]),
        run_error(data, &["account-types", "show", "bank101"]),
        run_error(data, &["account-types", "rm", "bank101"]),
        run_error(data, &["account-types", "set", "Bank 101", &file]),
        run_error(data, &["account-types", "set", "bank101", &file]),
        run_error(data, &["account-types", "set", "bank101", &empty]),
        run_error(data, &["account-types", "set", "bank101", &data.join("absent").display().to_string()]),
    ];
    insta::assert_snapshot!(refusals.join("\n").replace(&data.display().to_string(), "DATA"), @r"
    1 there is no account type 'bank101'; the operator sets one up with `konnector account-types set`
    1 there is no account type 'bank101'; the operator sets one up with `konnector account-types set`
    1 there is no account type 'bank101'; the operator sets one up with `konnector account-types set`
    1 'Bank 101' is not a valid name of an account type; use up to 100 characters from a-z, 0-9, -, _ and .
    1 the account type is not valid: unknown variant `password`, expected one of `authorization_code`, `token`, `token_redirect_url`, `bi_webauth`, `bi_webview`, `secret`, `authorization_code+secret`, `bi_webauth+secret`, `bi_webview+secret`
    2 DATA/empty.json is not valid JSON: trailing comma at line 1 column 39 → see `konnector account-types set --help`
    1 cannot read DATA/absent: No such file or directory (os error 2) → check the path
    ");
    drop(server);
}

#[tokio::test]
async fn a_program_gets_its_tokens_by_a_session_code_or_from_the_operator() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    let server = TestServer::start(data);
    let domain = server.client().await.domain;
    let callback = "https://notes.example.com/callback";
    let client = run_ok(data, &["instances", "oauth-client", &domain, "Notes", "--redirect-uri", callback]);
    let (id, secret) = (text(&client["client_id"]), text(&client["client_secret"]));
    let files = async |token: &str| {
        let request = reqwest_client().get(format!("{}/files/io.cozy.files.root-dir", server.url)).bearer_auth(token);
        request.send().await.expect("an answer").status().as_u16()
    };
    let bills = async |token: &str| {
        let request = reqwest_client().get(format!("{}/data/io.cozy.bills/x", server.url)).bearer_auth(token);
        request.send().await.expect("an answer").status().as_u16()
    };
    let exchange = async |more: [(&str, &str); 2]| -> Value {
        let form = [("client_id", id.as_str()), ("client_secret", &secret)];
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).extend_pairs(more).finish();
        let request = reqwest_client().post(format!("{}/auth/access_token", server.url)).body(body);
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        let body = request.send().await.expect("an answer").text().await.expect("a text");
        serde_json::from_str(&body).expect("JSON")
    };

    // The owner's consent, given by the session code.
    let code = text(&run_ok(data, &["instances", "session-code", &domain])["session_code"]);
    let query = [
        ("client_id", id.as_str()),
        ("redirect_uri", callback),
        ("response_type", "code"),
        ("state", "mine"),
        ("scope", "io.cozy.files:GET"),
        ("session_code", &code),
    ];
    let address = Url::parse_with_params(&format!("{}/auth/authorize", server.url), query).expect("an address");
    let back = redirect_target(browser().get(address.clone())).await;
    assert!(back.as_str().starts_with(callback) && param(&back, "state") == "mine", "{back}");
    let tokens = exchange([("grant_type", "authorization_code"), ("code", &param(&back, "code"))]).await;
    let access = text(&tokens["access_token"]);
    assert_eq!((files(&access).await, bills(&access).await), (200, 403));
    assert_eq!(browser().get(address).send().await.expect("an answer").status(), 403, "a session code is good once");

    // Without a browser.
    let token = |audience: &str, scope: &str| {
        let arguments = ["instances", "token", &domain, "--audience", audience, "--subject", &id, "--scope", scope];
        text(&run_ok(data, &arguments)["token"])
    };
    let access = token("access", "io.cozy.files:GET");
    assert_eq!((files(&access).await, bills(&access).await), (200, 403));
    let refresh = token("refresh", "io.cozy.bills:GET");
    assert_eq!(files(&refresh).await, 400, "a refresh token is good for nothing else");
    let refreshed = exchange([("grant_type", "refresh_token"), ("refresh_token", &refresh)]).await;
    let refreshed = text(&refreshed["access_token"]);
    assert_eq!((files(&refreshed).await, bills(&refreshed).await), (403, 404));

    // They expire with the client.
    let registration = format!("{}/settings/clients/{id}", server.url);
    let owner = server.client().await;
    let removed = reqwest_client().delete(registration).bearer_auth(&owner.token).send().await.expect("an answer");
    assert_eq!(removed.status(), 204);
    assert_eq!((files(&access).await, files(&refreshed).await), (400, 400));

    let client =
        |address: &str| run_error(data, &["instances", "oauth-client", &domain, "Notes", "--redirect-uri", address]);
    let token = |audience: &str, scope: &str| {
        run_error(
            data,
            &["instances", "token", &domain, "--audience", audience, "--subject", "Notes", "--scope", scope],
        )
    };
    let refusals = [
        client("notes.example.com"),
        client("https://notes.example.com/#top"),
        token("access", "io.cozy.files"),
        token("refresh", "io.cozy.files"),
        token("app", ""),
        token("cli", "Files"),
        run_error(data, &["instances", "session-code", "elsewhere.example"]),
        run_error(data, &["instances", "token", "elsewhere.example", "--scope", "*"]),
    ];
    let refusals = refusals.join("\n").replace(&domain, "DOMAIN").replace(&data.display().to_string(), "DATA");
    insta::assert_snapshot!(refusals, @r#"
    1 "notes.example.com" is not a valid redirect URI; use for example https://notes.example.com/callback, without #
    1 "https://notes.example.com/#top" is not a valid redirect URI; use for example https://notes.example.com/callback, without #
    1 Subject: 'Notes' is not an OAuth client of DOMAIN; register one with `konnector instances oauth-client`
    1 Subject: 'Notes' is not an OAuth client of DOMAIN; register one with `konnector instances oauth-client`
    1 "" is not a valid scope: it names no doctype; write one, as in "io.cozy.files"; use for example "io.cozy.files io.cozy.bills:GET", or * for everything
    1 "Files" is not a valid scope: "Files" is not a doctype that a rule can name: it contains a character other than a-z, 0-9, "_" and "."; use for example "io.cozy.files io.cozy.bills:GET", or * for everything
    1 no instance has the domain 'elsewhere.example' → list the instances: konnector --data-dir DATA instances ls
    1 no instance has the domain 'elsewhere.example' → list the instances: konnector --data-dir DATA instances ls
    "#);
}
