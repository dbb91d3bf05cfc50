//! Secrets that a guest can use but never see. The guest handles placeholders, and the gate inserts the values.

use parking_lot::{Mutex, RwLock};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use memchr::memmem;
use zeroize::Zeroizing;

use super::error::{HttpError, SetupError};
use super::mask::Mask;
use super::secret_redactor::{MIN_FORM_LENGTH, RedactionLayers};
use super::secret_replacer::{SecretFinder, whole_value_forms};
use crate::yield_budget::{YIELD_INTERVAL_BYTES, YieldBudget};

/// Prefix of every placeholder; a person who finds one in a log can look it up.
const PLACEHOLDER_PREFIX: &str = "ksecret";

/// Number of random characters of a placeholder: 142 bits.
const PLACEHOLDER_RANDOM_LENGTH: usize = 24;

/// Maximum number of bytes that encode one byte of a value: percent signs that are escaped again, character references
/// in HTML.
const MAX_ENCODED_BYTES_PER_BYTE: usize = 12;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A secret's value. It is wiped when dropped, and implements no trait that prints or serialises it.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// Takes ownership of a value.
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// Returns the value. The caller is responsible for its use.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Who supplied a value. The guest knows a value that it supplied itself. Hiding such a value from the guest would
/// protect nothing, and would reveal whether a guess is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SecretOrigin {
    /// The user, or a provider.
    Account,
    /// The konnector, in an earlier run.
    EarlierRun,
    /// The guest of this run.
    ThisRun,
}

/// One secret of a run.
#[derive(Clone)]
pub(super) struct Secret {
    pub(super) name: String,
    /// Letters and digits only, so it is written the same in a URL, in JSON, XML and the input of Base64.
    pub(super) placeholder: String,
    pub(super) value: SecretValue,
    origin: SecretOrigin,
}

/// A replaced value, which may still be valid and may still occur in a text.
#[derive(Clone)]
struct RetiredSecret {
    name: String,
    value: SecretValue,
    origin: SecretOrigin,
}

/// The secrets of one run. Placeholders are new for each run and each secret, so a placeholder from another run stands
/// for nothing.
///
/// `Debug` shows names only.
#[derive(Default)]
pub struct SecretTable {
    state: RwLock<Arc<SecretSnapshot>>,
}

/// Snapshot of a table.
#[derive(Default)]
pub(super) struct SecretSnapshot {
    secrets: Vec<Secret>,
    retired: Vec<RetiredSecret>,
    /// Created on first use, because a waiting run should hold little memory.
    mask: OnceLock<Mask>,
    /// The last redaction layers and their secret names, because most requests of a run carry the same secret.
    cached_layers: Mutex<Option<(Vec<String>, RedactionLayers)>>,
}

impl SecretSnapshot {
    fn values(&self) -> impl Iterator<Item = &SecretValue> {
        self.secrets.iter().map(|secret| &secret.value).chain(self.retired.iter().map(|retired| &retired.value))
    }

    fn mask(&self) -> &Mask {
        self.mask.get_or_init(|| Mask::new(self.values().map(SecretValue::expose)))
    }

    /// Returns the secrets whose placeholders occur, once per occurrence.
    pub(super) fn find<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a Secret> {
        self.occurrences(text).map(|(_, secret)| secret)
    }

    /// Returns the first secret whose placeholder occurs in a text of any length. Yields during the search.
    pub(super) async fn find_in_large(&self, text: &[u8]) -> Option<&Secret> {
        let (mut start, mut yield_budget) = (0, YieldBudget::default());
        while start < text.len() {
            // Overlap far enough for a placeholder that begins at the end of the portion.
            let end =
                text.len().min(start + YIELD_INTERVAL_BYTES + PLACEHOLDER_PREFIX.len() + PLACEHOLDER_RANDOM_LENGTH);
            let portion = text.get(start..end).unwrap_or_default();
            if let Some(place) = self.occurrences(portion).next().map(|(place, _)| place) {
                let rest = portion.get(place.start..).unwrap_or_default();
                return self.secrets.iter().find(|secret| rest.starts_with(secret.placeholder.as_bytes()));
            }
            start += YIELD_INTERVAL_BYTES;
            yield_budget.consume(YIELD_INTERVAL_BYTES + 1).await;
        }
        None
    }

