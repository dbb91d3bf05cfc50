use chrono::NaiveDate;

use super::time::{Token, split_around_time, tokens};
use super::words::{is_article, is_ordinal, is_weekday, month_number};
use crate::{Error, Result};

/// Parses a day in the notations of French and English vendors: `2026-11-03`, `03/11/2026` (the day first), `3
/// novembre 2026`, `1er nov. 2026`, `Nov 3, 2026`, `mardi 3 novembre 2026`, also with a time of day
/// (`2026-11-03T10:00:00Z`, `03/11/2026 10:00`, `Tue Nov  3 10:30:00 2026`).
///
/// The year of `03/11/26` is 2026. For a vendor that writes the month first in digits, use [`date_with_format`].
///
/// # Errors
///
/// [`Error::VendorChanged`], including the text, if any part of the text is not understood.
pub fn date(text: &str) -> Result<NaiveDate> {
    read_date(text).ok_or_else(|| Error::vendor_changed(format!("`{text}` is not a date")))
}

/// Parses a day in the given `format`, for example `%m/%d/%Y` (the letters are those of
/// [`chrono::format::strftime`]).
///
/// # Errors
///
/// [`Error::VendorChanged`] including the text.
pub fn date_with_format(format: &str, text: &str) -> Result<NaiveDate> {
    NaiveDate::parse_from_str(text.trim(), format)
        .map_err(|error| Error::vendor_changed(format!("`{text}` is not a date in the format `{format}`: {error}")))
}

/// Parses a month and returns its first day: `novembre 2026`, `Nov 2026`, `11/2026`, `2026-11`.
///
/// # Errors
///
/// [`Error::VendorChanged`] including the text.
pub fn month(text: &str) -> Result<NaiveDate> {
    read_month(text).ok_or_else(|| Error::vendor_changed(format!("`{text}` is not a month")))
}

fn read_date(text: &str) -> Option<NaiveDate> {
    let tokens = tokens(text);
    match split_around_time(&tokens) {
        None => calendar_day(&tokens),
        Some((before, [])) => calendar_day(before),
        Some(([], after)) => calendar_day(after),
        // Tue Nov  3 10:30:00 2026
        Some((before, after)) => calendar_day(&[before, &[Token::Space][..], after].concat()),
    }
}

/// Parses a text that is exactly a day.
fn calendar_day(tokens: &[Token]) -> Option<NaiveDate> {
    match DateParts::from_tokens(tokens)? {
        // 3 novembre 2026, 2026 Nov 3
        DateParts { month: Some((month, 1)), numbers, .. } => match numbers.as_slice() {
            [year, day] if year.len() == 4 => build(year, month, day),
            [day, year] => build(year, month, day),
            _ => None,
        },
        // Nov 3, 2026
        DateParts { month: Some((month, 0)), numbers, .. } => match numbers.as_slice() {
            [day, year] => build(year, month, day),
            _ => None,
        },
        DateParts { month: Some(_), .. } => None,
        DateParts { month: None, numbers, marks } => match (numbers.as_slice(), marks.as_slice()) {
            // 2026-11-03
            ([year, month, day], ['-', '-'] | ['/', '/'] | ['.', '.']) if year.len() == 4 => {
                build(year, parse_day_or_month(month)?, day)
            }
            // 20261103
            ([digits], []) if digits.len() == 8 => {
                let (year, rest) = digits.split_at_checked(4)?;
                let (month, day) = rest.split_at_checked(2)?;
                build(year, parse_day_or_month(month)?, day)
            }
            // 03/11/2026
            ([day, month, year], ['-', '-'] | ['/', '/'] | ['.', '.']) => build(year, parse_day_or_month(month)?, day),
            // 03 11 2026
            ([day, month, year], []) if year.len() == 4 => build(year, parse_day_or_month(month)?, day),
            _ => None,
        },
    }
}

