//! Detects secrets that a guest wrote into a request itself. Its own text is returned unchanged. If it were hidden in
//! the response, the guest would learn which of its guesses are right. If the vendor also echoes the secret, the number
//! of guesses is limited by [`echo_budget`](super::echo_budget).

use super::cookies::MatchingCookie;
use super::error::HttpError;
use super::request::RequestTemplate;
use super::secret::SecretSnapshot;
use super::secret_redactor::SLICE_BYTES;
use super::secret_replacer::{SecretFinder, SecretReplacer, Segment};
use super::session::request_size;

/// Searches the texts of one request for secrets.
#[derive(Debug, Default)]
pub(super) struct GuessDetector {
    secrets: Vec<SecretGuess>,
}

#[derive(Debug)]
struct SecretGuess {
    name: String,
    replacer: SecretReplacer,
    found: bool,
}

/// Text that a guest wrote into a request, except for a body that is still to come.
pub(super) struct GuestText<'a> {
    pub(super) template: &'a RequestTemplate,
    /// The secrets that the request carries. The guest may itself have supplied the value of some.
    pub(super) carried: &'a [String],
    /// The cookies that no vendor derived from a secret.
    pub(super) cookies: &'a [MatchingCookie],
}

impl GuestText<'_> {
    /// Returns the size of the text in bytes.
    pub(super) fn size(&self, secrets: &SecretSnapshot) -> u64 {
        let cookies = self.cookies.iter().map(|cookie| cookie.name.len() + cookie.value.len());
        let values = secrets.known_values(self.carried).map(str::len);
        request_size(self.template) + cookies.chain(values).sum::<usize>() as u64
    }
}

impl GuessDetector {
    /// Searches the guest's text for these secrets.
    pub(super) async fn scan_request(
        guest: GuestText<'_>,
        secrets: &SecretSnapshot,
        names: &[String],
    ) -> Result<Self, HttpError> {
        let guess = |(name, finder): (String, SecretFinder)| SecretGuess {
            replacer: SecretReplacer::new(&finder),
            name,
            found: false,
        };
        let mut guesses = Self { secrets: secrets.guess_finders(names)?.into_iter().map(guess).collect() };
        if guesses.secrets.is_empty() {
            return Ok(guesses);
        }
        let GuestText { template, carried, cookies } = guest;
        guesses.scan_text(template.url.as_str().as_bytes()).await;
        for (name, value) in &template.headers {
            guesses.scan_text(name.as_str().as_bytes()).await;
            guesses.scan_text(value.as_bytes()).await;
        }
        for MatchingCookie { name, value, .. } in cookies {
            guesses.scan_text(name.as_bytes()).await;
            guesses.scan_text(value.as_bytes()).await;
        }
        for value in secrets.known_values(carried) {
            guesses.scan_text(value.as_bytes()).await;
        }
        if let Some(body) = &template.body {
            guesses.scan_text(body).await;
        }
        Ok(guesses)
    }

    async fn scan_text(&mut self, text: &[u8]) {
        for (number, slice) in text.chunks(SLICE_BYTES).enumerate() {
            if number > 0 {
                tokio::task::yield_now().await;
            }
            self.scan(slice);
        }
        self.finish();
    }

    /// Scans a part of a text.
    pub(super) fn scan(&mut self, part: &[u8]) {
        for SecretGuess { replacer, found, .. } in &mut self.secrets {
            replacer.push(part, &mut |piece| *found |= matches!(piece, Segment::Secret { .. }));
        }
    }

    /// Ends the current text.
    fn finish(&mut self) {
        for SecretGuess { replacer, found, .. } in &mut self.secrets {
            replacer.finish(&mut |piece| *found |= matches!(piece, Segment::Secret { .. }));
        }
    }

    /// Returns the secrets that the guest did not write itself, which are to be hidden in the response.
    pub(super) fn secrets_not_guessed(&mut self, names: &[String]) -> Vec<String> {
        self.finish();
        let was_guessed = |name: &String| self.secrets.iter().any(|guess| guess.found && guess.name == *name);
        names.iter().filter(|name| !was_guessed(name)).cloned().collect()
    }
}
