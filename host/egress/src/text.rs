//! Text from a guest that a person will read on a terminal, in a browser or in a log.

/// Removes characters that could mislead a reader: control characters and escape sequences (ECMA-48), characters that
/// change the direction of text (Unicode TR 36), and zero-width characters. Tabs become a space.
pub fn sanitize(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_escape_sequence(&mut characters),
            // The one-character form of ESC [.
            '\u{9b}' => skip_control_sequence(&mut characters),
            '\t' => cleaned.push(' '),
            _ if character.is_control() || is_invisible(character) => {}
            _ => cleaned.push(character),
        }
    }
    cleaned
}

fn skip_escape_sequence(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.next_if(|next| ('\u{20}'..='\u{7e}').contains(next)) {
        Some('[') => skip_control_sequence(characters),
        // Operating system command and similar: up to BEL or ESC \.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(next) = characters.next_if(|next| *next != '\n') {
                if next == '\u{7}' || (next == '\u{1b}' && characters.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

fn skip_control_sequence(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while characters.next_if(|next| ('\u{20}'..='\u{3f}').contains(next)).is_some() {}
    let _final = characters.next_if(|next| ('\u{40}'..='\u{7e}').contains(next));
}

fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

const ELLIPSIS: &str = "…";

/// Truncates a text to at most `limit` bytes at a character boundary and marks it with an ellipsis.
pub fn truncate(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit.saturating_sub(ELLIPSIS.len())));
        text.push_str(ELLIPSIS);
    }
    text
}

/// Removes `tail` bytes from the end of a text, truncates the rest to at most `limit`, and marks it with an ellipsis.
pub fn truncate_tail(mut text: String, tail: usize, limit: usize) -> String {
    let length = text.len().saturating_sub(tail).min(limit.saturating_sub(ELLIPSIS.len()));
    text.truncate(text.floor_char_boundary(length));
    text.push_str(ELLIPSIS);
    text
}

/// A number of bytes in human-readable form.
pub struct ByteSize(pub u64);

impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            bytes if bytes < 1 << 10 => write!(f, "{bytes} bytes"),
            bytes if bytes < 1 << 20 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{} MiB", bytes >> 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_go_with_their_parameters() {
        assert_eq!(sanitize("\u{1b}[1;31mred\u{1b}[0m"), "red");
        assert_eq!(sanitize("\u{1b}]0;title\u{7}after"), "after");
        assert_eq!(sanitize("\u{1b}]8;;http://x\u{1b}\\link"), "link");
        assert_eq!(sanitize("\u{9b}2Jafter"), "after");
        assert_eq!(sanitize("\u{1b}"), "");
    }

    #[test]
    fn direction_and_width_cannot_be_forged() {
        assert_eq!(sanitize("invoice\u{202e}fdp.exe"), "invoicefdp.exe");
        assert_eq!(sanitize("pass\u{200b}word"), "password");
        assert_eq!(sanitize("a\rb\0c\td"), "abc d");
    }

    #[test]
    fn ordinary_text_stays() {
        let text = "Übertrag 3 €, 请稍候 👩🏽 — “ok”";
        assert_eq!(sanitize(text), text);
    }

    proptest! {
        #[test]
        fn cleaned_text_holds_nothing_that_moves_a_cursor(text in any::<String>()) {
            let cleaned = sanitize(&text);
            prop_assert!(!cleaned.chars().any(|character| character.is_control() || is_invisible(character)));
        }

        #[test]
        fn cut_text_fits(text in any::<String>(), limit in 3_usize..64) {
            prop_assert!(truncate(text, limit).len() <= limit);
        }
    }
}
