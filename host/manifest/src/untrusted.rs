//! Makes untrusted text, such as the name in a manifest, safe to show in a terminal, a log or an error.

use std::borrow::Cow;

/// Replaces a character that is not shown.
const REPLACEMENT: char = '\u{fffd}';

/// Returns whether a character can be shown safely. Others move the cursor, change colours, reorder adjacent text, or
/// are invisible: C0 and C1 controls, the controls of the bidirectional algorithm (Unicode TR9), line and paragraph
/// separators, interlinear annotations and tags.
#[must_use]
pub const fn is_printable(character: char) -> bool {
    !matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        | '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns the text in one line: unprintable characters are replaced, spaces of all kinds by a space.
#[must_use]
pub fn to_printable(text: &str) -> Cow<'_, str> {
    replace_unprintable(text, |character| match character {
        '\t' | '\n' | '\r' => ' ',
        _ => REPLACEMENT,
    })
}

/// Like [`to_printable`], but preserves line breaks.
#[must_use]
pub fn to_printable_lines(text: &str) -> Cow<'_, str> {
    replace_unprintable(text, |character| match character {
        '\n' => '\n',
        '\t' | '\r' => ' ',
        _ => REPLACEMENT,
    })
}

fn replace_unprintable(text: &str, other: impl Fn(char) -> char) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|character| if is_printable(character) { character } else { other(character) }).collect()
}

/// Returns a text of at most `max` bytes. A longer text is shortened to its beginning and its end, which often says
/// what to do, with the number of omitted bytes between.
#[must_use]
pub fn truncate_middle(text: String, max: usize) -> String {
    if text.len() <= max {
        return text;
    }
    // Leave room for the marker between them.
    let length = max.saturating_sub(40);
    let (head, tail) = (length / 4 * 3, length / 4);
    let start = text.floor_char_boundary(head);
    let end = text.ceil_char_boundary(text.len() - tail);
    let (Some(head), Some(tail)) = (text.get(..start), text.get(end..)) else { return String::new() };
    format!("{head} … ({} bytes omitted) … {tail}", end - start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_drives_a_terminal_or_reorders_text_is_replaced() {
        for (text, expected) in [
            ("plain, Ünïcode, 日本語, 👩‍👧, עברית", "plain, Ünïcode, 日本語, 👩‍👧, עברית"),
            ("a\u{1b}[2Jb", "a\u{fffd}[2Jb"),
            ("a\u{9b}2Jb", "a\u{fffd}2Jb"),
            ("a\u{7f}\u{8}b", "a\u{fffd}\u{fffd}b"),
            ("gpj.\u{202e}exe", "gpj.\u{fffd}exe"),
            ("a\u{2066}b\u{2069}\u{200f}", "a\u{fffd}b\u{fffd}\u{fffd}"),
            ("a\u{2028}b\u{e0041}", "a\u{fffd}b\u{fffd}"),
            ("a\tb\r\nc", "a b  c"),
        ] {
            assert_eq!(to_printable(text), expected, "{text:?}");
        }
        assert_eq!(to_printable_lines("a\n\u{1b}b"), "a\n\u{fffd}b");
    }

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        assert_eq!(truncate_middle("short".to_owned(), 5), "short");
        let text = format!("begin {} end", "é".repeat(1_000));
        let short = truncate_middle(text, 100);
        assert!(
            short.starts_with("begin é") && short.ends_with("é end") && short.contains(" bytes omitted"),
            "{short}"
        );
    }

    proptest! {
        #[test]
        fn no_text_is_longer_than_it_may_be(text in "\\PC{0,300}", max in 60_usize..200) {
            prop_assert!(truncate_middle(text, max).len() <= max);
        }

        #[test]
        fn nothing_that_is_not_printable_is_left(text in any::<String>()) {
            prop_assert!(to_printable(&text).chars().all(is_printable));
            prop_assert!(to_printable_lines(&text).chars().all(|character| character == '\n' || is_printable(character)));
        }
    }
}
