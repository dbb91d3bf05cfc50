//! What is known of the last run, small enough for the 64 KiB that an account's state may have: about 2,500 contacts.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use konnector_sdk::Url;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The address books by their addresses.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State(BTreeMap<String, BookState>);

/// An address book: its tag and its cards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookState {
    tag: Option<String>,
    cards: BTreeMap<Key, Version>,
}

/// Recognises a card in later runs: 64 bits of its address's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Key([u8; 8]);

/// Recognises a version of a card: 32 bits of its ETag's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version(String);

impl State {
    pub fn book(&self, url: &Url) -> Option<&BookState> {
        self.0.get(url.as_str())
    }

    pub fn books(&self) -> impl Iterator<Item = (&str, &BookState)> {
        self.0.iter().map(|(url, book)| (url.as_str(), book))
    }

    pub fn keep(&mut self, url: &Url, book: BookState) {
        self.0.insert(url.to_string(), book);
    }
}

impl BookState {
    /// Whether the server says that nothing changed; a server without tags never does.
    pub fn is_current(&self, tag: Option<&str>) -> bool {
        tag.is_some() && self.tag.as_deref() == tag
    }

    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.cards.keys().copied()
    }

    pub fn has(&self, key: Key, version: &Version) -> bool {
        self.cards.get(&key) == Some(version)
    }

    pub fn remember(&mut self, key: Key, version: Version) {
        self.cards.insert(key, version);
    }

    pub fn forget(&mut self, keys: &[Key]) {
        self.cards.retain(|key, _| !keys.contains(key));
    }

    pub fn set_tag(&mut self, tag: Option<&str>) {
        self.tag = tag.map(ToOwned::to_owned);
    }
}

impl Key {
    /// The key of the card at this address.
    pub fn of(address: &Url) -> Self {
        Self(hash(address.as_str()))
    }
}

impl Version {
    pub fn of(etag: &str) -> Self {
        let [a, b, c, d, ..] = hash(etag);
        Self(URL_SAFE_NO_PAD.encode([a, b, c, d]))
    }
}

fn hash(text: &str) -> [u8; 8] {
    let digest: [u8; 32] = Sha256::digest(text).into();
    digest.first_chunk().copied().unwrap_or_default()
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = URL_SAFE_NO_PAD.decode(&text).map_err(|error| error.to_string())?;
        bytes.try_into().map(Self).map_err(|_length| format!("`{text}` is no key"))
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
            book.remember(Key::of(&url), Version::of("\"1\""));
        }
        let text = serde_json::to_string(&book).unwrap();
        assert!(text.len() < 64 * 1024, "{}", text.len());
        assert_eq!(serde_json::from_str::<BookState>(&text).unwrap(), book);
    }
}
