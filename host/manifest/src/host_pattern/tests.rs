use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> HostPattern {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn matches(pattern_text: &str, url: &str) -> bool {
    pattern(pattern_text).matches(&Url::parse(url).expect(url))
}

#[test]
fn is_https_unless_written() {
    assert!(matches("www.bank.example", "https://www.bank.example/login?next=1"));
    assert!(!matches("www.bank.example", "http://www.bank.example/"));
    assert!(matches("http://www.bank.example", "http://www.bank.example/"));
    assert!(!matches("http://www.bank.example", "https://www.bank.example/"));
}

#[test]
fn ports() {
    assert!(matches("https://bank.example", "https://bank.example:443/"));
    assert!(matches("https://bank.example:443", "https://bank.example/"));
    assert!(!matches("https://bank.example", "https://bank.example:8443/"));
    assert!(matches("bank.example:8443", "https://bank.example:8443/"));
    assert!(!matches("http://bank.example:443", "https://bank.example/"));
    assert_eq!(pattern("http://bank.example:80/").to_string(), "http://bank.example");
    assert_eq!(pattern("http://bank.example:443").to_string(), "http://bank.example:443");
}

#[test]
fn a_star_is_one_or_more_labels_and_never_the_apex() {
    for reached in ["https://www.bank.example/", "https://a.b.c.bank.example/", "https://WWW.BANK.EXAMPLE./"] {
        assert!(matches("https://*.bank.example", reached), "{reached}");
    }
    for other in [
        "https://bank.example/",
        "https://bank.example./",
        "https://evilbank.example/",
        "https://www.bank.example.evil.example/",
        "https://www.bank.example..evil.example/",
        "https://evil.example/.bank.example",
        "https://evil.example/?www.bank.example",
        "https://evil.example#www.bank.example",
        "https://evil.example\\www.bank.example",
        "https://www.bank.example@evil.example/",
        "https://evil.example:443@www.bank.example/",
        "http://www.bank.example/",
        "https://www.bank.example:444/",
    ] {
        assert!(!matches("https://*.bank.example", other), "{other}");
    }
}

#[test]
fn a_name_has_no_empty_labels() {
    for written in
        ["https://bank.example..", "https://www..bank.example", "https://*..bank.example", "https://.bank.example"]
    {
        assert!(written.parse::<HostPattern>().is_err(), "{written}");
    }
    assert!(!matches("https://*.bank.example", "https://www..bank.example/"));
    assert!(!matches("https://bank.example", "https://bank.example../"));
}

#[test]
fn hosts_compare_in_canonical_form() {
    assert!(matches("https://Bücher.example", "https://xn--bcher-kva.example/"));
    assert!(matches("https://xn--bcher-kva.example", "https://bücher.EXAMPLE/"));
    assert!(matches("https://bank.example.", "https://bank.example/"));
    assert!(matches("https://bank.example", "https://bank.example./"));
    assert!(matches("https://bank.example", "https://%62ank.example/"));
    // Cyrillic "а" is another name.
    assert!(!matches("https://bank.example", "https://bаnk.example/"));
}

#[test]
fn a_url_with_credentials_never_matches() {
    for url in ["https://user@bank.example/", "https://user:secret@bank.example/", "https://:secret@bank.example/"] {
        assert!(!matches("https://bank.example", url), "{url}");
    }
}

#[test]
fn addresses_are_reached_only_where_spelled_out() {
    assert!(matches("http://127.0.0.1:8081", "http://127.0.0.1:8081/"));
    assert!(matches("http://127.0.0.1:8081", "http://2130706433:8081/"));
    assert!(matches("https://[::1]", "https://[0:0:0:0:0:0:0:1]/"));
    assert!(!matches("http://127.0.0.1", "http://[::ffff:127.0.0.1]/"));
    assert!(!matches("https://*.bank.example", "https://127.0.0.1/"));
    for hidden in ["http://2130706433", "http://0x7f.1", "http://127.1", "http://[0:0:0:0:0:0:0:1]", "127.0.0.1."] {
        assert!(hidden.parse::<HostPattern>().is_err(), "{hidden}");
    }
}

#[test]
fn public_suffixes_have_no_star() {
    for suffix in ["com", "co.uk", "github.io", "公司.cn", "xn--55qx5d.cn", "localhost", "com.", "s3.amazonaws.com"] {
        assert!(format!("https://*.{suffix}").parse::<HostPattern>().is_err(), "{suffix}");
    }
    assert!(matches("https://github.io", "https://github.io/"));
    assert!(matches("https://*.me.github.io", "https://x.me.github.io/"));
    assert!(matches("http://localhost:8081", "http://localhost:8081/"));
}

#[test]
fn a_star_does_not_reach_below_a_public_suffix() {
    assert!(matches("https://*.amazonaws.com", "https://sts.amazonaws.com/"));
    assert!(!matches("https://*.amazonaws.com", "https://anyone.s3.amazonaws.com/"));
    assert!(!matches("https://*.amazonaws.com", "https://s3.amazonaws.com/"));
    assert!(!pattern("https://*.amazonaws.com").covers(&pattern("https://*.mine.s3.amazonaws.com")));
}

#[test]
fn prefixes_are_whole_segments() {
    for path in ["/api", "/api/", "/api/v1?x=/admin", "/api//x", "/x/../api", "/api/%2e/x", "/api/a..b", "/api/a%20b"] {
        assert!(matches("https://bank.example/api/", &format!("https://bank.example{path}")), "{path}");
    }
    for path in [
        "/",
        "/apis",
        "/ap",
        "/API",
        "/api/../admin",
        "/api/%2e%2e/admin",
        "/api/..%2fadmin",
        "/api/..%2Fadmin",
        "/api/%252e%252e/admin",
        "/api/..;/admin",
        "/api/..;x=1/admin",
        "/api/..%5cadmin",
        "/api\\..\\admin",
        "/api/%2e%2e%2fadmin",
        "/api/x%2f..%2f..%2fadmin",
    ] {
        assert!(!matches("https://bank.example/api", &format!("https://bank.example{path}")), "{path}");
    }
    assert!(matches("https://bank.example", "https://bank.example/api/..%2fadmin"));
    assert!(pattern("https://bank.example/api").matches_host(&Url::parse("https://bank.example/other").unwrap()));
}

#[test]
fn covering() {
    let covers = |wide: &str, narrow: &str| pattern(wide).covers(&pattern(narrow));
    assert!(covers("https://*.bank.example", "https://www.bank.example"));
    assert!(covers("https://*.bank.example", "https://*.cdn.bank.example"));
    assert!(covers("https://bank.example", "https://bank.example/api"));
    assert!(covers("https://bank.example:443/", "bank.example"));
    assert!(!covers("https://bank.example/api", "https://bank.example"));
    assert!(!covers("https://bank.example/api", "https://bank.example/apis"));
    assert!(!covers("https://*.bank.example", "https://bank.example"));
    assert!(!covers("https://www.bank.example", "https://*.bank.example"));
    assert!(!covers("https://bank.example", "http://bank.example"));
    assert!(!covers("https://bank.example", "https://bank.example:8443"));
}

#[test]
fn error_texts() {
    let refused = [
        "",
        "*",
        "https://",
        "https://*",
        "https://*.",
        "https://*.com",
        "https://a.*.example",
        "https://*x.example",
        "https://*.*.example",
        "ftp://bank.example",
        "https://user@bank.example",
        "https://@bank.example",
        "https://bank.example?x",
        "https://bank.example/#x",
        "https://bank.example:99999",
        "https:/bank.example",
        "https://bank.example:",
        "https:///bank.example",
        "https://*.127.0.0.1",
        "http://0x7f.1",
        "https://ba nk.example",
        "https://bank.example\\x",
        "https://bank.example/..%2fx",
    ];
    let texts: Vec<_> = refused
        .iter()
        .map(|text| match text.parse::<HostPattern>() {
            Ok(pattern) => format!("{text} was read as {pattern}"),
            Err(error) => error.to_string(),
        })
        .collect();
    insta::assert_snapshot!(texts.join("\n"), @r#"
    "" is not a host that a rule can name: it names no host; write for example "https://www.bank.example"
    "*" is not a host that a rule can name: it names no host; write for example "https://www.bank.example"
    "https://" is not a host that a rule can name: it names no host; write for example "https://www.bank.example"
    "https://*" is not a host that a rule can name: it names no host; write for example "https://www.bank.example"
    "https://*." is not a host that a rule can name: it names no host; write for example "https://www.bank.example"
    "https://*.com" is not a host that a rule can name: anyone can own names below com, a public suffix; name each host
    "https://a.*.example" is not a host that a rule can name: a star is not the first label; write for example "https://*.bank.example"
    "https://*x.example" is not a host that a rule can name: it names no host; write for example "https://www.bank.example"
    "https://*.*.example" is not a host that a rule can name: it names no host; write for example "https://www.bank.example"
    "ftp://bank.example" is not a host that a rule can name: the scheme ftp is not supported; use http or https
    "https://user@bank.example" is not a host that a rule can name: it contains a user name or a password; leave them out
    "https://@bank.example" is not a host that a rule can name: it contains a user name or a password; leave them out
    "https://bank.example?x" is not a host that a rule can name: it contains a query or a fragment; leave them out
    "https://bank.example/#x" is not a host that a rule can name: it contains a query or a fragment; leave them out
    "https://bank.example:99999" is not a host that a rule can name: invalid port number
    "https:/bank.example" is not a host that a rule can name: the port after the colon is missing; add it, or leave out the colon
    "https://bank.example:" is not a host that a rule can name: the port after the colon is missing; add it, or leave out the colon
    "https:///bank.example" is not a host that a rule can name: it names no host; write for example "https://www.bank.example"
    "https://*.127.0.0.1" is not a host that a rule can name: there are no names below an IP address; name each address
    "http://0x7f.1" is not a host that a rule can name: the IP address is not in its usual form; write it as 127.0.0.1
    "https://ba nk.example" is not a host that a rule can name: it contains a space, a control character or a backslash; remove it
    "https://bank.example\x" is not a host that a rule can name: it contains a space, a control character or a backslash; remove it
    "https://bank.example/..%2fx" is not a host that a rule can name: the prefix leads upwards; remove .. from it
    "#);
}

/// Hosts to which only the default rule of the list applies, so the last label is the public suffix.
fn host() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-z][a-z0-9]{0,5}", 2..5).prop_map(|labels| format!("{}.example", labels.join(".")))
}

