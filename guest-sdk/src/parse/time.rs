//! The time of day next to a date. It is found first and removed as a whole, so that none of its digits is taken for
//! a day or a year.

use super::words::is_zone;

/// Token of a text about a date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Number(String),
    /// Letters, in lower case and without accents.
    Word(String),
    /// White space of any length.
    Space,
    Mark(char),
}

/// Splits a text into tokens.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for letter in text.trim().chars().flat_map(char::to_lowercase).map(without_accent) {
        match (tokens.last_mut(), letter) {
            (Some(Token::Number(digits)), '0'..='9') => digits.push(letter),
            (_, '0'..='9') => tokens.push(Token::Number(letter.to_string())),
            (Some(Token::Word(word)), letter) if letter.is_alphabetic() => word.push(letter),
            (_, letter) if letter.is_alphabetic() => tokens.push(Token::Word(letter.to_string())),
            (Some(Token::Space), letter) if letter.is_whitespace() => {}
            (_, letter) if letter.is_whitespace() => tokens.push(Token::Space),
            (_, letter) => tokens.push(Token::Mark(letter)),
        }
    }
    tokens
}

fn without_accent(letter: char) -> char {
    match letter {
        'é' | 'è' | 'ê' => 'e',
        'û' | 'ù' => 'u',
        'à' => 'a',
        other => other,
    }
}

/// Returns the tokens before and after the time of day; `None` if there is no time, or it is not a valid time.
pub(super) fn split_around_time(tokens: &[Token]) -> Option<(&[Token], &[Token])> {
    let (start, end) = (0..tokens.len()).find_map(|start| Some((start, start + time_length(tokens.get(start..)?)?)))?;
    let mut before = tokens.get(..start)?;
    let mut after = tokens.get(end..)?;
    while let Some((last, rest)) = before.split_last().filter(|(last, _)| is_separator(last)) {
        before = rest;
        // `2026-11-03T10:00`, `le 3 à 10h`: one such word.
        if matches!(last, Token::Word(_)) {
            before = trim_trailing_space(before);
            break;
        }
    }
    while let Some((_, rest)) =
        after.split_first().filter(|(next, _)| matches!(next, Token::Space | Token::Mark(',' | '-' | '–' | '—')))
    {
        after = rest;
    }
    Some((before, after))
}

/// Returns whether a token may stand between a date and the time after it.
fn is_separator(token: &Token) -> bool {
    match token {
        Token::Space | Token::Mark(',' | '-' | '–' | '—' | '@') => true,
        Token::Word(word) => matches!(word.as_str(), "t" | "a" | "at"),
        Token::Mark(_) | Token::Number(_) => false,
    }
}

fn trim_trailing_space(tokens: &[Token]) -> &[Token] {
    match tokens.split_last() {
        Some((Token::Space | Token::Mark(','), rest)) => trim_trailing_space(rest),
        _ => tokens,
    }
}

/// Returns how many tokens at the beginning of `tokens` form a time, including its zone.
fn time_length(tokens: &[Token]) -> Option<usize> {
    let mut reader = TokenReader { tokens, position: 0 };
    if reader.word(&["t"]) {
        // The basic format of ISO 8601, in which a time always follows a T: 103000Z.
        let digits = reader.number(&[2, 4, 6])?;
        let part = |start: usize| digits.get(start..start + 2).map_or(Some(0), |part| part.parse().ok());
        let extended = matches!(reader.tokens.get(reader.position), Some(Token::Mark(':')));
        if !extended && is_time(part(0)?, part(2)?, part(4)?) {
            reader.zone();
            return Some(reader.position);
        }
        return None;
    }
    let hour = parse_two_digits(reader.number(&[1, 2])?)?;
    let (minute, second) = reader.rest_of_time()?;
    is_time(hour, minute, second).then_some(reader.position)
}

fn is_time(hour: u8, minute: u8, second: u8) -> bool {
    // RFC 3339 §5.7: a leap second is the sixtieth.
    (hour < 24 && minute < 60 && second <= 60) || (hour, minute, second) == (24, 0, 0)
}

fn parse_two_digits(digits: &str) -> Option<u8> {
    digits.parse().ok()
}

struct TokenReader<'a> {
    tokens: &'a [Token],
    position: usize,
}

