//! The name of a konnector in URLs.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::string_newtype::text_form;

/// The name of a konnector in URLs, ids and folders: `^[a-z0-9-]+$` (Cozy API: konnectors, slugs).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slug(String);

text_form!(Slug);

impl FromStr for Slug {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err(Error::Slug { slug: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        for good in ["bank101", "a", "750g", "my-bank", "-"] {
            assert_eq!(good.parse::<Slug>().expect(good).as_str(), good);
        }
        for bad in ["", "MAB", "orange_mobile", "a.b", "a/b", "..", "é", "a b", "a\n"] {
            assert!(bad.parse::<Slug>().is_err(), "{bad:?}");
        }
        insta::assert_snapshot!("Orange_Mobile".parse::<Slug>().unwrap_err(), @r#""Orange_Mobile" is not a valid slug; use only a-z, 0-9 and "-""#);
    }

    #[test]
    fn is_checked_when_deserialised() {
        assert!(serde_json::from_str::<Slug>(r#""../etc""#).is_err());
        assert_eq!(serde_json::from_str::<Slug>(r#""bank""#).unwrap(), "bank");
    }
}
