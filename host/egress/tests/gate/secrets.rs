//! Tests that secrets reach only the hosts that the manifest names.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use konnector_egress::{BodyFormat, HttpError, Request};

use super::fixture::{Fixture, get, record, text};
use super::server::{ResponseStep, Server, ok, raw, redirect, response};

const FORM: &str = "application/x-www-form-urlencoded";

const VALUE: &str = "p\u{e4}ss&w\"ord";

fn fixture(server: &Server) -> (Fixture, String) {
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("password", VALUE);
    let placeholder = fixture.secrets.placeholder("password").unwrap();
    (fixture, placeholder)
}

#[tokio::test]
async fn the_vendor_reads_the_value() {
    let server = Server::start(|_| ok("")).await;
    let (fixture, placeholder) = fixture(&server);
    let session = fixture.session();
    let url = || server.url("a.example", "/");

    let form = Request::post(url(), "application/x-www-form-urlencoded", format!("u=me&p={placeholder}"));
    session.send(form).await.unwrap();
    assert_eq!(server.last_request().body, "u=me&p=p%C3%A4ss%26w%22ord");

    session.send(Request::post(url(), "application/json", format!(r#"{{"p":"{placeholder}"}}"#))).await.unwrap();
    assert_eq!(server.last_request().body, "{\"p\":\"p\u{e4}ss&w\\\"ord\"}");

    let basic = format!("Basic {}", STANDARD.encode(format!("me:{placeholder}")));
    session.send(Request::get(url()).header("Authorization", &basic)).await.unwrap();
    let sent = server.last_request().header("authorization").unwrap().to_owned();
    assert_eq!(sent, format!("Basic {}", STANDARD.encode(format!("me:{VALUE}"))));
    assert!(session.secrets().mask(&sent).contains("[masked]"));
}

#[tokio::test]
async fn nobody_else_does() {
    let (server, other) = (Server::start(|_| ok("")).await, Server::start(|_| ok("")).await);
    let (fixture, placeholder) = fixture(&server);
    let session = fixture.session();
    let form =
        Request::post(other.url("b.example", "/"), "application/x-www-form-urlencoded", format!("p={placeholder}"));
    assert!(matches!(session.send(form).await, Err(HttpError::Denied(_))));
    let in_url = get(&session, server.url("a.example", &format!("/?p={placeholder}"))).await;
    assert!(matches!(in_url, Err(HttpError::Invalid(_))), "{in_url:?}");
    assert_eq!((server.connections(), other.connections()), (0, 0));
}

#[tokio::test]
async fn a_redirect_carries_it_only_to_a_named_host() {
    let other = Server::start(|_| ok("")).await;
    let location = other.url("b.example", "/");
    let server = Server::start(move |_| redirect(307, &location)).await;
    let (fixture, placeholder) = fixture(&server);
    let form =
        || Request::post(server.url("a.example", "/"), "application/x-www-form-urlencoded", format!("p={placeholder}"));
    assert!(matches!(fixture.session().send(form()).await, Err(HttpError::Denied(_))));
    assert_eq!(other.connections(), 0);

    let session = fixture.allow(other.url("b.example", "")).session();
    session.send(form().header("X-Key", &format!("k {placeholder}"))).await.unwrap();
    let request = other.last_request();
    assert_eq!((request.body.as_str(), request.header("x-key")), ("p=p%C3%A4ss%26w%22ord", None));
    assert!(server.last_request().header("x-key").is_some());
}

/// An error that masked the guest's text would reveal which of its guesses are right.
#[tokio::test]
async fn error_texts_repeat_what_the_guest_wrote() {
    let server = Server::start(|_| ok("")).await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("token", "tokenvalue");
    let session = fixture.session();
    for guess in ["tokenvalue", "tokenvaluf"] {
        for request in [
            get(&session, format!("http://{guess}.example/")).await,
            get(&session, format!("{guess}://x")).await,
            session.send(Request::get(server.url("a.example", "/")).header(&format!("{guess} x"), "1")).await,
            session.send(Request { method: "CONNECT".to_owned(), ..Request::get(format!("http://{guess}/")) }).await,
        ] {
            let text = request.unwrap_err().to_string();
            assert!(text.contains(guess) || !text.contains("[masked]"), "{text}");
        }
        let text = session.set_cookie(&format!("https://{guess}.example/"), "a=b").unwrap_err().to_string();
        assert!(text.contains(guess), "{text}");
    }
}

#[tokio::test]
async fn errors_after_a_redirect_show_no_secret() {
    let server = Server::start(|request| {
        let sent = request.body.trim_start_matches("p=");
        redirect(303, &request.target.trim_start_matches("/?").replace('@', sent))
    })
    .await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("password", "Hunter22secret");
    let placeholder = fixture.secrets.placeholder("password").unwrap();
    let session = fixture.session();
    for location in ["http://@.example/", "http://www.example/@", "@://x", "http://@/", "http://x:@@a/"] {
        let url = server.url("a.example", &format!("/?{location}"));
        let form = Request::post(url, "application/x-www-form-urlencoded", format!("p={placeholder}"));
        let text = session.send(form).await.unwrap_err().to_string();
        assert!(!text.to_lowercase().contains("unter22"), "{location}: {text}");
    }
}

/// A page that shows the guest's text next to the password shows it unchanged, whether or not it equals the password.
#[tokio::test]
async fn a_guess_next_to_the_secret_is_echoed_unchanged() {
    let server = Server::start(|request| {
        let query = request.body.split('&').find_map(|field| field.strip_prefix("q=")).unwrap_or_default();
        response(200, &[("Content-Type", "text/html"), ("X-Query", query)], format!("<p>{query}</p>"))
    })
    .await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("pin", "471100");
    let placeholder = fixture.secrets.placeholder("pin").unwrap();
    let session = fixture.session();
    for guess in ["471100", "471101", "%34%37%31%31%30%30", "000000.471100.000001", "NDcxMTAw"] {
        let body = format!("q={guess}&p={placeholder}");
        let form = Request::post(server.url("a.example", "/"), "application/x-www-form-urlencoded", body);
        let response = session.send(form).await.unwrap();
        assert_eq!(text(&response), format!("<p>{guess}</p>"));
        assert!(response.headers.contains(&("x-query".to_owned(), guess.to_owned())));
    }
}

/// The same for a guess that is sent as a secret of the guest, or as a cookie.
#[tokio::test]
async fn a_guess_in_a_secret_or_a_cookie_is_echoed_unchanged() {
    let server = Server::start(|request| {
        let own = request.body.split('&').find_map(|field| field.strip_prefix("q=")).unwrap_or_default();
        ok(&format!("<p>{own}</p>{}", request.header("cookie").unwrap_or_default()))
    })
    .await;
    for guess in ["471100", "471101", "000000.471100.000001"] {
        let fixture = Fixture::new().allow(server.url("a.example", "")).secret("pin", "471100");
        let (session, url) = (fixture.session(), server.url("a.example", "/"));
        let placeholder = fixture.secrets.placeholder("pin").unwrap();
        session.set_cookie(&url, &format!("c={guess}; Path=/")).unwrap();
        let form = |body: String| Request::post(url.clone(), "application/x-www-form-urlencoded", body);
        let response = session.send(form(format!("p={placeholder}"))).await.unwrap();
        assert_eq!(text(&response), format!("<p></p>c={guess}"));

        session.secrets().put("own", guess).unwrap();
        let own = session.secrets().placeholder("own").unwrap();
        session.set_cookie(&url, "c=1; Path=/").unwrap();
        let response = session.send(form(format!("q={own}&p={placeholder}"))).await.unwrap();
        assert_eq!(text(&response), format!("<p>{own}</p>c=1"), "{guess}");
        session.secrets().put("own", "something else").unwrap();
        let response = session.send(form(format!("q={own}&p={placeholder}"))).await.unwrap();
        assert_eq!(text(&response), format!("<p>{own}</p>c=1"), "{guess}");
    }
}

/// A cookie that is sent only to the target of a redirect reveals no more than one that is sent to the first URL.
#[tokio::test]
async fn a_guess_in_a_cookie_after_a_redirect_is_echoed_unchanged() {
    for status in [302, 303, 307] {
        let server = Server::start(move |request| match request.target.as_str() {
            "/dump" => ok(&format!("<p>{}</p>", request.header("cookie").unwrap_or_default())),
            _ => redirect(status, "/dump"),
        })
        .await;
        for guess in ["471100", "471101", "000000.471100.000001"] {
            let fixture = Fixture::new().allow(server.url("a.example", "")).secret("pin", "471100");
            let placeholder = fixture.secrets.placeholder("pin").unwrap();
            let session = fixture.session();
            session.set_cookie(&server.url("a.example", "/dump"), &format!("g={guess}; Path=/dump")).unwrap();
            let form = || Request::post(server.url("a.example", "/x"), FORM, format!("p={placeholder}"));
            assert_eq!(text(&session.send(form()).await.unwrap()), format!("<p>g={guess}</p>"), "{status}");
            let mut stream = session.open(form()).await.unwrap();
            let mut body = Vec::new();
            while let Some(part) = stream.chunk().await.unwrap() {
                body.extend(part);
            }
            assert_eq!(String::from_utf8_lossy(&body), format!("<p>g={guess}</p>"), "{status}");
        }
    }
}

/// A vendor that echoes the PIN, and only the PIN, reveals with each response whether it is among the guest's digits.
#[tokio::test]
async fn guesses_next_to_an_echoed_secret_are_limited() {
    let server = Server::start(|request| {
        let field = |name: &str| request.body.split('&').find_map(|field| field.strip_prefix(name)).unwrap_or_default();
        match request.target.as_str() {
            "/page" => ok(&format!("<p>{}</p>", field("p="))),
            "/header" => response(200, &[("X-Pin", field("p="))], ""),
            "/cookie" => response(200, &[("Set-Cookie", &format!("pin={}; Path=/", field("p=")))], ""),
            "/redirect" => redirect(303, &format!("/?{}", field("p="))),
            "/own" => ok(field("q=")),
            _ => ok(""),
        }
    })
    .await;
    for path in ["/page", "/header", "/cookie", "/redirect"] {
        let fixture = Fixture::new().allow(server.url("a.example", "")).secret("pin", "471100");
        let (gate, placeholder) = (fixture.gate(), fixture.secrets.placeholder("pin").unwrap());
        let digits = "0123456789".repeat(1_600);
        let form = |target: &str, guess: &str| {
            let body = format!("p={placeholder}&q={guess}");
            Request::post(server.url("a.example", target), "application/x-www-form-urlencoded", body)
        };
        // A response without a secret is free, regardless of its content.
        for guess in ["471100", digits.as_str()] {
            for _ in 0..10 {
                fixture.session_of(&gate).send(form("/own", guess)).await.unwrap();
            }
        }
        for _ in 0..4 {
            fixture.session_of(&gate).send(form("/own", "471100")).await.unwrap();
            fixture.session_of(&gate).send(form(path, &digits)).await.unwrap();
        }
        fixture.session_of(&gate).send(form(path, &digits)).await.unwrap();
        // The next run of the account cannot continue, neither with a right guess nor with a wrong one.
        for guess in ["471100", "471101"] {
            let error = fixture.session_of(&gate).send(form("/own", guess)).await.unwrap_err();
            assert!(matches!(error, HttpError::QuotaExceeded(_)), "{path}: {error:?}");
        }
        get(&fixture.session_of(&gate), server.url("a.example", "/")).await.unwrap();
    }
}

/// No number that a guest can observe reveals the length of a secret.
#[tokio::test]
async fn numbers_do_not_depend_on_the_value() {
    let mut seen = Vec::new();
    for value in ["hunter22", "a-much-longer-password-than-that"] {
        let server = Server::start(|request| ok(&format!("{}{}", request.body, "x".repeat(200)))).await;
        let fixture = Fixture::new().allow(server.url("a.example", "")).secret("password", value);
        let placeholder = fixture.secrets.placeholder("password").unwrap();
        let session = fixture.session();
        let url = server.url("a.example", "/");
        let form = Request::post(url.clone(), "application/x-www-form-urlencoded", format!("p={placeholder}"));
        let response = session.send(form.header("X-Key", &placeholder)).await.unwrap();
        let record = record(&session, &url);
        let headers: Vec<_> = response.headers.iter().map(|(name, _)| name.clone()).collect();
        seen.push((record.bytes_up, record.bytes_down, headers, text(&response).len()));
    }
    assert_eq!(seen[0], seen[1]);
}

/// Nor do the headers, regardless of the text next to the secret: otherwise a vendor that echoes input in a header
/// could be used to measure its length.
#[tokio::test]
async fn the_size_of_headers_does_not_depend_on_the_value() {
    // Minus the size of a placeholder.
    let max_padding = (64 << 10) - 31;
    for padding in [10, max_padding - 1_000, max_padding - 300, max_padding, 70_000] {
        let mut seen = Vec::new();
        for value in ["hunter22".to_owned(), "a-much-longer-password".repeat(30)] {
            let server = Server::start(move |request| {
                response(200, &[("X-Echo", &request.body), ("X-Padding", &"x".repeat(padding))], "")
            })
            .await;
            let fixture = Fixture::new().allow(server.url("a.example", "")).secret("password", &value);
            let placeholder = fixture.secrets.placeholder("password").unwrap();
            let session = fixture.session();
            let url = server.url("a.example", "/");
            let form = || Request::post(url.clone(), FORM, format!("p={placeholder}"));
            let normalize =
                |text: String| text.replace(&placeholder, "WORD").replace(&server.port().to_string(), "PORT");
            let response = match session.send(form()).await {
                Ok(response) => normalize(format!("{:?}", response.headers)),
                Err(error) => normalize(error.to_string()),
            };
            let used = record(&session, &url).bytes_down;
            // Exactly the bytes that the guest saw were charged to its budget.
            let fixture = fixture.budget(|budget| budget.bytes_down = 2 * used - 1);
            let session = fixture.session();
            let first = session.send(form()).await.map(drop).map_err(|error| normalize(error.to_string()));
            let second = session.send(form()).await.map(drop).map_err(|error| normalize(error.to_string()));
            assert!(used > (64 << 10) || matches!(&second, Err(error) if error.contains("exhausted")), "{second:?}");
            seen.push((response, used, first, second));
        }
        assert_eq!(seen[0], seen[1], "{padding}");
        assert_eq!(seen[0].2.is_ok(), padding < max_padding, "{padding}");
    }
}

#[tokio::test]
async fn a_page_in_any_spelling_shows_the_placeholder() {
    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }
    let server = Server::start(|request| {
        let kind = |kind: &'static str| [("Content-Type", kind)];
        match request.target.as_str() {
            "/utf16" => response(200, &kind("text/html; charset=utf-16le"), wide("<p>pw&\"/1234</p>")),
            "/utf16-bytes" => response(200, &kind("application/octet-stream"), wide("<p>pw&\"/1234</p>")),
            "/json" => response(200, &kind("application/json"), r#"{"p":"pw\u0026\"\/\u0031234"}"#),
            "/html" => response(200, &kind("text/html"), "<p title=\"pw&amp;&#34;&#x2F;&#0049;234\">"),
            "/url" => response(200, &kind("text/plain"), "/?q=pw%26%22/1234"),
            "/nested" => {
                response(200, &kind("text/html"), r#"<p data="{&quot;p&quot;:&quot;pw\u0026\&#34;\/1234&quot;}">"#)
            }
            _ => response(200, &kind("text/plain"), "pw&\"/1234"),
        }
    })
    .await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("password", "pw&\"/1234");
    let placeholder = fixture.secrets.placeholder("password").unwrap();
    let session = fixture.session();
    for path in ["/utf16", "/utf16-bytes", "/json", "/html", "/url", "/nested", "/"] {
        let form = Request::post(server.url("a.example", path), "text/plain", placeholder.clone());
        let text = match session.send(form).await.unwrap().body {
            konnector_egress::DecodedBody::Text(text) => text,
            konnector_egress::DecodedBody::Bytes(bytes) => String::from_utf8_lossy(&bytes).replace('\0', ""),
        };
        assert!(text.contains(&placeholder) && !text.contains("234"), "{path}: {text}");
    }
}

/// The gate does not pass on data that it cannot decode.
#[tokio::test]
async fn a_body_that_stays_compressed_is_rejected() {
    let server = Server::start(|_| response(200, &[("Content-Encoding", "x-unknown")], "hunter22")).await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("password", "hunter22");
    let placeholder = fixture.secrets.placeholder("password").unwrap();
    let session = fixture.session();
    let url = server.url("a.example", "/");
    let error = session.send(Request::post(url.clone(), "text/plain", placeholder)).await.unwrap_err();
    assert!(matches!(error, HttpError::Protocol(_)), "{error:?}");
    assert!(get(&session, url).await.is_ok());
}

/// Secrets that a guest creates to overlap with a page uncover nothing, and do not reveal the beginning of the
/// password.
#[tokio::test]
async fn secrets_of_the_guest_uncover_nothing() {
    let server = Server::start(|_| ok("Search: hunter2-secret, Search: hunt")).await;
    for guess in ["Search: h", "Search: x", "Search: hunter2-secre", "secret, S", "unter2"] {
        let fixture = Fixture::new().allow(server.url("a.example", "")).secret("password", "hunter2-secret");
        let placeholder = fixture.secrets.placeholder("password").unwrap();
        let session = fixture.session();
        session.secrets().put("gh", guess).unwrap();
        let body = format!("{placeholder} {}", session.secrets().placeholder("gh").unwrap());
        let response = session.send(Request::post(server.url("a.example", "/"), "text/plain", body)).await.unwrap();
        let own = session.secrets().placeholder("gh").unwrap();
        assert_eq!(text(&response).replace(&own, guess), format!("Search: {placeholder}, Search: hunt"), "{guess}");
    }
}

#[tokio::test]
async fn a_bound_secret_goes_into_its_field() {
    let server = Server::start(|_| ok("")).await;
    let bindings = serde_json::json!({ "password": { "path": "/login", "methods": ["POST"], "fields": ["pwd"] } });
    let fixture =
        Fixture::new().allow_secret_bindings(bindings, server.url("a.example", "")).secret("password", "hunter22");
    let placeholder = fixture.secrets.placeholder("password").unwrap();
    let session = fixture.session();
    let post = |path: &str, body: String| {
        Request::post(server.url("a.example", path), "application/x-www-form-urlencoded", body)
    };
    session.send(post("/login", format!("u=me&pwd={placeholder}"))).await.unwrap();
    assert_eq!(server.last_request().body, "u=me&pwd=hunter22");
    for request in [
        post("/login", format!("q={placeholder}")),
        post("/search", format!("pwd={placeholder}")),
        Request { method: "PUT".to_owned(), ..post("/login", format!("pwd={placeholder}")) },
        Request::get(server.url("a.example", "/login")).header("X-Key", &placeholder),
    ] {
        let result = session.send(request).await;
        assert!(matches!(result, Err(HttpError::Denied(_))), "{result:?}");
    }
    let record = record(&session, &server.url("a.example", "/"));
    assert_eq!((record.requests, record.refusals["secret_not_bound"], record.substitutions), (1, 4, 1));
}

#[tokio::test]
async fn each_goes_to_the_hosts_that_the_manifest_names_for_it() {
    let (login, api) = (Server::start(|_| ok("")).await, Server::start(|_| ok("")).await);
    let fixture = Fixture::new()
        .allow_secrets(&["password"], login.url("a.example", "/login"))
        .allow_secrets(&["token"], api.url("b.example", ""))
        .allow(login.url("a.example", ""))
        .secret("password", "hunter22")
        .secret("token", "tokenvalue")
        .secret("pin", "123456");
    let placeholder = |name: &str| fixture.secrets.placeholder(name).unwrap();
    let session = fixture.session();
    let post = async |server: &Server, host: &str, path: &str, body: String| {
        let request = Request::post(server.url(host, path), "application/x-www-form-urlencoded", body);
        session.send(request).await.map(|_| server.last_request().body)
    };
    assert_eq!(post(&login, "a.example", "/login", placeholder("password")).await.unwrap(), "hunter22");
    assert_eq!(post(&api, "b.example", "/", placeholder("token")).await.unwrap(), "tokenvalue");
    for (server, host, path, names) in [
        (&api, "b.example", "/", ["password", "password"]),
        (&login, "a.example", "/search", ["password", "password"]),
        (&login, "a.example", "/login", ["token", "token"]),
        (&login, "a.example", "/login", ["password", "token"]),
        (&login, "a.example", "/login", ["pin", "pin"]),
    ] {
        let error = post(server, host, path, names.map(placeholder).join("&")).await.unwrap_err();
        assert!(matches!(error, HttpError::Denied(_)), "{host}{path} {names:?}: {error:?}");
    }
    let error = post(&api, "b.example", "/", placeholder("password")).await.unwrap_err();
    insta::assert_snapshot!(error.to_string().replace(&api.url("b.example", ""), "http://b.example"), @r#"the manifest does not allow the secret "password" in POST requests to http://b.example; add to the rule for this host: "secrets": ["password"]"#);
    assert_eq!((login.requests().len(), api.requests().len()), (1, 1));
    let record = record(&session, &login.url("a.example", "/"));
    assert_eq!(
        (record.requests, record.denied, record.refusals["secret_not_bound"], record.secrets["password"]),
        (1, 4, 4, 1)
    );
}

#[tokio::test]
async fn https_is_not_enough_to_send_it_over_http() {
    let server = Server::start(|_| ok("")).await;
    let fixture = Fixture::new().allow(format!("https://a.example:{}", server.port())).secret("password", "hunter22");
    let placeholder = fixture.secrets.placeholder("password").unwrap();
    let request = Request::post(server.url("a.example", "/"), "text/plain", placeholder);
    assert!(matches!(fixture.session().send(request).await, Err(HttpError::Denied(_))));
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_response_that_echoes_it_shows_the_placeholder() {
    let server = Server::start(|request| {
        let sent = request.body.trim_start_matches("q=").to_owned();
        match request.target.as_str() {
            "/search" => {
                response(200, &[("Content-Type", "text/html"), ("X-Query", &sent)], format!("<input value=\"{sent}\">"))
            }
            "/base64" => response(200, &[("Content-Type", "text/plain")], STANDARD.encode(format!("you sent {sent}!"))),
            "/binary" => response(200, &[], [b"\xff\x00", sent.as_bytes(), b"\xff"].concat()),
            "/slow" => {
                let length =
                    format!("HTTP/1.1 200 X\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", sent.len() + 2);
                let bytes = format!("<{sent}>").into_bytes();
                let drops = bytes.into_iter().flat_map(|byte| {
                    [ResponseStep::Write(vec![byte]), ResponseStep::Wait(super::fixture::milliseconds(2))]
                });
                [ResponseStep::Write(length.into_bytes())].into_iter().chain(drops).collect()
            }
            "/elsewhere" => redirect(303, &format!("/profile?q={sent}")),
            _ => ok(&request.target),
        }
    })
    .await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("password", "hunter22");
    let placeholder = fixture.secrets.placeholder("password").unwrap();
    let session = fixture.session();
    let form = |path: &str| {
        Request::post(server.url("a.example", path), "application/x-www-form-urlencoded", format!("q={placeholder}"))
    };
    for path in ["/search", "/base64", "/binary", "/slow", "/elsewhere"] {
        let response = session.send(form(path)).await.unwrap();
        let text = format!("{response:?}");
        assert!(text.contains(&placeholder) && !text.contains("hunter22"), "{path}: {text}");
        assert!(!text.contains(&STANDARD.encode("hunter22")[..10]), "{path}: {text}");
        let mut stream = session.open(form(path)).await.unwrap();
        let mut body = format!("{:?} {}", stream.headers(), stream.url()).into_bytes();
        while let Some(part) = stream.chunk().await.unwrap() {
            body.extend(part);
        }
        let text = String::from_utf8_lossy(&body);
        assert!(text.contains(&placeholder) && !text.contains("hunter22"), "{path}: {text}");
    }
    // Everything else stays unchanged: a response to a request without a secret is not scanned.
    assert_eq!(text(&get(&session, server.url("a.example", "/?hunter22")).await.unwrap()), "/?hunter22");
}

/// If a vendor writes the unencoded value into a URL, the parts that remain after parsing the URL are not shown.
#[tokio::test]
async fn an_address_that_shows_the_value_as_it_is_is_not_followed() {
    let server = Server::start(|request| {
        let password = request.body.split_once("p=").map(|(_, value)| percent_encoding_of(value));
        match password {
            Some(value) => {
                raw([b"HTTP/1.1 303 X\r\nContent-Length: 0\r\nLocation: /?", &value[..], b"\r\n\r\n"].concat())
            }
            None => ok(&request.target),
        }
    })
    .await;
    for (value, followed) in [
        ("hunter-22", true),
        ("hun ter\"22", true),
        ("hun#ter22", false),
        ("hun\tter22", false),
        ("h\u{fc}nter22", false),
    ] {
        let fixture = Fixture::new().allow(server.url("a.example", "")).secret("password", value);
        let placeholder = fixture.secrets.placeholder("password").unwrap();
        let session = fixture.session();
        let form = || Request {
            form_charset: Some("windows-1252".to_owned()),
            ..Request::post(server.url("a.example", "/"), FORM, format!("p={placeholder}"))
        };
        let result = session.send(form()).await;
        let text = format!("{result:?}");
        assert_eq!(result.is_ok(), followed, "{value}: {text}");
        assert!(!text.contains("nter") && !text.contains("hun"), "{value}: {text}");
        let response = session.send(Request { follow_redirects: false, ..form() }).await.unwrap();
        let text = format!("{response:?}");
        assert!(text.contains(&placeholder) && !text.contains("nter"), "{value}: {text}");
    }
}

/// Returns the bytes of a submitted form.
fn percent_encoding_of(written: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(&written.replace('+', " ")).collect()
}

/// Tests a form in an encoding that lacks a character of the value, with a vendor that echoes its input byte for byte.
#[tokio::test]
async fn a_value_in_the_encoding_of_its_form_is_hidden() {
    let server = Server::start(|request| {
        let value = percent_encoding_of(request.body.trim_start_matches("p="));
        response(200, &[], [b"<", &value[..], b">"].concat())
    })
    .await;
    for charset in ["windows-1252", "iso-8859-10", "shift_jis", "iso-2022-jp", "gbk", "windows-874", "koi8-r", "utf-8"]
    {
        let fixture =
            Fixture::new().allow(server.url("a.example", "")).secret("password", "h\u{fc}nter\u{3042}\u{266b}22");
        let placeholder = fixture.secrets.placeholder("password").unwrap();
        let form = Request {
            body_format: BodyFormat::Bytes,
            form_charset: Some(charset.to_owned()),
            ..Request::post(server.url("a.example", "/"), FORM, format!("p={placeholder}"))
        };
        assert_eq!(text(&fixture.session().send(form).await.unwrap()), format!("<{placeholder}>"), "{charset}");
    }
}

#[tokio::test]
async fn a_receipt_holds_no_value() {
    let fixture = Fixture::new().allow("https://*.cdn.example").secret("password", "hunter22");
    let session = fixture.session();
    get(&session, "https://hunter22.evil.example/".to_owned()).await.unwrap_err();
    let receipt = serde_json::to_string(&session.network_usage()).unwrap();
    assert!(receipt.contains("https://[masked].evil.example") && !receipt.contains("hunter22"), "{receipt}");
}
