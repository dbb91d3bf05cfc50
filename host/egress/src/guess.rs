//! Secrets that a guest wrote into a request itself. What it supplied comes back as it is: were it hidden in the answer, the guest would learn
//! which of its guesses are right. How much it may try where the vendor shows the secret, too, is limited by
//! [`echo_budget`](super::echo_budget).

use super::cookies::Matching;
use super::echo::SLICE;
use super::error::HttpError;
use super::request::Draft;
use super::secret::Snapshot;
use super::session::draft_size;
use super::veil::{Finder, Piece, Veil};

/// Looks for some secrets in the texts of one request.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    secrets: Vec<Guess>,
}

#[derive(Debug)]
struct Guess {
    name: String,
    veil: Veil,
    found: bool,
}

/// What a guest wrote into a request, besides a body that is still to come.
pub(super) struct GuestText<'a> {
    pub(super) draft: &'a Draft,
    /// The secrets that the request carries. The guest may have given the host a value of its own for some.
    pub(super) carried: &'a [String],
    /// Of the cookies, those that no vendor made of a secret.
    pub(super) cookies: &'a [Matching],
}

impl GuestText<'_> {
    /// Bytes.
    pub(super) fn size(&self, secrets: &Snapshot) -> u64 {
        let cookies = self.cookies.iter().map(|cookie| cookie.name.len() + cookie.value.len());
        let values = secrets.known_values(self.carried).map(str::len);
        draft_size(self.draft) + cookies.chain(values).sum::<usize>() as u64
    }
}

impl Guesses {
    /// Looks for these secrets in what the guest wrote.
    pub(super) async fn of(guest: GuestText<'_>, secrets: &Snapshot, names: &[String]) -> Result<Self, HttpError> {
        let guess = |(name, finder): (String, Finder)| Guess { veil: Veil::new(&finder), name, found: false };
        let mut guesses = Self { secrets: secrets.guesses(names)?.into_iter().map(guess).collect() };
        if guesses.secrets.is_empty() {
            return Ok(guesses);
        }
        let GuestText { draft, carried, cookies } = guest;
        guesses.read_text(draft.url.as_str().as_bytes()).await;
        for (name, value) in &draft.headers {
            guesses.read_text(name.as_str().as_bytes()).await;
            guesses.read_text(value.as_bytes()).await;
        }
        for Matching { name, value, .. } in cookies {
            guesses.read_text(name.as_bytes()).await;
            guesses.read_text(value.as_bytes()).await;
        }
        for value in secrets.known_values(carried) {
            guesses.read_text(value.as_bytes()).await;
        }
        if let Some(body) = &draft.body {
            guesses.read_text(body).await;
        }
        Ok(guesses)
    }

    async fn read_text(&mut self, text: &[u8]) {
        for (number, slice) in text.chunks(SLICE).enumerate() {
            if number > 0 {
                tokio::task::yield_now().await;
            }
            self.read(slice);
        }
        self.end();
    }

    /// Reads a part of a text.
    pub(super) fn read(&mut self, part: &[u8]) {
        for Guess { veil, found, .. } in &mut self.secrets {
            veil.push(part, &mut |piece| *found |= matches!(piece, Piece::Secret { .. }));
        }
    }

    /// The text ends here.
    fn end(&mut self) {
        for Guess { veil, found, .. } in &mut self.secrets {
            veil.finish(&mut |piece| *found |= matches!(piece, Piece::Secret { .. }));
        }
    }

    /// Those of the secrets that the guest did not write itself, to be hidden in the answer.
    pub(super) fn unknown(&mut self, names: &[String]) -> Vec<String> {
        self.end();
        let wrote = |name: &String| self.secrets.iter().any(|guess| guess.found && guess.name == *name);
        names.iter().filter(|name| !wrote(name)).cloned().collect()
    }
}
