//! Decides the target of a redirect and which parts of the request follow it (RFC 9110 §15.4, and the Fetch Standard,
//! "HTTP-redirect fetch").

use http::{HeaderMap, HeaderName, Method, StatusCode, header};

use super::error::HttpError;
use super::request::{RequestTemplate, normalize_url};
use super::secret::SecretSnapshot;
use super::secret_redactor::SecretRedactor;

/// Maximum number of redirects followed for one request.
pub const MAX_REDIRECTS: usize = 10;

/// Headers that describe the body and are dropped with it.
const BODY_HEADERS: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    HeaderName::from_static("content-md5"),
];

/// The request that follows a redirect.
pub(super) struct RedirectRequest {
    pub(super) template: RequestTemplate,
    /// Number of headers with credentials that are not forwarded.
    pub(super) dropped_credentials: u64,
}

/// Returns the next request, or `None` if the response is not a redirect.
pub(super) fn redirect_request(
    template: &RequestTemplate,
    status: StatusCode,
    headers: &HeaderMap,
    secrets: &SecretSnapshot,
    redactor: Option<&SecretRedactor>,
) -> Result<Option<RedirectRequest>, HttpError> {
    let becomes_get = match status.as_u16() {
        301 | 302 => template.method == Method::POST,
        303 => !matches!(template.method, Method::GET | Method::HEAD),
        307 | 308 => false,
        _ => return Ok(None),
    };
    let Some(location) = headers.get(header::LOCATION) else { return Ok(None) };
    let redacted = redactor.map(|redactor| redactor.redact_bytes(location.as_bytes()));
    let location = String::from_utf8_lossy(location.as_bytes());
    let unusable = |reason: String| {
        HttpError::Protocol(format!(
            "a redirect from {} cannot be followed: {reason}",
            template.url.origin().ascii_serialization()
        ))
    };
    let url = template.url.join(&location).map_err(|error| unusable(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unusable(format!(
            "its target is a {}: URL and not a web page; to read the target, send the request with follow-redirects \
             off",
            url.scheme()
        )));
    }
    let url = normalize_url(url).map_err(|error| unusable(error.to_string()))?;
    if let (Some(redactor), Some(redacted)) = (redactor, redacted) {
        // A value that the vendor writes unencoded, and that changes when it becomes part of a URL, would no longer be
        // recognised there.
        let same = template.url.join(&String::from_utf8_lossy(&redacted)).is_ok_and(|redacted| {
            normalize_url(redacted)
                .is_ok_and(|redacted| redacted.as_str().eq_ignore_ascii_case(&redactor.redact(url.as_str())))
        });
        if !same {
            return Err(unusable("its target contains a secret that is not URL-encoded".to_owned()));
        }
    }
    if template.url.scheme() == "https" && url.scheme() == "http" {
        return Err(HttpError::Denied(format!(
            "{} redirects to {}, but redirects from https to http are not allowed",
            template.url.origin().ascii_serialization(),
            url.origin().ascii_serialization()
        )));
    }
    let (mut next, mut dropped) = (template.clone(), 0);
    if becomes_get {
        next.method = Method::GET;
        next.body = None;
        for name in BODY_HEADERS {
            next.headers.remove(name);
        }
    }
    if url.origin() != template.url.origin() {
        let secret_holders =
            template.headers.iter().filter(|(_, value)| secrets.find(value.as_bytes()).next().is_some());
        for name in secret_holders.map(|(name, _)| name).chain(&[header::AUTHORIZATION, header::COOKIE]) {
            dropped += u64::from(next.headers.remove(name).is_some());
        }
    }
    next.url = url;
    Ok(Some(RedirectRequest { template: next, dropped_credentials: dropped }))
}

#[cfg(test)]
mod tests {
    use super::super::request::Request;
    use super::super::secret::SecretTable;
    use super::*;

