//! The account's cookie jar (RFC 6265), saved between runs to preserve a login.

use std::collections::{HashMap, HashSet};

use cookie_store::{Cookie, CookieDomain, CookieStore, RawCookie, StoreAction};
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use url::Url;

use super::cookie_date::expiration;

/// Maximum size of a serialised jar.
pub const MAX_COOKIE_JAR_BYTES: usize = 256 << 10;

/// Maximum combined size of a cookie's name and value (RFC 6265bis §5.6).
const MAX_COOKIE_BYTES: usize = 4096;

/// Cookies of one account.
#[derive(Debug, Default)]
pub(super) struct CookieJar {
    store: CookieStore,
    /// Names of the secrets in the request whose response set the cookie, because such a cookie may repeat a value.
    /// Cookies that the guest set, or that came with other responses, are not included.
    secrets: HashMap<CookieKey, Vec<String>>,
}

/// Domain, path and name of a cookie.
type CookieKey = (String, String, String);

/// A cookie that applies to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MatchingCookie {
    pub(super) name: String,
    pub(super) value: String,
    /// Names of the secrets that the vendor may have copied into it.
    pub(super) secrets: Vec<String>,
}

/// Field of a saved cookie that holds the names of secrets.
const SECRETS_FIELD: &str = "konnector_secrets";

impl CookieJar {
    /// Loads a jar written by [`CookieJar::save`], without the cookies that have expired since. An unreadable jar
    /// counts as empty, so the konnector logs in again.
    pub(super) fn load(saved: &[u8]) -> Self {
        if saved.len() > MAX_COOKIE_JAR_BYTES {
            tracing::warn!(bytes = saved.len(), "discarding a saved cookie jar that is too large");
            return Self::default();
        }
        match parse_jar(saved) {
            Ok(jar) => jar,
            Err(error) => {
                // The error's own text is not logged because it may quote a cookie.
                tracing::warn!(
                    line = error.line(),
                    column = error.column(),
                    "discarding a saved cookie jar that cannot be parsed"
                );
                Self::default()
            }
        }
    }

    /// Serialises all unexpired cookies, including session cookies. Returns `None` if there are none.
    pub(super) fn save(&self) -> Option<Vec<u8>> {
        let cookies: Vec<_> = self.store.iter_unexpired().filter_map(|cookie| self.cookie_to_json(cookie)).collect();
        if cookies.is_empty() {
            return None;
        }
        serde_json::to_vec(&cookies).ok().filter(|saved| saved.len() <= MAX_COOKIE_JAR_BYTES)
    }

    pub(super) fn clear(&mut self) {
        self.store.clear();
        self.secrets.clear();
    }

    fn cookie_to_json(&self, cookie: &Cookie<'_>) -> Option<Value> {
        let mut saved = serde_json::to_value(cookie).ok()?;
        if let (Some(secrets), Some(members)) = (self.secrets.get(&key(cookie)), saved.as_object_mut()) {
            members.insert(SECRETS_FIELD.to_owned(), secrets.clone().into());
        }
        Some(saved)
    }

    /// Stores the cookies of the response to a request with these secrets. Like browsers, it ignores cookies that the
    /// rules forbid or that no longer fit.
    pub(super) fn store(&mut self, headers: &HeaderMap, url: &Url, secrets: &[String]) {
        let mut used = None;
        for line in headers.get_all(header::SET_COOKIE) {
            let Some(cookie) = parse(line, url) else { continue };
            let (domain, path, name) = (
                cookie.domain.as_cow().unwrap_or_default().into_owned(),
                cookie.path.to_string(),
                cookie.name().to_owned(),
            );
            let used = used.get_or_insert_with(|| self.size());
            let replaced = self.store.get(&domain, &path, &name).map_or(0, serialized_size);
            let size = serialized_size(&cookie);
            if !cookie.is_expired() && used.saturating_sub(replaced) + size > MAX_COOKIE_JAR_BYTES {
                tracing::debug!(%domain, name, "discarding a cookie that does not fit into the jar");
                continue;
            }
            match self.store.insert(cookie, url) {
                Ok(StoreAction::ExpiredExisting) => {
                    *used = used.saturating_sub(replaced);
                    self.store.remove(&domain, &path, &name);
                    self.secrets.remove(&(domain, path, name));
                }
                Ok(StoreAction::Inserted | StoreAction::UpdatedExisting) => {
                    *used = used.saturating_sub(replaced) + size;
                    let key = (domain, path, name);
                    if secrets.is_empty() {
                        self.secrets.remove(&key);
                    } else {
                        self.secrets.insert(key, secrets.to_vec());
                    }
                }
                Err(error) => tracing::debug!(%domain, name, %error, "rejected a cookie"),
            }
        }
    }