    /// Like `find`, with the positions.
    fn occurrences<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (Range<usize>, &'a Secret)> {
        let positions = (!self.secrets.is_empty()).then(|| memmem::find_iter(text, PLACEHOLDER_PREFIX));
        positions.into_iter().flatten().filter_map(|start| {
            let rest = text.get(start..)?;
            let secret = self.secrets.iter().find(|secret| rest.starts_with(secret.placeholder.as_bytes()))?;
            Some((start..start + secret.placeholder.len(), secret))
        })
    }

    /// Returns the layers that redact these secrets, including replaced values, in responses.
    pub(super) fn redaction_layers(&self, names: &[String]) -> Result<RedactionLayers, HttpError> {
        if names.is_empty() {
            return Ok(RedactionLayers::default());
        }
        let mut last = self.cached_layers.lock();
        if let Some((_, layers)) = last.as_ref().filter(|(known, _)| known == names) {
            return Ok(layers.clone());
        }
        let (mut unknown, mut known) = (Vec::new(), Vec::new());
        for (name, value, origin) in self.named_values() {
            let current = self.secrets.iter().find(|secret| secret.name == name && names.contains(&secret.name));
            let layer = if origin == SecretOrigin::Account { &mut unknown } else { &mut known };
            layer.extend(current.map(|secret| (value, secret.placeholder.as_str())));
        }
        let layers = RedactionLayers::new(unknown, known)
            .map_err(|error| HttpError::Other(format!("cannot redact secrets: {error}")))?;
        *last = Some((names.to_vec(), layers.clone()));
        Ok(layers)
    }

    fn named_values(&self) -> impl Iterator<Item = (&str, &str, SecretOrigin)> {
        let current = self.secrets.iter().map(|secret| (secret.name.as_str(), secret.value.expose(), secret.origin));
        current.chain(self.retired.iter().map(|old| (old.name.as_str(), old.value.expose(), old.origin)))
    }

    /// Returns those of these secrets that the guest cannot know, each with a finder for its values in the guest's
    /// text. Values longer than 128 bytes are left out because they cannot be guessed.
    pub(super) fn guess_finders(&self, names: &[String]) -> Result<Vec<(String, SecretFinder)>, HttpError> {
        const MAX_GUESS_BYTES: usize = 128;
        let mut guesses = Vec::new();
        for name in names {
            let values = self.named_values().filter(|(known, value, origin)| {
                known == name && *origin == SecretOrigin::Account && value.len() <= MAX_GUESS_BYTES
            });
            let forms: Vec<_> = values
                .flat_map(|(_, value, _)| whole_value_forms(value, MIN_FORM_LENGTH))
                .map(|form| (0, form))
                .collect();
            let finder = SecretFinder::new(&forms)
                .map_err(|error| HttpError::Other(format!("cannot search for secrets: {error}")))?;
            guesses.extend(finder.map(|finder| (name.clone(), finder)));
        }
        Ok(guesses)
    }

    /// Returns the values that the guest supplied for these secrets, including values that were overwritten
    /// later.
    pub(super) fn known_values(&self, names: &[String]) -> impl Iterator<Item = &str> {
        let known = |(name, _, origin): &(&str, &str, SecretOrigin)| {
            *origin != SecretOrigin::Account && names.iter().any(|carried| carried == name)
        };
        self.named_values().filter(known).map(|(_, value, _)| value)
    }

    /// Returns the text with every placeholder replaced by the value as encoded by `write`. The result is wiped when
    /// dropped.
    pub(super) fn replace(&self, text: &[u8], write: impl Fn(&str) -> String) -> Zeroizing<Vec<u8>> {
        self.replace_with(text, |secret| write(secret.value.expose()))
    }

    /// Like `replace`, but `write` gets the whole secret.
    pub(super) fn replace_with(&self, text: &[u8], mut write: impl FnMut(&Secret) -> String) -> Zeroizing<Vec<u8>> {
        let replacements: Vec<_> = self.find(text).map(|secret| Zeroizing::new(write(secret))).collect();
        // Reserve room for the whole text, because a reallocation would leave a partial copy in memory.
        let grown: usize = replacements.iter().map(|replacement| replacement.len()).sum();
        let mut replaced = Zeroizing::new(Vec::with_capacity(text.len() + grown));
        let mut position = 0;
        for ((range, _), replacement) in self.occurrences(text).zip(&replacements) {
            replaced.extend_from_slice(text.get(position..range.start).unwrap_or_default());
            replaced.extend_from_slice(replacement.as_bytes());
            position = range.end;
        }
        replaced.extend_from_slice(text.get(position..).unwrap_or_default());
        replaced
    }
}

