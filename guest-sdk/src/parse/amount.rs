use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::{Error, Result};

/// A currency by its ISO 4217 code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Euro.
    pub const EUR: Self = Self(*b"EUR");
    /// United States dollar.
    pub const USD: Self = Self(*b"USD");
    /// Pound sterling.
    pub const GBP: Self = Self(*b"GBP");
    /// Swiss franc.
    pub const CHF: Self = Self(*b"CHF");

    /// Returns the code, for example `EUR`.
    #[must_use]
    pub fn code(&self) -> &str {
        // The letters were checked when the value was created.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Parses a code or a common notation of it: `€`, `euros`, `$`, `£`, `Fr.`.
impl FromStr for Currency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim().trim_end_matches('.').to_lowercase().as_str() {
            "€" | "euro" | "euros" => return Ok(Self::EUR),
            "$" | "us$" | "$us" => return Ok(Self::USD),
            "£" => return Ok(Self::GBP),
            "fr" | "sfr" => return Ok(Self::CHF),
            _ => {}
        }
        match text.trim().as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(Error::vendor_changed(format!("`{text}` is not a currency"))),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// An exact amount of money. Displayed as `42.10 EUR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Amount {
    /// Hundredths of the currency's unit; negative for a refund.
    pub cents: i64,
    /// Currency of the amount.
    pub currency: Currency,
}

impl Amount {
    /// Creates an amount from hundredths of the currency's unit.
    #[must_use]
    pub fn new(cents: i64, currency: Currency) -> Self {
        Self { cents, currency }
    }

    /// Returns the amount as a number of units, as in JSON documents.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact up to 90 trillion units")]
    pub fn as_f64(&self) -> f64 {
        self.cents as f64 / 100.0
    }

    /// Formats the units and hundredths with a decimal point, as in `-42.10`.
    pub(crate) fn decimal(&self) -> String {
        let (sign, cents) = (if self.cents < 0 { "-" } else { "" }, self.cents.unsigned_abs());
        format!("{sign}{}.{:02}", cents / 100, cents % 100)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.decimal(), self.currency)
    }
}

/// Parses an amount with its currency, in French, English or Swiss notation: `1 234,56 €`, `€1,234.56`, `CHF
/// 1'234.50`, `-12,00 EUR`. A dash in place of the cents is not a sign: `CHF 12.–`, `12,-- €`.
///
/// # Errors
///
/// [`Error::VendorChanged`] including the text, if it has no currency (see [`amount_in`]), no number, more than two
/// decimals, or a dash that may be a sign or stand for cents (`12 –`).
pub fn amount(text: &str) -> Result<Amount> {
    parse_amount(text, None)
}

/// Parses an amount that may be written without a currency, as in a column headed `Montant (€)`.
///
/// # Errors
///
/// As [`amount`].
pub fn amount_in(currency: Currency, text: &str) -> Result<Amount> {
    parse_amount(text, Some(currency))
}

fn parse_amount(text: &str, default: Option<Currency>) -> Result<Amount> {
    let wrong = |reason: &str| Error::vendor_changed(format!("`{text}` is not an amount: {reason}"));
    let (number, words) = split_words(text.trim());
    let currency = match (words.as_slice(), default) {
        ([word], _) => word.parse().map_err(|_no_currency| wrong("its currency is unknown"))?,
        ([], Some(default)) => default,
        ([], None) => return Err(wrong("it has no currency")),
        _ => return Err(wrong("it has more than a number and a currency")),
    };
    let number = number.ok_or_else(|| wrong("its currency is between digits"))?;
    let (is_negative, number) = sign(number.trim()).ok_or_else(|| wrong("its sign is unclear"))?;
    let cents = cents(number).ok_or_else(|| wrong("its number is unclear"))?;
    Ok(Amount { cents: if is_negative { -cents } else { cents }, currency })
}

