//! Finds secrets in texts and puts something else in their place, whatever the text is written in: a secret is looked for in what a reader
//! of the text would see ([`scan`]), and what is replaced is the part of the original that stands for it.
//!
//! Places that overlap are one region, replaced as a whole, so that no secret leaves a part of another one. The work is linear in the text,
//! and a text may arrive in parts of any size: what is handed on does not depend on how it was cut.

mod decode;
mod forms;
mod scan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::{Buf, BytesMut};

pub(super) use forms::{Form, Shortest, forms, json_escape, whole_forms, xml_escape};

use scan::{Found, Scanner};

/// What is looked for. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Finder(Arc<scan::Finder>);

impl Finder {
    /// Takes forms, each with the number of its owner; `None` when there are none.
    ///
    /// # Errors
    ///
    /// The forms have gigabytes.
    pub(super) fn new(forms: &[(usize, Form)]) -> Result<Option<Self>, aho_corasick::BuildError> {
        if forms.is_empty() {
            return Ok(None);
        }
        let finder = scan::Finder::new(forms.iter().map(|(owner, form)| (*owner, form.as_slice())))?;
        Ok(Some(Self(Arc::new(finder))))
    }
}

/// What a text becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Bytes of the original.
    Text(&'a [u8]),
    /// A secret stood here.
    Secret {
        /// Whose it is; of several that overlap, the first.
        owner: usize,
        /// Null bytes between two characters: the text is UTF-16 or UTF-32.
        gap: usize,
    },
}

/// Replaces secrets in one text.
#[derive(Debug)]
pub(super) struct Veil {
    finder: Finder,
    scanner: Scanner,
    /// What may be a part of a secret.
    held: BytesMut,
    /// Bytes before [`Self::held`].
    released: u64,
    /// Places that begin behind them.
    found: Vec<Found>,
    /// Where the region ends that was replaced last.
    covered: u64,
}

impl Veil {
    pub(super) fn new(finder: &Finder) -> Self {
        Self {
            scanner: Scanner::new(&finder.0),
            finder: finder.clone(),
            held: BytesMut::new(),
            released: 0,
            found: Vec::new(),
            covered: 0,
        }
    }

    /// Takes the next part of the text; hands on what is decided.
    pub(super) fn push(&mut self, part: &[u8], out: &mut dyn FnMut(Piece<'_>)) {
        self.held.extend_from_slice(part);
        self.scanner.push(&self.finder.0, part, &mut self.found);
        self.release(self.scanner.complete(), out);
    }

    /// Hands on what is left at the end of the text. What comes after it is another text.
    pub(super) fn finish(&mut self, out: &mut dyn FnMut(Piece<'_>)) {
        if self.released == 0 && self.held.is_empty() {
            return;
        }
        self.scanner.finish(&self.finder.0, &mut self.found);
        self.release(self.released + self.held.len() as u64, out);
        *self = Self::new(&self.finder);
    }

    /// Hands on what stands before `limit`: no place will be found any more that begins there.
    fn release(&mut self, limit: u64, out: &mut dyn FnMut(Piece<'_>)) {
        self.found.sort_unstable_by_key(|place| (place.start, std::cmp::Reverse(place.end)));
        let decided = self.found.partition_point(|place| place.start < limit);
        let mut position = self.released;
        for place in self.found.drain(..decided) {
            let touches = place.start == self.covered && self.covered > 0;
            let continues = place.start < self.covered || (touches && !place.first);
            if !continues {
                show(&self.held, self.released, position.max(self.covered)..place.start, out);
                let behind = self.held.iter().skip((place.start - self.released) as usize + 1);
                out(Piece::Secret { owner: place.owner, gap: behind.take(3).take_while(|byte| **byte == 0).count() });
                position = place.start;
            }
            self.covered = self.covered.max(place.end);
        }
        show(&self.held, self.released, position.max(self.covered)..limit, out);
        self.held.advance((limit - self.released) as usize);
        self.released = limit;
    }
}

/// Hands on a part of what is held, if there is any.
fn show(held: &[u8], released: u64, range: std::ops::Range<u64>, out: &mut dyn FnMut(Piece<'_>)) {
    let inside = |place: u64| place.saturating_sub(released) as usize;
    if let Some(text) = held.get(inside(range.start)..inside(range.end)).filter(|text| !text.is_empty()) {
        out(Piece::Text(text));
    }
}

/// Writes a word that stands for a secret, as wide as the text around it.
pub(super) fn write_word(word: &str, gap: usize, into: &mut BytesMut) {
    for (place, byte) in word.bytes().enumerate() {
        if place > 0 {
            into.resize(into.len() + gap, 0);
        }
        into.extend_from_slice(&[byte]);
    }
}
