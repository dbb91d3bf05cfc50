use proptest::prelude::*;

use super::*;

fn read(line: &[u8]) -> String {
    match StatusLine::parse(line) {
        StatusLine::Message(Message { kind, message, no_retry }) => format!("{kind} | {message} | {no_retry}"),
        StatusLine::Malformed(MalformedStatus { reason, error }) => format!("unreadable, {error:?}: {reason}"),
        StatusLine::Other => "other".to_owned(),
    }
}

/// Results of Go 1.24's `json.Unmarshal` for these lines, with Cozy's structure as the target.
#[test]
fn every_line_that_go_accepts_is_accepted() {
    for (line, expected) in [
        (&br#"{"type":"critical","message":"LOGIN_FAILED","no_retry":true}"#[..], "critical | LOGIN_FAILED | true"),
        (br#"{"type":"critical","message":"LOGIN_FAILED","no_retry":null}"#, "critical | LOGIN_FAILED | false"),
        (br#"{"type":"critical","message":null}"#, "critical |  | false"),
        (br#"{"type":null,"message":"a"}"#, " | a | false"),
        (br#"{"type":"critical","message":"\ud83d"}"#, "critical | \u{fffd} | false"),
        (
            br#"{"type":"critical","message":"\ud83d\ude00 \ude00\ud83d x"}"#,
            "critical | \u{1f600} \u{fffd}\u{fffd} x | false",
        ),
        (
            br#"{"type":"critical","message":"\ud83d\u0041\\ud83d\\\ud83d"}"#,
            "critical | \u{fffd}A\\ud83d\\\u{fffd} | false",
        ),
        (br#"{"type":"critical","message":"\ud83d\ud83d\ude00"}"#, "critical | \u{fffd}\u{1f600} | false"),
        (b"{\"type\":\"critical\",\"message\":\"caf\xe9\xff!\"}", "critical | caf\u{fffd}\u{fffd}! | false"),
        (br#"{"TYPE":"critical","Message":"a","No_Retry":true}"#, "critical | a | true"),
        ("{\"type\":\"critical\",\"me\u{17f}\u{17f}age\":\"a\"}".as_bytes(), "critical | a | false"),
        (br#"{"t\u0079pe":"critical","message":"a"}"#, "critical | a | false"),
        (br#"{"type":"info","type":"critical","message":"a","message":"b"}"#, "critical | b | false"),
        (br#"{"type":"critical","type":null,"no_retry":true,"no_retry":null}"#, "critical |  | true"),
        (br#"{"type":"critical","more":{"type":1},"again":[[],{}],"n":1e999,"m":-0.0}"#, "critical |  | false"),
        (b" \t{ \"type\" : \"critical\" } \r", "critical |  | false"),
        (b"{}", " |  | false"),
        (b"null", " |  | false"),
        (
            "{\"type\":\"critical\",\"message\":\"a\u{7f}\u{2028}\\u0000\"}".as_bytes(),
            "critical | a\u{7f}\u{2028}\0 | false",
        ),
    ] {
        assert_eq!(read(line), expected, "{}", String::from_utf8_lossy(line));
    }
    let deep = format!(r#"{{"type":"critical","more":{}1{}}}"#, "[".repeat(9_000), "]".repeat(9_000));
    assert_eq!(read(deep.as_bytes()), "critical |  | false");
}

#[test]
fn an_invalid_status_line_is_malformed() {
    for (line, expected) in [
        (r#"{"type":"critical","message":5}"#, r#"unreadable, Some(""): its `message` is a number"#),
        (
            r#"{"type":"critical","message":"A","no_retry":"true"}"#,
            r#"unreadable, Some("A"): its `no_retry` is a string"#,
        ),
        (r#"{"type":"error","message":{"a":1}}"#, r#"unreadable, Some(""): its `message` is an object"#),
        (r#"{"type":1,"message":"A"}"#, r#"unreadable, Some("A"): its `type` is a number"#),
        (r#"{"type":"info","message":["A"]}"#, "unreadable, None: its `message` is a list"),
    ] {
        assert_eq!(read(line.as_bytes()), expected, "{line}");
    }
    for (line, error) in [
        (r#"{"type":"critical","message":"A""#, Some("A")),
        (r#"{"type":"critical","message":"A",}"#, Some("A")),
        (r#"{"type":"critical","message":"A"} and more"#, Some("A")),
        ("\u{feff}{\"type\":\"critical\",\"message\":\"A\"}", Some("A")),
        ("{\"type\":\"critical\",\"message\":\"A\tB\"}", Some("A\tB")),
        (r#"{"type":"critical","message":"\x41"}"#, Some(r"\x41")),
        (r#"{"type":"crit"#, Some("")),
        (r"{'type': 'critical', 'message': 'A', 'no_retry': True}", Some("A")),
        (r"{ type: 'error', message: 'A' }", Some("A")),
        (r#"{"my_type":"a","Type" : "critical""#, Some("")),
        (r#"{"type":"info","message":"A""#, None),
        (r#"{"type":"toto""#, None),
    ] {
        match StatusLine::parse(line.as_bytes()) {
            StatusLine::Malformed(unreadable) => assert_eq!(unreadable.error.as_deref(), error, "{line}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn a_line_unlike_a_status_is_text() {
    for line in [
        "",
        "plain",
        "1",
        "true",
        r#""{}""#,
        r#"["type","critical"]"#,
        "{",
        "{\"",
        r#"{"type":1}"#,
        "{type}",
        r#"{"kind":"critical""#,
        "type: 'critical'",
        r#"{"prototype": "critical""#,
    ] {
        assert_eq!(read(line.as_bytes()), "other", "{line}");
    }
}

/// JSON as programs write it, right and wrong.
fn json_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"{"[..],
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"type\"",
        b"\"message\"",
        b"\"no_retry\"",
        b"\"critical\"",
        b"\"info\"",
        b"null",
        b"true",
        b"1",
        b"\"",
        b"\\",
        b"\\u",
        b"d83d",
        b"\\ud83d",
        b"\\ude00",
        b"\xff",
        b"\xed\xa0\x80",
        b"'",
        b" ",
        b"A",
        b"\xc3\xa9",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Valid JSON with a readable type has the same meaning here as for a plain parser.
    #[test]
    fn any_line_is_read_without_a_panic(line in json_like()) {
        let status = StatusLine::parse(&line);
        if let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(&line)
            && let Some(kind @ ("critical" | "info")) = object.get("type").and_then(|kind| kind.as_str())
        {
            match status {
                StatusLine::Message(message) => prop_assert_eq!(message.kind, kind),
                StatusLine::Malformed(unreadable) => prop_assert_eq!(unreadable.error.is_some(), kind == "critical"),
                StatusLine::Other => prop_assert!(false, "{}", String::from_utf8_lossy(&line)),
            }
        }
    }

    /// A critical line that is damaged at any place is still a critical line, or the damage is noticed.
    #[test]
    fn damage_is_detected(position in 20_usize..60, byte in any::<u8>(), removed in 0_usize..3) {
        let mut line = br#"{"type":"critical","message":"LOGIN_FAILED","no_retry":true}"#.to_vec();
        let position = position.min(line.len());
        line.splice(position..(position + removed).min(line.len()), [byte]);
        let noticed = match StatusLine::parse(&line) {
            StatusLine::Message(message) => message.severity() == Severity::Critical,
            StatusLine::Malformed(unreadable) => unreadable.error.is_some(),
            StatusLine::Other => false,
        };
        prop_assert!(noticed, "{}", String::from_utf8_lossy(&line));
    }

    #[test]
    fn every_surrogate_is_read(units in prop::collection::vec(prop_oneof![0xd800_u16..0xe000, any::<u16>()], 0..12)) {
        let escaped: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
        let line = format!(r#"{{"type":"critical","message":"{escaped}"}}"#);
        prop_assert_eq!(read(line.as_bytes()), format!("critical | {} | false", String::from_utf16_lossy(&units)));
    }
}
