//! Puts the values of secrets in the place of their placeholders, where the form of the request says how a value is written there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::error::HttpError;
use super::mask::{json_escape, xml_escape};
use super::request::{Draft, content_type};
use super::secret::{Secret, Snapshot};

/// Largest body in which placeholders are replaced, in bytes.
pub const MAX_BODY: usize = 64 << 10;

/// Headers and body with the values of secrets.
pub(super) struct Filled {
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// Names of the secrets in them, each once.
    pub(super) secrets: Vec<String>,
}

/// Fills a request. `check` says whether a secret may go along.
pub(super) fn fill(
    draft: &Draft,
    secrets: &Snapshot,
    check: impl Fn(&str) -> Result<(), HttpError>,
) -> Result<Filled, HttpError> {
    if let Some(secret) = secrets.find(draft.url.as_str().as_bytes()).next() {
        return Err(HttpError::Invalid(format!(
            "url: holds the placeholder of the secret {}; URLs end up in logs, so send it in a header or in a form, JSON or XML body",
            secret.name
        )));
    }
    let mut sent = Vec::new();
    let mut permit = |found: &[&Secret]| {
        for secret in found {
            if !sent.contains(&secret.name) {
                check(&secret.name)?;
                sent.push(secret.name.clone());
            }
        }
        Ok::<_, HttpError>(())
    };
    let mut headers = HeaderMap::with_capacity(draft.headers.len());
    for (name, value) in &draft.headers {
        let credentials = basic_credentials(name, value);
        let text = credentials.as_deref().unwrap_or(value.as_bytes());
        let found: Vec<_> = secrets.find(text).collect();
        let Some(secret) = found.first() else {
            headers.append(name.clone(), value.clone());
            continue;
        };
        permit(&found)?;
        let filled = secrets.replace(text, str::to_owned);
        let filled = match credentials {
            Some(_) => Zeroizing::new(format!("Basic {}", STANDARD.encode(&*filled)).into_bytes()),
            None => filled,
        };
        let mut filled = HeaderValue::from_maybe_shared(Bytes::from_owner(filled)).map_err(|_| {
            HttpError::Invalid(format!(
                "headers: the secret {} holds a character that {name} cannot carry; send it in a body",
                secret.name
            ))
        })?;
        filled.set_sensitive(true);
        headers.append(name.clone(), filled);
    }
    let body = match &draft.body {
        Some(body) => {
            let found: Vec<_> = secrets.find(body).collect();
            permit(&found)?;
            Some(match found.first() {
                Some(secret) => fill_body(body, secret, draft, secrets)?,
                None => body.clone(),
            })
        }
        None => None,
    };
    Ok(Filled { headers, body, secrets: sent })
}

fn fill_body(body: &Bytes, secret: &Secret, draft: &Draft, secrets: &Snapshot) -> Result<Bytes, HttpError> {
    if body.len() > MAX_BODY {
        return Err(HttpError::Invalid(format!(
            "body: holds the placeholder of the secret {} and has {} bytes; with a secret the limit is {MAX_BODY}",
            secret.name,
            body.len()
        )));
    }
    let content_type = content_type(&draft.headers);
    let write: fn(&str) -> String = match content_type.essence.as_str() {
        "application/x-www-form-urlencoded" => |value| form_urlencoded::byte_serialize(value.as_bytes()).collect(),
        // The parts of a form are not escaped (RFC 7578).
        "text/plain" | "multipart/form-data" => str::to_owned,
        _ if content_type.is_json() => json_escape,
        _ if content_type.is_xml() => xml_escape,
        other => {
            let other = if other.is_empty() { "not given" } else { other };
            return Err(HttpError::Invalid(format!(
                "body: holds the placeholder of the secret {}, and its Content-Type is {other}; secrets can be put into \
                 application/x-www-form-urlencoded, multipart/form-data, JSON, XML and text/plain",
                secret.name
            )));
        }
    };
    Ok(Bytes::from_owner(secrets.replace(body, write)))
}

