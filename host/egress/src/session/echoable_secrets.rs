//! The secrets that a response may repeat.

use std::borrow::Cow;

use super::SessionState;
use crate::echo_budget::EchoCharge;
use crate::error::HttpError;
use crate::guess::{GuessDetector, GuestText};
use crate::request::RequestTemplate;

/// Secrets that the responses to a request and its redirects may repeat.
#[derive(Default)]
pub(super) struct EchoableSecrets {
    /// Names of the secrets in these requests.
    sent: Vec<String>,
    /// Names of the secrets that the guest itself wrote into one of the requests.
    written_by_guest: Vec<String>,
    /// Names of the other secrets, which are redacted.
    pub(super) redacted: Vec<String>,
    /// Charge for the first response that repeats one.
    pub(super) charge: Option<EchoCharge>,
}

impl SessionState {
    /// Adds the secrets that a response may repeat: those in the request, and those in cookies of earlier responses,
    /// but not those that the guest wrote into the request itself.
    pub(super) async fn track_echoable_secrets(
        &self,
        template: &RequestTemplate,
        original: &RequestTemplate,
        sent: &[String],
        echoable: &mut EchoableSecrets,
    ) -> Result<(), HttpError> {
        let secrets = self.secrets.snapshot();
        let (mut names, mut cookies) = (sent.to_vec(), Vec::new());
        for cookie in self.jar.lock().matching(&template.url) {
            let layers = secrets.redaction_layers(&cookie.secrets)?;
            if layers.redact(&cookie.value) != cookie.value || layers.redact(&cookie.name) != cookie.name {
                names.extend(cookie.secrets);
            } else {
                cookies.push(cookie);
            }
        }
        names.sort();
        names.dedup();
        if secrets.redaction_layers(&names)?.has_unknown_secrets() {
            self.echo_budget.check(&names)?;
        }
        // Include the secrets of earlier requests, because this request may contain a guess that the previous one did
        // not, in a cookie of its path.
        names.append(&mut echoable.sent);
        names.sort();
        names.dedup();
        let guest = GuestText { template: original, carried: sent, cookies: &cookies };
        let size = guest.size(&secrets);
        echoable.charge.get_or_insert_with(|| self.echo_budget.charge(size)).raise_to(size);
        let unknown = GuessDetector::scan_request(guest, &secrets, &names).await?.secrets_not_guessed(&names);
        let was_written = |name: &String| echoable.written_by_guest.contains(name) || !unknown.contains(name);
        echoable.written_by_guest = names.iter().filter(|name| was_written(name)).cloned().collect();
        echoable.redacted = unknown.into_iter().filter(|name| !echoable.written_by_guest.contains(name)).collect();
        echoable.sent = names;
        Ok(())
    }

    /// Redacts the error of a redirect, whose message may repeat secrets that were sent to the vendor. The guest's own
    /// input is never masked in an error, which would reveal its right guesses.
    pub(super) fn redact_error(&self, error: HttpError, secrets: &[String]) -> HttpError {
        match self.secrets.snapshot().redaction_layers(secrets) {
            Ok(layers) => error.map_text(|text| Cow::Owned(layers.redact(text))),
            Err(error) => error,
        }
    }
}
