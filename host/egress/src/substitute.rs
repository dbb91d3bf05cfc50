//! Replaces placeholders by the values of secrets, where the syntax of the request determines the encoding of a value.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use konnector_manifest::{RequestPart, SecretScope};
use zeroize::Zeroizing;

use super::body_fields::{BodyField, BodySyntax, find_fields};
use super::error::HttpError;
use super::form;
use super::multipart::MultipartError;
use super::network_usage::SentSecrets;
use super::request::{ContentType, RequestTemplate, content_type};
use super::secret::{Secret, SecretSnapshot, random_placeholder};
use super::secret_replacer::{json_escape, xml_escape};

/// Maximum size in bytes of a body in which placeholders are replaced.
pub const MAX_SECRET_BODY: usize = 64 << 10;

/// Maximum number of placeholders in one request. A form that sets a password repeats it three times; a guest that
/// writes hundreds is looking for a vendor that echoes them in different ways.
pub const MAX_SUBSTITUTIONS_PER_REQUEST: usize = 16;

/// A request's headers and body with the values of secrets filled in.
pub(super) struct FilledRequest {
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// The secrets that were inserted.
    pub(super) secrets: SentSecrets,
}

/// Policy for the secrets in one request.
pub(super) trait SecretPolicy {
    /// Returns the parts of the request that may contain a secret.
    fn scope(&self, secret: &str) -> Result<SecretScope, HttpError>;
    /// Denies a secret in another part of the request; the sentence says where.
    fn deny_placement(&self, sentence: String) -> HttpError;
}

/// Replaces the placeholders in a request.
pub(super) fn fill(
    template: &RequestTemplate,
    secrets: &SecretSnapshot,
    binding: &impl SecretPolicy,
) -> Result<FilledRequest, HttpError> {
    if let Some(secret) = secrets.find(template.url.as_str().as_bytes()).next() {
        return Err(HttpError::Invalid(format!(
            "url: the URL contains the placeholder of the secret {}; URLs end up in logs, so send it in a header or \
             in a form, JSON or XML body",
            secret.name
        )));
    }
    let mut filling =
        RequestFiller { secrets, policy: binding, scopes: BTreeMap::new(), sent: Vec::new(), substitutions: 0 };
    let headers = filling.fill_headers(&template.headers)?;
    let body = match &template.body {
        Some(body) => Some(filling.fill_body(body, template)?),
        None => None,
    };
    let RequestFiller { sent, substitutions, .. } = filling;
    Ok(FilledRequest { headers, body, secrets: SentSecrets { names: sent, substitutions: substitutions as u64 } })
}

/// Rejects a placeholder in a body that is too large for substitution. Yields during the search, because such a body
/// may have any size.
pub(super) async fn check_large_body(body: Option<&Bytes>, secrets: &SecretSnapshot) -> Result<(), HttpError> {
    let Some(body) = body.filter(|body| body.len() > MAX_SECRET_BODY) else { return Ok(()) };
    match secrets.find_in_large(body).await {
        None => Ok(()),
        Some(secret) => Err(HttpError::Invalid(format!(
            "body: the body contains the placeholder of the secret {} and is {} bytes long; the limit for a body with \
             a secret is {MAX_SECRET_BODY} bytes",
            secret.name,
            body.len()
        ))),
    }
}

struct RequestFiller<'a, B> {
    secrets: &'a SecretSnapshot,
    policy: &'a B,
    scopes: BTreeMap<String, SecretScope>,
    sent: Vec<String>,
    substitutions: usize,
}

