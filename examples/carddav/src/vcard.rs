//! vCard 2.1, 3.0 (RFC 2426) and 4.0 (RFC 6350): lines, parameters, escapes.

use konnector_sdk::{Error, Result};

/// A card as its properties.
#[derive(Debug, PartialEq, Eq)]
pub struct VCard {
    properties: Vec<Property>,
}

/// One line of a card, its value not yet unescaped because that depends on its structure.
#[derive(Debug, PartialEq, Eq)]
pub struct Property {
    /// Upper-case, without a group.
    name: String,
    /// Upper-case names and their values; a parameter without a name (`TEL;HOME:`) is a TYPE.
    parameters: Vec<(String, String)>,
    value: String,
}

impl VCard {
    /// Parses the first card of a text.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = unfold(text);
        let mut lines = lines.iter().filter(|line| !line.trim().is_empty());
        if !lines.next().is_some_and(|line| line.trim().eq_ignore_ascii_case("BEGIN:VCARD")) {
            return Err(Error::vendor_changed("a card does not begin with BEGIN:VCARD"));
        }
        let mut properties = Vec::new();
        for line in lines {
            if line.trim().eq_ignore_ascii_case("END:VCARD") {
                if properties.is_empty() {
                    return Err(Error::vendor_changed("a card has no properties"));
                }
                return Ok(Self::from_properties(properties));
            }
            // An invalid line is skipped; the other lines remain.
            properties.extend(Property::parse(line));
        }
        Err(Error::vendor_changed("a card does not end with END:VCARD"))
    }

    fn from_properties(mut properties: Vec<Property>) -> Self {
        let is_old = properties.iter().any(|property| property.name == "VERSION" && property.value.trim() == "2.1");
        for property in properties.iter_mut().filter(|_| is_old) {
            // In vCard 2.1 a comma is not a separator.
            property.value = split_unescaped(&property.value, ',').join("\\,");
        }
        Self { properties }
    }

    /// Returns the properties of that name, the preferred ones first.
    pub fn all(&self, name: &str) -> Vec<&Property> {
        let mut found: Vec<_> = self.properties.iter().filter(|property| property.name == name).collect();
        found.sort_by_key(|property| property.preference());
        found
    }

    /// Returns the text of the preferred property of that name, unless it is empty.
    pub fn text(&self, name: &str) -> Option<String> {
        self.all(name).first().map(|property| property.text()).filter(|text| !text.is_empty())
    }
}

impl Property {
    fn parse(line: &str) -> Option<Self> {
        let (head, value) = split_once_unquoted(line, ':')?;
        let mut parts = split_unquoted(head, ';').into_iter();
        let name = parts.next()?.rsplit('.').next().unwrap_or_default().trim().to_ascii_uppercase();
        let parameter = |part: &str| match part.split_once('=') {
            Some((name, value)) => (name.trim().to_ascii_uppercase(), value.to_owned()),
            None => ("TYPE".to_owned(), part.to_owned()),
        };
        let parameters = parts.map(parameter).collect();
        let mut property = Self { name, parameters, value: value.to_owned() };
        if is_quoted_printable(head) {
            let charset = property.parameter("CHARSET").next();
            property.value = quoted_printable(value, charset.as_deref());
        }
        (!property.name.is_empty()).then_some(property)
    }

    /// Returns the values of a parameter, in lower case; it may occur several times.
    fn parameter(&self, name: &str) -> impl Iterator<Item = String> {
        let matching = self.parameters.iter().filter(move |(known, _)| known == name);
        let values = matching.flat_map(|(_, value)| split_unquoted(value, ','));
        values.map(|value| value.trim_matches('"').to_lowercase()).flat_map(|value| {
            // iOS writes TYPE="home,work" for two values.
            value.split(',').map(|value| value.trim().to_owned()).collect::<Vec<_>>()
        })
    }

    /// Returns the meaningful types, such as `home` and `cell`.
    pub fn types(&self) -> Vec<String> {
        self.parameter("TYPE")
            .filter(|kind| !matches!(kind.as_str(), "pref" | "internet" | "voice" | "quoted-printable" | ""))
            .collect()
    }

    /// Returns whether the person prefers this property: `TYPE=PREF` (3.0) or `PREF=1` (4.0).
    pub fn is_preferred(&self) -> bool {
        self.preference() == 1
    }

    fn preference(&self) -> u8 {
        if self.parameter("TYPE").any(|kind| kind == "pref") {
            return 1;
        }
        self.parameter("PREF").find_map(|value| value.parse().ok()).unwrap_or(u8::MAX)
    }

    /// Returns the value as one string.
    pub fn text(&self) -> String {
        unescape(&self.value).trim().to_owned()
    }

