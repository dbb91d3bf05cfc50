//! The state of the last run, small enough for the 64 KiB of an account's state: about 2,500 contacts.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use konnector_sdk::Url;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::multistatus::normalize;

/// The address books by their normalized URLs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SyncState(BTreeMap<String, BookState>);

/// Tag and cards of an address book.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookState {
    tag: Option<String>,
    cards: BTreeMap<CardKey, CardVersion>,
}

/// Identifies a card in later runs: 64 bits of the hash of its URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CardKey([u8; 8]);

/// Identifies a version of a card: 32 bits of the hash of its ETag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardVersion(String);

impl SyncState {
    /// Returns the state of an address book; empty for a new one.
    pub fn book(&mut self, url: &Url) -> &mut BookState {
        self.0.entry(normalize(url)).or_default()
    }

    /// Returns the cards that are in none of these books.
    pub fn removed_cards(&self, books: &HashSet<String>) -> Vec<CardKey> {
        let (listed, deleted): (Vec<_>, Vec<_>) = self.0.iter().partition(|(url, _)| books.contains(*url));
        let listed: HashSet<CardKey> = listed.into_iter().flat_map(|(_, book)| book.keys()).collect();
        deleted.into_iter().flat_map(|(_, book)| book.keys()).filter(|key| !listed.contains(key)).collect()
    }

    /// Removes all books except these.
    pub fn retain(&mut self, books: &HashSet<String>) {
        self.0.retain(|url, _| books.contains(url));
    }
}

impl BookState {
    /// Returns whether the server reports no change; a server without tags never does.
    pub fn is_current(&self, tag: Option<&str>) -> bool {
        tag.is_some() && self.tag.as_deref() == tag
    }

    pub fn keys(&self) -> impl Iterator<Item = CardKey> {
        self.cards.keys().copied()
    }

    pub fn has(&self, key: CardKey, version: &CardVersion) -> bool {
        self.cards.get(&key) == Some(version)
    }

    pub fn remember(&mut self, key: CardKey, version: CardVersion) {
        self.cards.insert(key, version);
    }

    pub fn forget(&mut self, keys: &[CardKey]) {
        self.cards.retain(|key, _| !keys.contains(key));
    }

    pub fn set_tag(&mut self, tag: Option<&str>) {
        self.tag = tag.map(ToOwned::to_owned);
    }
}

impl CardKey {
    /// Returns the key of the card at this URL.
    pub fn with_final_url(address: &Url) -> Self {
        Self(hash(&normalize(address)))
    }
}

impl CardVersion {
    pub fn from_etag(etag: &str) -> Self {
        let [a, b, c, d, ..] = hash(etag);
        Self(URL_SAFE_NO_PAD.encode([a, b, c, d]))
    }
}

fn hash(text: &str) -> [u8; 8] {
    let digest: [u8; 32] = Sha256::digest(text).into();
    digest.first_chunk().copied().unwrap_or_default()
}

impl fmt::Display for CardKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl From<CardKey> for String {
    fn from(key: CardKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for CardKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = URL_SAFE_NO_PAD.decode(&text).map_err(|error| error.to_string())?;
        bytes.try_into().map(Self).map_err(|_length| format!("`{text}` is not a key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thousand_five_hundred_cards_fit() {
        let mut book = BookState::default();
        for number in 0..2500 {
            let url = Url::parse(&format!("https://dav.example/addressbooks/me/{number}.vcf")).unwrap();
            book.remember(CardKey::with_final_url(&url), CardVersion::from_etag("\"1\""));
        }
        let text = serde_json::to_string(&book).unwrap();
        assert!(text.len() < 64 * 1024, "{}", text.len());
        assert_eq!(serde_json::from_str::<BookState>(&text).unwrap(), book);
    }
}
