//! The `multistatus` of WebDAV (RFC 4918 §13), with the status of each resource, and whether the list is complete.

use konnector_sdk::http::Response;
use konnector_sdk::{Error, Result, Url};

use crate::xml::XmlElement;

/// A response about several resources.
#[derive(Debug, Default)]
pub struct Multistatus {
    pub resources: Vec<Resource>,
    /// URLs that do not exist according to the server.
    pub missing: Vec<Url>,
    /// Resources that exist, but for which the server returns no properties, with the reason.
    pub unreadable: Vec<(Url, String)>,
    /// Whether the list contains every resource, because the server did not truncate the list (RFC 6352 §8.6.2), and
    /// every entry can be read.
    pub is_complete: bool,
}

/// One resource.
#[derive(Debug)]
pub struct Resource {
    pub url: Url,
    /// The URL as the server writes it.
    pub href: String,
    /// The `prop` elements of the properties that the server has.
    properties: Vec<XmlElement>,
}

impl Multistatus {
    /// Parses a response to a request for a collection; its URL, after redirects, is the base of the URLs in it.
    pub fn parse(response: Response) -> Result<Self> {
        let base = response.url().clone();
        if response.status() != 207 {
            return Err(Error::vendor_changed(format!("{base} returned {} instead of a list", response.status())));
        }
        let root = XmlElement::parse(&response.text()?)?;
        if root.name() != "multistatus" {
            return Err(Error::vendor_changed(format!("{base} returned `{}` instead of a list", root.name())));
        }
        let mut read = Self { is_complete: true, ..Self::default() };
        for response in root.into_all("response") {
            read.add_response(response, &base);
        }
        Ok(read)
    }

    fn add_response(&mut self, response: XmlElement, base: &Url) {
        let hrefs: Vec<String> =
            response.all("href").map(|href| href.text().to_owned()).filter(|href| !href.is_empty()).collect();
        let is_cut = response.find(&["error", "number-of-matches-within-limits"]).is_some();
        let status = response.find(&["status"]).map(|line| (status_code(line.text()), line.text().to_owned()));
        self.is_complete &= !is_cut && !hrefs.is_empty();
        let mut urls = Vec::new();
        for href in hrefs {
            match base.join(&href) {
                Ok(url) => urls.push((url, href)),
                // An invalid URL may be that of any resource.
                Err(_) => self.is_complete = false,
            }
        }
        match status {
            // For these resources the server returned properties, or confirmed that they exist.
            None | Some((Some(200..=299), _)) => {
                let has = |status: &XmlElement| {
                    status.find(&["status"]).is_none_or(|line| matches!(status_code(line.text()), Some(200..=299)))
                };
                let properties: Vec<_> =
                    response.into_all("propstat").filter(has).flat_map(|status| status.into_all("prop")).collect();
                let mut properties = Some(properties);
                for (url, href) in urls {
                    self.resources.push(Resource { url, href, properties: properties.take().unwrap_or_default() });
                }
            }
            Some((Some(404 | 410), _)) => self.missing.extend(urls.into_iter().map(|(url, _)| url)),
            Some((code, line)) => {
                // A 507 for the collection means that the list is truncated (RFC 6352 §8.6.2). Assume the same if the
                // 507 is for anything else.
                self.is_complete &= code.is_some_and(|code| code != 507);
                self.unreadable.extend(urls.into_iter().map(|(url, _)| (url, line.clone())));
            }
        }
    }
}

/// Parses `HTTP/1.1 200 OK` (RFC 9112 §4), also without the version.
fn status_code(line: &str) -> Option<u16> {
    line.split_whitespace().find_map(|word| word.parse().ok().filter(|code| (100..600).contains(code)))
}

impl Resource {
    fn property(&self, path: &[&str]) -> Option<&XmlElement> {
        self.properties.iter().find_map(|properties| properties.find(path))
    }

    /// Returns whether the server has the property, even if it is empty.
    pub fn has(&self, path: &[&str]) -> bool {
        self.property(path).is_some()
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.property(&[name]).map(|property| property.text().to_owned()).filter(|text| !text.is_empty())
    }

    /// Returns the URLs within a property.
    pub fn links(&self, name: &str) -> Vec<Url> {
        let Some(property) = self.property(&[name]) else { return Vec::new() };
        property.all("href").filter_map(|href| self.url.join(href.text()).ok()).collect()
    }
}

/// Normalizes the URL of a resource (RFC 3986 §6.2). Servers write `@` as `%40` in one response but not in the next,
/// use another scheme than that of the request, and omit the trailing slash of a collection.
pub fn normalize(url: &Url) -> String {
    let segments = url.path().split('/').filter(|segment| !segment.is_empty()).map(normalize_segment);
    let path = segments.collect::<Vec<_>>().join("/");
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{path}{query}", url.host_str().unwrap_or_default())
}

fn normalize_segment(segment: &str) -> String {
    use std::fmt::Write as _;

    let (mut normal, mut rest) = (String::new(), segment.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.split_first_chunk().filter(|_| *first == b'%');
        let escaped = escaped.and_then(|(digits, after)| Some((hex(*digits)?, after)));
        let byte;
        (byte, rest) = escaped.unwrap_or((*first, after));
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            normal.push(char::from(byte));
        } else {
            // Writing to a string never fails.
            let _ = write!(normal, "%{byte:02X}");
        }
    }
    normal
}

fn hex(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? * 16 + low?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_are_one() {
        let normal = |text: &str| normalize(&Url::parse(text).unwrap());
        let expected = normal("https://dav.example/me%40a/card%20~.vcf");
        for text in [
            "https://dav.example/me@a/card%20~.vcf",
            "https://DAV.example:443/me%40a/card%20%7E.vcf",
            "http://dav.example/me%40a//card%20%7e.vcf",
            "https://dav.example/x/../me@a/./card ~.vcf/",
            "https://dav.example/m%65%40a/card%20~.vcf#top",
        ] {
            assert_eq!(normal(text), expected, "{text}");
        }
        for text in [
            "https://other.example/me%40a/card%20~.vcf",
            "https://dav.example/me%40a%2Fcard%20~.vcf",
            "https://dav.example/me%40a/card%2520~.vcf",
            "https://dav.example/me%40a/card%20~.vcf?2",
            "https://dav.example/Me%40a/card%20~.vcf",
        ] {
            assert_ne!(normal(text), expected, "{text}");
        }
        assert_eq!(normal("https://a.example/%"), "a.example/%25");
        assert_eq!(normal("https://a.example/%C3%A9"), normal("https://a.example/\u{e9}"));
    }

    #[test]
    fn status_lines() {
        assert_eq!(status_code("HTTP/1.1 507 Insufficient Storage"), Some(507));
        assert_eq!(status_code("HTTP/2 200"), Some(200));
        assert_eq!(status_code("200 OK"), Some(200));
        assert_eq!(status_code("HTTP/1.1 OK"), None);
    }
}