    /// Returns the component at that index of a structured value, such as the family name of N; several values of one
    /// component are joined by a space.
    pub fn component(&self, index: usize) -> Option<String> {
        let components = split_unescaped(&self.value, ';');
        let values =
            split_unescaped(components.get(index)?, ',').into_iter().map(|value| unescape(value).trim().to_owned());
        let text = values.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(text)
    }
}

/// Joins folded lines (RFC 6350 §3.2) and, in vCard 2.1, the lines of a quoted-printable value (RFC 2045 §6.7, soft
/// line breaks).
fn unfold(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.trim_start_matches('\u{feff}').split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)) {
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (_, Some(before)) if has_continuation(before) => {
                before.truncate(before.trim_end().len() - 1);
                before.push_str(line);
            }
            (Some(rest), Some(before)) => before.push_str(rest),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// Returns whether the line ends with a soft line break.
fn has_continuation(line: &str) -> bool {
    line.trim_end().ends_with('=') && split_once_unquoted(line, ':').is_some_and(|(head, _)| is_quoted_printable(head))
}

/// Returns whether the part of a line before its value declares the encoding, with `ENCODING=` or without.
fn is_quoted_printable(head: &str) -> bool {
    let parameters = head.split(';').skip(1).map(|parameter| parameter.rsplit('=').next().unwrap_or_default());
    parameters.into_iter().any(|value| value.trim().trim_matches('"').eq_ignore_ascii_case("quoted-printable"))
}

/// Decodes a value; separators and escapes that were encoded remain escaped.
fn quoted_printable(value: &str, charset: Option<&str>) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(value.len()), value.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digit = |index: usize| after.get(index).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'=', Some(high), Some(low)) => {
                let byte = u8::try_from(high * 16 + low).unwrap_or_default();
                if matches!(byte, b';' | b',' | b'\\') {
                    bytes.push(b'\\');
                }
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    text_of(bytes, charset).replace("\r\n", "\n").replace('\r', "\n")
}

/// Decodes text in its character set. Valid UTF-8 is decoded as UTF-8 regardless of the name; anything else as Western
/// European Latin.
fn text_of(bytes: Vec<u8>, charset: Option<&str>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| match charset {
        Some("utf-8" | "utf8") => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        _ => error.into_bytes().into_iter().map(windows_1252).collect(),
    })
}

fn windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    let high = byte.checked_sub(0x80).and_then(|index| HIGH.get(usize::from(index)));
    high.copied().unwrap_or(char::from(byte))
}

/// Undoes `\n`, `\,`, `\;` and `\\` (RFC 6350 §3.4).
fn unescape(value: &str) -> String {
    let (mut text, mut letters) = (String::with_capacity(value.len()), value.chars());
    while let Some(letter) = letters.next() {
        match (letter, if letter == '\\' { letters.next() } else { None }) {
            ('\\', Some('n' | 'N')) => text.push('\n'),
            ('\\', Some(escaped)) => text.push(escaped),
            (letter, _) => text.push(letter),
        }
    }
    text
}

fn split_unescaped(value: &str, separator: char) -> Vec<&str> {
    let mut is_escaped = false;
    split_where(value, |letter| {
        let is_separator = letter == separator && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        is_separator
    })
}

fn split_unquoted(value: &str, separator: char) -> Vec<&str> {
    let mut is_quoted = false;
    split_where(value, |letter| {
        is_quoted ^= letter == '"';
        letter == separator && !is_quoted
    })
}

fn split_once_unquoted(line: &str, separator: char) -> Option<(&str, &str)> {
    let head = *split_unquoted(line, separator).first()?;
    line.get(head.len() + separator.len_utf8()..).map(|rest| (head, rest))
}

