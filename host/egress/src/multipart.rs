//! Multipart forms (RFC 7578), parsed so strictly that no vendor can find other fields in them. Libraries are lenient
//! in different ways: they differ on which of two headers counts, what ends a line, and where a boundary begins. Input
//! that one of them might accept leniently is an error here.

use thiserror::Error;

/// Maximum length of a boundary (RFC 2046 §5.1.1).
const MAX_BOUNDARY_LENGTH: usize = 70;

/// Why a body is not an unambiguous multipart form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum MultipartError {
    #[error(
        "the Content-Type is not valid; send multipart/form-data with one boundary of at most {MAX_BOUNDARY_LENGTH} \
         letters, digits, \"+\", \"-\", \".\" and \"_\", and no other parameter except charset=utf-8"
    )]
    ContentType,
    #[error("the body is not UTF-8; send files in a separate request")]
    NotUtf8,
    #[error(
        "the body has text before or after its parts, or no end; begin it with the first boundary and end it with the \
         last one"
    )]
    Frame,
    #[error("part {0} contains the boundary; choose another boundary")]
    Boundary(usize),
    #[error(
        "the headers of part {0} are not valid; end them with an empty line and write each line as \"Name: value\", followed by \
         CR LF and without other control characters"
    )]
    Head(usize),
    #[error("part {0} has a header other than Content-Disposition and Content-Type, or one of them twice; remove it")]
    Header(usize),
    #[error(
        "the Content-Disposition of part {0} is missing or not valid; write form-data; name=\"…\", and for a file filename=\"…\" after it, each \
         once and without \"\\\""
    )]
    Disposition(usize),
    #[error("the Content-Type of part {0} is not valid, or is multipart itself; send one part for each value")]
    Nested(usize),
    #[error("a placeholder is not the whole value of a part; remove the text around it")]
    Placeholder,
}

/// One part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// Name of the field; `None` for a file, or if the name contains a character that some libraries escape, or treat
    /// as the end of the name.
    pub(super) field: Option<&'a str>,
    pub(super) content: &'a str,
}

/// Parses the parts of a body with this `Content-Type`.
pub(super) fn parse_parts<'a>(content_type: &str, body: &'a [u8]) -> Result<Vec<Part<'a>>, MultipartError> {
    let boundary = boundary(content_type).ok_or(MultipartError::ContentType)?;
    let text = std::str::from_utf8(body).map_err(|_| MultipartError::NotUtf8)?;
    let inside = text.strip_prefix(&format!("--{boundary}\r\n"));
    let inside =
        inside.and_then(|text| text.strip_suffix("\r\n").unwrap_or(text).strip_suffix(&format!("\r\n--{boundary}--")));
    let delimiter = format!("\r\n--{boundary}\r\n");
    let parts = inside.ok_or(MultipartError::Frame)?.split(delimiter.as_str()).zip(1..);
    parts.map(|(part, number)| read_part(part, boundary, number)).collect()
}

/// Returns the `boundary` parameter of a `Content-Type`. It may only contain characters without a special meaning for
/// any parser, quoted or not.
fn boundary(content_type: &str) -> Option<&str> {
    let (media_type, parameters) = parse_header_value(content_type)?;
    let is_known = |(name, value): &(String, &str)| match name.as_str() {
        "boundary" => true,
        "charset" => value.eq_ignore_ascii_case("utf-8"),
        _ => false,
    };
    if !media_type.eq_ignore_ascii_case("multipart/form-data") || !parameters.iter().all(is_known) {
        return None;
    }
    let boundary = find(&parameters, "boundary")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    ((1..=MAX_BOUNDARY_LENGTH).contains(&boundary.len()) && boundary.bytes().all(is_plain)).then_some(boundary)
}

fn read_part<'a>(part: &'a str, boundary: &str, number: usize) -> Result<Part<'a>, MultipartError> {
    // Some parsers look for the boundary anywhere, ignore its case, or treat the quotes as part of it.
    let (lower, boundary) = (part.to_ascii_lowercase(), boundary.to_ascii_lowercase());
    if lower.contains(&format!("--{boundary}")) || lower.contains(&format!("--\"{boundary}")) {
        return Err(MultipartError::Boundary(number));
    }
    let (head, content) = part.split_once("\r\n\r\n").ok_or(MultipartError::Head(number))?;
    let (mut disposition, mut media_type) = (None, None);
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(MultipartError::Head(number))?;
        if !is_token(name) || value.contains(char::is_control) {
            return Err(MultipartError::Head(number));
        }
        let header = match name.to_ascii_lowercase().as_str() {
            "content-disposition" => &mut disposition,
            "content-type" => &mut media_type,
            _ => return Err(MultipartError::Header(number)),
        };
        if header.replace(value.trim_matches(' ')).is_some() {
            return Err(MultipartError::Header(number));
        }
    }
    if !media_type.is_none_or(is_single_part) {
        return Err(MultipartError::Nested(number));
    }
    let field = disposition.and_then(read_disposition).ok_or(MultipartError::Disposition(number))?;
    Ok(Part { field, content })
}