impl SecretTable {
    /// Creates placeholders for these names and values, which the guest cannot know.
    ///
    /// # Errors
    ///
    /// If the operating system provides no random numbers.
    pub fn new(secrets: impl IntoIterator<Item = (String, String)>) -> Result<Self, SetupError> {
        let table = Self::default();
        for (name, value) in secrets {
            table.set(&name, &Zeroizing::new(value), SecretOrigin::Account)?;
        }
        Ok(table)
    }

    /// Adds secrets that the konnector itself saved in an earlier run.
    ///
    /// # Errors
    ///
    /// If the operating system provides no random numbers.
    pub fn with_konnector_secrets(
        self,
        secrets: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SetupError> {
        for (name, value) in secrets {
            self.set(&name, &Zeroizing::new(value), SecretOrigin::EarlierRun)?;
        }
        Ok(self)
    }

    /// Adds or replaces a value on behalf of the guest. Afterwards the placeholder stands for the new value, and both
    /// old and new values are masked.
    ///
    /// # Errors
    ///
    /// If the operating system provides no random numbers.
    pub fn put(&self, name: &str, value: &str) -> Result<(), SetupError> {
        self.set(name, value, SecretOrigin::ThisRun)
    }

    fn set(&self, name: &str, value: &str, origin: SecretOrigin) -> Result<(), SetupError> {
        let (placeholder, value) = (random_placeholder()?, SecretValue::new(value.to_owned()));
        let mut guard = self.state.write();
        let (mut secrets, mut retired) = (guard.secrets.clone(), guard.retired.clone());
        match secrets.iter_mut().find(|secret| secret.name == name) {
            // Only for a value that the guest supplied before. For any other, a free replacement would reveal a right
            // guess.
            Some(secret) if secret.origin == SecretOrigin::ThisRun && secret.value.expose() == value.expose() => {
                return Ok(());
            }
            Some(secret) => {
                let old = std::mem::replace(&mut secret.value, value);
                retired.push(RetiredSecret { name: name.to_owned(), value: old, origin: secret.origin });
                secret.origin = origin;
            }
            None => secrets.push(Secret { name: name.to_owned(), placeholder, value, origin }),
        }
        *guard = Arc::new(SecretSnapshot { secrets, retired, ..SecretSnapshot::default() });
        Ok(())
    }

    /// Returns the bytes of all values, including replaced ones; a short value counts as 1 KiB, because searching for
    /// it has a cost, too.
    pub fn scan_cost(&self) -> usize {
        self.snapshot().values().map(|value| value.expose().len().max(1 << 10)).sum()
    }

    /// Returns the approximate length in bytes of the longest encoding of a value. At a cut in a text, up to this much
    /// of a secret may remain unrecognised.
    pub fn max_encoded_length(&self) -> usize {
        self.snapshot()
            .values()
            .map(|value| value.expose().len().saturating_mul(MAX_ENCODED_BYTES_PER_BYTE))
            .max()
            .unwrap_or(0)
    }

    /// Returns the name of a secret whose placeholder occurs in a text.
    pub fn find_placeholder(&self, text: &str) -> Option<String> {
        self.snapshot().find(text.as_bytes()).next().map(|secret| secret.name.clone())
    }

    /// Returns the names, in the order in which they were added.
    pub fn names(&self) -> Vec<String> {
        self.snapshot().secrets.iter().map(|secret| secret.name.clone()).collect()
    }

    /// Returns the placeholder of a secret, or `None` for a name that does not exist.
    pub fn placeholder(&self, name: &str) -> Option<String> {
        self.snapshot().secrets.iter().find(|secret| secret.name == name).map(|secret| secret.placeholder.clone())
    }

    /// Returns the value itself, for the import `reveal` only.
    pub fn reveal(&self, name: &str) -> Option<SecretValue> {
        self.snapshot().secrets.iter().find(|secret| secret.name == name).map(|secret| secret.value.clone())
    }

    /// Returns the text with the values of all secrets, including old ones, replaced by `[masked]`. It finds values
    /// in percent encoding, HTML references, JSON escapes, or two of these nested; also in Base64 (even as part of a
    /// longer value) and in hexadecimal. Values of fewer than four characters stay.
    ///
    /// For texts that leave the process. A guest must never see the result, which would reveal which of its guesses are
    /// right.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.snapshot().mask().apply(text)
    }

