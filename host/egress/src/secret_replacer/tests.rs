use bytes::BytesMut;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use super::decode::{Symbol, TextCoding, TextDecoder};
use super::scan::DECODING_CHAINS;
use super::*;

const WORD: &str = "wordword";

/// How the characters of a text are written; characters that need escaping are always escaped.
#[derive(Debug, Clone, Copy)]
enum EscapeStyle {
    Percent,
    Html,
    Json,
}

/// Writes a text in one way, each character in a form that `choices` picks.
fn write(style: EscapeStyle, text: &str, choices: &[u8]) -> String {
    let mut written = String::new();
    for (place, character) in text.chars().enumerate() {
        let choice = choices[place % choices.len()];
        let code = u32::from(character);
        let escape = match (style, choice % 6) {
            (EscapeStyle::Percent, 0) if character != '%' && character != '+' => character.to_string(),
            (EscapeStyle::Percent, 1) if character == ' ' => "+".to_owned(),
            (EscapeStyle::Percent, 2) if code < 0x1_0000 => format!("%u{code:04x}"),
            (EscapeStyle::Percent, 3) if character.is_ascii() => format!("%{code:02x}"),
            (EscapeStyle::Percent, _) => utf8_percent_encode(&character.to_string(), EVERYTHING).to_string(),
            (EscapeStyle::Html, 0 | 1) if character != '&' => character.to_string(),
            (EscapeStyle::Html, 2) => format!("&#x{code:X};"),
            (EscapeStyle::Html, 3) => format!("&#x000{code:x};"),
            (EscapeStyle::Html, 4) => match character {
                '&' => "&amp;".to_owned(),
                '<' => "&LT;".to_owned(),
                '"' => "&quot;".to_owned(),
                '/' => "&sol;".to_owned(),
                '+' => "&plus;".to_owned(),
                '!' => "&excl;".to_owned(),
                'é' => "&eacute;".to_owned(),
                _ => format!("&#0{code};"),
            },
            (EscapeStyle::Html, _) => format!("&#{code};"),
            (EscapeStyle::Json, 0 | 1) if !matches!(character, '"' | '\\') => character.to_string(),
            (EscapeStyle::Json, 2) if matches!(character, '"' | '\\' | '/') => format!("\\{character}"),
            (EscapeStyle::Json, 3) => format!("\\u{{{code:x}}}"),
            (EscapeStyle::Json, 4) if code < 0x100 => format!("\\x{code:02x}"),
            (EscapeStyle::Json, _) => {
                character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect()
            }
        };
        written.push_str(&escape);
    }
    written
}

const EVERYTHING: &AsciiSet = &NON_ALPHANUMERIC.add(b'A').add(b'0').add(b'z');

fn wide(text: &str, big: bool) -> Vec<u8> {
    let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
    text.encode_utf16().flat_map(bytes).collect()
}

fn finder(secrets: &[&str]) -> SecretFinder {
    let forms: Vec<_> = secrets
        .iter()
        .enumerate()
        .flat_map(|(owner, secret)| {
            encoded_forms(secret, MinLength::Bytes(4)).into_iter().map(move |form| (owner, form))
        })
        .collect();
    SecretFinder::new(&forms).unwrap().unwrap()
}

fn replaced(finder: &SecretFinder, parts: &[&[u8]]) -> Vec<u8> {
    let (mut replacer, mut output) = (SecretReplacer::new(finder), BytesMut::new());
    let mut take = |piece: Segment<'_>| match piece {
        Segment::Text(text) => output.extend_from_slice(text),
        Segment::Secret { null_padding: gap, .. } => write_placeholder(WORD, gap, &mut output),
    };
    parts.iter().for_each(|part| replacer.push(part, &mut take));
    replacer.finish(&mut take);
    output.to_vec()
}

/// Decodes these codings, the outermost first.
fn decoded(codings: &[TextCoding], text: &[u8]) -> Vec<u8> {
    codings.iter().fold(text.to_vec(), |text, coding| {
        let (mut decoder, mut read) = (TextDecoder::new(*coding), Vec::new());
        let mut take = |symbol: Symbol, _| read.push(symbol.byte);
        for byte in text {
            decoder.push(Symbol { byte, start: 0, end: 0 }, &mut take);
        }
        decoder.finish(&mut take);
        read
    })
}

/// Returns whether four consecutive characters of a secret are readable in a text, in some reading.
fn leaks(secret: &str, text: &[u8]) -> bool {
    let characters: Vec<_> = secret.char_indices().map(|(place, _)| place).chain([secret.len()]).collect();
    let readings = DECODING_CHAINS.iter().copied().chain([&[][..]]).map(|codings| decoded(codings, text));
    readings.into_iter().any(|reading| {
        characters.windows(5).any(|places| {
            let part = &secret.as_bytes()[places[0]..places[4]];
            reading.windows(part.len()).any(|window| window == part)
        })
    })
}

