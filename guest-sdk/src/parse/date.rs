use chrono::NaiveDate;

use crate::{Error, Result};

/// Reads a day as French and English vendors write it: `2026-11-03`, `03/11/2026` (the day first), `3 novembre 2026`, `1er nov. 2026`,
/// `Nov 3, 2026`, `mardi 3 novembre 2026`, also before a time of day (`2026-11-03T10:00:00Z`, `03/11/2026 10:00`).
///
/// The year of `03/11/26` is 2026. For a vendor that writes the month first in figures there is [`date_as`].
///
/// # Errors
/// [`Error::VendorChanged`] with the text in it.
pub fn date(text: &str) -> Result<NaiveDate> {
    read_date(text).ok_or_else(|| Error::vendor_changed(format!("`{text}` is no date")))
}

/// Reads a day in the form that `format` describes, as in `%m/%d/%Y` (the letters are those of [`chrono::format::strftime`]).
///
/// # Errors
/// [`Error::VendorChanged`] with the text in it.
pub fn date_as(format: &str, text: &str) -> Result<NaiveDate> {
    NaiveDate::parse_from_str(text.trim(), format)
        .map_err(|error| Error::vendor_changed(format!("`{text}` is no date like `{format}`: {error}")))
}

/// Reads a month and answers its first day: `novembre 2026`, `Nov 2026`, `11/2026`, `2026-11`.
///
/// # Errors
/// [`Error::VendorChanged`] with the text in it.
pub fn month(text: &str) -> Result<NaiveDate> {
    read_month(text).ok_or_else(|| Error::vendor_changed(format!("`{text}` is no month")))
}

fn read_date(text: &str) -> Option<NaiveDate> {
    let parts = parts(text);
    let (mut words, numbers): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.starts_with(char::is_alphabetic));
    if words.len() > 1 {
        // Beside another month, `mar.` is mardi.
        words.retain(|word| *word != "mar");
    }
    let months: Vec<u32> = words.into_iter().filter_map(|word| month_number(word)).collect();
    match (months.as_slice(), numbers.as_slice()) {
        // 3 novembre 2026, Nov 3, 2026
        ([month], [day, year, ..]) => build(year, *month, day),
        // 2026-11-03, and with a time
        ([], [year, month, day, ..]) if year.len() == 4 => build(year, month.parse().ok()?, day),
        // 20261103
        ([], [digits]) if digits.len() == 8 => {
            let (year, rest) = digits.split_at_checked(4)?;
            let (month, day) = rest.split_at_checked(2)?;
            build(year, month.parse().ok()?, day)
        }
        // 03/11/2026
        ([], [day, month, year, ..]) => build(year, month.parse().ok()?, day),
        _ => None,
    }
}

fn read_month(text: &str) -> Option<NaiveDate> {
    let parts = parts(text);
    match parts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [word, year] if month_number(word).is_some() => build(year, month_number(word)?, "1"),
        [year, month] if year.len() == 4 => build(year, month.parse().ok()?, "1"),
        [month, year] => build(year, month.parse().ok()?, "1"),
        _ => None,
    }
}

fn build(year: &str, month: u32, day: &str) -> Option<NaiveDate> {
    let year = match year.len() {
        4 => year.parse().ok()?,
        2 => 2000 + year.parse::<i32>().ok()?,
        _ => return None,
    };
    if day.len() > 2 {
        return None;
    }
    NaiveDate::from_ymd_opt(year, month, day.parse().ok()?)
}

/// The text's numbers and words, lower-case and without accents; what only decorates a date is left out. A text with any other word in it
/// has no parts, because it is more than a date.
fn parts(text: &str) -> Vec<String> {
    let plain: String = text.trim().chars().flat_map(char::to_lowercase).map(without_accent).collect();
    let mut parts: Vec<String> = Vec::new();
    let mut last = ' ';
    for letter in plain.chars() {
        if letter.is_alphanumeric() {
            let continues = last.is_alphanumeric() && last.is_alphabetic() == letter.is_alphabetic();
            match parts.last_mut().filter(|_| continues) {
                Some(part) => part.push(letter),
                None => parts.push(letter.to_string()),
            }
        }
        last = letter;
    }
    let is_known =
        |part: &String| part.starts_with(|letter: char| letter.is_ascii_digit()) || month_number(part).is_some();
    parts.retain(|part| !is_decoration(part));
    if parts.iter().all(is_known) { parts } else { Vec::new() }
}