    /// Stores one cookie as [`CookieJar::store`] does; returns whether this URL may set it.
    pub(super) fn set(&mut self, line: HeaderValue, url: &Url) -> bool {
        if parse(&line, url).is_none() {
            return false;
        }
        self.store(&HeaderMap::from_iter([(header::SET_COOKIE, line)]), url, &[]);
        true
    }

    /// Returns the cookies for a URL, longer paths first (RFC 6265 §5.4).
    pub(super) fn matching(&self, url: &Url) -> Vec<MatchingCookie> {
        let mut stored = self.store.matches(url);
        stored.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let matching = |cookie: &&Cookie<'_>| MatchingCookie {
            name: cookie.name().to_owned(),
            value: cookie.value().to_owned(),
            secrets: self.secrets.get(&key(cookie)).cloned().unwrap_or_default(),
        };
        stored.iter().map(matching).collect()
    }

    /// Returns the `Cookie` header of a request, merged with the guest's own header; if both have the same name, the
    /// guest's cookie wins.
    pub(super) fn cookie_header(&self, url: &Url, own: Option<&HeaderValue>) -> Option<HeaderValue> {
        let own = own.map(HeaderValue::as_bytes).unwrap_or_default();
        let own: Vec<&[u8]> =
            own.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).collect();
        let own_names: HashSet<&[u8]> = own.iter().map(|pair| name_of(pair)).collect();
        let mut stored = self.store.matches(url);
        stored.retain(|cookie| !own_names.contains(cookie.name().as_bytes()));
        // RFC 6265 §5.4: longer paths first.
        stored.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let stored = stored.iter().map(|cookie| format!("{}={}", cookie.name(), cookie.value()).into_bytes());
        let pairs: Vec<Vec<u8>> = stored.chain(own.iter().map(|pair| pair.to_vec())).collect();
        if pairs.is_empty() {
            return None;
        }
        let mut value = HeaderValue::from_bytes(&pairs.join(&b"; "[..])).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn size(&self) -> usize {
        self.store.iter_unexpired().map(serialized_size).sum()
    }
}

fn parse_jar(saved: &[u8]) -> Result<CookieJar, serde_json::Error> {
    let (mut cookies, mut secrets) = (Vec::new(), HashMap::new());
    for mut saved in serde_json::from_slice::<Vec<Value>>(saved)? {
        let names = saved.as_object_mut().and_then(|members| members.remove(SECRETS_FIELD));
        let cookie: Cookie<'static> = serde_json::from_value(saved)?;
        if let Some(names) = names {
            secrets.insert(key(&cookie), serde_json::from_value(names)?);
        }
        cookies.push(Ok::<_, serde_json::Error>(cookie));
    }
    Ok(CookieJar { store: CookieStore::from_cookies(cookies, false)?, secrets })
}

fn key(cookie: &Cookie<'_>) -> CookieKey {
    let domain = cookie.domain.as_cow().unwrap_or_default().into_owned();
    (domain, cookie.path.to_string(), cookie.name().to_owned())
}

fn name_of(pair: &[u8]) -> &[u8] {
    pair.split(|byte| *byte == b'=').next().unwrap_or(pair).trim_ascii()
}

/// Returns the cookie's size in the saved jar in bytes, including the comma after it.
fn serialized_size(cookie: &Cookie<'_>) -> usize {
    serde_json::to_vec(cookie).map_or(usize::MAX / 2, |saved| saved.len() + 1)
}

fn parse(line: &HeaderValue, url: &Url) -> Option<Cookie<'static>> {
    let line = String::from_utf8_lossy(line.as_bytes());
    let expires = expiration(&line);
    let raw = RawCookie::parse(line).ok()?.into_owned();
    if raw.name().len() + raw.value().len() > MAX_COOKIE_BYTES || !is_name_prefix_valid(&raw, url) {
        return None;
    }
    let mut cookie = Cookie::try_from_raw_cookie(&raw, url).ok()?.into_owned();
    cookie.expires = expires;
    // Check the domain as the store compares it, not as the header spells it. Any difference would allow a bypass.
    if let CookieDomain::Suffix(domain) = &cookie.domain
        && is_public_suffix(domain)
    {
        // RFC 6265 §5.3, step 5: a host that is itself a public suffix may set cookies only for itself.
        if !cookie.domain.host_is_identical(url) {
            return None;
        }
        cookie.domain = CookieDomain::HostOnly(domain.clone());
    }
    Some(cookie)
}

