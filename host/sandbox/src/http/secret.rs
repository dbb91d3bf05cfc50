//! Secrets that a guest can use and never see: it handles placeholders, and the gate puts the values.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use memchr::memmem;
use zeroize::Zeroizing;

use super::echo::Echo;
use super::error::SetupError;
use super::mask::Mask;
use crate::pace::{PORTION, Pace};

/// What every placeholder begins with; a person who meets one in a log can look it up.
const PREFIX: &str = "ksecret";

/// Random characters of a placeholder: 142 bits.
const RANDOM: usize = 24;

/// How many bytes one byte of a value may be written with: percent signs that are escaped again, references to characters in HTML.
const LONGEST_FORM: usize = 12;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A secret's value. It is wiped when it is dropped, and nothing that prints or writes values can take it.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// Takes a value over.
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// One secret of a run.
#[derive(Clone)]
pub(super) struct Secret {
    pub(super) name: String,
    /// A word of letters and digits: the same in a URL, in JSON, XML and Base64's input.
    pub(super) placeholder: String,
    pub(super) value: SecretValue,
}

/// The secrets of one run. Placeholders are new for each run and each secret, so that one from another run stands for nothing.
///
/// `Debug` shows names only.
#[derive(Default)]
pub struct SecretTable {
    state: RwLock<Arc<Snapshot>>,
}

/// A table as it is at one moment.
#[derive(Default)]
pub(super) struct Snapshot {
    secrets: Vec<Secret>,
    /// Replaced values: they may still be valid, and they may still be in a text.
    retired: Vec<SecretValue>,
    /// Made when it is first needed: a run that waits should hold little.
    mask: OnceLock<Mask>,
}

impl Snapshot {
    fn values(&self) -> impl Iterator<Item = &SecretValue> {
        self.secrets.iter().map(|secret| &secret.value).chain(&self.retired)
    }

    fn mask(&self) -> &Mask {
        self.mask.get_or_init(|| Mask::new(self.values().map(SecretValue::expose)))
    }

    /// The secrets whose placeholders occur, as often as they occur.
    pub(super) fn find<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a Secret> {
        self.occurrences(text).map(|(_, secret)| secret)
    }

    /// The first secret whose placeholder occurs in a text of any length. Yields while it looks.
    pub(super) async fn find_in_large(&self, text: &[u8]) -> Option<&Secret> {
        let (mut start, mut pace) = (0, Pace::new());
        while start < text.len() {
            // Long enough for a placeholder that begins at the end of the portion.
            let end = text.len().min(start + PORTION + PREFIX.len() + RANDOM);
            let portion = text.get(start..end).unwrap_or_default();
            if let Some(place) = self.occurrences(portion).next().map(|(place, _)| place) {
                let rest = portion.get(place.start..).unwrap_or_default();
                return self.secrets.iter().find(|secret| rest.starts_with(secret.placeholder.as_bytes()));
            }
            start += PORTION;
            pace.did(PORTION + 1).await;
        }
        None
    }

    /// The same, with the places.
    fn occurrences<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (Range<usize>, &'a Secret)> {
        let words = (!self.secrets.is_empty()).then(|| memmem::find_iter(text, PREFIX));
        words.into_iter().flatten().filter_map(|start| {
            let rest = text.get(start..)?;
            let secret = self.secrets.iter().find(|secret| rest.starts_with(secret.placeholder.as_bytes()))?;
            Some((start..start + secret.placeholder.len(), secret))
        })
    }

    /// What hides these secrets in answers; `None` when there is nothing to hide.
    pub(super) fn echo(&self, names: &[String]) -> Option<Echo> {
        let sent = self.secrets.iter().filter(|secret| names.contains(&secret.name));
        Echo::new(sent.map(|secret| (secret.value.expose(), secret.placeholder.as_str())))
    }

    /// The text with every placeholder replaced by what `write` makes of the value. Wiped when it is dropped.
    pub(super) fn replace(&self, text: &[u8], write: impl Fn(&str) -> String) -> Zeroizing<Vec<u8>> {
        self.replace_each(text, |secret| write(secret.value.expose()))
    }