fn hide(secret: &str, text: &str) -> String {
    String::from_utf8(replaced(&finder(&[secret]), &[text.as_bytes()])).unwrap()
}

#[test]
fn spellings_that_are_no_list() {
    let secret = "Pa&s/\"w+ rd<é>";
    for text in [
        r#"Pa\u0026s\/\"w\u002B rd\u003cé\u003E"#,
        "Pa&#38;s&#x2F;&#34;w+ rd&lt;&eacute;&gt;",
        "Pa&amp;s/&quot;w&plus; rd&lt&#233;&GT;",
        "Pa%26s/%22w%2B%20rd%3C%C3%A9%3E",
        "Pa%26s/%22w%2B+rd%3C%e9%3E",
        "Pa%26amp%3Bs%2F%26quot%3Bw%2B+rd%26lt%3B%C3%A9%26gt%3B",
        r#"Pa&amp;s\/\&quot;w+ rd&lt;\u00e9&gt;"#,
        r#"Pa\u002526s\/%22w%2B%20rd%3C%C3%A9\u00253E"#,
        r#"Pa\\u0026s\\/\\\"w+ rd<é>"#,
    ] {
        assert_eq!(hide(secret, &format!("a={text}&b")), format!("a={WORD}&b"), "{text}");
    }
}

#[test]
fn letters_of_any_alphabet_compare_without_case() {
    for (secret, text) in [
        ("grün-Wald", "GRÜN-WALD"),
        ("GRÜN-WALD", "grün-wald"),
        ("grün-Wald", "GR&Uuml;N-WALD"),
        ("grün-Wald", r"GR\u00dcN-WALD"),
        ("grün-Wald", "GR%DCN-WALD"),
        ("straße-ö", "STRASSE-Ö"),
        ("пароль", "ПАРОЛЬ"),
    ] {
        assert_eq!(hide(secret, &format!("a={text}&b")), format!("a={WORD}&b"), "{text}");
    }
    let koi8 = encoding_rs::KOI8_R.encode("ПАРОЛЬ").0.into_owned();
    assert_eq!(replaced(&finder(&["пароль"]), &[&koi8]), WORD.as_bytes());
}

#[test]
fn bytes_of_utf16_keep_their_places() {
    for big in [false, true] {
        for text in ["<p>Hunter22-é</p>", "<p>Hunter22-&eacute;</p>", r#"{"Hunter\u0032\u0032-\u00e9"}"#] {
            let replaced_text = replaced(&finder(&["Hunter22-é"]), &[&wide(text, big)]);
            let units: Vec<u16> =
                replaced_text
                    .chunks(2)
                    .map(|unit| {
                        if big {
                            u16::from_be_bytes([unit[0], unit[1]])
                        } else {
                            u16::from_le_bytes([unit[0], unit[1]])
                        }
                    })
                    .collect();
            let replaced_text = String::from_utf16(&units).unwrap();
            assert!(replaced_text.contains(WORD) && !replaced_text.contains("unter"), "{replaced_text}");
            assert_eq!(replaced_text.chars().next(), text.chars().next());
            assert_eq!(replaced_text.chars().last(), text.chars().last());
        }
    }
}

#[test]
fn secrets_that_overlap_are_one_region() {
    let finder = finder(&["Search: h", "hunter2-secret", "cret</p>"]);
    let page = b"<p>Search: hunter2-secret</p> hunter2-secrethunter2-secret";
    assert_eq!(String::from_utf8(replaced(&finder, &[page])).unwrap(), format!("<p>{WORD} {WORD}{WORD}"));
}

#[test]
fn a_long_secret_is_one_region() {
    let secret: String = (0..3_000).map(|number| format!("{number:x}-")).collect();
    assert_eq!(hide(&secret, &format!("a{secret}b")), format!("a{WORD}b"));
    assert_eq!(hide(&secret, &format!("a{secret}{secret}b")), format!("a{WORD}{WORD}b"));
    let escaped = write(EscapeStyle::Json, &secret, &[0, 2, 4, 5]);
    assert_eq!(hide(&secret, &format!("a{escaped}b")), format!("a{WORD}b"));
}

#[test]
fn invalid_escapes_stay_unchanged() {
    let text = r"100% & &; &# &#; &#x; &unknown; \ \u12 \u{ %zz %u12 %";
    assert_eq!(hide("hunter22", text), text);
    assert_eq!(hide("100% &am", "100% &amp"), format!("{WORD}p"));
    assert_eq!(hide("100%25", "is 100%25 of 100%"), format!("is {WORD} of 100%"));
    assert_eq!(hide("a\\nbcd", "a\\nbcd"), WORD);
}

