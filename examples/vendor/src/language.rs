//! The two languages of the bank, and how each writes a date and an amount.

use chrono::{Datelike, NaiveDate};

use crate::bill::Amount;

/// A language of the web site, and its notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// `3 novembre 2026`, `03/11/2026`, `1 234,56 €` (with no-break spaces).
    French,
    /// `Nov 3, 2026`, `€1,234.56`.
    English,
}

const FRENCH_MONTHS: [&str; 12] = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
];

impl Language {
    /// Returns the language of a page for a browser that sends this `Accept-Language` header: English if the first
    /// language in the list is English, otherwise French, the bank's own. Weights (`q=`) are ignored, because browsers
    /// list languages in order.
    pub fn from_accept_language(header: Option<&str>) -> Self {
        let first = header.and_then(|value| value.split(',').next()).unwrap_or_default().trim();
        if first.to_ascii_lowercase().starts_with("en") { Self::English } else { Self::French }
    }

    /// Returns the value of `<html lang>` and `Content-Language`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::French => "fr",
            Self::English => "en",
        }
    }

    /// Formats a date as `3 novembre 2026` (and `1er mai 2026`, as French writes the first of a month), or `Nov 3,
    /// 2026`.
    pub fn long_date(self, date: NaiveDate) -> String {
        match self {
            Self::French => {
                let month = FRENCH_MONTHS.get(date.month0() as usize).copied().unwrap_or_default();
                let ordinal = if date.day() == 1 { "er" } else { "" };
                format!("{}{ordinal} {month} {}", date.day(), date.year())
            }
            Self::English => date.format("%b %-d, %Y").to_string(),
        }
    }

    /// Formats a date as `03/11/2026`, or `Nov 3, 2026`. English has no short form here, because `11/03` and `03/11`
    /// are easily confused.
    pub fn short_date(self, date: NaiveDate) -> String {
        match self {
            Self::French => date.format("%d/%m/%Y").to_string(),
            Self::English => self.long_date(date),
        }
    }

    /// Formats an amount as `1 234,56 €` with no-break spaces (U+00A0), or `€1,234.56`.
    pub fn amount(self, amount: Amount) -> String {
        let cents = amount.cents();
        let sign = if cents < 0 { "-" } else { "" };
        let (euros, rest) = (cents.unsigned_abs() / 100, cents.unsigned_abs() % 100);
        match self {
            Self::French => format!("{sign}{},{rest:02}\u{a0}€", format_grouped(euros, '\u{a0}')),
            Self::English => format!("{sign}€{}.{rest:02}", format_grouped(euros, ',')),
        }
    }
}

/// Formats the digits of a number in groups of three.
fn format_grouped(number: u64, separator: char) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(separator);
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn date(year: i32, month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, day).unwrap()
    }

    #[test]
    fn writes_dates_in_both_languages() {
        assert_eq!(Language::French.long_date(date(2026, 11, 3)), "3 novembre 2026");
        assert_eq!(Language::French.long_date(date(2026, 8, 1)), "1er août 2026");
        assert_eq!(Language::French.short_date(date(2026, 11, 3)), "03/11/2026");
        assert_eq!(Language::English.long_date(date(2026, 11, 3)), "Nov 3, 2026");
    }

    #[test]
    fn writes_amounts_in_both_languages() {
        let written =
            |cents| (Language::French.amount(Amount::new(cents)), Language::English.amount(Amount::new(cents)));
        assert_eq!(written(123_456), ("1\u{a0}234,56\u{a0}€".to_owned(), "€1,234.56".to_owned()));
        assert_eq!(written(5), ("0,05\u{a0}€".to_owned(), "€0.05".to_owned()));
        assert_eq!(written(-99_900), ("-999,00\u{a0}€".to_owned(), "-€999.00".to_owned()));
        assert_eq!(written(12_345_678_900).1, "€123,456,789.00");
    }

    #[test]
    fn reads_the_first_language_of_the_browser() {
        assert_eq!(Language::from_accept_language(Some("en-GB,en;q=0.9,fr;q=0.8")), Language::English);
        assert_eq!(Language::from_accept_language(Some("fr,en")), Language::French);
        assert_eq!(Language::from_accept_language(None), Language::French);
    }

    proptest! {
        #[test]
        fn no_digit_of_an_amount_is_lost(cents in any::<i64>()) {
            let digits = |text: String| text.chars().filter(char::is_ascii_digit).collect::<String>();
            let expected = format!("{:03}", cents.unsigned_abs());
            prop_assert_eq!(digits(Language::French.amount(Amount::new(cents))), expected.clone());
            prop_assert_eq!(digits(Language::English.amount(Amount::new(cents))), expected);
        }
    }
}
