//! Decodes texts embedded in other texts: percent encoding, HTML character references, escapes of JSON and JavaScript,
//! bytes of UTF-16, and lines. A decoder takes a text one byte at a time and emits the decoded bytes, with the position
//! of each in the original.

use web_atoms::NAMED_ENTITIES;

/// Maximum length of an escape in bytes. Numeric references may begin with any number of zeros, but in practice they
/// are short.
const MAX_ESCAPE_LENGTH: usize = 48;

/// Maximum number of consecutive null bytes that are skipped. UTF-32 has up to five between two characters; an endless
/// run would keep the preceding text buffered.
const MAX_NULLS: usize = 8;

/// Maximum length of the name of a character reference that needs no semicolon: `frac12`.
const MAX_LEGACY_NAME_LENGTH: usize = 6;

/// A byte of a decoded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Symbol {
    pub(super) byte: u8,
    /// Start in the original.
    pub(super) start: u64,
    /// End in the original.
    pub(super) end: u64,
}

/// Coding of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextCoding {
    /// UTF-16 and UTF-32, in which ASCII characters have null bytes before or after them.
    Wide,
    /// `%2F`, and `%u002f` of JavaScript's `escape`.
    Percent,
    /// `&sol;`, `&#47;`, `&#x2f;`; the semicolon may be missing, as in browsers.
    Html,
    /// `\/`, `\u002f`, `\x2f`, `\u{2f}`.
    Json,
    /// Line breaks inside a word, and the indentation after them, as in Base64 in lines (RFC 2045 §6.8, RFC 7468).
    Lines,
}

impl TextCoding {
    /// Returns whether an escape begins with this byte.
    pub(super) const fn is_mark(self, byte: u8) -> bool {
        match self {
            Self::Wide => byte == 0,
            Self::Percent => byte == b'%',
            Self::Html => byte == b'&',
            Self::Json => byte == b'\\',
            Self::Lines => matches!(byte, b'\r' | b'\n'),
        }
    }

    /// Returns whether escapes of this coding decode to nothing.
    pub(super) const fn is_skipped(self) -> bool {
        matches!(self, Self::Wide | Self::Lines)
    }

    fn read(self, escape: &[u8]) -> EscapeParse {
        match self {
            Self::Wide => skip(escape, MAX_NULLS, |byte| byte == 0),
            Self::Lines => skip(escape, MAX_ESCAPE_LENGTH, |byte| matches!(byte, b'\r' | b'\n' | b' ' | b'\t')),
            Self::Percent => percent(escape),
            Self::Html => html(escape),
            Self::Json => json(escape),
        }
    }
}

/// Result of parsing the beginning of an escape.
#[derive(Debug, PartialEq, Eq)]
enum EscapeParse {
    /// More bytes are needed.
    Incomplete,
    /// This many bytes are an escape for this text.
    Decoded(usize, DecodedBytes),
    /// Not an escape.
    Literal,
}

/// A few bytes, stored inline.
#[derive(Debug, Default, PartialEq, Eq)]
struct DecodedBytes {
    bytes: [u8; 8],
    length: usize,
}

impl DecodedBytes {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn from_byte(byte: u8) -> Self {
        let mut text = Self::default();
        text.push(byte);
        text
    }

    /// Encodes code points; invalid ones are replaced, as in every decoder.
    fn from_code_points(codes: impl IntoIterator<Item = u32>) -> Self {
        let mut text = Self::default();
        for code in codes {
            let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| text.push(byte));
        }
        text
    }
}

/// Parses a run of bytes that decode to nothing. It ends before the first other byte; if it is too long, the last byte
/// stays.
fn skip(escape: &[u8], most: usize, is_skipped: impl Fn(u8) -> bool) -> EscapeParse {
    match escape.last() {
        Some(last) if !is_skipped(*last) => EscapeParse::Decoded(escape.len() - 1, DecodedBytes::default()),
        Some(last) if escape.len() > most => EscapeParse::Decoded(escape.len(), DecodedBytes::from_byte(*last)),
        _ => EscapeParse::Incomplete,
    }
}