fn read_month(text: &str) -> Option<NaiveDate> {
    let tokens = tokens(text);
    match DateParts::from_tokens(&tokens)? {
        DateParts { month: Some((month, 0)), numbers, .. } => match numbers.as_slice() {
            [year] => build(year, month, "1"),
            _ => None,
        },
        DateParts { month: None, numbers, marks } => match (numbers.as_slice(), marks.as_slice()) {
            ([year, month], ['-' | '/' | '.'] | []) if year.len() == 4 => build(year, parse_day_or_month(month)?, "1"),
            ([month, year], ['-' | '/']) => build(year, parse_day_or_month(month)?, "1"),
            // With a two-digit year it may be a time or an amount.
            ([month, year], ['.'] | []) if year.len() == 4 => build(year, parse_day_or_month(month)?, "1"),
            _ => None,
        },
        DateParts { .. } => None,
    }
}

fn parse_day_or_month(digits: &str) -> Option<u32> {
    if digits.len() > 2 { None } else { digits.parse().ok() }
}

fn build(year: &str, month: u32, day: &str) -> Option<NaiveDate> {
    let year = match year.len() {
        4 => year.parse().ok()?,
        2 => 2000 + year.parse::<i32>().ok()?,
        _ => return None,
    };
    NaiveDate::from_ymd_opt(year, month, parse_day_or_month(day)?)
}

/// Parts of a date.
struct DateParts<'a> {
    /// The month, if a word names it, and the number of numbers before it.
    month: Option<(u32, usize)>,
    numbers: Vec<&'a str>,
    /// Separators between two numbers, if they are more than white space.
    marks: Vec<char>,
}