/// Returns whether a body of this media type has no parts of its own.
fn is_single_part(media_type: &str) -> bool {
    parse_header_value(media_type).and_then(|(essence, _)| essence.split_once('/')).is_some_and(|(kind, subtype)| {
        is_token(kind)
            && is_token(subtype)
            && !["multipart", "message"].iter().any(|other| kind.eq_ignore_ascii_case(other))
    })
}

/// Returns the field, see [`Part::field`], or `None` if the disposition is not `form-data`.
fn read_disposition(disposition: &str) -> Option<Option<&str>> {
    let (kind, parameters) = parse_header_value(disposition)?;
    let names: Vec<_> = parameters.iter().map(|(name, _)| name.as_str()).collect();
    if !kind.eq_ignore_ascii_case("form-data") || !matches!(names.as_slice(), ["name"] | ["name", "filename"]) {
        return None;
    }
    // Parsers disagree on the end of an unquoted name.
    if disposition.matches('"').count() != 2 * names.len() {
        return None;
    }
    let name = find(&parameters, "name")?;
    let is_plain = names.len() == 1 && !name.is_empty() && !name.contains(['%', ';']);
    Some(is_plain.then_some(name))
}

/// Parses `value; name=token; name="quoted"` into the value and the parameters, each once, with their names in lower
/// case.
fn parse_header_value(header: &str) -> Option<(&str, Vec<(String, &str)>)> {
    let (first, mut rest) = header.split_at(header.find(';').unwrap_or(header.len()));
    let mut parameters = Vec::new();
    while !rest.is_empty() {
        let (name, assigned) = rest.strip_prefix(';')?.trim_start_matches(' ').split_once('=')?;
        let (name, value, remainder) = match assigned.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').map(|(value, remainder)| (name, value, remainder)),
            None => {
                let (value, remainder) = assigned.split_at(assigned.find([';', ' ']).unwrap_or(assigned.len()));
                is_token(value).then_some((name, value, remainder))
            }
        }?;
        let name = name.to_ascii_lowercase();
        if !is_token(&name)
            || value.contains('\\')
            || value.contains(char::is_control)
            || find(&parameters, &name).is_some()
        {
            return None;
        }
        parameters.push((name, value));
        rest = remainder.trim_start_matches(' ');
    }
    Some((first.trim_end_matches(' '), parameters))
}

fn find<'a>(parameters: &[(String, &'a str)], key: &str) -> Option<&'a str> {
    parameters.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
}