    /// Like [`Self::mask`], but yields to other tasks. A text of some 100 KiB can take long if it consists of escapes.
    pub async fn mask_in_slices(&self, text: &str) -> String {
        let snapshot = self.snapshot();
        snapshot.mask().apply_in_slices(text).await
    }

    pub(super) fn snapshot(&self) -> Arc<SecretSnapshot> {
        self.state.read().clone()
    }
}

impl fmt::Debug for SecretTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretTable").field("names", &self.names()).finish_non_exhaustive()
    }
}

pub(super) fn random_placeholder() -> Result<String, SetupError> {
    let mut placeholder = PLACEHOLDER_PREFIX.to_owned();
    while placeholder.len() < PLACEHOLDER_PREFIX.len() + PLACEHOLDER_RANDOM_LENGTH {
        let mut bytes = [0; 2 * PLACEHOLDER_RANDOM_LENGTH];
        getrandom::fill(&mut bytes)?;
        // A byte beyond the last multiple of 62 would make some characters more likely than others.
        let characters =
            bytes.iter().filter(|byte| **byte < 248).filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        placeholder.extend(
            characters
                .take(PLACEHOLDER_PREFIX.len() + PLACEHOLDER_RANDOM_LENGTH - placeholder.len())
                .map(|character| char::from(*character)),
        );
    }
    Ok(placeholder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_placeholder_is_found_at_any_position_of_a_large_text() {
        let table = table();
        let (snapshot, placeholder) = (table.snapshot(), table.placeholder("pin").unwrap());
        for start in [
            0,
            1,
            YIELD_INTERVAL_BYTES - 31,
            YIELD_INTERVAL_BYTES - 1,
            YIELD_INTERVAL_BYTES,
            YIELD_INTERVAL_BYTES + 1,
            3 * YIELD_INTERVAL_BYTES - 31,
        ] {
            let mut text = vec![b'k'; 3 * YIELD_INTERVAL_BYTES];
            text[start..start + placeholder.len()].copy_from_slice(placeholder.as_bytes());
            assert_eq!(snapshot.find_in_large(&text).await.map(|secret| secret.name.as_str()), Some("pin"), "{start}");
        }
        assert!(snapshot.find_in_large(PLACEHOLDER_PREFIX.repeat(YIELD_INTERVAL_BYTES).as_bytes()).await.is_none());
    }

    fn table() -> SecretTable {
        SecretTable::new([("password".to_owned(), "hunter22".to_owned()), ("pin".to_owned(), "1234".to_owned())])
            .unwrap()
    }

    #[test]
    fn placeholders_are_words_that_nobody_can_guess() {
        let (one, two) = (table(), table());
        let placeholder = one.placeholder("password").unwrap();
        assert!(
            placeholder.starts_with(PLACEHOLDER_PREFIX)
                && placeholder.len() == PLACEHOLDER_PREFIX.len() + PLACEHOLDER_RANDOM_LENGTH
        );
        assert!(placeholder.chars().all(|character| character.is_ascii_alphanumeric()));
        assert_ne!(one.placeholder("password"), one.placeholder("pin"));
        assert_ne!(one.placeholder("password"), two.placeholder("password"));
        assert_eq!(one.placeholder("nothing"), None);
    }

    #[test]
    fn a_rotated_value_is_used_and_both_are_masked() {
        let table = table();
        let placeholder = table.placeholder("password");
        table.put("password", "correct horse").unwrap();
        assert_eq!(table.placeholder("password"), placeholder);
        assert_eq!(table.reveal("password").unwrap().expose(), "correct horse");
        assert_eq!(table.mask("hunter22, correct horse"), "[masked], [masked]");
        assert_eq!(table.scan_cost(), 3 << 10);
        table.put("password", "correct horse").unwrap();
        assert_eq!(table.scan_cost(), 3 << 10, "nothing was replaced");
        let (right, wrong) = (self::table(), self::table());
        right.put("pin", "1234").unwrap();
        wrong.put("pin", "1235").unwrap();
        assert_eq!(right.scan_cost(), wrong.scan_cost(), "a guess costs the same");
        table.put("token", "tok-en").unwrap();
        assert_eq!(table.names(), ["password", "pin", "token"]);
        assert_eq!(table.mask("1234 tok-en"), "[masked] [masked]");
    }

    /// Compiles only while `SecretValue` implements neither trait. If it implemented one, the `_` in that line would be
    /// ambiguous.
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