impl<B: SecretPolicy> RequestFiller<'_, B> {
    /// Records the secrets in the request, and denies those that it may not carry.
    fn authorize(&mut self, found: &[&Secret]) -> Result<(), HttpError> {
        for secret in found {
            if !self.scopes.contains_key(&secret.name) {
                let scope = self.policy.scope(&secret.name)?;
                self.scopes.insert(secret.name.clone(), scope);
            }
            if !self.sent.contains(&secret.name) {
                self.sent.push(secret.name.clone());
            }
        }
        self.substitutions += found.len();
        if self.substitutions > MAX_SUBSTITUTIONS_PER_REQUEST {
            return Err(HttpError::Invalid(format!(
                "the request contains more than {MAX_SUBSTITUTIONS_PER_REQUEST} placeholders of secrets; send fewer"
            )));
        }
        Ok(())
    }

    fn fill_headers(&mut self, original: &HeaderMap) -> Result<HeaderMap, HttpError> {
        let mut headers = HeaderMap::with_capacity(original.len());
        for (name, value) in original {
            let credentials = basic_credentials(name, value);
            let text = credentials.as_deref().unwrap_or(value.as_bytes());
            let found: Vec<_> = self.secrets.find(text).take(MAX_SUBSTITUTIONS_PER_REQUEST + 1).collect();
            let Some(secret) = found.first() else {
                headers.append(name.clone(), value.clone());
                continue;
            };
            self.authorize(&found)?;
            for secret in &found {
                self.check_placement(secret, Some((RequestPart::Header(name.as_str()), &format!("header:{name}"))))?;
            }
            let filled = self.secrets.replace(text, str::to_owned);
            let filled = match credentials {
                Some(_) => Zeroizing::new(format!("Basic {}", STANDARD.encode(&*filled)).into_bytes()),
                None => filled,
            };
            let mut filled = HeaderValue::from_maybe_shared(Bytes::from_owner(filled)).map_err(|_| {
                HttpError::Invalid(format!(
                    "headers: the secret {} contains a character that {name} cannot carry; send it in a body",
                    secret.name
                ))
            })?;
            filled.set_sensitive(true);
            headers.append(name.clone(), filled);
        }
        Ok(headers)
    }

    fn fill_body(&mut self, body: &Bytes, template: &RequestTemplate) -> Result<Bytes, HttpError> {
        // A large body was searched before, see `check_large_body`.
        if body.len() > MAX_SECRET_BODY {
            return Ok(body.clone());
        }
        // One more than the maximum is enough to reject the request.
        let found: Vec<_> = self.secrets.find(body).take(MAX_SUBSTITUTIONS_PER_REQUEST + 1).collect();
        let Some(secret) = found.first() else { return Ok(body.clone()) };
        self.authorize(&found)?;
        let content_type = content_type(&template.headers);
        let (write, syntax) = value_encoder(&content_type, secret, template)?;
        self.check_fields(body, &found, syntax)?;
        Ok(Bytes::from_owner(self.secrets.replace(body, write)))
    }

    /// Rejects secrets in the body outside the fields that the manifest binds them to.
    fn check_fields(&self, body: &[u8], found: &[&Secret], syntax: Option<BodySyntax>) -> Result<(), HttpError> {
        let bound = |secret: &&Secret| matches!(self.scopes.get(&secret.name), Some(SecretScope::Fields(_)));
        if !found.iter().any(bound) {
            return Ok(());
        }
        let unknown = |error| HttpError::Other(format!("cannot distinguish secrets: {error}"));
        let placeholders =
            found.iter().map(|_| random_placeholder().map_err(unknown)).collect::<Result<Vec<_>, _>>()?;
        let mut next = placeholders.iter();
        let marked = self.secrets.replace_with(body, |_| next.next().cloned().unwrap_or_default());
        let fields = match &syntax {
            Some(syntax) => find_fields(syntax, &marked, &placeholders),
            None => Ok(vec![None; placeholders.len()]),
        };
        let fields = fields.map_err(|error| self.ambiguous_form_error(found, error))?;
        if let Some(BodySyntax::Multipart(_)) = syntax
            && let Some(secret) = found.iter().find(|secret| secret.value.expose().contains(['\r', '\n', '\0']))
        {
            return Err(HttpError::Invalid(format!(
                "body: the secret {} contains a line break, which could begin another part of a multipart form; send \
                 it in a form or JSON body",
                secret.name
            )));
        }
        for (secret, field) in found.iter().zip(&fields) {
            self.check_placement(
                secret,
                field.as_ref().map(|field: &BodyField| (field.as_request_part(), field.name())),
            )?;
        }
        Ok(())
    }

    /// Returns the error for a multipart form in which a vendor might find other fields.
    fn ambiguous_form_error(&self, found: &[&Secret], error: MultipartError) -> HttpError {
        let bound = found.iter().find_map(|secret| match self.scopes.get(&secret.name) {
            Some(scope @ SecretScope::Fields(_)) => Some((secret, scope.names())),
            _ => None,
        });
        let bound = bound.map(|(secret, fields)| {
            let name = serde_json::Value::from(secret.name.as_str());
            format!("the manifest binds the secret {name} to the fields {fields}, and ")
        });
        self.policy.deny_placement(format!("{}the multipart form is ambiguous: {error}", bound.unwrap_or_default()))
    }

    /// Rejects a secret that may not occur in this part of the request; `None` stands for a part without a name.
    fn check_placement(&self, secret: &Secret, field: Option<(RequestPart<'_>, &str)>) -> Result<(), HttpError> {
        let Some(scope @ SecretScope::Fields(_)) = self.scopes.get(&secret.name) else { return Ok(()) };
        if field.is_some_and(|(part, _)| scope.allows(part)) {
            return Ok(());
        }
        let (secret_name, fields) = (serde_json::Value::from(secret.name.as_str()), scope.names());
        Err(self.policy.deny_placement(match field {
            Some((_, field)) => {
                let field = serde_json::Value::from(field);
                format!(
                    r#"the manifest binds the secret {secret_name} to the fields {fields}, but it occurs in {field}; add {field} to the "fields" of the secret in the rule"#
                )
            }
            None => format!(
                "the manifest binds the secret {secret_name} to the fields {fields}; its placeholder must be the whole \
                 value of one of them in a form, a multipart form or a JSON body"
            ),
        }))
    }
}