/// Returns the number with its dashes normalised, and the words around it. Returns no number if a word stands between
/// two digits, because `12€34` would become 1234.
fn split_words(text: &str) -> (Option<String>, Vec<String>) {
    let (mut number, mut words, mut word) = (String::new(), Vec::new(), String::new());
    let (mut last_figure_before_word, mut is_split) = (false, false);
    for letter in text.chars() {
        if letter.is_alphabetic() || "€$£".contains(letter) || (letter == '.' && !word.is_empty()) {
            word.push(letter);
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
            last_figure_before_word = number.contains(|letter: char| letter.is_ascii_digit());
        }
        is_split |= last_figure_before_word && letter.is_ascii_digit();
        number.push(if is_dash(letter) { '-' } else { letter });
    }
    words.extend((!word.is_empty()).then_some(word));
    ((!is_split).then_some(number), words)
}

/// Returns whether a character is a hyphen, a dash or a minus sign. Vendors use different ones, depending on their
/// fonts and keyboards.
fn is_dash(letter: char) -> bool {
    matches!(letter, '-' | '\u{ad}' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}')
}

/// Returns the sign and the rest: `-5`, `- 5`, `+5`, `5.00-` and, as accountants write it, `(5)`.
fn sign(number: &str) -> Option<(bool, &str)> {
    if let Some(inner) = number.strip_prefix('(') {
        return inner.strip_suffix(')').map(|inner| (true, strip_dash_for_cents(inner.trim())));
    }
    if let Some(rest) = number.strip_prefix('-') {
        return Some((true, strip_dash_for_cents(rest.trim())));
    }
    let (number, has_plus) = number.strip_prefix('+').map_or((number, false), |rest| (rest.trim(), true));
    let whole = strip_dash_for_cents(number);
    match number.strip_suffix('-').map(str::trim) {
        Some(_) if whole.len() < number.len() => Some((false, whole)),
        // A dash after a whole number may also stand for its cents.
        Some(rest) if !has_plus && !split_decimals(rest).1.is_empty() => Some((true, rest)),
        Some(_) => None,
        None => Some((false, number)),
    }
}

/// Returns the whole number in `12.-`, `12,--` and `12:-` (Sweden): one or two dashes directly after the mark.
fn strip_dash_for_cents(number: &str) -> &str {
    let before = number.strip_suffix("--").or_else(|| number.strip_suffix('-'));
    let whole = before.and_then(|before| before.trim_end().strip_suffix(['.', ',', ':']));
    // A digit must precede the mark, and no other mark may precede that digit: `12..-` is not an amount.
    whole
        .filter(|whole| whole.ends_with(|last: char| last.is_ascii_digit()) && has_no_decimals(whole))
        .unwrap_or(number)
}

fn has_no_decimals(whole: &str) -> bool {
    parse_grouped(whole).is_some()
}

/// Hundredths of a number without a sign.
fn cents(number: &str) -> Option<i64> {
    let (whole, fraction) = split_decimals(number);
    let whole = parse_grouped(whole)?;
    let fraction = match fraction.trim_end_matches('0') {
        _ if !fraction.chars().all(|digit| digit.is_ascii_digit()) => return None,
        "" => 0,
        tenths if tenths.len() == 1 => tenths.parse::<i64>().ok()? * 10,
        hundredths if hundredths.len() == 2 => hundredths.parse().ok()?,
        _ => return None,
    };
    whole.checked_mul(100)?.checked_add(fraction)
}

/// Splits at the decimal separator, which is the last one of a point and a comma. A single one separates decimals,
/// unless it is placed like a thousands separator (`1.234`, three digits after it and no leading zero).
fn split_decimals(number: &str) -> (&str, &str) {
    let is_mark = |letter: char| letter == '.' || letter == ',';
    let Some((whole, fraction)) = number.rsplit_once(is_mark) else { return (number, "") };
    let mark = if number.ends_with([',', '.']) { None } else { number.chars().rev().find(|letter| is_mark(*letter)) };
    let has_other_mark = whole.contains(is_mark) && !mark.is_some_and(|mark| whole.contains(mark));
    let is_repeated = mark.is_some_and(|mark| whole.contains(mark));
    let is_group =
        fraction.len() == 3 && !whole.is_empty() && !whole.starts_with('0') && !has_other_mark && is_ungrouped(whole);
    if is_repeated || is_group { (number, "") } else { (whole, fraction) }
}

