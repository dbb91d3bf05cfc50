//! Actions that a rule allows.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::Error;

/// An action on documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Reads documents.
    Get,
    /// Creates documents.
    Post,
    /// Replaces documents.
    Put,
    /// Changes documents in part.
    Patch,
    /// Deletes documents.
    Delete,
}

impl Verb {
    /// All verbs, in the order in which they are written.
    pub const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// Returns the name as in a manifest: `GET`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Verb {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text).ok_or_else(|| Error::Verb {
            verb: text.to_owned(),
            advice: "use GET, POST, PUT, PATCH and DELETE, or ALL alone",
        })
    }
}

/// The method of an HTTP request, which is an upper-case token of RFC 9110 §5.6.2.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Method {
    Verb(Verb),
    Other(String),
}

impl Method {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Verb(verb) => verb.as_str(),
            Self::Other(name) => name,
        }
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(verb) = text.parse() {
            return Ok(Self::Verb(verb));
        }
        let token = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&c);
        if text.is_empty() || text == ALL || !text.bytes().all(token) {
            return Err(Error::Verb {
                verb: text.to_owned(),
                advice: "use HTTP methods in upper case, such as GET, POST or PROPFIND, or ALL alone",
            });
        }
        Ok(Self::Other(text.to_owned()))
    }
}

const ALL: &str = "ALL";

/// The verbs of a rule, at least one. For documents they are a subset of [`Verb`], for hosts any HTTP methods.
///
/// A list of names in JSON; absent, empty and `["ALL"]` mean all (Cozy API: permissions, grammar).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Verbs(Option<BTreeSet<Method>>);

impl Verbs {
    /// Every verb, every method.
    pub const ALL: Self = Self(None);

    /// Returns a set of these verbs.
    pub fn only(first: Verb, more: impl IntoIterator<Item = Verb>) -> Self {
        Self(Some(std::iter::once(first).chain(more).map(Method::Verb).collect()))
    }

    /// Parses the verbs of a rule on documents; an empty list means all.
    ///
    /// # Errors
    ///
    /// [`Error::Verb`] for a name that is not a [`Verb`]; `ALL` must be the only name.
    pub(crate) fn for_documents<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        Self::parse(names, |name| name.parse().map(Method::Verb))
    }

    /// Parses the methods of a rule on hosts; an empty list means all.
    ///
    /// # Errors
    ///
    /// [`Error::Verb`] for a name that is not an upper-case method name; `ALL` must be the only name.
    pub(crate) fn for_hosts<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        Self::parse(names, str::parse)
    }

    fn parse<'a>(
        names: impl IntoIterator<Item = &'a str>,
        one: impl Fn(&str) -> Result<Method, Error>,
    ) -> Result<Self, Error> {
        let names: Vec<&str> = names.into_iter().collect();
        match names.as_slice() {
            [] | [ALL] => Ok(Self::ALL),
            several => several.iter().map(|name| one(name)).collect::<Result<_, _>>().map(Some).map(Self),
        }
    }

    /// Returns whether a rule with these verbs allows `verb` on documents.
    pub fn contains(&self, verb: Verb) -> bool {
        self.0.as_ref().is_none_or(|methods| methods.contains(&Method::Verb(verb)))
    }

    /// Returns whether a rule with these verbs allows an HTTP request with `method`, in any case; GET also allows HEAD,
    /// which returns less.
    pub fn contains_method(&self, method: &str) -> bool {
        self.0.as_ref().is_none_or(|methods| {
            methods.iter().map(Method::as_str).any(|own| {
                own.eq_ignore_ascii_case(method) || (own == Verb::Get.as_str() && "HEAD".eq_ignore_ascii_case(method))
            })
        })
    }

    /// Returns whether every method is allowed.
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Iterates over the allowed verbs on documents, in the order of [`Verb::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = Verb> {
        Verb::ALL.into_iter().filter(|verb| self.contains(*verb))
    }

    /// Returns the names as written in a manifest or a scope, or `None` if all are allowed.
    pub fn names(&self) -> Option<impl Iterator<Item = &str>> {
        self.0.as_ref().map(|methods| methods.iter().map(Method::as_str))
    }

    /// Returns the JSON list, or `None` if all are allowed and the field is omitted.
    pub(crate) fn to_json(&self) -> Option<Value> {
        self.names().map(|names| names.map(Value::from).collect())
    }
}

impl From<Verb> for Verbs {
    fn from(verb: Verb) -> Self {
        Self::only(verb, [])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p6_absent_empty_and_all_mean_all() {
        for names in [vec![], vec!["ALL"]] {
            assert_eq!(Verbs::for_documents(names.clone()).unwrap(), Verbs::ALL);
            assert_eq!(Verbs::for_hosts(names).unwrap(), Verbs::ALL);
        }
        assert_eq!(Verbs::ALL.iter().collect::<Vec<_>>(), Verb::ALL);
        assert_eq!(Verbs::ALL.to_json(), None);
    }

    #[test]
    fn are_written_in_one_order() {
        let verbs = Verbs::for_documents(["DELETE", "GET", "GET"]).unwrap();
        assert_eq!(verbs, Verbs::only(Verb::Get, [Verb::Delete]));
        assert_eq!(verbs.to_json(), Some(serde_json::json!(["GET", "DELETE"])));
        assert!(verbs.contains(Verb::Delete) && !verbs.contains(Verb::Put) && !verbs.is_all());
    }

    #[test]
    fn hosts_know_more_methods_than_documents() {
        let verbs = Verbs::for_hosts(["REPORT", "PROPFIND", "GET"]).unwrap();
        assert_eq!(verbs.to_json(), Some(serde_json::json!(["GET", "PROPFIND", "REPORT"])));
        for allowed in ["PROPFIND", "propfind", "REPORT", "GET", "HEAD", "head"] {
            assert!(verbs.contains_method(allowed), "{allowed}");
        }
        for denied in ["POST", "OPTIONS", "REPORTS", "GE", "", "ALL"] {
            assert!(!verbs.contains_method(denied), "{denied}");
        }
        assert!(!Verbs::for_hosts(["HEAD"]).unwrap().contains_method("GET"));
        assert!(Verbs::ALL.contains_method("MKCALENDAR"));
    }

    #[test]
    fn p6_refusals() {
        let documents = ["get", "PROPFIND"].map(|name| Verbs::for_documents([name]).unwrap_err().to_string());
        let mixed = Verbs::for_documents(["ALL", "GET"]).unwrap_err().to_string();
        let hosts = ["get", "", "A B"].map(|name| Verbs::for_hosts([name]).unwrap_err().to_string());
        insta::assert_snapshot!(documents.into_iter().chain([mixed]).chain(hosts).collect::<Vec<_>>().join("\n"), @r#"
        "get" is not a valid verb; use GET, POST, PUT, PATCH and DELETE, or ALL alone
        "PROPFIND" is not a valid verb; use GET, POST, PUT, PATCH and DELETE, or ALL alone
        "ALL" is not a valid verb; use GET, POST, PUT, PATCH and DELETE, or ALL alone
        "get" is not a valid verb; use HTTP methods in upper case, such as GET, POST or PROPFIND, or ALL alone
        "" is not a valid verb; use HTTP methods in upper case, such as GET, POST or PROPFIND, or ALL alone
        "A B" is not a valid verb; use HTTP methods in upper case, such as GET, POST or PROPFIND, or ALL alone
        "#);
    }
}