type ValueEncoder = Box<dyn Fn(&str) -> String>;

/// Returns the encoder for values in a body, and the syntax of its fields.
fn value_encoder(
    content_type: &ContentType,
    secret: &Secret,
    template: &RequestTemplate,
) -> Result<(ValueEncoder, Option<BodySyntax>), HttpError> {
    let charset = template.form_charset;
    Ok(match content_type.essence.as_str() {
        "application/x-www-form-urlencoded" => {
            (Box::new(move |value: &str| form::encode_value(value, charset)), Some(BodySyntax::Form))
        }
        // The parts of a form are not escaped (RFC 7578).
        "multipart/form-data" => {
            (Box::new(str::to_owned), Some(BodySyntax::Multipart(single_content_type(&template.headers))))
        }
        "text/plain" => (Box::new(str::to_owned), None),
        _ if content_type.is_json() => (Box::new(json_escape), Some(BodySyntax::Json)),
        _ if content_type.is_xml() => (Box::new(xml_escape), None),
        other => {
            let other = if other.is_empty() { "not given" } else { other };
            return Err(HttpError::Invalid(format!(
                "body: the body contains the placeholder of the secret {}, but its Content-Type is {other}; secrets \
                 can be sent in application/x-www-form-urlencoded, multipart/form-data, JSON, XML and text/plain",
                secret.name
            )));
        }
    })
}

