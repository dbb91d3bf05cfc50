//! Document types, and the patterns with which a rule names them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::string_newtype::text_form;

/// The `type` of rules on hosts, and therefore never a doctype.
pub(crate) const HTTP: &str = "http";

/// The type of a document, for example `io.cozy.bills`: `a-z`, `0-9`, `_` and `.`, without a leading, trailing or
/// double dot (Cozy API: permissions, grammar). `http` is not a doctype but the type of rules on hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Doctype(String);

text_form!(Doctype);

impl Doctype {
    /// Returns the part after the last dot: `bills` of `io.cozy.bills`.
    pub fn last_part(&self) -> &str {
        self.0.rsplit('.').next().unwrap_or(&self.0)
    }

    /// Returns whether this is `other` or one of the doctypes below it: `a.b.c.d` is within `a.b.c`, `a.b.cx` is not.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.strip_prefix(&other.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl FromStr for Doctype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let reject = |reason| Err(Error::Doctype { doctype: text.to_owned(), reason });
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'.';
        if !text.bytes().all(allowed) {
            return reject(r#"it contains a character other than a-z, 0-9, "_" and ".""#);
        }
        if text.split('.').any(str::is_empty) {
            return reject("a dot in it is not between two names; write for example \"io.cozy.bills\"");
        }
        if text == HTTP {
            return reject("it is reserved for rules on hosts");
        }
        Ok(Self(text.to_owned()))
    }
}

/// Doctypes that a rule applies to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DoctypePattern {
    /// Only this doctype.
    Exact(Doctype),
    /// This doctype and all doctypes below it, written `a.b.c.*`, with at least three parts before the star.
    Subtree(Doctype),
    /// Every doctype. A manifest cannot express it; see [`crate::Permissions::everything`].
    Any,
}

impl DoctypePattern {
    /// Returns whether a rule with this pattern applies to documents of `doctype`.
    pub fn matches(&self, doctype: &Doctype) -> bool {
        match self {
            Self::Exact(own) => own == doctype,
            Self::Subtree(own) => doctype.is_within(own),
            Self::Any => true,
        }
    }

    /// Returns whether every doctype that `other` matches is matched by this pattern.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) | (Self::Exact(_), Self::Subtree(_)) => false,
            (own, Self::Exact(doctype)) => own.matches(doctype),
            (Self::Subtree(own), Self::Subtree(doctype)) => doctype.is_within(own),
        }
    }
}

impl From<Doctype> for DoctypePattern {
    fn from(doctype: Doctype) -> Self {
        Self::Exact(doctype)
    }
}

/// Parses the forms that a manifest may use: `a.b.c` and `a.b.c.*`.
impl FromStr for DoctypePattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let reject = |reason| Err(Error::Doctype { doctype: text.to_owned(), reason });
        if text == "*" {
            return reject("a star alone is not allowed; name each doctype, as in \"io.cozy.bills\"");
        }
        let Some(before) = text.strip_suffix(".*") else {
            return text.parse().map(Self::Exact);
        };
        let parent = match before.parse::<Doctype>() {
            Ok(parent) => parent,
            Err(Error::Doctype { reason, .. }) => return reject(reason),
            Err(other) => return Err(other),
        };
        if before.split('.').count() < 3 {
            return reject("fewer than three names precede the star; write for example \"io.cozy.bank.*\"");
        }
        Ok(Self::Subtree(parent))
    }
}