/// What is inside of `Authorization: Basic …` (RFC 7617).
fn basic_credentials(name: &HeaderName, value: &HeaderValue) -> Option<Vec<u8>> {
    if name != header::AUTHORIZATION {
        return None;
    }
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(credentials.trim()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::request::Request;
    use super::super::secret::SecretTable;
    use super::*;

    const VALUE: &str = "p&s \"w\u{f6}rd\"<+>";

    struct Fixture {
        table: SecretTable,
        word: String,
    }

    fn fixture(value: &str) -> Fixture {
        let table = SecretTable::new([("password".to_owned(), value.to_owned())]).unwrap();
        let word = table.placeholder("password").unwrap();
        Fixture { table, word }
    }

    impl Fixture {
        fn fill(&self, request: Request, bound: bool) -> Result<Filled, HttpError> {
            let check =
                |name: &str| if bound { Ok(()) } else { Err(HttpError::Denied(format!("{name} is not bound"))) };
            fill(&Draft::new(request).unwrap(), &self.table.snapshot(), check)
        }

        fn body(&self, content_type: &str, template: &str) -> String {
            let body = template.replace('@', &self.word);
            let filled = self.fill(Request::post("https://a.example/", content_type, body), true).unwrap();
            String::from_utf8(filled.body.unwrap().to_vec()).unwrap()
        }

        fn refusal(&self, request: Request, bound: bool) -> String {
            self.fill(request, bound).err().unwrap().to_string().replace(&self.word, "@")
        }
    }

    #[test]
    fn each_kind_of_body_is_escaped_in_its_own_way() {
        let fixture = fixture(VALUE);
        assert_eq!(
            fixture.body("application/x-www-form-urlencoded", "u=me&p=@&q=@"),
            "u=me&p=p%26s+%22w%C3%B6rd%22%3C%2B%3E&q=p%26s+%22w%C3%B6rd%22%3C%2B%3E"
        );
        let json: serde_json::Value =
            serde_json::from_str(&fixture.body("application/vnd.api+json; charset=utf-8", r#"{"p":"@"}"#)).unwrap();
        assert_eq!(json["p"], VALUE);
        assert_eq!(fixture.body("application/soap+xml", "<p>@</p>"), "<p>p&amp;s &quot;w\u{f6}rd&quot;&lt;+&gt;</p>");
        assert_eq!(
            fixture.body("multipart/form-data; boundary=x", "--x\r\n\r\n@\r\n--x--"),
            format!("--x\r\n\r\n{VALUE}\r\n--x--")
        );
    }

    #[test]
    fn headers_and_basic_credentials() {
        let fixture = fixture("s3cret-value");
        let request = Request::get("https://a.example/")
            .header("X-Api-Key", &format!("key={}", fixture.word))
            .header("Authorization", &format!("basic {}", STANDARD.encode(format!("me:{}", fixture.word))));
        let headers = fixture.fill(request, true).unwrap().headers;
        assert_eq!(headers["x-api-key"], "key=s3cret-value");
        assert_eq!(headers["authorization"], format!("Basic {}", STANDARD.encode("me:s3cret-value")));
        assert!(headers["x-api-key"].is_sensitive());
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let fixture = fixture("line\nbreak");
        let word = &fixture.word;
        let get = || Request::get("https://a.example/");
        insta::assert_snapshot!(fixture.refusal(Request::get(format!("https://a.example/?p={word}")), true), @"url: holds the placeholder of the secret password; URLs end up in logs, so send it in a header or in a form, JSON or XML body");
        insta::assert_snapshot!(fixture.refusal(get().header("x-key", word), true), @"headers: the secret password holds a character that x-key cannot carry; send it in a body");
        insta::assert_snapshot!(fixture.refusal(get().header("x-key", word), false), @"password is not bound");
        insta::assert_snapshot!(fixture.refusal(Request::post("https://a.example/", "application/pdf", word.clone()), true), @"body: holds the placeholder of the secret password, and its Content-Type is application/pdf; secrets can be put into application/x-www-form-urlencoded, multipart/form-data, JSON, XML and text/plain");
        insta::assert_snapshot!(fixture.refusal(Request::post("https://a.example/", "text/plain", word.repeat(5_000)), true), @"body: holds the placeholder of the secret password and has 155000 bytes; with a secret the limit is 65536");
    }

    #[test]
    fn a_secret_in_credentials_counts_for_an_unbound_host_too() {
        let fixture = fixture("s3cret-value");
        let credentials = STANDARD.encode(format!("me:{}", fixture.word));
        let basic = Request::get("https://a.example/").header("authorization", &format!("Basic {credentials}"));
        assert!(matches!(fixture.fill(basic, false), Err(HttpError::Denied(_))));
        let form =
            Request::post("https://a.example/", "application/x-www-form-urlencoded", format!("p={}", fixture.word));
        assert!(matches!(fixture.fill(form, false), Err(HttpError::Denied(_))));
    }

    #[test]
    fn every_secret_of_a_request_is_checked() {
        let table = SecretTable::new(["one", "two", "three"].map(|name| (name.to_owned(), format!("value of {name}"))))
            .unwrap();
        let word = |name: &str| table.placeholder(name).unwrap();
        let body = format!("{} {} {}", word("one"), word("two"), word("one"));
        let request = Request::post("https://a.example/", "text/plain", body).header("x-key", &word("three"));
        let draft = Draft::new(request).unwrap();
        for refused in ["one", "two", "three"] {
            let check = |name: &str| if name == refused { Err(HttpError::Denied(name.to_owned())) } else { Ok(()) };
            assert_eq!(fill(&draft, &table.snapshot(), check).err(), Some(HttpError::Denied(refused.to_owned())));
        }
        let filled = fill(&draft, &table.snapshot(), |_| Ok(())).unwrap();
        assert_eq!(filled.secrets, ["three", "one", "two"]);
        assert_eq!(filled.body.unwrap(), "value of one value of two value of one");
    }

    #[test]
    fn without_placeholders_nothing_changes() {
        let fixture = fixture("s3cret-value");
        let body = Bytes::from(vec![0xff; MAX_BODY + 1]);
        let request = Request { body: Some(body.clone()), ..Request::get("https://a.example/") }
            .header("authorization", "Basic !!!");
        let filled = fixture.fill(request, false).unwrap();
        assert_eq!(filled.body, Some(body));
        assert_eq!(filled.headers["authorization"], "Basic !!!");
    }

    proptest! {
        #[test]
        fn a_reader_of_the_body_finds_the_value(value in "\\PC{0,30}") {
            let fixture = fixture(&value);
            let form = fixture.body("application/x-www-form-urlencoded", "a=b&p=@&c=d");
            let pairs: Vec<_> = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
            prop_assert_eq!(pairs.len(), 3);
            prop_assert_eq!(&pairs[1].1, &value);
            let json: serde_json::Value = serde_json::from_str(&fixture.body("application/json", r#"{"p":"@"}"#)).unwrap();
            prop_assert_eq!(&json["p"], &value);
        }
    }
}