fn split_where(value: &str, is_separator: impl FnMut(char) -> bool) -> Vec<&str> {
    value.split(is_separator).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn card(lines: &str) -> VCard {
        VCard::parse(&format!("BEGIN:VCARD\r\nVERSION:4.0\r\n{lines}\r\nEND:VCARD\r\n")).unwrap()
    }

    #[test]
    fn lines_are_unfolded_and_values_unescaped() {
        let card = card("NOTE:one\\, two\\; three\\nfo\r\n ur \\\\n five\r\nFN:Zo\r\n\té");
        assert_eq!(card.text("NOTE").unwrap(), "one, two; three\nfour \\n five");
        assert_eq!(card.text("FN").unwrap(), "Zoé");
    }

    #[test]
    fn components_are_split_before_they_are_unescaped() {
        let card = card("N:Dupont\\;Durand;Marie,Anne;;Dr.;");
        let name = card.all("N")[0];
        let parts: Vec<_> = (0..6).map(|index| name.component(index)).collect();
        assert_eq!(parts[0].as_deref(), Some("Dupont;Durand"));
        assert_eq!(parts[1].as_deref(), Some("Marie Anne"));
        assert_eq!((parts[2].as_deref(), parts[3].as_deref(), parts[5].as_deref()), (None, Some("Dr."), None));
    }

    #[test]
    fn parameters_of_both_versions_are_read() {
        let card = card(
            "TEL;TYPE=HOME,VOICE:1\r\nitem1.TEL;type=CELL;type=pref:2\r\nTEL;WORK:3\r\nTEL;TYPE=\"home,fax\";X-A=\"a:b;c\";PREF=2:tel:+4",
        );
        let phones: Vec<_> = card.all("TEL").iter().map(|tel| (tel.text(), tel.types().join("+"))).collect();
        let expected = [("2", "cell"), ("tel:+4", "home+fax"), ("1", "home"), ("3", "work")];
        assert_eq!(phones, expected.map(|(number, types)| (number.to_owned(), types.to_owned())));
        assert!(card.all("TEL")[0].is_preferred());
    }

    #[test]
    fn quoted_printable_values_of_several_lines_are_read() {
        let card = VCard::parse(concat!(
            "BEGIN:VCARD\r\nVERSION:2.1\r\n",
            "N;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:M=C3=BC=\r\nller;Zo=C3=A9=3B=\r\n b;;;\r\n",
            "FN;QUOTED-PRINTABLE:Ren=E9e=\r\n=\r\n M=FCller =80\r\n",
            "NOTE;encoding=quoted-printable;charset=utf-8:one=0D=0Atwo, =5C three =3D=\n\r\n",
            "ADR;HOME:;;1 rue Haute, 2e;Lyon\r\n",
            "TEL;CELL;QUOTED-PRINTABLE:+33=\r\n 6\r\n",
            "PHOTO;ENCODING=BASE64;JPEG:AAAA\r\n BBB=\r\n\r\nEMAIL:a@b.example\r\nthis is no line\r\nEND:VCARD\r\n",
        ))
        .unwrap();
        let name = card.all("N")[0];
        assert_eq!((name.component(0).as_deref(), name.component(1).as_deref()), (Some("Müller"), Some("Zoé; b")));
        assert_eq!(card.text("FN").unwrap(), "Renée Müller €");
        assert_eq!(card.text("NOTE").unwrap(), "one\ntwo, \\ three =");
        assert_eq!(card.all("ADR")[0].component(2).as_deref(), Some("1 rue Haute, 2e"));
        assert_eq!(
            (card.text("TEL").unwrap().as_str(), card.all("TEL")[0].types().join(" ").as_str()),
            ("+33 6", "cell")
        );
        assert_eq!(
            (card.text("PHOTO").unwrap().as_str(), card.text("EMAIL").unwrap().as_str()),
            ("AAAABBB=", "a@b.example")
        );
    }

    #[test]
    fn an_invalid_card_is_rejected() {
        for text in ["", "FN:x", "BEGIN:VCARD\nFN:x", "BEGIN:VCARD\nno colon\nEND:VCARD"] {
            assert!(matches!(VCard::parse(text), Err(Error::VendorChanged(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_that_is_escaped_and_folded_is_read_back(text in "[^\r\u{feff}]{0,80}", width in 5_usize..20) {
            let escaped = text.replace('\\', "\\\\").replace('\n', "\\n").replace(',', "\\,").replace(';', "\\;");
            let letters: Vec<char> = format!("NOTE:{escaped}").chars().collect();
            let folded: Vec<String> = letters.chunks(width).map(|chunk| chunk.iter().collect()).collect();
            let read = card(&folded.join("\r\n ")).text("NOTE").unwrap_or_default();
            prop_assert_eq!(read, text.trim());
        }

        #[test]
        fn a_text_that_is_quoted_printable_is_read_back(text in "[^\r\u{feff}]{0,60}", width in 1_usize..20) {
            let encoded: Vec<String> = text.replace('\n', "\r\n").bytes().map(|byte| format!("={byte:02X}")).collect();
            let lines: Vec<String> = encoded.chunks(width).map(<[String]>::concat).collect();
            let note = format!("VERSION:2.1\r\nNOTE;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:{}", lines.join("=\r\n"));
            let card = VCard::parse(&format!("BEGIN:VCARD\r\n{note}\r\nEND:VCARD")).unwrap();
            prop_assert_eq!(card.text("NOTE").unwrap_or_default(), text.trim());
        }

        #[test]
        fn no_text_breaks_the_parser(text in "(BEGIN:VCARD\n)?(\\PC|\n|;|:|\"|\\\\){0,60}(\nEND:VCARD)?") {
            if let Ok(card) = VCard::parse(&text) {
                for property in &card.properties {
                    let _ = (property.text(), property.types(), property.component(1));
                }
            }
        }
    }
}
