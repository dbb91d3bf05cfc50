//! A test oracle for [`HostPattern`], for property tests and fuzzers. It parses the rule naively and leaves the URL to
//! the `url` crate.

use url::Url;

use super::HostPattern;

/// Describes how a rule allows a URL outside its text: another scheme, host, port or path prefix, or a user name.
/// Returns `None` if the two agree, if the rule denies the URL, or if either text cannot be parsed.
pub fn find_violation(rule: &str, url: &str) -> Option<String> {
    let (pattern, url) = (rule.parse::<HostPattern>().ok()?, Url::parse(url).ok()?);
    if !pattern.matches(&url) {
        return None;
    }
    let (scheme, rest) = rule.split_once("://").unwrap_or(("https", rule));
    let (authority, prefix) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let (star, authority) = match authority.strip_prefix("*.") {
        Some(domain) => (true, domain),
        None => (false, authority),
    };
    let written = Url::parse(&format!("{scheme}://{authority}{prefix}")).ok()?;
    let host = |url: &Url| url.host_str().map(|host| host.trim_end_matches('.').to_owned());
    let (expected, found) = (host(&written)?, host(&url)?);
    let host_agrees = if star {
        found.strip_suffix(&expected).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
    } else {
        expected == found
    };
    let segments = |url: &Url| url.path().split('/').map(str::to_owned).collect::<Vec<_>>();
    let mut prefix = segments(&written);
    while prefix.last().is_some_and(String::is_empty) {
        prefix.pop();
    }
    let faults = [
        (url.scheme() != written.scheme(), "scheme"),
        (!host_agrees, "host"),
        (url.port_or_known_default() != written.port_or_known_default(), "port"),
        (!segments(&url).starts_with(&prefix), "path"),
        (!url.username().is_empty() || url.password().is_some(), "credentials"),
    ];
    let (_, part) = faults.into_iter().find(|(wrong, _)| *wrong)?;
    Some(format!("the rule {rule} allows {url}, but its {part} differs"))
}