fn percent(escape: &[u8]) -> EscapeParse {
    let (digits, required) = match escape {
        [] | [_] => return EscapeParse::Incomplete,
        [_, b'u' | b'U', digits @ ..] => (digits, 4),
        [_, digits @ ..] => (digits, 2),
    };
    match hexadecimal(digits) {
        None => EscapeParse::Literal,
        Some(_) if digits.len() < required => EscapeParse::Incomplete,
        Some(code) if required == 2 => EscapeParse::Decoded(escape.len(), DecodedBytes::from_byte(code as u8)),
        Some(code) => EscapeParse::Decoded(escape.len(), DecodedBytes::from_code_points([code])),
    }
}

fn json(escape: &[u8]) -> EscapeParse {
    let whole = |code| EscapeParse::Decoded(escape.len(), DecodedBytes::from_code_points([code]));
    match escape {
        [_] | [_, b'x' | b'u'] => EscapeParse::Incomplete,
        [_, b'x', digits @ ..] => match hexadecimal(digits) {
            None => EscapeParse::Literal,
            Some(_) if digits.len() < 2 => EscapeParse::Incomplete,
            Some(code) => whole(code),
        },
        [_, b'u', b'{'] => EscapeParse::Incomplete,
        [_, b'u', b'{', digits @ .., b'}'] => hexadecimal(digits).map_or(EscapeParse::Literal, whole),
        [_, b'u', b'{', digits @ ..] if digits.len() <= 6 && hexadecimal(digits).is_some() => EscapeParse::Incomplete,
        [_, b'u', digits @ ..] => utf16(digits),
        [_, letter, ..] => EscapeParse::Decoded(
            2,
            DecodedBytes::from_byte(match letter {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'f' => 12,
                other => *other,
            }),
        ),
        [] => EscapeParse::Literal,
    }
}

/// Parses the rest after `\u`: four digits, and `\u` with four more if they are the first half of a character.
fn utf16(digits: &[u8]) -> EscapeParse {
    let (first, rest) = digits.split_at(digits.len().min(4));
    let Some(code) = hexadecimal(first) else { return EscapeParse::Literal };
    if first.len() < 4 {
        return EscapeParse::Incomplete;
    }
    let alone = || EscapeParse::Decoded(6, DecodedBytes::from_code_points([code]));
    if !(0xd800..0xdc00).contains(&code) {
        return alone();
    }
    match rest {
        [] | [b'\\'] | [b'\\', b'u'] => EscapeParse::Incomplete,
        [b'\\', b'u', second @ ..] => match hexadecimal(second) {
            Some(_) if second.len() < 4 => EscapeParse::Incomplete,
            Some(low) if (0xdc00..0xe000).contains(&low) => {
                let code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                EscapeParse::Decoded(12, DecodedBytes::from_code_points([code]))
            }
            _ => alone(),
        },
        _ => alone(),
    }
}

fn html(escape: &[u8]) -> EscapeParse {
    let Some((last, before)) = escape.split_last() else { return EscapeParse::Literal };
    match before {
        [] => EscapeParse::Incomplete,
        [_] if *last == b'#' => EscapeParse::Incomplete,
        [_, b'#'] if matches!(last, b'x' | b'X') => EscapeParse::Incomplete,
        [_, b'#', b'x' | b'X', digits @ ..] => numeric(before.len(), digits, *last, 16),
        [_, b'#', digits @ ..] => numeric(before.len(), digits, *last, 10),
        [_, name @ ..] => named(name, *last),
    }
}

/// Parses a numeric reference. It ends before the first byte that is not a digit; the semicolon belongs to it.
fn numeric(read: usize, digits: &[u8], last: u8, base: u32) -> EscapeParse {
    let is_digit = |byte: u8| char::from(byte).is_digit(base);
    if is_digit(last) && read < MAX_ESCAPE_LENGTH {
        return EscapeParse::Incomplete;
    }
    let Some(code) = number(digits, base) else { return EscapeParse::Literal };
    // Browsers read the codes of the C1 controls as windows-1252, but no password depends on that.
    EscapeParse::Decoded(read + usize::from(last == b';'), DecodedBytes::from_code_points([code]))
}