fn pattern_text() -> impl Strategy<Value = String> {
    (
        prop::sample::select(vec!["", "http://", "https://"]),
        any::<bool>(),
        host(),
        prop::option::of(1_u16..),
        "(/[a-z]{1,3}){0,2}",
    )
        .prop_map(|(scheme, star, host, port, prefix)| {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("{scheme}{}{host}{port}{prefix}", if star { "*." } else { "" })
        })
}

/// Components of addresses, and strings that have misled their parsers.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "https://",
        "http://",
        "ftp://",
        "//",
        "/",
        "\\",
        "\\\\",
        "@",
        ":",
        ":443",
        ":80",
        ":0",
        "?",
        "#",
        ".",
        "..",
        "%2e",
        "%2E%2e",
        "%2f",
        "%5c",
        "%00",
        "%",
        ";",
        "*",
        "*.",
        "bank.example",
        "www.",
        "evil.example",
        "co.uk",
        "github.io",
        "a",
        "A",
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:7f00:1]",
        "\t",
        "\n",
        " ",
        "\u{ff0e}",
        "\u{3002}",
        "\u{2488}",
        "\u{ad}",
        "\u{200b}",
        "b\u{fc}cher",
        "xn--bcher-kva",
        "\u{430}",
        "\u{131}",
        "api",
        "/api",
        "user:pw@",
        "localhost",
    ];
    prop_oneof![4 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => "\\PC{1,2}"]
}

fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..9).prop_map(|pieces| pieces.concat())
}

#[test]
fn the_second_opinion_has_eyes() {
    // A rule for one host, and URLs that would be allowed if string prefixes were compared.
    assert_eq!(oracle::find_violation("https://bank.example/api", "https://bank.example/api/x"), None);
    assert_eq!(oracle::find_violation("*.bank.example", "https://www.bank.example./"), None);
    assert!(matches("*.bank.example", "https://www.bank.example./"));
}

proptest! {
    #[test]
    fn text_form_round_trips(text in pattern_text()) {
        let read = pattern(&text);
        prop_assert_eq!(&pattern(&read.to_string()), &read);
        prop_assert!(read.covers(&read));
    }

    /// The host according to the url crate decides: a star matches it exactly if it ends in "." + domain.
    #[test]
    fn a_star_reaches_the_names_below(domain in host(), labels in prop::collection::vec("[a-z0-9]{1,5}", 1..4)) {
        let star = pattern(&format!("*.{domain}"));
        let reached = |host: String| star.matches(&Url::parse(&format!("https://{host}/")).unwrap());
        let below = labels.join(".");
        let upper_case = below.to_uppercase();
        for named in [format!("{below}.{domain}"), format!("{upper_case}.{domain}.")] {
            prop_assert!(reached(named));
        }
        for other in [
            domain.clone(),
            format!("{below}{domain}"),
            format!("{below}-{domain}"),
            format!("{domain}.{below}.example"),
        ] {
            prop_assert!(!reached(other));
        }
    }

    #[test]
    fn a_star_agrees_with_the_url_crate(domain in host(), url in "https?://[a-z.:@%/\\\\?#0-9*-]{0,40}example[:/@?.a-z0-9]{0,12}") {
        let Ok(url) = Url::parse(&url) else { return Ok(()) };
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_suffix('.').unwrap_or(host);
        if pattern(&format!("*.{domain}")).matches(&url) {
            let suffix = format!(".{domain}");
            prop_assert!(host.ends_with(&suffix) && host.len() > suffix.len());
            prop_assert!(url.username().is_empty() && url.password().is_none());
            prop_assert_eq!(url.port_or_known_default(), Some(443));
        }
    }

    /// For any rule and URL, a match means that the `url` crate finds exactly the rule's scheme, host, port and path
    /// prefix.
    #[test]
    fn a_yes_means_what_the_rule_says(rule in pieces(), url in pieces()) {
        prop_assert_eq!(oracle::find_violation(&rule, &url), None);
    }

    /// The same for URLs that resemble the rule, because independent ones hardly ever match.
    #[test]
    fn a_yes_to_a_lookalike_means_what_the_rule_says(rule in pattern_text(), cut in 0_usize..40, inserted in piece(), tail in pieces()) {
        let url = pattern(&rule).to_string().replace("*.", "x.");
        let cut = url.floor_char_boundary(cut.min(url.len()));
        let (head, rest) = url.split_at(cut);
        for url in [format!("{head}{inserted}{rest}"), format!("{head}{inserted}"), format!("{url}{tail}"), format!("{head}{tail}{rest}")] {
            prop_assert_eq!(oracle::find_violation(&rule, &url), None);
        }
    }

    #[test]
    fn reading_never_panics(text in any::<String>()) {
        let _ = text.parse::<HostPattern>();
    }

    /// A parsed pattern never matches names that strangers can own.
    #[test]
    fn no_star_stands_on_a_public_suffix(domain in "[a-z]{1,3}(\\.(com|co|uk|io|jp|ck|fr|github)){1,3}", label in "[a-z]{1,4}") {
        if let Ok(star) = format!("*.{domain}").parse::<HostPattern>() {
            let foreign_url = psl::suffix_str(&domain).map(|suffix| format!("https://{label}9.{suffix}/")).unwrap();
            prop_assert!(!star.matches(&Url::parse(&foreign_url).unwrap()), "{star} reaches {foreign_url}");
        }
    }

    #[test]
    fn covering_agrees_with_matching(wide in pattern_text(), narrow in pattern_text(), star_label in "[a-z]{1,3}", path in "(/[a-z]{1,3}){0,3}") {
        // The narrow one is derived from the wide one half of the time, because independent ones hardly ever overlap.
        for narrow in [narrow, wide.replace("*.", "*.x."), wide.replace("*.", &format!("{star_label}."))] {
            let (wide, narrow) = (pattern(&wide), pattern(&narrow));
            let url = Url::parse(&format!("{}{path}", narrow.to_string().replace("*.", "y."))).unwrap();
            if wide.covers(&narrow) && narrow.matches(&url) {
                prop_assert!(wide.matches(&url), "{wide} covers {narrow} but not {url}");
            }
        }
    }
}