fn without_accent(letter: char) -> char {
    match letter {
        'é' | 'è' | 'ê' => 'e',
        'û' | 'ù' => 'u',
        'à' => 'a',
        other => other,
    }
}

/// Days of the week, ordinals, articles, and the letters of ISO 8601.
fn is_decoration(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "lundi",
        "mardi",
        "mercredi",
        "jeudi",
        "vendredi",
        "samedi",
        "dimanche",
        "lun",
        "mer",
        "jeu",
        "ven",
        "sam",
        "dim",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "mon",
        "tue",
        "wed",
        "thu",
        "fri",
        "sat",
        "sun",
        "er",
        "st",
        "nd",
        "rd",
        "th",
        "le",
        "du",
        "the",
        "of",
        "a",
        "at",
        "t",
        "z",
        "h",
    ];
    WORDS.contains(&word)
}

/// The month that a word names, in full or by an abbreviation of three letters or more that fits one month only.
fn month_number(word: &str) -> Option<u32> {
    const FRENCH: [&str; 12] = [
        "janvier",
        "fevrier",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "aout",
        "septembre",
        "octobre",
        "novembre",
        "decembre",
    ];
    const ENGLISH: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    if word.len() < 3 {
        return None;
    }
    let find = |names: [&str; 12]| names.iter().position(|name| name.starts_with(word));
    // `jui` fits juin and juillet.
    let index = if word == "jui" { None } else { find(FRENCH).or_else(|| find(ENGLISH)) }?;
    u32::try_from(index + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(date_as("%m/%d/%Y", "11/03/2026"), Ok(NaiveDate::from_ymd_opt(2026, 11, 3).unwrap()));
    }

    #[test]
    fn what_is_no_date_is_refused_with_its_text() {
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
        ] {
            assert!(matches!(date(text), Err(Error::VendorChanged(_))), "{text}: {:?}", date(text));
        }
        insta::assert_snapshot!(date("à venir").unwrap_err(), @"the vendor's site changed: `à venir` is no date");
        insta::assert_snapshot!(date_as("%m/%d/%Y", "11-03-2026").unwrap_err(), @"the vendor's site changed: `11-03-2026` is no date like `%m/%d/%Y`: input contains invalid characters");
    }

    #[test]
    fn a_month_is_its_first_day() {
        for text in ["novembre 2026", "Nov. 2026", "11/2026", "2026-11", "11-26"] {
            assert_eq!(month(text), Ok(NaiveDate::from_ymd_opt(2026, 11, 1).unwrap()), "{text}");
        }
        insta::assert_snapshot!(month("3 novembre 2026").unwrap_err(), @"the vendor's site changed: `3 novembre 2026` is no month");
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
            use chrono::Datelike as _;
            let day = NaiveDate::from_yo_opt(year, ordinal).unwrap();
            let french = FRENCH[day.month0() as usize];
            let first = if day.day() == 1 { "er" } else { "" };
            let ways = [
                day.to_string(),
                day.format("%d/%m/%Y").to_string(),
                day.format("%b %-d, %Y").to_string(),
                day.format("%A %-d %B %Y").to_string(),
                format!("{}{first} {french} {}", day.day(), day.year()),
            ];
            for text in ways {
                prop_assert_eq!(date(&text), Ok(day), "{}", text);
            }
            prop_assert_eq!(month(&format!("{french} {year}")), Ok(day.with_day(1).unwrap()));
        }

        #[test]
        fn any_text_is_a_date_or_an_error(text in "\\PC{0,24}|[0-9 /a-z.-]{0,14}") {
            if let Ok(day) = date(&text) {
                prop_assert_eq!(date(&day.to_string()), Ok(day));
            }
        }
    }
}