/// Returns the `Content-Type` if it occurs exactly once, otherwise an empty string.
fn single_content_type(headers: &HeaderMap) -> String {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let only = values.next().filter(|_| values.next().is_none());
    only.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// Decodes the credentials in `Authorization: Basic …` (RFC 7617).
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
    use url::form_urlencoded;

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

    struct FixedPolicy<F>(F);

    impl<F: Fn(&str) -> Result<SecretScope, HttpError>> SecretPolicy for FixedPolicy<F> {
        fn scope(&self, secret: &str) -> Result<SecretScope, HttpError> {
            (self.0)(secret)
        }

        fn deny_placement(&self, sentence: String) -> HttpError {
            HttpError::Denied(sentence)
        }
    }

    impl Fixture {
        fn fill(&self, request: Request, bound: bool) -> Result<FilledRequest, HttpError> {
            let scope = |name: &str| {
                if bound { Ok(SecretScope::Anywhere) } else { Err(HttpError::Denied(format!("{name} is not bound"))) }
            };
            fill(&RequestTemplate::new(request).unwrap(), &self.table.snapshot(), &FixedPolicy(scope))
        }

        fn fill_fields(&self, request: Request, fields: &[&str]) -> Result<FilledRequest, HttpError> {
            let scope = |_: &str| Ok(SecretScope::Fields(fields.iter().map(|field| (*field).to_owned()).collect()));
            fill(&RequestTemplate::new(request).unwrap(), &self.table.snapshot(), &FixedPolicy(scope))
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
    fn a_secret_is_written_in_the_encoding_of_its_form() {
        let fixture = fixture("\u{e9}\u{20ac} \u{2713}");
        let form = |charset: &str, body: &str| Request {
            form_charset: Some(charset.to_owned()),
            ..Request::post("https://a.example/", "application/x-www-form-urlencoded", body.replace('@', &fixture.word))
        };
        let body = |charset: &str| fixture.fill(form(charset, "u=%C3%A9&p=@"), true).unwrap().body.unwrap();
        assert_eq!(body("windows-1252"), "u=%E9&p=%E9%80+%26%2310003%3B");
        assert_eq!(body("x-unknown ISO-8859-15"), "u=%E9&p=%E9%A4+%26%2310003%3B");
        assert_eq!(body("utf-8"), "u=%C3%A9&p=%C3%A9%E2%82%AC+%E2%9C%93");
        let bound = fixture.fill_fields(form("windows-1252", "u=%C3%A9&p=@"), &["p"]).unwrap().body.unwrap();
        assert_eq!(bound, "u=%E9&p=%E9%80+%26%2310003%3B");
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
    fn errors_name_the_problem() {
        let fixture = fixture("line\nbreak");
        let word = &fixture.word;
        let get = || Request::get("https://a.example/");
        insta::assert_snapshot!(fixture.refusal(Request::get(format!("https://a.example/?p={word}")), true), @"url: the URL contains the placeholder of the secret password; URLs end up in logs, so send it in a header or in a form, JSON or XML body");
        insta::assert_snapshot!(fixture.refusal(get().header("x-key", word), true), @"headers: the secret password contains a character that x-key cannot carry; send it in a body");
        insta::assert_snapshot!(fixture.refusal(get().header("x-key", word), false), @"password is not bound");
        insta::assert_snapshot!(fixture.refusal(Request::post("https://a.example/", "application/pdf", word.clone()), true), @"body: the body contains the placeholder of the secret password, but its Content-Type is application/pdf; secrets can be sent in application/x-www-form-urlencoded, multipart/form-data, JSON, XML and text/plain");
    }

    #[tokio::test]
    async fn a_large_body_holds_no_secret() {
        let fixture = fixture("s3cret-value");
        let check = async |body: String| check_large_body(Some(&body.into()), &fixture.table.snapshot()).await;
        let error = check(format!("{}{}", "x".repeat(MAX_SECRET_BODY), fixture.word)).await.unwrap_err();
        insta::assert_snapshot!(error, @"body: the body contains the placeholder of the secret password and is 65567 bytes long; the limit for a body with a secret is 65536 bytes");
        assert_eq!(check("x".repeat(MAX_SECRET_BODY + 1)).await, Ok(()));
        assert_eq!(check(fixture.word.clone()).await, Ok(()), "a short one is filled");
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
        let template = RequestTemplate::new(request).unwrap();
        for refused in ["one", "two", "three"] {
            let scope = |name: &str| {
                if name == refused { Err(HttpError::Denied(name.to_owned())) } else { Ok(SecretScope::Anywhere) }
            };
            let error = fill(&template, &table.snapshot(), &FixedPolicy(scope)).err();
            assert_eq!(error, Some(HttpError::Denied(refused.to_owned())));
        }
        let filled = fill(&template, &table.snapshot(), &FixedPolicy(|_: &str| Ok(SecretScope::Anywhere))).unwrap();
        assert_eq!(filled.secrets.substitutions, 4);
        assert_eq!(filled.secrets.names, ["three", "one", "two"]);
        assert_eq!(filled.body.unwrap(), "value of one value of two value of one");
    }

    #[test]
    fn a_secret_that_is_bound_to_fields_goes_into_no_other() {
        let fixture = fixture("s3cret-value");
        let word = &fixture.word;
        let url = "https://a.example/";
        let form = |body: String| Request::post(url, "application/x-www-form-urlencoded", body);
        let json = |body: String| Request::post(url, "application/json", body);
        let part = |name: &str| {
            let body = format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{word}\r\n--x--\r\n");
            Request::post(url, "multipart/form-data; boundary=\"x\"", body)
        };
        let fields = ["pwd", "/user/0", "header:authorization"];
        let basic = STANDARD.encode(format!("me:{word}"));
        for request in [
            form(format!("u=me&pwd={word}")),
            json(format!(r#"{{"login":{{"pwd":"{word}"}}}}"#)),
            json(format!(r#"{{"user":["{word}"]}}"#)),
            part("pwd"),
            Request::get(url).header("Authorization", &format!("Bearer {word}")),
            Request::get(url).header("Authorization", &format!("Basic {basic}")),
        ] {
            let filled = fixture.fill_fields(request, &fields).unwrap();
            assert_eq!(filled.secrets.substitutions, 1);
        }
        let hidden = format!(r#"{{"q":"{word}","q":"x","pwd":"\u006b{}"}}"#, &word[1..]);
        for request in [
            form(format!("q={word}")),
            form(format!("pwd={word}&q={word}")),
            form(format!("pwd={word};q=1")),
            form(format!("q=1;pwd={word}")),
            form(format!("{word}=pwd")),
            json(format!(r#"{{"pwd":"{word}","q":"{word}"}}"#)),
            json(format!(r#"{{"user":["x","{word}"]}}"#)),
            json(hidden),
            part("q"),
            Request::post(url, "text/plain", word.clone()),
            Request::post(url, "text/xml", format!("<pwd>{word}</pwd>")),
            Request::get(url).header("X-Key", word),
            Request::get(url).header("pwd", word),
        ] {
            let error = fixture.fill_fields(request.clone(), &fields).err();
            assert!(matches!(error, Some(HttpError::Denied(_))), "{request:?} {error:?}");
        }
        let refusal = |request| fixture.fill_fields(request, &fields).err().unwrap().to_string();
        insta::assert_snapshot!(refusal(form(format!("q={word}"))), @r#"the manifest binds the secret "password" to the fields "/user/0", "header:authorization", "pwd", but it occurs in "q"; add "q" to the "fields" of the secret in the rule"#);
        insta::assert_snapshot!(refusal(Request::post(url, "text/plain", word.clone())), @r#"the manifest binds the secret "password" to the fields "/user/0", "header:authorization", "pwd"; its placeholder must be the whole value of one of them in a form, a multipart form or a JSON body"#);
    }

    #[test]
    fn a_bound_secret_goes_into_no_ambiguous_multipart_form() {
        let table = SecretTable::new([("password".to_owned(), "s3cret-value".to_owned())]).unwrap();
        table.put("token", "a\r\nContent-Disposition: form-data; name=\"q\"").unwrap();
        let (password, token) = (table.placeholder("password").unwrap(), table.placeholder("token").unwrap());
        let scope = |name: &str| match name {
            "password" => Ok(SecretScope::Fields(["pwd".to_owned()].into())),
            _ => Ok(SecretScope::Anywhere),
        };
        let fill = |content_type: &str, body: String| {
            let template = RequestTemplate::new(Request::post("https://a.example/", content_type, body)).unwrap();
            fill(&template, &table.snapshot(), &FixedPolicy(scope)).map(|filled| filled.secrets.substitutions)
        };
        let plain = "multipart/form-data; boundary=x";
        let part = |name: &str, extra: &str, content: &str| {
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"{extra}\r\n\r\n{content}\r\n")
        };
        let login = part("pwd", "", &password);
        assert_eq!(fill(plain, format!("{login}--x--")), Ok(1));
        let refusal = |content_type: &str, body: String| fill(content_type, body).unwrap_err().to_string();
        insta::assert_snapshot!(refusal("multipart/form-data; x=\"; boundary=y; y=\"; boundary=x", format!("{login}--x--")), @r#"the manifest binds the secret "password" to the fields "pwd", and the multipart form is ambiguous: the Content-Type is not valid; send multipart/form-data with one boundary of at most 70 letters, digits, "+", "-", "." and "_", and no other parameter except charset=utf-8"#);
        insta::assert_snapshot!(refusal(plain, format!("{password}\r\n{login}--x--")), @r#"the manifest binds the secret "password" to the fields "pwd", and the multipart form is ambiguous: the body has text before or after its parts, or no end; begin it with the first boundary and end it with the last one"#);
        let twice = "\r\nContent-Disposition: form-data; name=\"q\"";
        insta::assert_snapshot!(refusal(plain, format!("{}--x--", part("pwd", twice, &password))), @r#"the manifest binds the secret "password" to the fields "pwd", and the multipart form is ambiguous: part 1 has a header other than Content-Disposition and Content-Type, or one of them twice; remove it"#);
        let typed = format!("\r\nContent-Type: text/{token}");
        insta::assert_snapshot!(refusal(plain, format!("{}--x--", part("pwd", &typed, &password))), @r#"the manifest binds the secret "password" to the fields "pwd", and the multipart form is ambiguous: a placeholder is not the whole value of a part; remove the text around it"#);
        insta::assert_snapshot!(refusal(plain, format!("{}{login}--x--", part("q", "", &token))), @"body: the secret token contains a line break, which could begin another part of a multipart form; send it in a form or JSON body");
        insta::assert_snapshot!(refusal(plain, format!("{}--x--", part("q", "", &password))), @r#"the manifest binds the secret "password" to the fields "pwd", but it occurs in "q"; add "q" to the "fields" of the secret in the rule"#);
        assert_eq!(
            fill("multipart/form-data; boundary=y", format!("--x\r\n{token}\r\n--x--")),
            Ok(1),
            "an unbound one goes anywhere"
        );
    }

    #[test]
    fn a_request_holds_few_placeholders() {
        let fixture = fixture("s3cret-value");
        let request = |count: usize| Request::post("https://a.example/", "text/plain", fixture.word.repeat(count));
        assert_eq!(fixture.fill(request(MAX_SUBSTITUTIONS_PER_REQUEST), true).unwrap().secrets.substitutions, 16);
        insta::assert_snapshot!(fixture.refusal(request(MAX_SUBSTITUTIONS_PER_REQUEST + 1), true), @"the request contains more than 16 placeholders of secrets; send fewer");
    }

    #[test]
    fn without_placeholders_nothing_changes() {
        let fixture = fixture("s3cret-value");
        let body = Bytes::from(vec![0xff; MAX_SECRET_BODY + 1]);
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
