//! The words of dates, French and English, in lower case and without accents.

/// Returns whether a word is a day of the week, in full or abbreviated. `mar` is also a month; see [`month_number`].
pub(super) fn is_weekday(word: &str) -> bool {
    matches!(
        word,
        "lundi"
            | "mardi"
            | "mercredi"
            | "jeudi"
            | "vendredi"
            | "samedi"
            | "dimanche"
            | "lun"
            | "mar"
            | "mer"
            | "jeu"
            | "ven"
            | "sam"
            | "dim"
            | "monday"
            | "tuesday"
            | "wednesday"
            | "thursday"
            | "friday"
            | "saturday"
            | "sunday"
            | "mon"
            | "tue"
            | "tues"
            | "wed"
            | "thu"
            | "thur"
            | "thurs"
            | "fri"
            | "sat"
            | "sun"
    )
}

/// Returns whether a word is an article or a preposition of dates.
pub(super) fn is_article(word: &str) -> bool {
    matches!(word, "le" | "du" | "the" | "of")
}

/// Returns whether a word makes the number before it an ordinal: `1er`, `3rd`.
pub(super) fn is_ordinal(word: &str) -> bool {
    matches!(word, "er" | "st" | "nd" | "rd" | "th")
}

/// Returns whether a word is the name of a time zone, after a time of day.
pub(super) fn is_zone(word: &str) -> bool {
    matches!(
        word,
        "z" | "ut"
            | "utc"
            | "gmt"
            | "cet"
            | "cest"
            | "wet"
            | "west"
            | "eet"
            | "eest"
            | "bst"
            | "ist"
            | "est"
            | "edt"
            | "cst"
            | "cdt"
            | "mst"
            | "mdt"
            | "pst"
            | "pdt"
    )
}

/// Returns the month that a word names, in full or by an unambiguous abbreviation of at least three letters.
pub(super) fn month_number(word: &str) -> Option<u32> {
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
    // `jui` matches juin and juillet.
    let index = if word == "jui" { None } else { find(FRENCH).or_else(|| find(ENGLISH)) }?;
    u32::try_from(index + 1).ok()
}