impl fmt::Display for DoctypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(doctype) => write!(f, "{doctype}"),
            Self::Subtree(doctype) => write!(f, "{doctype}.*"),
            Self::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn doctype(text: &str) -> Doctype {
        text.parse().expect(text)
    }

    fn pattern(text: &str) -> DoctypePattern {
        text.parse().expect(text)
    }

    #[test]
    fn p1_names() {
        for good in ["io.cozy.files", "io.cozy.account_types", "750g.data", "fr.maif.maifuser.contrat", "files"] {
            assert_eq!(doctype(good).to_string(), good);
        }
        for bad in [
            "",
            "IO.COZY.FILES",
            "io.cozy.account-types",
            ".io.cozy.files",
            "io.cozy.files.",
            "io..cozy..files",
            "*",
            ".",
            "io.cozy.files.*",
            "io cozy",
            "io/cozy",
            "é",
            "http",
        ] {
            assert!(bad.parse::<Doctype>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn p1_wildcards_need_three_names_before_the_star() {
        for good in ["io.cozy.banks.*", "io.cozy.files.*", "a.b.c.d.*"] {
            assert_eq!(pattern(good).to_string(), good);
        }
        for bad in
            ["io.cozy.*", "com.bitwarden.*", "*", "*.*", ".*", "io.cozy.files*", "io.*.files", "io.cozy..*", "a.b.c.**"]
        {
            assert!(bad.parse::<DoctypePattern>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_wildcard_matches_its_parent_and_what_is_below() {
        let banks = pattern("io.cozy.bank.*");
        assert!(banks.matches(&doctype("io.cozy.bank")));
        assert!(banks.matches(&doctype("io.cozy.bank.accounts.stats")));
        assert!(!banks.matches(&doctype("io.cozy.banks")));
        assert!(!banks.matches(&doctype("io.cozy")));
    }

    #[test]
    fn covering() {
        let covers = |wide: &str, narrow: &str| pattern(wide).covers(&pattern(narrow));
        assert!(covers("a.b.c.*", "a.b.c"));
        assert!(covers("a.b.c.*", "a.b.c.d.*"));
        assert!(!covers("a.b.c.d.*", "a.b.c.*"));
        assert!(!covers("a.b.c", "a.b.c.*"));
        assert!(!covers("a.b.c.*", "a.b.cx.*"));
        assert!(DoctypePattern::Any.covers(&pattern("a.b.c.*")));
        assert!(!pattern("a.b.c.*").covers(&DoctypePattern::Any));
    }

    #[test]
    fn p1_refusals() {
        let refusals: Vec<String> =
            ["io.cozy.account-types", "io..files", "io.cozy.*", "com.bitwarden.*", "io.Cozy.files.*", "*"]
                .iter()
                .map(|text| text.parse::<DoctypePattern>().unwrap_err().to_string())
                .chain(["http".parse::<Doctype>().unwrap_err().to_string()])
                .collect();
        insta::assert_snapshot!(refusals.join("\n"), @r#"
        "io.cozy.account-types" is not a doctype that a rule can name: it contains a character other than a-z, 0-9, "_" and "."
        "io..files" is not a doctype that a rule can name: a dot in it is not between two names; write for example "io.cozy.bills"
        "io.cozy.*" is not a doctype that a rule can name: fewer than three names precede the star; write for example "io.cozy.bank.*"
        "com.bitwarden.*" is not a doctype that a rule can name: fewer than three names precede the star; write for example "io.cozy.bank.*"
        "io.Cozy.files.*" is not a doctype that a rule can name: it contains a character other than a-z, 0-9, "_" and "."
        "*" is not a doctype that a rule can name: a star alone is not allowed; name each doctype, as in "io.cozy.bills"
        "http" is not a doctype that a rule can name: it is reserved for rules on hosts
        "#);
    }

    proptest! {
        /// A second definition of the grammar: names joined by dots.
        #[test]
        fn names_joined_by_dots_are_doctypes(names in prop::collection::vec("[a-z0-9_]{1,8}", 1..6)) {
            let text = names.join(".");
            prop_assume!(text != HTTP);
            prop_assert_eq!(doctype(&text).to_string(), text.clone());
            prop_assert_eq!(format!("{text}.*").parse::<DoctypePattern>().is_ok(), names.len() >= 3);
        }

        #[test]
        fn anything_else_is_rejected(text in any::<String>()) {
            let joined = text.split('.').all(|name| {
                !name.is_empty() && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'))
            });
            prop_assert_eq!(text.parse::<Doctype>().is_ok(), joined && text != HTTP);
        }

        /// `covers` implies `matches`.
        #[test]
        fn covering_agrees_with_matching(
            wide in "[ab]\\.[ab]\\.[ab](\\.[ab]){0,2}(\\.\\*)?",
            narrow in "[ab]\\.[ab]\\.[ab](\\.[ab]){0,2}(\\.\\*)?",
            document in "[ab]\\.[ab]\\.[ab](\\.[ab]){0,3}",
        ) {
            if pattern(&wide).covers(&pattern(&narrow)) && pattern(&narrow).matches(&doctype(&document)) {
                prop_assert!(pattern(&wide).matches(&doctype(&document)));
            }
        }
    }
}