/// Returns whether the string is a token (RFC 9110 §5.6.2) without `*`, which after a name introduces an extended
/// encoding (RFC 8187).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=x";
    const DISPOSITION: &str = "Content-Disposition: form-data; name=\"pwd\"";

    fn body(head: &str, content: &str) -> String {
        format!(
            "--x\r\n{head}\r\n\r\n{content}\r\n--x\r\n{}\r\n\r\nother\r\n--x--\r\n",
            DISPOSITION.replace("pwd", "q")
        )
    }

    fn field(head: &str) -> Result<Option<String>, MultipartError> {
        let body = body(head, "WORD");
        let parts = parse_parts(TYPE, body.as_bytes())?;
        Ok(parts.iter().find(|part| part.content == "WORD").and_then(|part| part.field).map(str::to_owned))
    }

    #[test]
    fn a_form_with_one_meaning() {
        let expected = || Ok(Some("pwd".to_owned()));
        for head in [
            DISPOSITION.to_owned(),
            DISPOSITION.to_uppercase().replace("PWD", "pwd"),
            format!("content-type: text/plain\r\n{DISPOSITION}"),
            format!("{DISPOSITION}\r\nContent-Type: text/plain; charset=\"utf-8\""),
            "Content-Disposition:form-data;name=\"pwd\"".to_owned(),
        ] {
            assert_eq!(field(&head), expected(), "{head}");
        }
        for name in ["pw%64", "pwd;", ""] {
            assert_eq!(field(&DISPOSITION.replace("pwd", name)), Ok(None), "{name}");
        }
        assert_eq!(field(&format!("{DISPOSITION}; filename=\"a;%22\"")), Ok(None));
        let body = body(DISPOSITION, "");
        for content_type in [
            "multipart/form-data;boundary=x",
            "Multipart/Form-Data ; charset=UTF-8; BOUNDARY=\"x\"",
            "multipart/form-data; boundary=x; charset=\"utf-8\"",
        ] {
            assert_eq!(parse_parts(content_type, body.as_bytes()).map(|parts| parts.len()), Ok(2), "{content_type}");
        }
        assert_eq!(parse_parts(TYPE, body.trim_end().as_bytes()).map(|parts| parts.len()), Ok(2));
    }

    #[test]
    fn a_content_type_with_two_meanings() {
        let whole = body(DISPOSITION, "WORD");
        for content_type in [
            "",
            "multipart/form-data",
            "multipart/mixed; boundary=x",
            "multipart/form-data boundary=x",
            "multipart/form-data, boundary=x",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\"",
            "multipart/form-data; boundary=y; boundary=x",
            "multipart/form-data; boundary=x; Boundary=x",
            "multipart/form-data; x=\"; boundary=y; y=\"; boundary=x",
            "multipart/form-data; x=\"\\\"; boundary=y; y=\"; boundary=x",
            "multipart/form-data; x='; boundary=y; y='; boundary=x",
            "multipart/form-data; boundary*=utf-8''y; boundary=x",
            "multipart/form-data; boundary*0=x",
            "multipart/form-data; boundary =x",
            "multipart/form-data; boundary= x",
            "multipart/form-data; boundary=x y",
            "multipart/form-data; boundary=\"x y\"",
            "multipart/form-data; boundary=\"x,y\"",
            "multipart/form-data; boundary=\"\\x\"",
            "multipart/form-data; boundary=\"x",
            "multipart/form-data; boundary=x\"",
            "multipart/form-data; boundary='x'",
            "multipart/form-data; boundary=x;",
            "multipart/form-data;; boundary=x",
            "multipart/form-data;\tboundary=x",
            "multipart/form-data; boundary=x, text/plain",
            "multipart/form-data; boundary=x; charset=utf-7",
            "multipart/form-data; charset=boundary; boundary=x",
            "multipart/form-data; boundary=x (comment)",
        ] {
            let result = parse_parts(content_type, whole.as_bytes());
            assert_eq!(result, Err(MultipartError::ContentType), "{content_type}");
        }
        let long = "x".repeat(MAX_BOUNDARY_LENGTH + 1);
        assert_eq!(boundary(&format!("multipart/form-data; boundary={long}")), None);
    }

    #[test]
    fn a_head_with_two_meanings() {
        use MultipartError::{Disposition, Head, Header, Nested};
        let disposition = |rest: &str| format!("Content-Disposition: {rest}");
        let other = DISPOSITION.replace("pwd", "q");
        for (head, error) in [
            (format!("{DISPOSITION}\r\n{DISPOSITION}"), Header(1)),
            (format!("X: y\r\n{other}\r\n{DISPOSITION}"), Header(1)),
            (format!("{DISPOSITION}\r\nX: y"), Header(1)),
            (format!("{DISPOSITION}\r\nContent-Transfer-Encoding: base64"), Header(1)),
            (format!("{DISPOSITION}\r\nContent-Length: 99"), Header(1)),
            (format!("{DISPOSITION}\r\nContent-Type: text/plain\r\nContent-Type: text/plain"), Header(1)),
            (format!("{DISPOSITION}\n{other}"), Head(1)),
            (format!("{other}\n{DISPOSITION}"), Head(1)),
            (format!("{DISPOSITION}\r{other}"), Head(1)),
            (format!("{DISPOSITION}\0"), Head(1)),
            (format!("{DISPOSITION}\r\n {other}"), Head(1)),
            (format!("{DISPOSITION}\r\n\t; name=\"q\""), Head(1)),
            (format!(" {DISPOSITION}"), Head(1)),
            (format!("{other}\n\n{DISPOSITION}"), Head(1)),
            (format!("\r{DISPOSITION}"), Head(1)),
            (format!("{}\r\n{DISPOSITION}", other.replace(':', "\0:")), Head(1)),
            (format!("{}\r\n{DISPOSITION}", other.replace(':', " :")), Head(1)),
            (format!("{DISPOSITION}\r\nno header"), Head(1)),
            (format!("\u{feff}{DISPOSITION}"), Head(1)),
            (String::new(), Head(1)),
            (disposition("form-data; name=pwd"), Disposition(1)),
            (disposition("form-data; name=\"q\"; name=\"pwd\""), Disposition(1)),
            (disposition("form-data; name=\"pwd\"; NAME=\"q\""), Disposition(1)),
            (disposition("form-data; name=\"pwd\"; name*=utf-8''q"), Disposition(1)),
            (disposition("form-data; name*=utf-8''q; name=\"pwd\""), Disposition(1)),
            (disposition("form-data; name=\"pwd\"; filename*=utf-8''q"), Disposition(1)),
            (disposition("form-data; filename=\"; name=q; \"; name=\"pwd\""), Disposition(1)),
            (disposition("form-data; x=\"\"; name=\"pwd\""), Disposition(1)),
            (disposition("form-data; name=\"pwd\" name=\"q\""), Disposition(1)),
            (disposition("form-data; name=\"pwd\";"), Disposition(1)),
            (disposition("form-data; name=\"p\\wd\""), Disposition(1)),
            (disposition("form-data; name=\"pwd\\\"; name=\"q\""), Disposition(1)),
            (disposition("form-data; name='pwd'"), Disposition(1)),
            (disposition("form-data; name=\"pwd\"x"), Disposition(1)),
            (disposition("form-data; name = \"pwd\""), Disposition(1)),
            (disposition("form-data"), Disposition(1)),
            (disposition("attachment; name=\"pwd\""), Disposition(1)),
            ("Content-Type: text/plain".to_owned(), Disposition(1)),
            (format!("{DISPOSITION}\r\nContent-Type: multipart/mixed; boundary=y"), Nested(1)),
            (format!("{DISPOSITION}\r\nContent-Type: Message/rfc822"), Nested(1)),
            (format!("{DISPOSITION}\r\nContent-Type: text/plain, multipart/mixed"), Nested(1)),
            (format!("{DISPOSITION}\r\nContent-Type: text/plain; x=\"\\\"\""), Nested(1)),
        ] {
            assert_eq!(field(&head), Err(error), "{head:?}");
        }
    }

    #[test]
    fn a_frame_with_two_meanings() {
        use MultipartError::{Boundary, Frame, Head, NotUtf8};
        let whole = body(DISPOSITION, "WORD");
        let of = |body: &str| parse_parts(TYPE, body.as_bytes()).map(|parts| parts.len());
        for (text, error) in [
            (format!("WORD\r\n{whole}"), Frame),
            (format!("\r\n{whole}"), Frame),
            (format!("{whole}WORD"), Frame),
            (format!("{whole}\r\n"), Frame),
            (whole.replace("--x--", "--x"), Frame),
            (whole.replacen("--x\r\n", "--x \r\n", 1), Frame),
            (whole.replacen("--x\r\n", "--x\n", 1), Frame),
            (String::new(), Frame),
            ("--x\r\n--x--".to_owned(), Frame),
            (body(DISPOSITION, "WORD\n--x\n"), Boundary(1)),
            (body(DISPOSITION, "WORD\r\n--xy"), Boundary(1)),
            (body(DISPOSITION, "WORD\r\n--x \r\n"), Boundary(1)),
            (body(DISPOSITION, "WORD\r\n--X"), Boundary(1)),
            (body(DISPOSITION, "WORD\r\n--\"x\"\r\n"), Boundary(1)),
            (whole.replace("\r\nother", "\r\n--x--\r\nWORD"), Boundary(2)),
            (body(DISPOSITION, "WORD").replace("\r\n\r\nWORD", "\n\nWORD"), Head(1)),
        ] {
            assert_eq!(of(&text), Err(error), "{text:?}");
        }
        assert_eq!(parse_parts(TYPE, &[whole.as_bytes(), b"\xff"].concat()), Err(NotUtf8));
    }

    proptest! {
        /// For any head, the field that is found is the only named field.
        #[test]
        fn a_part_header_cannot_name_another_field(
            place in any::<prop::sample::Index>(),
            put in prop_oneof![
                "[\\r\\n\\t\\x00 ;:=\"'*\\\\]{1,4}",
                Just("; name=\"q\"".to_owned()),
                Just("\r\nContent-Disposition: form-data; name=\"q\"".to_owned()),
                Just("Content-Disposition: form-data; name=\"q\"\r\n".to_owned()),
            ],
        ) {
            let (before, after) = DISPOSITION.split_at(place.index(DISPOSITION.len() + 1));
            let head = format!("{before}{put}{after}");
            if let Ok(Some(name)) = field(&head) {
                prop_assert_eq!(head.matches("name").count(), 1, "{:?}", head);
                prop_assert!(!head.contains(['\r', '\n', '\0', '\\']), "{:?}", head);
                prop_assert_eq!(head.split('"').nth(1), Some(name.as_str()));
            }
        }
    }
}
