//! Tests the account's cookies.

use konnector_egress::{Request, Session};

use super::fixture::{Fixture, get, text};
use super::server::{Server, ok, response};

async fn vendor() -> Server {
    Server::start(|request| match request.target.as_str() {
        "/login" => response(
            200,
            &[("Set-Cookie", "sid=secret; Path=/; HttpOnly"), ("Set-Cookie", "theme=dark; Max-Age=60")],
            "",
        ),
        "/logout" => {
            response(200, &[("Set-Cookie", "sid=; Path=/; Max-Age=0"), ("Set-Cookie", "theme=; Max-Age=0")], "")
        }
        _ => ok(request.header("cookie").unwrap_or("none")),
    })
    .await
}

async fn shown(session: &Session, url: String) -> String {
    text(&get(session, url).await.unwrap()).to_owned()
}

#[tokio::test]
async fn a_login_lasts_beyond_the_run() {
    let server = vendor().await;
    let mut fixture = Fixture::new().allow(server.url("a.example", "")).allow(server.url("b.example", ""));
    let session = fixture.session();
    assert_eq!(session.cookies(), None);
    get(&session, server.url("a.example", "/login")).await.unwrap();

    fixture.cookies = session.cookies();
    let next = fixture.session();
    let cookies = shown(&next, server.url("a.example", "/")).await;
    assert!(cookies.contains("sid=secret") && cookies.contains("theme=dark"), "{cookies}");
    assert_eq!(shown(&next, server.url("b.example", "/")).await, "none");

    get(&next, server.url("a.example", "/logout")).await.unwrap();
    assert_eq!(next.cookies(), None);
    assert_eq!(shown(&next, server.url("a.example", "/")).await, "none");
}

#[tokio::test]
async fn accounts_do_not_share_and_a_session_can_be_forgotten() {
    let server = vendor().await;
    let fixture = Fixture::new().allow(server.url("a.example", ""));
    let gate = fixture.gate();
    let (one, two) = (fixture.session_of(&gate), fixture.session_of(&gate));
    get(&one, server.url("a.example", "/login")).await.unwrap();
    assert_eq!(shown(&two, server.url("a.example", "/")).await, "none");
    one.clear_cookies();
    assert_eq!(shown(&one, server.url("a.example", "/")).await, "none");
}

#[tokio::test]
async fn the_guests_own_cookies_are_added() {
    let server = vendor().await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    get(&session, server.url("a.example", "/login")).await.unwrap();
    let request = Request::get(server.url("a.example", "/")).header("Cookie", "mine=1; theme=light");
    let cookies = text(&session.send(request).await.unwrap()).to_owned();
    assert_eq!(cookies, "sid=secret; mine=1; theme=light");
}

#[tokio::test]
async fn the_guest_sees_and_sets_the_cookies_of_named_hosts() {
    let server = vendor().await;
    let session = Fixture::new().allow(server.url("a.example", "")).secret("password", "hunter22").session();
    let home = server.url("a.example", "/");
    get(&session, server.url("a.example", "/login")).await.unwrap();
    session.set_cookie(&home, "consent=yes; Path=/").unwrap();
    let mut cookies = session.cookies_for(&home).unwrap();
    cookies.sort();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(cookies, [pair("consent", "yes"), pair("sid", "secret"), pair("theme", "dark")]);
    assert!(shown(&session, home.clone()).await.contains("consent=yes"));

    let errors = [
        session.set_cookie(&home, "a=b; Domain=elsewhere.example").unwrap_err(),
        session.set_cookie(&home, "two\nlines").unwrap_err(),
        session.set_cookie("https://elsewhere.example/", "a=b").unwrap_err(),
        session.cookies_for("https://elsewhere.example/").unwrap_err(),
        session.cookies_for("elsewhere").unwrap_err(),
    ];
    insta::assert_snapshot!(errors.map(|error| error.to_string()).join("\n"), @r#"
    a.example may not set this cookie; see RFC 6265
    a.example may not set this cookie; see RFC 6265
    the manifest has no rule for GET on https://elsewhere.example; add to "permissions": "vendor": { "type": "http", "verbs": ["GET"], "values": ["https://elsewhere.example"] }
    the manifest has no rule for GET on https://elsewhere.example; add to "permissions": "vendor": { "type": "http", "verbs": ["GET"], "values": ["https://elsewhere.example"] }
    url: relative URL without a base
    "#);
}

/// Reads a cookie jar from run to run: the guest's own cookies are returned unchanged, and cookies that a vendor set
/// after it received a secret do not reveal the secret.
#[tokio::test]
async fn a_cookie_reveals_no_guess() {
    let server = Server::start(|request| {
        let value = request.body.trim_start_matches("p=");
        response(200, &[("Set-Cookie", &format!("echo={value}; Path=/"))], "")
    })
    .await;
    let home = server.url("a.example", "/");
    let mut fixture = Fixture::new().allow(server.url("a.example", "")).secret("password", "hunter22");
    let placeholder = fixture.secrets.placeholder("password").unwrap();
    let session = fixture.session();
    let form = |body: &str| Request::post(home.clone(), "application/x-www-form-urlencoded", body.to_owned());
    let pair = |value: &str| vec![("echo".to_owned(), value.to_owned())];
    for guess in ["hunter22", "hunter23", "aHVudGVyMjI=", "%68unter22", "x.hunter22.hunter23"] {
        session.set_cookie(&home, &format!("echo={guess}; Path=/")).unwrap();
        assert_eq!(session.cookies_for(&home).unwrap(), pair(guess));
        // A vendor repeats the guest's input of a request without a secret.
        session.send(form(&format!("p={guess}"))).await.unwrap();
        assert_eq!(session.cookies_for(&home).unwrap(), pair(guess));
    }
    session.set_cookie(&home, "echo=1; Path=/").unwrap();
    session.send(form(&format!("p={placeholder}"))).await.unwrap();
    assert_eq!(session.cookies_for(&home).unwrap(), pair(&placeholder));
    // The response to a request that carries such a cookie may repeat it.
    fixture.cookies = session.cookies();
    let session = fixture.session();
    assert_eq!(session.cookies_for(&home).unwrap(), pair(&placeholder));
    session.set_cookie(&home, "echo=hunter22; Path=/").unwrap();
    assert_eq!(session.cookies_for(&home).unwrap(), pair("hunter22"));
}

#[tokio::test]
async fn a_cookie_that_holds_a_secret_counts_as_one() {
    let server = Server::start(|request| match request.body.strip_prefix("p=") {
        Some(value) => response(200, &[("Set-Cookie", &format!("echo={value}; Path=/"))], ""),
        None => ok(request.header("cookie").unwrap_or_default()),
    })
    .await;
    let home = server.url("a.example", "/");
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("password", "hunter22");
    let placeholder = fixture.secrets.placeholder("password").unwrap();
    let session = fixture.session();
    let form = Request::post(home.clone(), "application/x-www-form-urlencoded", format!("p={placeholder}"));
    session.send(form).await.unwrap();
    assert_eq!(shown(&session, home.clone()).await, format!("echo={placeholder}"));
    session.set_cookie(&home, "echo=hunter22; Path=/").unwrap();
    assert_eq!(shown(&session, home).await, "echo=hunter22");
}