/// Returns whether anybody can register names below this one (publicsuffix.org). A name that the list does not contain
/// counts if it is a single label.
fn is_public_suffix(domain: &str) -> bool {
    psl::suffix_str(domain).is_some_and(|suffix| suffix == domain)
}

/// Checks the requirements of the name prefixes `__Secure-` and `__Host-` (RFC 6265bis §4.1.3).
fn is_name_prefix_valid(cookie: &RawCookie<'_>, url: &Url) -> bool {
    let name = cookie.name().to_ascii_lowercase();
    let secure = cookie.secure() == Some(true) && url.scheme() == "https";
    if name.starts_with("__host-") {
        secure && cookie.domain().is_none() && cookie.path() == Some("/")
    } else {
        !name.starts_with("__secure-") || secure
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn jar(from: &str, lines: &[&str]) -> CookieJar {
        let mut jar = CookieJar::default();
        set(&mut jar, from, lines);
        jar
    }

    fn set(jar: &mut CookieJar, from: &str, lines: &[&str]) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::SET_COOKIE, line.parse().unwrap());
        }
        jar.store(&headers, &url(from), &[]);
    }

    fn sent(jar: &CookieJar, to: &str, own: Option<&str>) -> String {
        let own = own.map(|own| HeaderValue::from_str(own).unwrap());
        jar.cookie_header(&url(to), own.as_ref()).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_cookie_goes_back_to_its_host_only() {
        let jar =
            jar("https://www.bank.example/login", &["sid=1; Path=/; HttpOnly", "wide=2; Domain=bank.example; Path=/"]);
        assert_eq!(sent(&jar, "https://api.bank.example/", None), "wide=2");
        assert_eq!(sent(&jar, "https://bank.example/", None), "wide=2");
        assert_eq!(sent(&jar, "https://evilbank.example/", None), "");
        assert_eq!(sent(&jar, "https://other.example/", None), "");
        let both = sent(&jar, "https://www.bank.example/x", None);
        assert!(both.contains("sid=1") && both.contains("wide=2"), "{both}");
    }

    #[test]
    fn public_suffixes_and_foreign_domains_are_rejected() {
        let jar = jar(
            "https://shop.co.uk/",
            &[
                "a=1; Domain=co.uk",
                "b=1; Domain=.co.uk",
                "c=1; Domain=uk",
                "d=1; Domain=other.co.uk",
                "e=1; Domain=example",
                "ok=1; Domain=shop.co.uk",
            ],
        );
        assert_eq!(sent(&jar, "https://www.shop.co.uk/", None), "ok=1");
        assert_eq!(sent(&jar, "https://www.other.co.uk/", None), "");
        assert_eq!(self::jar("https://me.github.io/", &["a=1; Domain=github.io"]).save(), None);
    }

    #[test]
    fn suffixes_in_other_scripts_count() {
        for domain in ["xn--55qx5d.cn", "\u{516c}\u{53f8}.cn", "XN--55QX5D.CN"] {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::SET_COOKIE,
                HeaderValue::from_bytes(format!("a=1; Domain={domain}").as_bytes()).unwrap(),
            );
            let mut jar = CookieJar::default();
            jar.store(&headers, &url("https://shop.xn--55qx5d.cn/"), &[]);
            assert_eq!(sent(&jar, "https://other.xn--55qx5d.cn/", None), "", "{domain}");
        }
    }

    proptest! {
        #[test]
        fn no_spelling_of_a_domain_reaches_strangers(domain in "[. ]{0,2}((www\\.)?shop)?[.]{0,2}([cC]o)?[.]?(uk|UK)?[. ]{0,2}") {
            let jar = jar("https://www.shop.co.uk/", &[&format!("a=1; Domain={domain}; Path=/")]);
            for stranger in ["https://other.co.uk/", "https://www.other.co.uk/", "https://co.uk/", "https://other.uk/"] {
                prop_assert_eq!(sent(&jar, stranger, None), "");
            }
        }
    }

    #[test]
    fn a_site_that_is_a_public_suffix_keeps_its_cookie_to_itself() {
        let jar = jar("https://github.io/", &["a=1; Domain=github.io; Path=/"]);
        assert_eq!(sent(&jar, "https://github.io/", None), "a=1");
        assert_eq!(sent(&jar, "https://me.github.io/", None), "");
    }

    #[test]
    fn secure_cookies_and_prefixes() {
        let jar = jar(
            "https://a.example/",
            &[
                "s=1; Secure",
                "__Host-x=1; Secure; Path=/",
                "__Host-y=1; Secure; Path=/; Domain=a.example",
                "__Secure-z=1",
                "p=1",
            ],
        );
        assert_eq!(sent(&jar, "http://a.example/", None), "p=1");
        let all = sent(&jar, "https://a.example/", None);
        assert!(
            all.contains("s=1")
                && all.contains("__Host-x=1")
                && !all.contains("__Host-y")
                && !all.contains("__Secure-z"),
            "{all}"
        );
    }

    #[test]
    fn longer_paths_come_first_and_the_guests_own_cookies_count_more() {
        let jar = jar("https://a.example/", &["root=1; Path=/", "deep=2; Path=/a/b", "both=3; Path=/"]);
        assert_eq!(
            sent(&jar, "https://a.example/a/b/c", Some("both=mine; extra=4")),
            "deep=2; root=1; both=mine; extra=4"
        );
        assert_eq!(sent(&CookieJar::default(), "https://a.example/", Some(" ; ")), "");
    }

    #[test]
    fn saving_keeps_session_cookies_and_drops_expired_ones() {
        let mut jar = jar("https://a.example/", &["session=1", "lasting=2; Max-Age=3600", "gone=3; Max-Age=3600"]);
        set(&mut jar, "https://a.example/", &["gone=; Max-Age=0"]);
        let loaded = CookieJar::load(&jar.save().unwrap());
        let all = sent(&loaded, "https://a.example/", None);
        assert!(all.contains("session=1") && all.contains("lasting=2") && !all.contains("gone"), "{all}");
        let mut loaded = loaded;
        loaded.clear();
        assert_eq!(loaded.save(), None);
    }

    #[test]
    fn a_cookie_ends_when_its_vendor_says() {
        for end in [
            "Thu, 1 Jan 1970 00:00:00 GMT",
            "Thursday, 01-Jan-70 00:00:00 GMT",
            "Thu Jan  1 00:00:00 1970",
            "1 Jan 1990 0:00:00",
        ] {
            let mut jar = jar("https://a.example/", &["sid=1; Path=/", "other=2; Path=/"]);
            set(&mut jar, "https://a.example/", &[&format!("sid=; Path=/; Expires={end}")]);
            assert_eq!(sent(&jar, "https://a.example/", None), "other=2", "{end}");
            assert_eq!(sent(&CookieJar::load(&jar.save().unwrap()), "https://a.example/", None), "other=2", "{end}");
        }
        let lasting = jar("https://a.example/", &["sid=1; Path=/; Expires=Fri, 1 Jan 2100 1:00:00 GMT"]);
        assert_eq!(sent(&CookieJar::load(&lasting.save().unwrap()), "https://a.example/", None), "sid=1");
    }

    #[test]
    fn a_cookie_is_marked_by_who_set_it_last() {
        let home = url("https://a.example/");
        let line = |line: &str| HeaderMap::from_iter([(header::SET_COOKIE, line.parse().unwrap())]);
        let marks =
            |jar: &CookieJar| jar.matching(&home).into_iter().map(|cookie| cookie.secrets.concat()).collect::<String>();
        let mut jar = CookieJar::default();
        for (secrets, expected) in [(&["password".to_owned()][..], "password"), (&[], "")] {
            jar.store(&line("a=1; Path=/"), &home, secrets);
            assert_eq!(marks(&jar), expected);
            assert_eq!(marks(&CookieJar::load(&jar.save().unwrap())), expected);
        }
        jar.store(&line("a=1; Path=/"), &home, &["password".to_owned()]);
        assert!(jar.set("a=1; Path=/".parse().unwrap(), &home));
        assert_eq!(marks(&jar), "");
    }

    #[test]
    fn a_jar_that_cannot_be_read_is_empty() {
        for saved in [&b""[..], b"{", b"[1]", b"[{\"raw_cookie\":\"x\"}]", &vec![b' '; MAX_COOKIE_JAR_BYTES + 1]] {
            assert_eq!(CookieJar::load(saved).save(), None);
        }
    }

    #[test]
    fn it_never_grows_beyond_its_limit() {
        let mut jar = CookieJar::default();
        for number in 0..200 {
            set(&mut jar, "https://a.example/", &[&format!("c{number}={}", "\"".repeat(3_000))]);
        }
        assert!(jar.save().unwrap().len() <= MAX_COOKIE_JAR_BYTES);
        set(&mut jar, "https://b.example/", &[&format!("c={}", "x".repeat(MAX_COOKIE_BYTES))]);
        assert_eq!(sent(&jar, "https://b.example/", None), "");
    }
}