/// Returns whether no thousands are separated by spaces or apostrophes.
fn is_ungrouped(whole: &str) -> bool {
    whole.chars().all(|letter| letter.is_ascii_digit())
}

/// Parses a whole number whose thousands may be separated, all by the same mark: `1234`, `1 234`, `1.234`, `1,234`,
/// `1'234`.
fn parse_grouped(whole: &str) -> Option<i64> {
    let separators: Vec<char> = whole.chars().filter(|letter| !letter.is_ascii_digit()).collect();
    let kinds: std::collections::BTreeSet<_> = separators.iter().map(|letter| group_kind(*letter)).collect();
    if kinds.contains(&None) || kinds.len() > 1 || whole.is_empty() {
        return None;
    }
    let mut groups = whole.split(|letter: char| !letter.is_ascii_digit());
    let first = groups.next()?;
    let is_whole = separators.is_empty() || (1..=3).contains(&first.len());
    if first.is_empty() || !is_whole || groups.any(|group| group.len() != 3) {
        return None;
    }
    whole.chars().filter(char::is_ascii_digit).collect::<String>().parse().ok()
}

fn group_kind(separator: char) -> Option<char> {
    match separator {
        '.' | ',' => Some(separator),
        '\'' | '’' => Some('\''),
        space if space.is_whitespace() => Some(' '),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_french_english_and_swiss_vendors_write() {
        let cases = [
            ("1 234,56 €", "1234.56 EUR"),
            ("1\u{202f}234,56\u{a0}€", "1234.56 EUR"),
            ("€1,234.56", "1234.56 EUR"),
            ("-€999.00", "-999.00 EUR"),
            ("€ -5", "-5.00 EUR"),
            ("CHF 1'234.50", "1234.50 CHF"),
            ("1’234’567.05 Fr.", "1234567.05 CHF"),
            ("Fr. 12.-", "12.00 CHF"),
            ("CHF 12.–", "12.00 CHF"),
            ("12.– CHF", "12.00 CHF"),
            ("12.–CHF", "12.00 CHF"),
            ("CHF 1'234.–", "1234.00 CHF"),
            ("CHF 1’234.—", "1234.00 CHF"),
            ("1 234,– €", "1234.00 EUR"),
            ("€ 1.234,-", "1234.00 EUR"),
            ("1.234.– CHF", "1234.00 CHF"),
            ("CHF 12.--", "12.00 CHF"),
            ("12,—€", "12.00 EUR"),
            ("129:- SEK", "129.00 SEK"),
            ("CHF -12.–", "-12.00 CHF"),
            ("-12.– CHF", "-12.00 CHF"),
            ("(12.–) CHF", "-12.00 CHF"),
            ("+12.– CHF", "12.00 CHF"),
            ("42,10 EUR-", "-42.10 EUR"),
            ("1'234.50- CHF", "-1234.50 CHF"),
            ("1.234,56 EUR", "1234.56 EUR"),
            ("1.234 €", "1234.00 EUR"),
            ("1,234,567 USD", "1234567.00 USD"),
            ("$0.5", "0.50 USD"),
            ("0,500 €", "0.50 EUR"),
            ("12.340,00 €", "12340.00 EUR"),
            ("+12 €", "12.00 EUR"),
            ("− 42,10 €", "-42.10 EUR"),
            ("42,10- EUR", "-42.10 EUR"),
            ("(42,10) EUR", "-42.10 EUR"),
            ("3 euros", "3.00 EUR"),
            ("£12.3400", "12.34 GBP"),
        ];
        for (text, expected) in cases {
            assert_eq!(amount(text).map(|amount| amount.to_string()), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn ambiguous_amounts_are_rejected() {
        for text in [
            "",
            "€",
            "12",
            "12 34 €",
            "1,23,456 €",
            "1 234.567 €",
            "0,505 €",
            "1.234.56 €",
            "12 € 34 $",
            "Total : 12 €",
            "1'234 567 €",
            "12 eur",
            "--5 €",
            "1..2 €",
            ",5- -€",
            "1234 567 €",
            "99999999999999999999 €",
            "12- CHF",
            "CHF 12 –",
            "12 € –",
            "12.- - CHF",
            "12.--- CHF",
            "12..– CHF",
            "12.34.– CHF",
            "1.23,– €",
            "12:50 €",
            "12: €",
            "–.50 CHF",
            ".– CHF",
            "12€34",
            "12 € 34",
            "+12,50- €",
            "(12,50)- €",
            "-12,50- €",
        ] {
            assert!(matches!(amount(text), Err(Error::VendorChanged(_))), "{text}: {:?}", amount(text));
        }
        insta::assert_snapshot!(amount("42,10").unwrap_err(), @"the vendor's site changed: `42,10` is not an amount: it has no currency");
        insta::assert_snapshot!(amount("à venir €").unwrap_err(), @"the vendor's site changed: `à venir €` is not an amount: it has more than a number and a currency");
        assert_eq!(amount_in(Currency::EUR, "42,10"), Ok(Amount::new(4210, Currency::EUR)));
        assert_eq!(amount_in(Currency::EUR, "42,10 CHF").unwrap().currency, Currency::CHF);
    }

    fn format_grouped(number: u64, separator: &str) -> String {
        let digits = number.to_string();
        let first = (digits.len() - 1) % 3 + 1;
        let groups = digits.as_bytes()[first..].chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
        std::iter::once(digits[..first].to_owned()).chain(groups).collect::<Vec<_>>().join(separator)
    }

    proptest! {
        #[test]
        fn an_amount_written_in_any_of_the_ways_is_read_back(cents in -100_000_000_000_i64..100_000_000_000) {
            let (units, rest) = (cents.unsigned_abs() / 100, cents.unsigned_abs() % 100);
            let sign = if cents < 0 { "-" } else { "" };
            let forms = [
                format!("{sign}{},{rest:02}\u{a0}€", format_grouped(units, "\u{a0}")),
                format!("{sign}{},{rest:02} EUR", format_grouped(units, ".")),
                format!("{sign}€{}.{rest:02}", format_grouped(units, ",")),
                format!("EUR {sign}{}.{rest:02}", format_grouped(units, "'")),
                Amount::new(cents, Currency::EUR).to_string(),
            ];
            for text in forms {
                prop_assert_eq!(amount(&text), Ok(Amount::new(cents, Currency::EUR)), "{}", text);
            }
        }

        /// A dash for the cents does not affect the sign, regardless of the characters around it; a sign means the
        /// same with and without it.
        #[test]
        fn a_dash_in_place_of_cents_is_no_sign(
            units in 0_u64..10_000_000,
            is_negative: bool,
            separator in prop::sample::select(vec!["", "'", "’", " ", "\u{a0}", "\u{202f}", ".", ","]),
            mark in prop::sample::select(vec![".", ",", ":"]),
            dash in prop::sample::select(vec!["-", "–", "—", "−", "‒", "--", "––"]),
            gap in prop::sample::select(vec!["", " ", "\u{a0}"]),
            is_first: bool,
        ) {
            let sign = if is_negative { "-" } else { "" };
            let number = format!("{sign}{}{mark}{dash}", format_grouped(units, separator));
            let text = if is_first { format!("CHF{gap}{number}") } else { format!("{number}{gap}CHF") };
            let cents = i64::try_from(units).unwrap() * if is_negative { -100 } else { 100 };
            prop_assert_eq!(amount(&text), Ok(Amount::new(cents, Currency::CHF)), "{}", text);
        }

        #[test]
        fn any_text_is_an_amount_or_an_error(text in "\\PC{0,20}|[0-9 .,:'€()–+-]{0,12}") {
            if let Ok(read) = amount(&text) {
                prop_assert_eq!(amount(&read.to_string()), Ok(read));
                // All of its digits are those of the text, so nothing was invented or left out.
                let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
                let (text_digits, amount_digits) = (digits(&text), digits(&read.decimal()));
                prop_assert_eq!(text_digits.trim_matches('0'), amount_digits.trim_matches('0'), "{}", text);
            }
        }
    }
}