impl<'a> DateParts<'a> {
    /// Classifies the tokens; returns `None` if the text contains anything that does not belong to a date.
    fn from_tokens(tokens: &'a [Token]) -> Option<Self> {
        let words: Vec<&str> = tokens
            .iter()
            .filter_map(|token| if let Token::Word(word) = token { Some(word.as_str()) } else { None })
            .collect();
        let mut weekday = words.iter().find(|word| is_weekday(word) && month_number(word).is_none()).copied();
        // If another word names a month, `mar.` is mardi.
        if weekday.is_none() && words.iter().filter(|word| month_number(word).is_some()).count() > 1 {
            weekday = words.iter().find(|word| **word == "mar").copied();
        }
        let mut parts = Self { month: None, numbers: Vec::new(), marks: Vec::new() };
        let mut marks = Vec::new();
        let mut previous: Option<&Token> = None;
        for token in tokens {
            match token {
                Token::Space => {}
                Token::Mark(mark) if matches!(mark, '.' | ',' | '-' | '/') => marks.push(*mark),
                Token::Mark(_) => return None,
                Token::Number(digits) => {
                    // Marks that abbreviate a weekday, or separate it or a time.
                    if parts.numbers.is_empty() && matches!(marks.as_slice(), ['.' | ',']) {
                        marks.clear();
                    }
                    parts.marks.append(&mut marks);
                    parts.numbers.push(digits);
                }
                Token::Word(word) if weekday == Some(word.as_str()) => {
                    weekday = None;
                    marks.clear();
                }
                Token::Word(word) if is_article(word) => {}
                Token::Word(word) if is_ordinal(word) && matches!(previous, Some(Token::Number(_))) => {}
                Token::Word(word) => {
                    if parts.month.is_some() {
                        return None;
                    }
                    parts.month = Some((month_number(word)?, parts.numbers.len()));
                    marks.clear();
                }
            }
            previous = Some(token);
        }
        matches!(marks.as_slice(), [] | ['.' | ',']).then_some(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Datelike as _;
    use proptest::prelude::*;

    #[test]
    fn reads_the_forms_that_vendors_use() {
        for text in [
            "2026-11-03",
            "03/11/2026",
            "3.11.2026",
            "3-11-26",
            "3 novembre 2026",
            "3 NOVEMBRE 2026",
            "3 nov. 2026",
            "Nov 3, 2026",
            "November 3rd, 2026",
            "3rd of November 2026",
            "mardi 3 novembre 2026",
            "le 3 novembre 2026",
            "Tue, 3 Nov 2026",
            "20261103",
            "2026-11-03T10:00:00.000Z",
            "03/11/2026 à 10h30",
            "3 novembre 2026 10:30",
            "\u{a0}3\u{a0}novembre\u{a0}2026 ",
            "Tue Nov  3 10:30:00 2026",
            "Tue Nov  3 10:30:00 CET 2026",
            "Tue Nov 03 2026 10:30:00 GMT+0100 (Central European Standard Time)",
            "Tue, 03 Nov 2026 10:30:00 +0100",
            "Tuesday, 03-Nov-26 10:30:00 GMT",
            "20261103T103000Z",
            "2026-11-03 10:30:00.123456+01:00",
            "2026-11-03T10:30:00,5",
            "2026-11-03T24:00:00",
            "2026-11-03T10:30-0500",
            "03/11/2026 - 10:30",
            "10:30 - 03/11/2026",
            "3 novembre 2026 à 10 h 30",
            "3 novembre 2026, 10h",
            "Nov 3, 2026 at 10:30 PM",
            "Nov 3, 2026, 10 p.m.",
            "Nov 3, 2026 10 am",
            "03/11/26 10:30",
            "3. 11. 2026",
            "03 11 2026",
            "2026/11/03",
            "2026 Nov 3",
            "3-nov-2026",
            "mardi, 3 novembre 2026.",
        ] {
            assert_eq!(date(text), Ok(NaiveDate::from_ymd_opt(2026, 11, 3).unwrap()), "{text}");
        }
        assert_eq!(date("1er août 2026"), Ok(NaiveDate::from_ymd_opt(2026, 8, 1).unwrap()));
        assert_eq!(date("29 févr. 2028"), Ok(NaiveDate::from_ymd_opt(2028, 2, 29).unwrap()));
        assert_eq!(date("5 juil. 2026"), Ok(NaiveDate::from_ymd_opt(2026, 7, 5).unwrap()));
        assert_eq!(date("Sept 5, 2026"), Ok(NaiveDate::from_ymd_opt(2026, 9, 5).unwrap()));
        assert_eq!(date("mar. 3 nov. 2026"), Ok(NaiveDate::from_ymd_opt(2026, 11, 3).unwrap()));
        assert_eq!(date("mar. 3 mars 2026"), Ok(NaiveDate::from_ymd_opt(2026, 3, 3).unwrap()));
        assert_eq!(date("Mar 3, 2026"), Ok(NaiveDate::from_ymd_opt(2026, 3, 3).unwrap()));
        assert_eq!(date_with_format("%m/%d/%Y", "11/03/2026"), Ok(NaiveDate::from_ymd_opt(2026, 11, 3).unwrap()));
    }

    #[test]
    fn an_invalid_date_is_rejected_with_its_text() {
        for text in [
            "",
            "hier",
            "3 novembre",
            "31/02/2026",
            "13/13/2026",
            "3 jui 2026",
            "3 novembre 26e 2026 x",
            "Facture 3 nov 2026",
            "1/2",
            "3 novembre 10:30",
            "3 nov 10h26",
            "Nov 3 10:30:00",
            "03/11 10:30",
            "10:30",
            "10:30:26",
            "Tue Nov  3 10:30:00",
            "3 novembre 2026 10.30",
            "3 novembre 2026 103000",
            "03/11/2026 10",
            "03/11/2026 25:00",
            "03/11/2026 10:61",
            "03/11/2026 10:00 - 11:00",
            "03/11/2026 - 05/11/2026",
            "3 novembre 2026 - 5 novembre 2026",
            "3-5 novembre 2026",
            "2026-11-03/05",
            "2026-11-03-05",
            "03-11/2026",
            "10 11 12",
            "011/11/2026",
            "3 novembre 02026",
            "--1103",
            "-2026-11-03",
            "3 + 11 + 2026",
            "03:11:2026",
            "mar mer 3 novembre 2026",
        ] {
            assert!(matches!(date(text), Err(Error::VendorChanged(_))), "{text}: {:?}", date(text));
        }
        insta::assert_snapshot!(date("à venir").unwrap_err(), @"the vendor's site changed: `à venir` is not a date");
        insta::assert_snapshot!(date_with_format("%m/%d/%Y", "11-03-2026").unwrap_err(), @"the vendor's site changed: `11-03-2026` is not a date in the format `%m/%d/%Y`: input contains invalid characters");
    }

    #[test]
    fn a_month_is_its_first_day() {
        for text in ["novembre 2026", "Nov. 2026", "11/2026", "2026-11", "11-26"] {
            assert_eq!(month(text), Ok(NaiveDate::from_ymd_opt(2026, 11, 1).unwrap()), "{text}");
        }
        for text in ["10:30", "12.50", "12 50", "11/2026 10:30", "novembre 10:30", "2026", "11:2026"] {
            assert!(month(text).is_err(), "{text}: {:?}", month(text));
        }
        insta::assert_snapshot!(month("3 novembre 2026").unwrap_err(), @"the vendor's site changed: `3 novembre 2026` is not a month");
    }

    const FRENCH: [&str; 12] = [
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

    proptest! {
        #[test]
        fn a_day_written_in_any_of_the_ways_is_read_back(year in 1900_i32..2100, ordinal in 1_u32..366) {
            let day = NaiveDate::from_yo_opt(year, ordinal).unwrap();
            let french = FRENCH[day.month0() as usize];
            let first = if day.day() == 1 { "er" } else { "" };
            let forms = [
                day.to_string(),
                day.format("%d/%m/%Y").to_string(),
                day.format("%b %-d, %Y").to_string(),
                day.format("%A %-d %B %Y").to_string(),
                format!("{}{first} {french} {}", day.day(), day.year()),
            ];
            for text in forms {
                prop_assert_eq!(date(&text), Ok(day), "{}", text);
            }
            prop_assert_eq!(month(&format!("{french} {year}")), Ok(day.with_day(1).unwrap()));
        }

        /// With a time of day in any position, a date is either the same date or not understood; without its year it
        /// is not a date.
        #[test]
        fn a_time_is_never_a_part_of_the_date(
            year in 1900_i32..2100, ordinal in 1_u32..366, seconds in 0_u32..86_400, position in 0_usize..4,
            form in prop::sample::select(vec![
                "%H:%M", "%H:%M:%S", "%k:%M", "%Hh%M", "%H h %M", "%Hh", "%I:%M %p", "%I %p", "%H:%M:%S GMT", "%H:%M:%S.%3f", "%H:%M+01:00",
                "T%H%M%S", "T%H:%M:%SZ", "à %H:%M", "%H:%M:%S -0500", "%H.%M", "%H-%M",
            ]),
            style in prop::sample::select(vec!["%-d|%b|%Y", "%b|%e|%Y", "%d/|%m/|%Y", "%Y-|%m-|%d", "%-d.|%-m.|%y", "%a|%b %e|%Y"]),
        ) {
            let day = NaiveDate::from_yo_opt(year, ordinal).unwrap();
            let moment = day.and_time(chrono::NaiveTime::from_num_seconds_from_midnight_opt(seconds, 0).unwrap());
            let (time, day_text) = (moment.format(form).to_string(), day.format(style).to_string());
            let mut parts: Vec<&str> = day_text.split('|').collect();
            parts.insert(position.min(parts.len()), &time);
            let text = parts.join(" ");
            let expected = if style.contains("%y") { day.with_year(2000 + year % 100) } else { Some(day) };
            if let Ok(read) = date(&text) {
                prop_assert_eq!(Some(read), expected, "{}", text);
            }
            let without_year: Vec<&str> = parts.into_iter().filter(|part| !style.split('|').any(|style| {
                style.to_lowercase().contains("%y") && day.format(style).to_string() == *part
            })).collect();
            prop_assert!(date(&without_year.join(" ")).is_err(), "{}", without_year.join(" "));
        }

        #[test]
        fn any_text_is_a_date_or_an_error(text in "\\PC{0,24}|[0-9 /a-z.-]{0,14}") {
            if let Ok(day) = date(&text) {
                prop_assert_eq!(date(&day.to_string()), Ok(day));
            }
        }
    }
}