    /// The same for something else than the value.
    pub(super) fn replace_each(&self, text: &[u8], mut write: impl FnMut(&Secret) -> String) -> Zeroizing<Vec<u8>> {
        let written: Vec<_> = self.find(text).map(|secret| Zeroizing::new(write(secret))).collect();
        // Room for all, so that no half-filled copy is left behind when the text grows.
        let grown: usize = written.iter().map(|written| written.len()).sum();
        let mut replaced = Zeroizing::new(Vec::with_capacity(text.len() + grown));
        let mut position = 0;
        for ((place, _), written) in self.occurrences(text).zip(&written) {
            replaced.extend_from_slice(text.get(position..place.start).unwrap_or_default());
            replaced.extend_from_slice(written.as_bytes());
            position = place.end;
        }
        replaced.extend_from_slice(text.get(position..).unwrap_or_default());
        replaced
    }
}

impl SecretTable {
    /// Makes placeholders for these names and values.
    ///
    /// # Errors
    ///
    /// The operating system gives no random numbers.
    pub fn new(secrets: impl IntoIterator<Item = (String, String)>) -> Result<Self, SetupError> {
        let table = Self::default();
        for (name, value) in secrets {
            table.put(&name, &Zeroizing::new(value))?;
        }
        Ok(table)
    }

    /// Adds or replaces a value. From now on the placeholder stands for the new value, and old and new are masked.
    ///
    /// # Errors
    ///
    /// The operating system gives no random numbers.
    pub fn put(&self, name: &str, value: &str) -> Result<(), SetupError> {
        let (placeholder, value) = (random_word()?, SecretValue::new(value.to_owned()));
        let mut guard = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let (mut secrets, mut retired) = (guard.secrets.clone(), guard.retired.clone());
        match secrets.iter_mut().find(|secret| secret.name == name) {
            Some(secret) if secret.value.expose() == value.expose() => return Ok(()),
            Some(secret) => retired.push(std::mem::replace(&mut secret.value, value)),
            None => secrets.push(Secret { name: name.to_owned(), placeholder, value }),
        }
        *guard = Arc::new(Snapshot { secrets, retired, mask: OnceLock::new() });
        Ok(())
    }

    /// What the table has taken, replaced values included, in bytes; a short value counts as 1 KiB, because looking for it has a cost, too.
    pub fn weight(&self) -> usize {
        self.snapshot().values().map(|value| value.expose().len().max(1 << 10)).sum()
    }

    /// Bytes of the longest way to write a value, about. Where a text is cut, as much of a secret may be left that is not recognised.
    pub fn longest(&self) -> usize {
        self.snapshot().values().map(|value| value.expose().len().saturating_mul(LONGEST_FORM)).max().unwrap_or(0)
    }

    /// The name of a secret whose placeholder occurs in a text.
    pub fn placeholder_in(&self, text: &str) -> Option<String> {
        self.snapshot().find(text.as_bytes()).next().map(|secret| secret.name.clone())
    }

    /// The names, in the order in which they were added.
    pub fn names(&self) -> Vec<String> {
        self.snapshot().secrets.iter().map(|secret| secret.name.clone()).collect()
    }

    /// The word that stands for a secret in requests; `None` for a name that does not exist.
    pub fn placeholder(&self, name: &str) -> Option<String> {
        self.snapshot().secrets.iter().find(|secret| secret.name == name).map(|secret| secret.placeholder.clone())
    }

    /// The value itself, for the import `reveal` only.
    pub fn reveal(&self, name: &str) -> Option<SecretValue> {
        self.snapshot().secrets.iter().find(|secret| secret.name == name).map(|secret| secret.value.clone())
    }

    /// The text with the values of all secrets, old ones included, replaced by `[masked]`: as they are, URL-encoded, Base64-encoded (also
    /// as a part of something longer), in hexadecimal, escaped for JSON or HTML. Values of fewer than four characters stay.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.snapshot().mask().apply(text)
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for SecretTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretTable").field("names", &self.names()).finish_non_exhaustive()
    }
}

