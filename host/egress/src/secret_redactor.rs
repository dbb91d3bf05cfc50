//! Redacts secrets in responses. A vendor's page may repeat the values of a submitted form; the guest then sees the
//! placeholder, which it can send again, instead of the value.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};

use super::echo_budget::EchoCharge;
use super::secret_replacer::{
    EncodedForm, MinLength, SecretFinder, SecretReplacer, Segment, encoded_forms, write_placeholder,
};
use super::session::line_size;
use crate::yield_budget::YieldBudget;

/// Shorter forms are not searched for, because they occur in responses by chance and replacing them would damage those.
pub(super) const MIN_FORM_LENGTH: MinLength = MinLength::Bytes(6);

/// Bytes processed without yielding to other tasks.
pub(super) const SLICE_BYTES: usize = 16 << 10;

/// Secrets to redact in responses. Cheap to clone.
///
/// The secrets that the guest does not know are replaced first, then, in the text between them, those that it supplied
/// itself. The order matters: a guest could choose a secret that overlaps with the beginning of a password, and the
/// redaction would reveal whether it guessed right.
#[derive(Debug, Clone, Default)]
pub(super) struct RedactionLayers {
    layers: Vec<Layer>,
}

/// Secrets that are searched for together; overlapping matches are replaced as one.
#[derive(Debug, Clone)]
struct Layer {
    finder: SecretFinder,
    /// Placeholder of each owner.
    placeholders: Vec<String>,
    /// Whether these secrets are unknown to the guest.
    unknown_to_guest: bool,
}

impl RedactionLayers {
    /// Takes pairs of value and placeholder, first for the secrets that the guest does not know, then for the secrets
    /// that it supplied itself.
    pub(super) fn new<'a>(
        unknown: Vec<(&'a str, &'a str)>,
        known: Vec<(&'a str, &'a str)>,
    ) -> Result<Self, aho_corasick::BuildError> {
        let mut hidden = Self::default();
        for (secrets, guarded) in [(unknown, true), (known, false)] {
            let numbered = secrets.iter().enumerate();
            let forms: Vec<(usize, EncodedForm)> = numbered
                .flat_map(|(owner, (value, _))| {
                    encoded_forms(value, MIN_FORM_LENGTH).into_iter().map(move |form| (owner, form))
                })
                .collect();
            if let Some(finder) = SecretFinder::new(&forms)? {
                let placeholders = secrets.iter().map(|(_, word)| (*word).to_owned()).collect();
                hidden.layers.push(Layer { finder, placeholders, unknown_to_guest: guarded });
            }
        }
        Ok(hidden)
    }

    /// Returns whether there are secrets that the guest does not know.
    pub(super) fn has_unknown_secrets(&self) -> bool {
        self.layers.iter().any(|layer| layer.unknown_to_guest)
    }

    /// Creates the redactor for the next response, or `None` if there is nothing to redact.
    pub(super) fn redactor(&self, charge: &Option<EchoCharge>) -> Option<SecretRedactor> {
        (!self.layers.is_empty()).then(|| SecretRedactor {
            layers: self.clone(),
            replacers: self.layers.iter().map(|layer| SecretReplacer::new(&layer.finder)).collect(),
            charge: charge.clone(),
        })
    }

    /// Redacts a complete text that is not from a response.
    pub(super) fn redact(&self, text: &str) -> String {
        let output = self.redactor(&None).map(|echo| echo.redact_whole(text.as_bytes()));
        output.map_or_else(|| text.to_owned(), |output| String::from_utf8_lossy(&output).into_owned())
    }
}

/// Replaces the values of secrets in a body that arrives in parts.
#[derive(Debug)]
pub(super) struct SecretRedactor {
    layers: RedactionLayers,
    replacers: Vec<SecretReplacer>,
    /// Booked if the response shows a secret that the guest does not know.
    charge: Option<EchoCharge>,
}

