//! How texts are written inside of other texts: percent encoding, character references of HTML, escapes of JSON and JavaScript, bytes of
//! UTF-16, and lines. A decoder takes a text one byte at a time and hands on what a reader sees, with the place of each byte in the original.

use web_atoms::NAMED_ENTITIES;

/// Longest escape that is read, in bytes: numeric references may begin with any number of zeros, and nobody writes that many.
const MAX_ESCAPE: usize = 48;

/// Null bytes in a row that are passed over. UTF-32 has up to five between two characters; a run without an end would keep what stands before it.
const MAX_NULLS: usize = 8;

/// Longest name of a character reference that needs no semicolon: `frac12`.
const MAX_LEGACY: usize = 6;

/// A byte of a decoded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Symbol {
    pub(super) byte: u8,
    /// Where it begins in the original.
    pub(super) start: u64,
    /// Where it ends there.
    pub(super) end: u64,
}

/// A way to write a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// UTF-16 and UTF-32: what is ASCII has null bytes before or behind it.
    Wide,
    /// `%2F`, and `%u002f` of JavaScript's `escape`.
    Percent,
    /// `&sol;`, `&#47;`, `&#x2f;`; the semicolon may be missing, as browsers have it.
    Html,
    /// `\/`, `\u002f`, `\x2f`, `\u{2f}`.
    Json,
    /// Line breaks inside of what is one word, and the indentation behind them: Base64 in lines (RFC 2045 §6.8, RFC 7468).
    Lines,
}

impl Coding {
    /// Whether an escape begins with this byte.
    pub(super) const fn is_mark(self, byte: u8) -> bool {
        match self {
            Self::Wide => byte == 0,
            Self::Percent => byte == b'%',
            Self::Html => byte == b'&',
            Self::Json => byte == b'\\',
            Self::Lines => matches!(byte, b'\r' | b'\n'),
        }
    }

    /// Whether its escapes stand for nothing.
    pub(super) const fn is_skipped(self) -> bool {
        matches!(self, Self::Wide | Self::Lines)
    }

    fn read(self, escape: &[u8]) -> Step {
        match self {
            Self::Wide => skip(escape, MAX_NULLS, |byte| byte == 0),
            Self::Lines => skip(escape, MAX_ESCAPE, |byte| matches!(byte, b'\r' | b'\n' | b' ' | b'\t')),
            Self::Percent => percent(escape),
            Self::Html => html(escape),
            Self::Json => json(escape),
        }
    }
}

/// What the beginning of an escape is.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// More is needed to tell.
    Unfinished,
    /// So many bytes are an escape for this text.
    Decoded(usize, Text),
    /// No escape.
    Literal,
}

/// Few bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Text {
    bytes: [u8; 8],
    length: usize,
}

impl Text {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn of_byte(byte: u8) -> Self {
        let mut text = Self::default();
        text.push(byte);
        text
    }

    /// What is no character is replaced, as every decoder does.
    fn of_codes(codes: impl IntoIterator<Item = u32>) -> Self {
        let mut text = Self::default();
        for code in codes {
            let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| text.push(byte));
        }
        text
    }
}

/// A run of bytes that stand for nothing. It ends before the first other byte; of one that is too long, the last byte stays.
fn skip(escape: &[u8], most: usize, is_skipped: impl Fn(u8) -> bool) -> Step {
    match escape.last() {
        Some(last) if !is_skipped(*last) => Step::Decoded(escape.len() - 1, Text::default()),
        Some(last) if escape.len() > most => Step::Decoded(escape.len(), Text::of_byte(*last)),
        _ => Step::Unfinished,
    }
}

fn percent(escape: &[u8]) -> Step {
    let (digits, wanted) = match escape {
        [] | [_] => return Step::Unfinished,
        [_, b'u' | b'U', digits @ ..] => (digits, 4),
        [_, digits @ ..] => (digits, 2),
    };
    match hexadecimal(digits) {
        None => Step::Literal,
        Some(_) if digits.len() < wanted => Step::Unfinished,
        Some(code) if wanted == 2 => Step::Decoded(escape.len(), Text::of_byte(code as u8)),
        Some(code) => Step::Decoded(escape.len(), Text::of_codes([code])),
    }
}

fn json(escape: &[u8]) -> Step {
    let whole = |code| Step::Decoded(escape.len(), Text::of_codes([code]));
    match escape {
        [_] | [_, b'x' | b'u'] => Step::Unfinished,
        [_, b'x', digits @ ..] => match hexadecimal(digits) {
            None => Step::Literal,
            Some(_) if digits.len() < 2 => Step::Unfinished,
            Some(code) => whole(code),
        },
        [_, b'u', b'{'] => Step::Unfinished,
        [_, b'u', b'{', digits @ .., b'}'] => hexadecimal(digits).map_or(Step::Literal, whole),
        [_, b'u', b'{', digits @ ..] if digits.len() <= 6 && hexadecimal(digits).is_some() => Step::Unfinished,
        [_, b'u', digits @ ..] => utf16(digits),
        [_, letter, ..] => Step::Decoded(
            2,
            Text::of_byte(match letter {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'f' => 12,
                other => *other,
            }),
        ),
        [] => Step::Literal,
    }
}