impl<'a> TokenReader<'a> {
    /// Minutes and seconds after the hour: `:30:00.000 +01:00`, `h30`, ` h 30`, ` pm`.
    fn rest_of_time(&mut self) -> Option<(u8, u8)> {
        let (mut minute, mut second) = (0, 0);
        if self.mark(':') {
            minute = parse_two_digits(self.number(&[2])?)?;
            if self.mark(':') {
                second = parse_two_digits(self.number(&[2])?)?;
                self.optional(|reader| {
                    let has_fraction = reader.mark('.') || reader.mark(',');
                    if has_fraction { reader.number(&[1, 2, 3, 4, 5, 6, 7, 8, 9]) } else { None }
                });
            }
            self.optional(|reader| reader.meridiem().then_some(()));
        } else if self.optional(|reader| reader.spaced_word(&["h", "hr", "heure", "heures"])).is_some() {
            let minutes = self.optional(|reader| {
                reader.space();
                parse_two_digits(reader.number(&[2])?)
            });
            if let Some(parsed) = minutes {
                minute = parsed;
                self.optional(|reader| reader.spaced_word(&["m", "mn", "min"]));
            }
        } else if !self.meridiem() {
            return None;
        }
        self.zone();
        Some((minute, second))
    }

    /// Reads `am` or `p.m.`; returns whether it was found.
    fn meridiem(&mut self) -> bool {
        let whole = self.optional(|reader| reader.spaced_word(&["am", "pm"]));
        let dotted = |reader: &mut Self| {
            reader.spaced_word(&["a", "p"])?;
            (reader.mark('.') && reader.word(&["m"]) && reader.mark('.')).then_some(())
        };
        whole.or_else(|| self.optional(dotted)).is_some()
    }

    /// Reads a time zone: `Z`, `UTC`, `+01:00`, `GMT+0100 (Central European Standard Time)`.
    fn zone(&mut self) {
        let named = self.optional(|reader| {
            reader.space();
            let Some(Token::Word(word)) = reader.next() else { return None };
            is_zone(word).then_some(())
        });
        let shifted = self.optional(|reader| {
            if named.is_none() {
                reader.space();
            }
            if !(reader.mark('+') || reader.mark('-') || reader.mark('−')) {
                return None;
            }
            let digits = reader.number(&[2, 4])?;
            let (hours, minutes) = digits.split_at_checked(2)?;
            let has_colon = minutes.is_empty() && reader.mark(':');
            let minutes = if has_colon { reader.number(&[2])? } else { minutes };
            let is_whole = has_colon || !minutes.is_empty() || named.is_some();
            (is_whole && parse_two_digits(hours)? <= 14 && (minutes.is_empty() || parse_two_digits(minutes)? < 60))
                .then_some(())
        });
        if named.or(shifted).is_some() {
            self.optional(|reader| {
                reader.space();
                reader.mark('(').then_some(())?;
                while matches!(reader.tokens.get(reader.position), Some(Token::Word(_) | Token::Space)) {
                    reader.position += 1;
                }
                reader.mark(')').then_some(())
            });
        }
    }

    /// Runs `read`; consumes nothing if it returns `None`.
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let start = self.position;
        let found = read(self);
        if found.is_none() {
            self.position = start;
        }
        found
    }

    fn next(&mut self) -> Option<&'a Token> {
        let next = self.tokens.get(self.position)?;
        self.position += 1;
        Some(next)
    }

    fn space(&mut self) {
        self.optional(|reader| matches!(reader.next(), Some(Token::Space)).then_some(()));
    }

    fn mark(&mut self, mark: char) -> bool {
        self.optional(|reader| (reader.next() == Some(&Token::Mark(mark))).then_some(())).is_some()
    }

    fn word(&mut self, words: &[&str]) -> bool {
        self.optional(|reader| {
            matches!(reader.next(), Some(Token::Word(word)) if words.contains(&word.as_str())).then_some(())
        })
        .is_some()
    }

    fn spaced_word(&mut self, words: &[&str]) -> Option<()> {
        self.space();
        self.word(words).then_some(())
    }

    /// Reads a number whose count of digits is one of `lengths`.
    fn number(&mut self, lengths: &[usize]) -> Option<&'a str> {
        self.optional(|reader| match reader.next() {
            Some(Token::Number(digits)) if lengths.contains(&digits.len()) => Some(digits.as_str()),
            _ => None,
        })
    }
}
