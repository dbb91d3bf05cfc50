//! Answers that repeat a secret. A vendor's page may show again what a form sent to it; the guest then sees the placeholder, which it can
//! send again, and not the value.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};

use super::echo_budget::EchoCharge;
use super::secret_replacer::{
    EncodedForm, MinLength, SecretFinder, SecretReplacer, Segment, encoded_forms, write_placeholder,
};
use super::session::line_size;
use crate::yield_budget::YieldBudget;

/// Forms of fewer bytes are not looked for: in an answer they would be found by chance, and the answer would be damaged.
pub(super) const MIN_FORM_LENGTH: MinLength = MinLength::Bytes(6);

/// Bytes that are looked at without letting other tasks have their turn.
pub(super) const SLICE_BYTES: usize = 16 << 10;

/// What is hidden in answers. Cheap to clone.
///
/// First the secrets that the guest does not know are replaced, then, in what stands between them, those that it gave the host itself. The
/// order matters: a guest that chose a secret to overlap with the beginning of a password would otherwise see by what is hidden whether it
/// guessed right.
#[derive(Debug, Clone, Default)]
pub(super) struct RedactionLayers {
    layers: Vec<Layer>,
}

/// Secrets that are looked for together; places that overlap are replaced as one.
#[derive(Debug, Clone)]
struct Layer {
    finder: SecretFinder,
    /// For each owner the placeholder.
    placeholders: Vec<String>,
    /// Whether the guest does not know these secrets.
    unknown_to_guest: bool,
}

impl RedactionLayers {
    /// Takes pairs of value and placeholder: of the secrets that the guest does not know, and of those that it gave the host itself.
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
                let words = secrets.iter().map(|(_, word)| (*word).to_owned()).collect();
                hidden.layers.push(Layer { finder, placeholders: words, unknown_to_guest: guarded });
            }
        }
        Ok(hidden)
    }

    /// Whether there are secrets that the guest does not know.
    pub(super) fn has_unknown_secrets(&self) -> bool {
        self.layers.iter().any(|layer| layer.unknown_to_guest)
    }

    /// For an answer that is about to come; `None` when there is nothing to hide.
    pub(super) fn redactor(&self, charge: &Option<EchoCharge>) -> Option<SecretRedactor> {
        (!self.layers.is_empty()).then(|| SecretRedactor {
            layers: self.clone(),
            replacers: self.layers.iter().map(|layer| SecretReplacer::new(&layer.finder)).collect(),
            charge: charge.clone(),
        })
    }

    /// A text that is complete and that no answer brought.
    pub(super) fn redact(&self, text: &str) -> String {
        let shown = self.redactor(&None).map(|echo| echo.redact_whole(text.as_bytes()));
        shown.map_or_else(|| text.to_owned(), |shown| String::from_utf8_lossy(&shown).into_owned())
    }
}

/// Replaces the values of secrets in a body that arrives in parts.
#[derive(Debug)]
pub(super) struct SecretRedactor {
    layers: RedactionLayers,
    replacers: Vec<SecretReplacer>,
    /// Booked when the answer shows a secret that the guest does not know.
    charge: Option<EchoCharge>,
}

impl SecretRedactor {
    /// A text that is complete and no part of the body.
    pub(super) fn redact(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.redact_bytes(text.as_bytes())).into_owned()
    }

    /// The same for a text in any encoding.
    pub(super) fn redact_bytes(&self, text: &[u8]) -> Vec<u8> {
        self.restart().map_or_else(|| text.to_vec(), |echo| echo.redact_whole(text))
    }

    /// Bytes of the answer's headers as the guest sees them; charges for the secrets in them. Without the length of the body, which is hidden.
    pub(super) async fn shown_size(&self, headers: &HeaderMap) -> u64 {
        let (mut size, mut pace) = (0, YieldBudget::default());
        for (name, value) in headers.iter().filter(|(name, _)| *name != header::CONTENT_LENGTH) {
            size +=
                line_size(self.redact_bytes(name.as_str().as_bytes()).len(), self.redact_bytes(value.as_bytes()).len());
            pace.consume(name.as_str().len() + value.len()).await;
        }
        size
    }

    fn redact_whole(mut self, text: &[u8]) -> Vec<u8> {
        let mut shown = self.push(text).to_vec();
        shown.extend_from_slice(&self.finish());
        shown
    }

    /// For another text of the same answer.
    pub(super) fn restart(&self) -> Option<Self> {
        self.layers.redactor(&self.charge)
    }

    /// Takes a part of the body; returns what can be handed on.
    pub(super) fn push(&mut self, part: &[u8]) -> Bytes {
        let mut shown = BytesMut::with_capacity(part.len());
        self.feed(part, &mut shown);
        shown.freeze()
    }

    fn feed(&mut self, part: &[u8], shown: &mut BytesMut) {
        let Self { layers: hidden, replacers: veils, charge } = self;
        feed(veils, &hidden.layers, charge.as_ref(), Segment::Text(part), shown);
    }

    /// The same, with pauses for other tasks.
    pub(super) async fn push_with_yields(&mut self, part: &[u8]) -> Bytes {
        let mut shown = BytesMut::with_capacity(part.len());
        for (number, slice) in part.chunks(SLICE_BYTES).enumerate() {
            if number > 0 {
                tokio::task::yield_now().await;
            }
            self.feed(slice, &mut shown);
        }
        shown.freeze()
    }

    /// What is left at the end of the body.
    pub(super) fn finish(&mut self) -> Bytes {
        let mut shown = BytesMut::new();
        let Self { layers: hidden, replacers: veils, charge } = self;
        finish(veils, &hidden.layers, charge.as_ref(), &mut shown);
        shown.freeze()
    }
}

/// Sends a text through the layers. A secret ends the text that the next layer sees: what it finds does not depend on the secret.
fn feed(
    veils: &mut [SecretReplacer],
    layers: &[Layer],
    charge: Option<&EchoCharge>,
    piece: Segment<'_>,
    shown: &mut BytesMut,
) {
    let (Some((veil, veils)), Some((layer, layers))) = (veils.split_first_mut(), layers.split_first()) else {
        if let Segment::Text(text) = piece {
            shown.extend_from_slice(text);
        }
        return;
    };
    if let Segment::Text(text) = piece {
        veil.push(text, &mut |piece| forward_segment(veils, layers, layer, charge, piece, shown));
    }
}

fn finish(veils: &mut [SecretReplacer], layers: &[Layer], charge: Option<&EchoCharge>, shown: &mut BytesMut) {
    if let (Some((veil, veils)), Some((layer, layers))) = (veils.split_first_mut(), layers.split_first()) {
        veil.finish(&mut |piece| forward_segment(veils, layers, layer, charge, piece, shown));
        finish(veils, layers, charge, shown);
    }
}

fn forward_segment(
    veils: &mut [SecretReplacer],
    layers: &[Layer],
    layer: &Layer,
    charge: Option<&EchoCharge>,
    piece: Segment<'_>,
    shown: &mut BytesMut,
) {
    match piece {
        Segment::Text(_) => feed(veils, layers, charge, piece, shown),
        Segment::Secret { owner, null_padding: gap } => {
            if let Some(charge) = charge.filter(|_| layer.unknown_to_guest) {
                charge.apply();
            }
            finish(veils, layers, charge, shown);
            write_placeholder(layer.placeholders.get(owner).map_or("", String::as_str), gap, shown);
        }
    }
}
