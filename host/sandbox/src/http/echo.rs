//! Answers that repeat a secret. A vendor's page may show again what a form sent to it; the guest then sees the placeholder, which it can
//! send again, and not the value.

use bytes::{Bytes, BytesMut};

use super::veil::{Finder, Form, Piece, Shortest, Veil, forms, write_word};

/// Forms of fewer bytes are not looked for: in an answer they would be found by chance, and the answer would be damaged.
pub(super) const SHORTEST: Shortest = Shortest::Bytes(6);

/// Bytes that are looked at without letting other tasks have their turn.
pub(super) const SLICE: usize = 16 << 10;

/// What is hidden in answers. Cheap to clone.
///
/// First the secrets that the guest does not know are replaced, then, in what stands between them, those that it gave the host itself. The
/// order matters: a guest that chose a secret to overlap with the beginning of a password would otherwise see by what is hidden whether it
/// guessed right.
#[derive(Debug, Clone, Default)]
pub(super) struct Hidden {
    layers: Vec<Layer>,
}

/// Secrets that are looked for together; places that overlap are replaced as one.
#[derive(Debug, Clone)]
struct Layer {
    finder: Finder,
    /// For each owner the placeholder.
    words: Vec<String>,
}

impl Hidden {
    /// Takes, for each layer, pairs of value and placeholder.
    pub(super) fn new<'a>(layers: [Vec<(&'a str, &'a str)>; 2]) -> Result<Self, aho_corasick::BuildError> {
        let mut hidden = Self::default();
        for secrets in layers {
            let numbered = secrets.iter().enumerate();
            let forms: Vec<(usize, Form)> = numbered
                .flat_map(|(owner, (value, _))| forms(value, SHORTEST).into_iter().map(move |form| (owner, form)))
                .collect();
            if let Some(finder) = Finder::new(&forms)? {
                let words = secrets.iter().map(|(_, word)| (*word).to_owned()).collect();
                hidden.layers.push(Layer { finder, words });
            }
        }
        Ok(hidden)
    }

    /// For an answer that is about to come; `None` when there is nothing to hide.
    pub(super) fn echo(&self) -> Option<Echo> {
        (!self.layers.is_empty()).then(|| Echo {
            hidden: self.clone(),
            veils: self.layers.iter().map(|layer| Veil::new(&layer.finder)).collect(),
        })
    }

    /// A text that is complete.
    pub(super) fn hide(&self, text: &str) -> String {
        let Some(mut echo) = self.echo() else { return text.to_owned() };
        let mut shown = echo.push(text.as_bytes()).to_vec();
        shown.extend_from_slice(&echo.finish());
        String::from_utf8_lossy(&shown).into_owned()
    }
}

/// Replaces the values of secrets in a body that arrives in parts.
#[derive(Debug)]
pub(super) struct Echo {
    hidden: Hidden,
    veils: Vec<Veil>,
}

impl Echo {
    /// A text that is complete and no part of the body.
    pub(super) fn hide(&self, text: &str) -> String {
        self.hidden.hide(text)
    }

    /// For another text.
    pub(super) fn again(&self) -> Option<Self> {
        self.hidden.echo()
    }

    /// Takes a part of the body; returns what can be handed on.
    pub(super) fn push(&mut self, part: &[u8]) -> Bytes {
        let mut shown = BytesMut::with_capacity(part.len());
        feed(&mut self.veils, &self.hidden.layers, Piece::Text(part), &mut shown);
        shown.freeze()
    }

    /// The same, with pauses for other tasks.
    pub(super) async fn push_in_slices(&mut self, part: &[u8]) -> Bytes {
        let mut shown = BytesMut::with_capacity(part.len());
        for (number, slice) in part.chunks(SLICE).enumerate() {
            if number > 0 {
                tokio::task::yield_now().await;
            }
            feed(&mut self.veils, &self.hidden.layers, Piece::Text(slice), &mut shown);
        }
        shown.freeze()
    }

    /// What is left at the end of the body.
    pub(super) fn finish(&mut self) -> Bytes {
        let mut shown = BytesMut::new();
        finish(&mut self.veils, &self.hidden.layers, &mut shown);
        shown.freeze()
    }
}

/// Sends a text through the layers. A secret ends the text that the next layer sees: what it finds does not depend on the secret.
fn feed(veils: &mut [Veil], layers: &[Layer], piece: Piece<'_>, shown: &mut BytesMut) {
    let (Some((veil, veils)), Some((layer, layers))) = (veils.split_first_mut(), layers.split_first()) else {
        if let Piece::Text(text) = piece {
            shown.extend_from_slice(text);
        }
        return;
    };
    if let Piece::Text(text) = piece {
        veil.push(text, &mut |piece| hand_on(veils, layers, layer, piece, shown));
    }
}

fn finish(veils: &mut [Veil], layers: &[Layer], shown: &mut BytesMut) {
    if let (Some((veil, veils)), Some((layer, layers))) = (veils.split_first_mut(), layers.split_first()) {
        veil.finish(&mut |piece| hand_on(veils, layers, layer, piece, shown));
        finish(veils, layers, shown);
    }
}

fn hand_on(veils: &mut [Veil], layers: &[Layer], layer: &Layer, piece: Piece<'_>, shown: &mut BytesMut) {
    match piece {
        Piece::Text(_) => feed(veils, layers, piece, shown),
        Piece::Secret { owner, gap } => {
            finish(veils, layers, shown);
            write_word(layer.words.get(owner).map_or("", String::as_str), gap, shown);
        }
    }
}
