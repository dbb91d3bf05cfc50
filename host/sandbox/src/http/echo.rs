//! Answers that repeat a secret. A vendor's page may show again what a form sent to it; the guest then sees the placeholder, which it can
//! send again, and not the value.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use bytes::{Buf, Bytes, BytesMut};
use encoding_rs::WINDOWS_1252;
use zeroize::Zeroizing;

use super::mask::forms;

/// Forms of fewer bytes are not looked for: in an answer they would be found by chance, and the answer would be damaged.
const SHORTEST: usize = 6;

/// Replaces the values of secrets in a body that arrives in parts.
pub(super) struct Echo {
    finder: AhoCorasick,
    /// For each form the placeholder.
    placeholders: Vec<String>,
    /// Bytes of the longest form.
    longest: usize,
    /// What may be the beginning of a form.
    held: BytesMut,
}

impl Echo {
    /// Takes pairs of value and placeholder. `None` when no value can be looked for.
    pub(super) fn new<'a>(secrets: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let (mut patterns, mut placeholders) = (Vec::new(), Vec::new());
        for (value, placeholder) in secrets {
            let (western, _, unmappable) = WINDOWS_1252.encode(value);
            let western = (!unmappable).then(|| Zeroizing::new(western.into_owned()));
            let forms = forms(value).into_iter().map(|form| Zeroizing::new(form.as_bytes().to_vec()));
            for form in forms.chain(western).filter(|form| form.len() >= SHORTEST) {
                patterns.push(form);
                placeholders.push(placeholder.to_owned());
            }
        }
        let longest = patterns.iter().map(|form| form.len()).max()?;
        let mut finder = AhoCorasick::builder();
        let finder = finder.kind(Some(AhoCorasickKind::ContiguousNFA)).match_kind(MatchKind::LeftmostLongest);
        let finder = finder.build(&patterns).ok()?;
        Some(Self { finder, placeholders, longest, held: BytesMut::new() })
    }

    /// A text that is complete.
    pub(super) fn hide(&self, text: &str) -> String {
        self.finder.replace_all(text, &self.placeholders)
    }

    /// Takes a part of the body; answers what can be handed on.
    pub(super) fn push(&mut self, part: &[u8]) -> Bytes {
        self.held.extend_from_slice(part);
        // A form that begins before this place is here as a whole.
        let complete = (self.held.len() + 1).saturating_sub(self.longest);
        self.release(complete)
    }

    /// What is left at the end of the body.
    pub(super) fn finish(&mut self) -> Bytes {
        self.release(self.held.len())
    }

    fn release(&mut self, complete: usize) -> Bytes {
        let mut released = BytesMut::with_capacity(complete);
        let mut position = 0;
        for found in self.finder.find_iter(&self.held) {
            if found.start() >= complete {
                break;
            }
            released.extend_from_slice(self.held.get(position..found.start()).unwrap_or_default());
            let placeholder = self.placeholders.get(found.pattern().as_usize());
            released.extend_from_slice(placeholder.map(String::as_bytes).unwrap_or_default());
            position = found.end();
        }
        released.extend_from_slice(self.held.get(position..complete).unwrap_or_default());
        self.held.advance(complete.max(position));
        released.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn echo(secrets: &[(&str, &str)]) -> Option<Echo> {
        Echo::new(secrets.iter().copied())
    }

    fn passed(echo: &mut Echo, parts: &[&[u8]]) -> String {
        let mut text: Vec<u8> = parts.iter().flat_map(|part| echo.push(part)).collect();
        text.extend(echo.finish());
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_value_becomes_its_placeholder_in_any_form() {
        let mut echo = echo(&[("p\u{e4}ss w\u{f6}rd", "WORD"), ("hunter22", "OTHER")]).unwrap();
        assert_eq!(
            passed(&mut echo, &["<p>p\u{e4}ss w\u{f6}rd</p> p%C3%A4ss+w%C3%B6rd".as_bytes()]),
            "<p>WORD</p> WORD"
        );
        assert_eq!(passed(&mut echo, &[b"value='p\xe4ss w\xf6rd'"]), "value='WORD'");
        assert_eq!(passed(&mut echo, &[b"hunter2", b"2 hunter2", b"3 68756e7465723232"]), "OTHER hunter23 OTHER");
        assert_eq!(echo.hide("/?q=hunter22"), "/?q=OTHER");
    }

    #[test]
    fn short_values_are_left_alone() {
        assert!(echo(&[("123", "WORD")]).is_none());
        assert!(echo(&[]).is_none());
        let mut pin = echo(&[("1234", "WORD")]).unwrap();
        assert_eq!(passed(&mut pin, &[b"1234 bills of 1234 euros"]), "1234 bills of 1234 euros");
    }

    proptest! {
        /// However the network cuts a body, nothing of a value is in what is handed on, and nothing else is lost.
        #[test]
        fn borders_between_parts_hide_nothing(secret in "[ab]{6,9}", text in "[abc]{0,60}", cuts in prop::collection::vec(0_usize..80, 0..6)) {
            let text = format!("{text}{secret}{text}");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            let mut echo = echo(&[(&secret, "!")]).unwrap();
            let shown = passed(&mut echo, &parts);
            prop_assert!(!shown.contains(&secret));
            prop_assert_eq!(shown, echo.hide(&text));
        }
    }
}