fn named(name: &[u8], last: u8) -> EscapeParse {
    if last.is_ascii_alphanumeric() && name.len() < MAX_ESCAPE_LENGTH {
        return EscapeParse::Incomplete;
    }
    let codes = |name: &str| NAMED_ENTITIES.get(name).copied().filter(|(first, _)| *first != 0);
    let text = |(first, second): (u32, u32)| {
        DecodedBytes::from_code_points([first].into_iter().chain(Some(second).filter(|code| *code != 0)))
    };
    let Ok(name) = std::str::from_utf8(name) else { return EscapeParse::Literal };
    if last == b';'
        && let Some(found) = codes(&format!("{name};"))
    {
        return EscapeParse::Decoded(name.len() + 2, text(found));
    }
    let beginnings = (2..=name.len().min(MAX_LEGACY_NAME_LENGTH)).rev();
    let found = beginnings.filter_map(|length| Some((length, codes(name.get(..length)?)?))).next();
    found.map_or(EscapeParse::Literal, |(length, found)| EscapeParse::Decoded(length + 1, text(found)))
}

/// Parses hexadecimal digits; returns `None` if there is any other character.
fn hexadecimal(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() { Some(0) } else { number(digits, 16) }
}

fn number(digits: &[u8], base: u32) -> Option<u32> {
    let digit = |byte: &u8| char::from(*byte).to_digit(base);
    let mut values = digits.iter().map(digit).peekable();
    values.peek()?;
    values.try_fold(0_u32, |number, digit| Some(number.saturating_mul(base).saturating_add(digit?)))
}

/// Decodes one coding.
#[derive(Debug, Clone)]
pub(super) struct TextDecoder {
    coding: TextCoding,
    /// The beginning of an escape.
    pending: Vec<Symbol>,
    /// The bytes of `pending`.
    escape: Vec<u8>,
}

impl TextDecoder {
    pub(super) const fn new(coding: TextCoding) -> Self {
        Self { coding, pending: Vec::new(), escape: Vec::new() }
    }

    /// Returns the start of the escape that is being read.
    pub(super) fn pending(&self) -> Option<u64> {
        self.pending.first().map(|symbol| symbol.start)
    }

    /// Takes a symbol; emits the complete ones, each with whether it was escaped.
    pub(super) fn push(&mut self, symbol: Symbol, out: &mut impl FnMut(Symbol, bool)) {
        if self.pending.is_empty() && !self.coding.is_mark(symbol.byte) {
            return out(symbol, false);
        }
        self.pending.push(symbol);
        self.escape.push(symbol.byte);
        match self.coding.read(&self.escape) {
            EscapeParse::Incomplete => {}
            EscapeParse::Decoded(length, text) => {
                let rest = self.pending.split_off(length.min(self.pending.len()));
                if let (Some(first), Some(last)) = (self.pending.first(), self.pending.last()) {
                    let (start, end) = (first.start, last.end);
                    text.bytes.iter().take(text.length).for_each(|byte| out(Symbol { byte: *byte, start, end }, true));
                }
                self.reprocess(rest, out);
            }
            EscapeParse::Literal => self.emit_literal(out),
        }
    }

    /// Emits the first byte unchanged, because it does not begin an escape.
    fn emit_literal(&mut self, out: &mut impl FnMut(Symbol, bool)) {
        let rest = self.pending.split_off(1.min(self.pending.len()));
        self.pending.iter().for_each(|symbol| out(*symbol, false));
        self.reprocess(rest, out);
    }

    /// Reads the bytes again that did not belong to the previous escape, because a new one may begin among them. No
    /// byte is read again more than once, because the mark of a coding stands only at the beginning of an escape or of
    /// its second half.
    fn reprocess(&mut self, rest: Vec<Symbol>, out: &mut impl FnMut(Symbol, bool)) {
        self.pending.clear();
        self.escape.clear();
        rest.into_iter().for_each(|symbol| self.push(symbol, out));
    }

    /// Emits the remaining symbols at the end of the text.
    pub(super) fn finish(&mut self, out: &mut impl FnMut(Symbol, bool)) {
        while !self.pending.is_empty() {
            self.emit_literal(out);
        }
    }
}