/// What follows `\u`: four digits, and `\u` with four more where they are the first half of a character.
fn utf16(digits: &[u8]) -> Step {
    let (first, rest) = digits.split_at(digits.len().min(4));
    let Some(code) = hexadecimal(first) else { return Step::Literal };
    if first.len() < 4 {
        return Step::Unfinished;
    }
    let alone = || Step::Decoded(6, Text::of_codes([code]));
    if !(0xd800..0xdc00).contains(&code) {
        return alone();
    }
    match rest {
        [] | [b'\\'] | [b'\\', b'u'] => Step::Unfinished,
        [b'\\', b'u', second @ ..] => match hexadecimal(second) {
            Some(_) if second.len() < 4 => Step::Unfinished,
            Some(low) if (0xdc00..0xe000).contains(&low) => {
                let code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                Step::Decoded(12, Text::of_codes([code]))
            }
            _ => alone(),
        },
        _ => alone(),
    }
}

fn html(escape: &[u8]) -> Step {
    let Some((last, before)) = escape.split_last() else { return Step::Literal };
    match before {
        [] => Step::Unfinished,
        [_] if *last == b'#' => Step::Unfinished,
        [_, b'#'] if matches!(last, b'x' | b'X') => Step::Unfinished,
        [_, b'#', b'x' | b'X', digits @ ..] => numeric(before.len(), digits, *last, 16),
        [_, b'#', digits @ ..] => numeric(before.len(), digits, *last, 10),
        [_, name @ ..] => named(name, *last),
    }
}

/// A numeric reference ends before the first byte that is no digit; the semicolon belongs to it.
fn numeric(read: usize, digits: &[u8], last: u8, base: u32) -> Step {
    let is_digit = |byte: u8| char::from(byte).is_digit(base);
    if is_digit(last) && read < MAX_ESCAPE {
        return Step::Unfinished;
    }
    let Some(code) = number(digits, base) else { return Step::Literal };
    // Browsers read the codes of the C1 controls as windows-1252, which no password depends on.
    Step::Decoded(read + usize::from(last == b';'), Text::of_codes([code]))
}

fn named(name: &[u8], last: u8) -> Step {
    if last.is_ascii_alphanumeric() && name.len() < MAX_ESCAPE {
        return Step::Unfinished;
    }
    let codes = |name: &str| NAMED_ENTITIES.get(name).copied().filter(|(first, _)| *first != 0);
    let text =
        |(first, second): (u32, u32)| Text::of_codes([first].into_iter().chain(Some(second).filter(|code| *code != 0)));
    let Ok(name) = std::str::from_utf8(name) else { return Step::Literal };
    if last == b';'
        && let Some(found) = codes(&format!("{name};"))
    {
        return Step::Decoded(name.len() + 2, text(found));
    }
    let beginnings = (2..=name.len().min(MAX_LEGACY)).rev();
    let found = beginnings.filter_map(|length| Some((length, codes(name.get(..length)?)?))).next();
    found.map_or(Step::Literal, |(length, found)| Step::Decoded(length + 1, text(found)))
}

/// The number that hexadecimal digits write; `None` where something else is among them.
fn hexadecimal(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() { Some(0) } else { number(digits, 16) }
}

fn number(digits: &[u8], base: u32) -> Option<u32> {
    let digit = |byte: &u8| char::from(*byte).to_digit(base);
    let mut values = digits.iter().map(digit).peekable();
    values.peek()?;
    values.try_fold(0_u32, |number, digit| Some(number.saturating_mul(base).saturating_add(digit?)))
}

/// Reads one coding.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    coding: Coding,
    /// The beginning of an escape.
    pending: Vec<Symbol>,
    /// Its bytes.
    escape: Vec<u8>,
}

impl Decoder {
    pub(super) const fn new(coding: Coding) -> Self {
        Self { coding, pending: Vec::new(), escape: Vec::new() }
    }

    /// Where the escape begins that is being read.
    pub(super) fn pending(&self) -> Option<u64> {
        self.pending.first().map(|symbol| symbol.start)
    }

    /// Takes a symbol; hands on those that are complete, each with whether an escape stood for it.
    pub(super) fn push(&mut self, symbol: Symbol, out: &mut impl FnMut(Symbol, bool)) {
        if self.pending.is_empty() && !self.coding.is_mark(symbol.byte) {
            return out(symbol, false);
        }
        self.pending.push(symbol);
        self.escape.push(symbol.byte);
        match self.coding.read(&self.escape) {
            Step::Unfinished => {}
            Step::Decoded(length, text) => {
                let rest = self.pending.split_off(length.min(self.pending.len()));
                if let (Some(first), Some(last)) = (self.pending.first(), self.pending.last()) {
                    let (start, end) = (first.start, last.end);
                    text.bytes.iter().take(text.length).for_each(|byte| out(Symbol { byte: *byte, start, end }, true));
                }
                self.read_again(rest, out);
            }
            Step::Literal => self.give_up(out),
        }
    }

    /// Hands the first byte on as it is: it begins no escape.
    fn give_up(&mut self, out: &mut impl FnMut(Symbol, bool)) {
        let rest = self.pending.split_off(1.min(self.pending.len()));
        self.pending.iter().for_each(|symbol| out(*symbol, false));
        self.read_again(rest, out);
    }

    /// An escape may begin among the bytes that did not belong to the one before. No byte is read again more than once: the mark of a
    /// coding stands at the beginning of its escapes only, or begins the second half of one.
    fn read_again(&mut self, rest: Vec<Symbol>, out: &mut impl FnMut(Symbol, bool)) {
        self.pending.clear();
        self.escape.clear();
        rest.into_iter().for_each(|symbol| self.push(symbol, out));
    }

    /// Hands on what is left at the end of the text.
    pub(super) fn finish(&mut self, out: &mut impl FnMut(Symbol, bool)) {
        while !self.pending.is_empty() {
            self.give_up(out);
        }
    }
}