impl SecretRedactor {
    /// Redacts a complete text that is not part of the body.
    pub(super) fn redact(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.redact_bytes(text.as_bytes())).into_owned()
    }

    /// Like `redact` for a text in any encoding.
    pub(super) fn redact_bytes(&self, text: &[u8]) -> Vec<u8> {
        self.restart().map_or_else(|| text.to_vec(), |echo| echo.redact_whole(text))
    }

    /// Returns the size of the response headers in bytes as the guest sees them, and charges for the secrets in them.
    /// The length of the body is hidden and not counted.
    pub(super) async fn redacted_size(&self, headers: &HeaderMap) -> u64 {
        let (mut size, mut yield_budget) = (0, YieldBudget::default());
        for (name, value) in headers.iter().filter(|(name, _)| *name != header::CONTENT_LENGTH) {
            size +=
                line_size(self.redact_bytes(name.as_str().as_bytes()).len(), self.redact_bytes(value.as_bytes()).len());
            yield_budget.consume(name.as_str().len() + value.len()).await;
        }
        size
    }

    fn redact_whole(mut self, text: &[u8]) -> Vec<u8> {
        let mut output = self.push(text).to_vec();
        output.extend_from_slice(&self.finish());
        output
    }

    /// Creates a redactor for another text of the same response.
    pub(super) fn restart(&self) -> Option<Self> {
        self.layers.redactor(&self.charge)
    }

    /// Takes a part of the body; returns the bytes that can be passed on.
    pub(super) fn push(&mut self, part: &[u8]) -> Bytes {
        let mut output = BytesMut::with_capacity(part.len());
        self.feed(part, &mut output);
        output.freeze()
    }

    fn feed(&mut self, part: &[u8], output: &mut BytesMut) {
        let Self { layers: hidden, replacers, charge } = self;
        feed(replacers, &hidden.layers, charge.as_ref(), Segment::Text(part), output);
    }

    /// Like `push`, but yields to other tasks.
    pub(super) async fn push_with_yields(&mut self, part: &[u8]) -> Bytes {
        let mut output = BytesMut::with_capacity(part.len());
        for (number, slice) in part.chunks(SLICE_BYTES).enumerate() {
            if number > 0 {
                tokio::task::yield_now().await;
            }
            self.feed(slice, &mut output);
        }
        output.freeze()
    }

    /// Returns the remaining bytes at the end of the body.
    pub(super) fn finish(&mut self) -> Bytes {
        let mut output = BytesMut::new();
        let Self { layers: hidden, replacers, charge } = self;
        finish(replacers, &hidden.layers, charge.as_ref(), &mut output);
        output.freeze()
    }
}

/// Feeds a text through the layers. A secret ends the text that the next layer sees, so the matches of that layer do
/// not depend on the secret.
fn feed(
    replacers: &mut [SecretReplacer],
    layers: &[Layer],
    charge: Option<&EchoCharge>,
    piece: Segment<'_>,
    output: &mut BytesMut,
) {
    let (Some((replacer, replacers)), Some((layer, layers))) = (replacers.split_first_mut(), layers.split_first())
    else {
        if let Segment::Text(text) = piece {
            output.extend_from_slice(text);
        }
        return;
    };
    if let Segment::Text(text) = piece {
        replacer.push(text, &mut |piece| forward_segment(replacers, layers, layer, charge, piece, output));
    }
}

fn finish(replacers: &mut [SecretReplacer], layers: &[Layer], charge: Option<&EchoCharge>, output: &mut BytesMut) {
    if let (Some((replacer, replacers)), Some((layer, layers))) = (replacers.split_first_mut(), layers.split_first()) {
        replacer.finish(&mut |piece| forward_segment(replacers, layers, layer, charge, piece, output));
        finish(replacers, layers, charge, output);
    }
}

fn forward_segment(
    replacers: &mut [SecretReplacer],
    layers: &[Layer],
    layer: &Layer,
    charge: Option<&EchoCharge>,
    piece: Segment<'_>,
    output: &mut BytesMut,
) {
    match piece {
        Segment::Text(_) => feed(replacers, layers, charge, piece, output),
        Segment::Secret { owner, null_padding: gap } => {
            if let Some(charge) = charge.filter(|_| layer.unknown_to_guest) {
                charge.apply();
            }
            finish(replacers, layers, charge, output);
            write_placeholder(layer.placeholders.get(owner).map_or("", String::as_str), gap, output);
        }
    }
}
