//! Patterns for the hosts of a rule.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::Error;

/// Pattern for web addresses: `scheme://host[:port][/prefix]`; the default scheme is https.
///
/// - The scheme is `http` or `https`; the port defaults to that of the scheme.
/// - `*.bank.example` stands for one or more labels before `bank.example`, never for `bank.example` itself. It is not
///   allowed on a public suffix (<https://publicsuffix.org>), because strangers own the names below it, and does not
///   reach below one: `*.amazonaws.com` matches `sts.amazonaws.com`, but not `anyone.s3.amazonaws.com`, which
///   belongs to another customer.
/// - Hosts compare in the canonical form of the WHATWG URL standard (lower case, punycode); a final dot makes no
///   difference. An IP address is only matched by a pattern that spells it out.
/// - A prefix matches whole segments of the normalised path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern {
    https: bool,
    hosts: HostMatcher,
    port: u16,
    /// Empty, or `/segment[/…]` without a final slash.
    prefix: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum HostMatcher {
    /// A canonical host.
    Exact(String),
    /// All names below this one.
    Subdomains(String),
}

impl HostPattern {
    /// Returns whether a request to `url` matches this pattern. A URL with a user name or a password never matches,
    /// because it would send unchecked credentials, and it misleads readers about its host.
    pub fn matches(&self, url: &Url) -> bool {
        self.matches_host(url) && self.matches_path(url.path())
    }

    /// Like [`Self::matches`], but ignores the path.
    pub fn matches_host(&self, url: &Url) -> bool {
        let Some((scheme, host, port)) = origin(url) else { return false };
        scheme == self.scheme() && port == self.port && self.hosts.matches(&host)
    }

    fn matches_path(&self, path: &str) -> bool {
        self.prefix.is_empty() || (has_path_prefix(path, &self.prefix) && !may_escape_prefix(path))
    }

    /// Returns whether every URL that `other` matches is matched by this pattern.
    pub fn covers(&self, other: &Self) -> bool {
        self.https == other.https
            && self.port == other.port
            && (self.prefix.is_empty() || has_path_prefix(&other.prefix, &self.prefix))
            && match (&self.hosts, &other.hosts) {
                (own, HostMatcher::Exact(host)) => own.matches(host),
                (own @ HostMatcher::Subdomains(above), HostMatcher::Subdomains(domain)) => {
                    above == domain || own.matches(domain)
                }
                (HostMatcher::Exact(_), HostMatcher::Subdomains(_)) => false,
            }
    }

    /// Returns the part of this pattern at or below a path, or `None` if that part is empty.
    pub(crate) fn restrict_to_path(&self, path: &str) -> Option<Self> {
        if has_path_prefix(&self.prefix, path) {
            Some(self.clone())
        } else if has_path_prefix(path, &self.prefix) {
            Some(Self { prefix: path.to_owned(), ..self.clone() })
        } else {
            None
        }
    }

    /// Returns the pattern for exactly the scheme, host and port of `url`, or `None` unless it is a web address without
    /// credentials.
    pub fn from_origin(url: &Url) -> Option<Self> {
        let (scheme, host, port) = origin(url)?;
        Some(Self { https: scheme == "https", hosts: HostMatcher::Exact(host), port, prefix: String::new() })
    }

    /// Returns the host, or the parent domain of all hosts that it stands for; without a port.
    pub fn host(&self) -> &str {
        match &self.hosts {
            HostMatcher::Exact(host) | HostMatcher::Subdomains(host) => host,
        }
    }

    /// Returns whether the pattern stands for one host, rather than for names under a star.
    pub const fn is_exact(&self) -> bool {
        matches!(self.hosts, HostMatcher::Exact(_))
    }

    const fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

impl HostMatcher {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(own) => own == host,
            Self::Subdomains(domain) => is_subdomain(host, domain) && public_suffix(host).len() < domain.len(),
        }
    }
}

/// Returns the part of a canonical host under which anyone can register a name, or the last label if no rule of the
/// list applies.
fn public_suffix(host: &str) -> &str {
    psl::suffix_str(host).unwrap_or(host)
}