pub(super) fn random_word() -> Result<String, SetupError> {
    let mut word = PREFIX.to_owned();
    while word.len() < PREFIX.len() + RANDOM {
        let mut bytes = [0; 2 * RANDOM];
        getrandom::fill(&mut bytes)?;
        // A byte beyond the last multiple of 62 would make some characters likelier than others.
        let characters =
            bytes.iter().filter(|byte| **byte < 248).filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        word.extend(characters.take(PREFIX.len() + RANDOM - word.len()).map(|character| char::from(*character)));
    }
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_placeholder_is_found_wherever_it_stands_in_a_large_text() {
        let table = table();
        let (snapshot, word) = (table.snapshot(), table.placeholder("pin").unwrap());
        for start in [0, 1, PORTION - 31, PORTION - 1, PORTION, PORTION + 1, 3 * PORTION - 31] {
            let mut text = vec![b'k'; 3 * PORTION];
            text[start..start + word.len()].copy_from_slice(word.as_bytes());
            assert_eq!(snapshot.find_in_large(&text).await.map(|secret| secret.name.as_str()), Some("pin"), "{start}");
        }
        assert!(snapshot.find_in_large(PREFIX.repeat(PORTION).as_bytes()).await.is_none());
    }

    fn table() -> SecretTable {
        SecretTable::new([("password".to_owned(), "hunter22".to_owned()), ("pin".to_owned(), "1234".to_owned())])
            .unwrap()
    }

    #[test]
    fn placeholders_are_words_that_nobody_can_guess() {
        let (one, two) = (table(), table());
        let word = one.placeholder("password").unwrap();
        assert!(word.starts_with(PREFIX) && word.len() == PREFIX.len() + RANDOM);
        assert!(word.chars().all(|character| character.is_ascii_alphanumeric()));
        assert_ne!(one.placeholder("password"), one.placeholder("pin"));
        assert_ne!(one.placeholder("password"), two.placeholder("password"));
        assert_eq!(one.placeholder("nothing"), None);
    }

    #[test]
    fn a_rotated_value_is_used_and_both_are_masked() {
        let table = table();
        let word = table.placeholder("password");
        table.put("password", "correct horse").unwrap();
        assert_eq!(table.placeholder("password"), word);
        assert_eq!(table.reveal("password").unwrap().expose(), "correct horse");
        assert_eq!(table.mask("hunter22, correct horse"), "[masked], [masked]");
        assert_eq!(table.weight(), 3 << 10);
        table.put("password", "correct horse").unwrap();
        assert_eq!(table.weight(), 3 << 10, "nothing was replaced");
        table.put("token", "tok-en").unwrap();
        assert_eq!(table.names(), ["password", "pin", "token"]);
        assert_eq!(table.mask("1234 tok-en"), "[masked] [masked]");
    }

    /// Compiles only while `SecretValue` has neither trait: with one of them, there would be two ways to read the `_` of its line.
    #[test]
    fn a_value_can_be_neither_printed_nor_written() {
        struct Yes;
        trait Printed<A> {
            fn check() {}
        }
        impl<T: ?Sized> Printed<()> for T {}
        impl<T: ?Sized + fmt::Debug> Printed<Yes> for T {}
        trait Shown<A> {
            fn check() {}
        }
        impl<T: ?Sized> Shown<()> for T {}
        impl<T: ?Sized + fmt::Display> Shown<Yes> for T {}
        trait Written<A> {
            fn check() {}
        }
        impl<T: ?Sized> Written<()> for T {}
        impl<T: ?Sized + serde::Serialize> Written<Yes> for T {}
        <SecretValue as Printed<_>>::check();
        <SecretValue as Shown<_>>::check();
        <SecretValue as Written<_>>::check();
    }

    #[test]
    fn debug_output_holds_no_value() {
        insta::assert_snapshot!(format!("{:?}", table()), @r#"SecretTable { names: ["password", "pin"], .. }"#);
    }
}
