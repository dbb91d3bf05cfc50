//! Credentials in a request: RFC 6750 (Bearer) and RFC 7617 (Basic).

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;

/// Returns the credentials of an authentication scheme; the scheme name is case-insensitive.
fn scheme<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case(name).then(|| rest.trim())
}

/// Returns the token of `Authorization: Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<String> {
    scheme(headers, "Bearer").map(str::to_owned)
}

/// Returns the password of `Authorization: Basic`; the user name is always ignored.
pub fn basic_password(headers: &HeaderMap) -> Option<String> {
    let decoded = STANDARD.decode(scheme(headers, "Basic")?).ok()?;
    let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(password.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).expect("a header"))])
    }

    #[test]
    fn schemes_have_no_case_and_passwords_may_hold_colons() {
        assert_eq!(bearer(&with("bearer abc")).as_deref(), Some("abc"));
        assert_eq!(bearer(&with("Basic abc")), None);
        let basic = format!("basic {}", STANDARD.encode("anyone:pass:word"));
        assert_eq!(basic_password(&with(&basic)).as_deref(), Some("pass:word"));
        for wrong in ["Basic", "Basic %%%", "Basic YWJj"] {
            assert_eq!(basic_password(&with(wrong)), None, "{wrong}");
        }
    }
}