/// Returns scheme, canonical host without final dot, and port of a web address without credentials.
fn origin(url: &Url) -> Option<(&str, String, u16)> {
    let scheme = Some(url.scheme()).filter(|scheme| matches!(*scheme, "http" | "https"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let host = url.host_str()?;
    let host = host.strip_suffix('.').unwrap_or(host);
    // The URL standard allows empty labels, but no real name has them.
    let named = host.split('.').all(|label| !label.is_empty());
    named.then_some((scheme, host.to_owned(), url.port_or_known_default()?))
}

fn is_subdomain(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).and_then(|labels| labels.strip_suffix('.')).is_some_and(|labels| !labels.is_empty())
}

fn has_path_prefix(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns whether a path lies at or below a prefix read by [`parse_prefix`], even for servers that decode it a second
/// time.
pub(crate) fn is_within_prefix(path: &str, prefix: &str) -> bool {
    has_path_prefix(path, prefix) && !may_escape_prefix(path)
}

/// Parses a path prefix, `/segment[/…]`, into its canonical form without a final slash.
pub(crate) fn parse_prefix(text: &str) -> Result<String, &'static str> {
    if !text.starts_with('/') || text.starts_with("//") {
        return Err(r#"begin the path with one slash, as in "/login""#);
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '\\' | '?' | '#')) {
        return Err("leave spaces, backslashes, the query and the fragment out");
    }
    let url = Url::parse(&format!("https://host.example{text}")).map_err(|_| "write a valid path of a URL")?;
    let prefix = url.path().trim_end_matches('/');
    if may_escape_prefix(text) || may_escape_prefix(prefix) {
        return Err("write a path that does not lead upwards");
    }
    Ok(prefix.to_owned())
}

/// Returns whether a server that decodes the path a second time could find a `..` in it. The URL standard resolves `..`
/// and `%2e%2e`, but not `..%2f`, `%252e` and `..;` (a path parameter for some Java servers); each would escape a
/// prefix.
fn may_escape_prefix(path: &str) -> bool {
    let mut text = path.to_owned();
    loop {
        let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
        if text.split(['/', '\\']).any(dots) {
            return true;
        }
        let decoded = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if decoded == text {
            return false;
        }
        text = decoded;
    }
}

impl FromStr for HostPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|reason| Error::Host { host: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<HostPattern, String> {
    // The URL parser silently drops or rewrites these; a rule should mean what it appears to say.
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err("it contains a space, a control character or a backslash; remove it".to_owned());
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    if !matches!(scheme, "http" | "https") {
        return Err(format!("the scheme {scheme} is not supported; use http or https"));
    }
    let wildcard = rest.strip_prefix("*.");
    let written = wildcard.unwrap_or(rest);
    if written.is_empty() || written.starts_with(['*', '/', ':', '?', '#']) {
        return Err("it names no host; write for example \"https://www.bank.example\"".to_owned());
    }
    let authority = written.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("it contains a user name or a password; leave them out".to_owned());
    }
    if authority.ends_with(':') {
        return Err("the port after the colon is missing; add it, or leave out the colon".to_owned());
    }
    let url = Url::parse(&format!("{scheme}://{written}")).map_err(|error| error.to_string())?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it contains a query or a fragment; leave them out".to_owned());
    }
    let Some((_, host, port)) = origin(&url) else {
        return Err("it names no host; write for example \"https://www.bank.example\"".to_owned());
    };
    if host.contains('*') {
        return Err("a star is not the first label; write for example \"https://*.bank.example\"".to_owned());
    }
    let prefix = url.path().trim_end_matches('/');
    if may_escape_prefix(prefix) {
        return Err("the prefix leads upwards; remove .. from it".to_owned());
    }
    let hosts = match wildcard {
        None => parse_exact_host(&url, written, host)?,
        Some(_) => parse_subdomains(&url, host)?,
    };
    Ok(HostPattern { https: scheme == "https", hosts, port, prefix: prefix.to_owned() })
}

fn parse_exact_host(url: &Url, written: &str, host: String) -> Result<HostMatcher, String> {
    let is_address = matches!(url.host(), Some(Host::Ipv4(_) | Host::Ipv6(_)));
    // "2130706433" and "0x7f.1" also mean 127.0.0.1, but a reader of the rule must see the actual address.
    let spelled_out =
        written.strip_prefix(host.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']));
    if is_address && !spelled_out {
        return Err(format!("the IP address is not in its usual form; write it as {host}"));
    }
    Ok(HostMatcher::Exact(host))
}

fn parse_subdomains(url: &Url, domain: String) -> Result<HostMatcher, String> {
    if !matches!(url.host(), Some(Host::Domain(_))) {
        return Err("there are no names below an IP address; name each address".to_owned());
    }
    if public_suffix(&domain) == domain {
        return Err(format!("anyone can own names below {domain}, a public suffix; name each host"));
    }
    Ok(HostMatcher::Subdomains(domain))
}

/// Writes the full pattern, except for the scheme's default port.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (star, host) = match &self.hosts {
            HostMatcher::Exact(host) => ("", host),
            HostMatcher::Subdomains(domain) => ("*.", domain),
        };
        write!(f, "{}://{star}{host}", self.scheme())?;
        if self.port != if self.https { 443 } else { 80 } {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.prefix)
    }
}

#[doc(hidden)]
pub mod oracle;

#[cfg(test)]
mod tests;
