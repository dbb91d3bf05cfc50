//! Revisions of documents.

use std::fmt;
use std::str::FromStr;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The revision of a document, `<generation>-<32 hexadecimal digits>` as in CouchDB.
///
/// The digits are derived from the previous revision and the body, so the same history has the same revisions on every
/// backend. They do not protect against forgery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rev {
    generation: u64,
    digest: [u8; 16],
}

/// MD5 digest of a document's body, from which its revision is computed together with the previous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodyDigest([u8; 16]);

impl BodyDigest {
    pub(crate) const DELETED: Self = Self([0; 16]);

    pub(crate) fn of(json: &[u8]) -> Self {
        Self(Md5::digest(json).into())
    }
}

impl Rev {
    /// Returns the number of changes up to this revision, 1 for a new document.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn after(previous: Option<&Self>, body: BodyDigest) -> Self {
        let mut hash = Md5::new();
        if let Some(previous) = previous {
            hash.update(previous.generation.to_be_bytes());
            hash.update(previous.digest);
        }
        hash.update(body.0);
        let generation = previous.map_or(0, |rev| rev.generation).saturating_add(1);
        Self { generation, digest: hash.finalize().into() }
    }
}

impl FromStr for Rev {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (generation, digits) = text.split_once('-')?;
            let canonical = generation.bytes().all(|b| b.is_ascii_digit()) && !generation.starts_with('0');
            let mut digest = [0; 16];
            hex::decode_to_slice(digits, &mut digest).ok()?;
            let generation = generation.parse().ok().filter(|_| canonical)?;
            Some(Self { generation, digest })
        };
        parse().ok_or_else(|| Error::Invalid {
            field: "revision",
            reason: format!("{text:?} is not <number>-<32 hexadecimal digits>; take the _rev of the document"),
        })
    }
}

impl TryFrom<String> for Rev {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Rev> for String {
    fn from(rev: Rev) -> Self {
        rev.to_string()
    }
}

impl fmt::Display for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.generation, hex::encode(self.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_follows_from_its_history() {
        let first = Rev::after(None, BodyDigest::of(b"{\"a\":1}"));
        let second = Rev::after(Some(&first), BodyDigest::of(b"{\"a\":1}"));
        insta::assert_snapshot!(format!("{first} {second}"), @"1-9e680e4ad7dd24b1ae34fa328c5bf3bf 2-20013fad86bc4e31740332331b95fa16");
        assert_eq!(first, Rev::after(None, BodyDigest::of(b"{\"a\":1}")));
        assert_ne!(second, Rev::after(Some(&first), BodyDigest::of(b"{\"a\":2}")));
        assert_ne!(second, Rev::after(Some(&first), BodyDigest::DELETED));
    }

    #[test]
    fn a_revision_is_read_back_and_invalid_ones_are_rejected() {
        let rev = Rev::after(None, BodyDigest::of(b"{}"));
        assert_eq!(rev.to_string().parse::<Rev>().unwrap(), rev);
        let digits = "0".repeat(32);
        for wrong in ["", "1", "1-", "-1", &format!("0-{digits}"), &format!("+1-{digits}"), &format!("01-{digits}")] {
            assert!(wrong.parse::<Rev>().is_err(), "{wrong:?}");
        }
    }
}