/// Base64 in lines, as in mails, keys and some APIs; also if the lines are in JSON, in an attribute or in a form.
#[test]
fn base64_in_lines_is_found() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let secret = "Correct-Horse+Battery/Staple";
    let finder = finder(&[secret]);
    for before in 40..80 {
        let text = STANDARD.encode(format!("{}:{secret}:{}", "u".repeat(before), "v".repeat(40)));
        for (width, end) in
            [(76, "\r\n"), (76, "\n"), (64, "\n"), (20, "\r\n"), (4, "\n"), (76, "\r\n\t"), (64, "\n    ")]
        {
            let lines: Vec<&str> =
                text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
            let page = format!("<pre>\n{}\n</pre>\n", lines.join(end));
            for page in [
                page.clone(),
                write(EscapeStyle::Json, &page, &[0]).replace('\n', "\\n").replace('\r', "\\r"),
                page.replace('\n', "&#10;").replace('\r', "&#xd;"),
                page.replace('\n', "%0A").replace('\r', "%0d"),
            ] {
                let replaced_text = replaced(&finder, &[page.as_bytes()]);
                let again: Vec<&[u8]> = page.as_bytes().chunks(7).collect();
                assert_eq!(replaced_text, replaced(&finder, &again));
                let replaced_text = String::from_utf8(replaced_text).unwrap();
                assert_eq!(replaced_text.matches(WORD).count(), 1, "{page}\n{replaced_text}");
                assert!(replaced_text.starts_with("<pre>") && replaced_text.contains("/pre>"), "{replaced_text}");
                let unfolded: String = replaced_text.chars().filter(|byte| !byte.is_ascii_whitespace()).collect();
                assert!(!unfolded.contains(&STANDARD.encode(secret)[4..12]), "{replaced_text}");
            }
        }
        let utf16 = replaced(
            &finder,
            &[&wide(
                &text
                    .as_bytes()
                    .chunks(76)
                    .map(|line| format!("{}\r\n", String::from_utf8_lossy(line)))
                    .collect::<String>(),
                false,
            )],
        );
        assert_eq!(
            utf16.windows(WORD.len() * 2 - 1).filter(|part| part.iter().copied().step_by(2).eq(WORD.bytes())).count(),
            1
        );
    }
    // One placeholder per secret, for any number of lines.
    let long: String = (0..500).map(|number| format!("{number:x}-")).collect();
    let text = STANDARD.encode(&long);
    let lines: Vec<&str> = text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    assert_eq!(hide(&long, &format!("a {} b", lines.join("\r\n"))).matches(WORD).count(), 1);
    let utf16 = replaced(&self::finder(&[&long]), &[&wide(&long, false)]);
    assert_eq!(utf16.len(), 2 * WORD.len(), "one word as UTF-16, too");
}

#[test]
fn lines_of_other_texts_stay() {
    let text = "one\r\n  two\n\n\nthree hunt\n\ter2 hunter\n";
    assert_eq!(hide("hunter22", text), text);
    assert_eq!(hide("hunter22", "a\nhunter22\nb hunt\n\n hunter22\n"), format!("a\n{WORD}\nb hunt\n\n {WORD}\n"));
}

/// Little of any text is buffered.
#[test]
fn little_is_held_back() {
    let secret = "a%&\\".repeat(40);
    let finder = finder(&[&secret, "aaaaaaaa"]);
    for unit in [
        "\n",
        " ",
        "\r\n\t",
        "a\n%\n&\n\\\n",
        "a\r\n  ",
        "%",
        "&",
        "\\",
        "&#0",
        "&#x",
        "%u",
        "\\u{",
        "a%&\\",
        "a",
        "\0",
        "\0a\0%",
        "\\ud800",
        "&am",
        "%25",
    ] {
        let text = unit.repeat((1 << 16) / unit.len());
        let (mut replacer, mut segments) = (SecretReplacer::new(&finder), 0);
        for part in text.as_bytes().chunks(4096) {
            replacer.push(part, &mut |_| segments += 1);
            assert!(replacer.buffer.len() < 300 << 10 && replacer.matches.len() < 20_000, "{unit}");
        }
        assert!(replacer.buffer.len() < 16 << 10, "{unit}: {} bytes are held", replacer.buffer.len());
        replacer.finish(&mut |_| segments += 1);
        assert!(segments > 0, "{unit}");
    }
    // After the beginning of a secret.
    for unit in ["\n", "\r\n", "\n ", "\0", "\\n", "&#10;", "%0a", "\n\0"] {
        let mut replacer = SecretReplacer::new(&finder);
        let text = format!("a%&{}", unit.repeat((1 << 16) / unit.len()));
        for part in text.as_bytes().chunks(4096) {
            replacer.push(part, &mut |_| {});
            assert!(replacer.buffer.len() < 16 << 10, "{unit:?}: {} bytes are held", replacer.buffer.len());
        }
    }
}

