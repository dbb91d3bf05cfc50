//! Finds and replaces secrets in texts of any coding. A secret is searched for in the decoded text ([`scan`]), and the
//! corresponding part of the original is replaced.
//!
//! Overlapping matches form one region that is replaced as a whole, so no part of another secret remains. The work is
//! linear in the text. A text may arrive in parts of any size; the output does not depend on the cuts.

mod decode;
mod encoded_forms;
mod scan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::{Buf, BytesMut};

pub(super) use encoded_forms::{EncodedForm, MinLength, encoded_forms, json_escape, whole_value_forms, xml_escape};

use scan::{FormMatch, Scanner};

/// The forms to search for. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct SecretFinder(Arc<scan::FormAutomaton>);

impl SecretFinder {
    /// Takes forms, each with the number of its owner. Returns `None` if there are none.
    ///
    /// # Errors
    ///
    /// If the forms take gigabytes.
    pub(super) fn new(forms: &[(usize, EncodedForm)]) -> Result<Option<Self>, aho_corasick::BuildError> {
        if forms.is_empty() {
            return Ok(None);
        }
        let finder = scan::FormAutomaton::new(forms.iter().map(|(owner, form)| (*owner, form.as_slice())))?;
        Ok(Some(Self(Arc::new(finder))))
    }
}

/// Part of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// Bytes of the original.
    Text(&'a [u8]),
    /// A secret stood here.
    Secret {
        /// Owner of the secret; the first one if several overlap.
        owner: usize,
        /// Number of null bytes between two characters. If not zero, the text is UTF-16 or UTF-32.
        null_padding: usize,
    },
}

/// Replaces secrets in one text.
#[derive(Debug)]
pub(super) struct SecretReplacer {
    finder: SecretFinder,
    scanner: Scanner,
    /// Bytes that may be part of a secret.
    buffer: BytesMut,
    /// Number of bytes before [`Self::buffer`].
    emitted: u64,
    /// Matches that begin after these bytes.
    matches: Vec<FormMatch>,
    /// End of the region that was replaced last.
    replaced_until: u64,
}

impl SecretReplacer {
    pub(super) fn new(finder: &SecretFinder) -> Self {
        Self {
            scanner: Scanner::new(&finder.0),
            finder: finder.clone(),
            buffer: BytesMut::new(),
            emitted: 0,
            matches: Vec::new(),
            replaced_until: 0,
        }
    }

    /// Takes the next part of the text; emits the segments that are decided.
    pub(super) fn push(&mut self, part: &[u8], out: &mut dyn FnMut(Segment<'_>)) {
        self.buffer.extend_from_slice(part);
        self.scanner.push(&self.finder.0, part, &mut self.matches);
        self.emit(self.scanner.scanned_until(), out);
    }

    /// Emits the remaining segments at the end of the text. Later input is a new text.
    pub(super) fn finish(&mut self, out: &mut dyn FnMut(Segment<'_>)) {
        if self.emitted == 0 && self.buffer.is_empty() {
            return;
        }
        self.scanner.finish(&self.finder.0, &mut self.matches);
        self.emit(self.emitted + self.buffer.len() as u64, out);
        *self = Self::new(&self.finder);
    }

    /// Emits the text before `limit`, where no further match can begin.
    fn emit(&mut self, limit: u64, out: &mut dyn FnMut(Segment<'_>)) {
        self.matches.sort_unstable_by_key(|found| (found.start, std::cmp::Reverse(found.end)));
        let decided = self.matches.partition_point(|found| found.start < limit);
        let mut position = self.emitted;
        for found in self.matches.drain(..decided) {
            let touches = found.start == self.replaced_until && self.replaced_until > 0;
            let continues = found.start < self.replaced_until || (touches && !found.starts_form);
            if !continues {
                emit_text(&self.buffer, self.emitted, position.max(self.replaced_until)..found.start, out);
                let following = self.buffer.iter().skip((found.start - self.emitted) as usize + 1);
                out(Segment::Secret {
                    owner: found.owner,
                    null_padding: following.take(3).take_while(|byte| **byte == 0).count(),
                });
                position = found.start;
            }
            self.replaced_until = self.replaced_until.max(found.end);
        }
        emit_text(&self.buffer, self.emitted, position.max(self.replaced_until)..limit, out);
        self.buffer.advance((limit - self.emitted) as usize);
        self.emitted = limit;
    }
}

/// Emits a part of the buffered bytes, if it is not empty.
fn emit_text(buffer: &[u8], start: u64, range: std::ops::Range<u64>, out: &mut dyn FnMut(Segment<'_>)) {
    let index = |position: u64| position.saturating_sub(start) as usize;
    if let Some(text) = buffer.get(index(range.start)..index(range.end)).filter(|text| !text.is_empty()) {
        out(Segment::Text(text));
    }
}

/// Writes a placeholder with the same character width as the surrounding text.
pub(super) fn write_placeholder(placeholder: &str, gap: usize, output: &mut BytesMut) {
    for (index, byte) in placeholder.bytes().enumerate() {
        if index > 0 {
            output.resize(output.len() + gap, 0);
        }
        output.extend_from_slice(&[byte]);
    }
}