    fn follow(request: Request, status: u16, location: &str) -> Result<Option<RequestTemplate>, HttpError> {
        follow_with(&SecretTable::default(), request, status, location)
    }

    fn follow_with(
        table: &SecretTable,
        request: Request,
        status: u16,
        location: &str,
    ) -> Result<Option<RequestTemplate>, HttpError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, location.parse().unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        Ok(redirect_request(&RequestTemplate::new(request).unwrap(), status, &headers, &table.snapshot(), None)?
            .map(|next| next.template))
    }

    fn post() -> Request {
        Request::post("https://a.example/dir/page?q", "text/plain", "body")
    }

    #[test]
    fn the_method_and_the_body_follow_the_status() {
        for (method, status, expected) in [
            ("POST", 301, "GET"),
            ("POST", 302, "GET"),
            ("POST", 303, "GET"),
            ("POST", 307, "POST"),
            ("POST", 308, "POST"),
            ("PUT", 301, "PUT"),
            ("PUT", 302, "PUT"),
            ("PUT", 303, "GET"),
            ("HEAD", 303, "HEAD"),
            ("GET", 302, "GET"),
        ] {
            let template = follow(Request { method: method.into(), ..post() }, status, "/x").unwrap().unwrap();
            assert_eq!(template.method, expected, "{method} {status}");
            let is_unchanged = method == expected;
            assert_eq!(
                template.body.is_some() && template.headers.contains_key("content-type"),
                is_unchanged,
                "{method} {status}"
            );
        }
    }

    #[test]
    fn a_response_that_is_not_a_redirect_is_returned() {
        for status in [200, 300, 304, 305, 306, 404] {
            assert!(follow(post(), status, "/x").unwrap().is_none(), "{status}");
        }
        let template = RequestTemplate::new(post()).unwrap();
        assert!(
            redirect_request(&template, StatusCode::FOUND, &HeaderMap::new(), &SecretTable::default().snapshot(), None)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn locations_are_relative_to_the_page() {
        for (location, expected) in [
            ("next", "https://a.example/dir/next"),
            ("?p", "https://a.example/dir/page?p"),
            ("//b.example/#f", "https://b.example/"),
            ("https://A.example.:443/", "https://a.example/"),
        ] {
            assert_eq!(follow(post(), 302, location).unwrap().unwrap().url.as_str(), expected);
        }
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let table = SecretTable::new([("key".to_owned(), "value".to_owned())]).unwrap();
        let request = || {
            post()
                .header("Authorization", "x")
                .header("Cookie", "a=b")
                .header("X-Key", &table.placeholder("key").unwrap())
                .header("X-Other", "1")
        };
        let names = |location| {
            let template = follow_with(&table, request(), 307, location).unwrap().unwrap();
            template
                .headers
                .keys()
                .map(|name| name.as_str().to_owned())
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(names("/x"), ["accept-encoding", "authorization", "content-type", "cookie", "x-key", "x-other"]);
        for other in ["https://b.example/", "https://a.example:8443/", "https://www.a.example/"] {
            assert_eq!(names(other), ["accept-encoding", "content-type", "x-other"], "{other}");
        }
    }

    #[test]
    fn redirects_that_are_not_followed() {
        let refusal = |location| follow(post(), 302, location).unwrap_err().to_string();
        insta::assert_snapshot!(refusal("http://a.example/"), @"https://a.example redirects to http://a.example, but redirects from https to http are not allowed");
        insta::assert_snapshot!(refusal("file:///etc/passwd"), @"a redirect from https://a.example cannot be followed: its target is a file: URL and not a web page; to read the target, send the request with follow-redirects off");
        insta::assert_snapshot!(refusal("https://me:pw@b.example/"), @"a redirect from https://a.example cannot be followed: url: the URL contains a user name or a password; send an Authorization header instead");
        insta::assert_snapshot!(refusal("https://[::1/"), @"a redirect from https://a.example cannot be followed: invalid IPv6 address");
    }
}