fn style() -> impl Strategy<Value = EscapeStyle> {
    prop_oneof![Just(EscapeStyle::Percent), Just(EscapeStyle::Html), Just(EscapeStyle::Json)]
}

/// Texts whose letters occur in no secret.
fn surrounding_text() -> impl Strategy<Value = String> {
    "[a-z<>=:&%\\\\;#]{0,12}"
}

fn secret() -> impl Strategy<Value = String> {
    "[A-Z0-9&<\"'/+%!é\u{141}\u{1f600}]{6,40}"
}

proptest! {
    /// Holds for all codings of a vendor, and all cuts of the page by the network.
    #[test]
    fn no_encoding_brings_a_secret_through(
        secret in secret(),
        before in surrounding_text(),
        after in surrounding_text(),
        styles in prop::collection::vec((style(), prop::collection::vec(any::<u8>(), 1..12)), 0..3),
        utf16 in prop::option::weighted(0.3, any::<bool>()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        // Each reading has one charset, so none covers a character with one half as UTF-16 and the other
        // percent-encoded as UTF-8.
        prop_assume!(utf16.is_none() || styles.is_empty() || secret.is_ascii());
        let written = styles.iter().fold(secret.clone(), |text, (style, choices)| write(*style, &text, choices));
        let page = format!("{before} {written} {after}");
        let page = utf16.map_or_else(|| page.clone().into_bytes(), |big| wide(&page, big));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(page.len())).chain([0, page.len()]).collect();
        cuts.sort_unstable();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &page[cut[0]..cut[1]]).collect();
        let finder = finder(&[&secret]);
        let replaced_page = replaced(&finder, &parts);
        prop_assert!(
            !leaks(&secret, &replaced_page),
            "{} shows {}",
            String::from_utf8_lossy(&page),
            String::from_utf8_lossy(&replaced_page)
        );
        prop_assert_eq!(replaced_page, replaced(&finder, &[&page]));
    }

    /// Secrets of a guest that begin before the password or end after it reveal no part of it.
    #[test]
    fn secrets_of_a_guest_uncover_nothing(
        secret in secret(),
        before in "[a-z]{6,12}",
        after in "[a-z]{6,12}",
        places in prop::collection::vec((any::<prop::sample::Index>(), 4_usize..20), 1..5),
        styles in prop::collection::vec((style(), prop::collection::vec(any::<u8>(), 1..12)), 0..2),
    ) {
        let clear = format!("{before}{secret}{after}");
        let letters: Vec<char> = clear.chars().collect();
        let guests: Vec<String> = places
            .iter()
            .map(|(place, length)| letters.iter().skip(place.index(letters.len())).take(*length).collect::<String>())
            .collect();
        let all: Vec<&str> = guests.iter().map(String::as_str).chain([secret.as_str()]).collect();
        let page = styles.iter().fold(clear, |text, (style, choices)| write(*style, &text, choices));
        let replaced_page = replaced(&finder(&all), &[page.as_bytes()]);
        prop_assert!(!leaks(&secret, &replaced_page), "{page} shows {}", String::from_utf8_lossy(&replaced_page));
    }

    #[test]
    fn other_text_stays_unchanged(text in "\\PC{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let finder = finder(&["a secret that does not occur"]);
        prop_assert_eq!(replaced(&finder, &[text.as_bytes()]), text.into_bytes());
        prop_assert_eq!(replaced(&finder, &[&bytes]), bytes);
    }

    /// A password inside credentials, tokens or other Base64 texts, which themselves may be escaped.
    #[test]
    fn a_secret_inside_of_base64_is_found(
        secret in "[A-Z0-9/+!]{6,24}",
        before in "[a-z:]{0,9}",
        after in "[a-z:]{0,9}",
        style in prop::option::of((style(), prop::collection::vec(any::<u8>(), 1..12))),
    ) {
        use base64::Engine;
        use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
        for text in [
            STANDARD.encode(format!("{before}{secret}{after}")),
            URL_SAFE_NO_PAD.encode(format!("{before}{secret}{after}")),
            hex::encode(format!("{before}{secret}{after}")),
            hex::encode_upper(format!("{before}{secret}{after}")),
        ] {
            let text = style.as_ref().map_or_else(|| text.clone(), |(style, choices)| write(*style, &text, choices));
            let replaced_text = replaced(&finder(&[&secret]), &[text.as_bytes()]);
            prop_assert!(String::from_utf8_lossy(&replaced_text).contains(WORD), "{text}");
        }
    }
}
