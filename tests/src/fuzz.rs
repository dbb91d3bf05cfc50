//! Entry points for fuzzing: each function takes arbitrary bytes, and panics if a promise is broken. `fuzz/` calls
//! them from libFuzzer, `tests/fuzz.rs` from an ordinary test.

use std::path::Component;

use konnector_manifest::{HostPattern, Manifest, Permissions};
use konnector_sandbox::filesystem::path::{MAX_DEPTH, MAX_NAME_LENGTH, PathStep, parse};
use konnector_sandbox::protocol::{Line, MAX_LINE, RunStatus, Severity, StdoutReader};
use serde_json::Map;
use url::{Host, Url};

/// One fuzz target: its name, its function, and initial inputs.
pub struct FuzzTarget {
    /// Its name, also the name of its file in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that reach deep code paths.
    pub seeds: &'static [&'static [u8]],
    /// Fragments that are worth inserting.
    pub dictionary: &'static [&'static str],
}

/// All fuzz targets.
pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "manifest",
        run: manifest,
        seeds: &[
            include_bytes!("../../host/manifest/samples/bank101.konnector"),
            include_bytes!("../../host/manifest/samples/carddav.konnector"),
            include_bytes!("../../host/manifest/samples/legacy-node.konnector"),
            include_bytes!("../../host/manifest/samples/trailing-comma.konnector"),
            br#"{"name":"A","version":"1.0.0","limits":{"memory_mib":512,"wall_s":1},"time_interval":[0,24]}"#,
        ],
        dictionary: &[
            "null",
            "{}",
            "[]",
            "\"\"",
            "1e400",
            "-1",
            "\\ud800",
            "../",
            "*.",
            "https://",
            "\u{feff}",
            "io.cozy.*",
        ],
    },
    FuzzTarget {
        name: "http_rule",
        run: http_rule,
        seeds: &[
            b"https://www.bank.example\nhttps://www.bank.example/login?next=%2F",
            b"*.bank.example\nhttps://a.b.bank.example:443/",
            b"http://dav.example:8080/dav\nhttp://dav.example:8080/dav/%2e%2e/etc",
            b"https://[::1]:8443/a\nhttps://[0:0::1]:8443/a/b",
            "https://bücher.example\nhttps://xn--bcher-kva.example./".as_bytes(),
            b"127.0.0.1\nhttps://2130706433/",
        ],
        dictionary: &[
            "*.",
            "@",
            ":",
            "//",
            "\\",
            "%2e%2e",
            "..;",
            "#",
            "?",
            "user:pass@",
            "\t",
            "。",
            "xn--",
            "0x7f",
            ".",
            "https:",
        ],
    },
    FuzzTarget {
        name: "protocol",
        run: protocol,
        seeds: &[
            b"\x05{\"type\":\"error\",\"message\":\"LOGIN_FAILED\"}\n{\"type\":\"critical\",\"message\":\"VENDOR_DOWN\",\"no_retry\":true}\n",
            b"\x01a text\r\n\n{\"type\":\"info\"}\n[\"error\",\"x\",true]\n no line feed",
            b"\xff{\"type\":1}\n{\"message\":null}\n{\"type\":\"warning\",\"message\":\"\\ud83d\\ude00\"}\n",
        ],
        dictionary: &["\n", "\r", "\0", "{", "}", "\\u0000", "\\ud800", "\"type\":", "\"critical\"", "\"no_retry\":true", "1e999", " "],
    },
    FuzzTarget {
        name: "path",
        run: path,
        seeds: &[b"a/b/c.txt", b"a/../b/./c//", b"a/b/../../..", b"/etc/passwd", "bücher/\u{202e}fdp.exe".as_bytes(), b".."],
        dictionary: &["..", ".", "/", "//", "\0", "\\", "../", "/..", "...", "~", "C:", "\u{2215}", "%2e%2e"],
    },
];

/// The target of this name.
///
/// # Panics
/// If it does not exist.
pub fn target(name: &str) -> &'static FuzzTarget {
    TARGETS.iter().find(|target| target.name == name).expect(name)
}

/// Manifests from strangers: no panic, and an accepted manifest satisfies its guarantees.
pub fn manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::parse(data) else { return };
    let reparsed = Manifest::from_object(manifest.raw().clone()).expect("what was read can be read again");
    assert_eq!(reparsed, manifest);
    for path in [Some(&manifest.component), manifest.icon.as_ref(), manifest.on_delete_account.as_ref()] {
        let leaves = |path: &String| path.starts_with('/') || path.split(['/', '\\']).any(|part| part == "..");
        assert!(!path.is_some_and(leaves), "a path leaves the bundle: {path:?}");
    }
    assert!(!manifest.version.is_empty() && !manifest.version.contains(['/', '\\', '\0']), "{:?}", manifest.version);
    assert!(manifest.time_interval.0 < manifest.time_interval.1 && manifest.time_interval.1 <= 24);
    assert!(manifest.limits.iter().all(|(_, value)| value > 0));
    if let Some(rules) = manifest.raw().get("permissions").and_then(|rules| rules.as_object()) {
        assert_eq!(Permissions::from_manifest(rules).as_ref(), Ok(&manifest.permissions));
    }
    // The account may be empty, which must neither fail nor permit more.
    if let Ok(rules) = manifest.permissions.http_rules(&Map::new()) {
        assert!(rules.check("GET", &Url::parse("https://nobody-named-this.invalid/").expect("a URL")).is_err());
    }
}

/// A rule on hosts in the first line, a URL in the second: if the rule permits the URL, the `url` crate must agree
/// that both name the same host.
pub fn http_rule(data: &[u8]) {
    let Some((rule, url)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else { return };
    let Ok(rule) = rule.parse::<HostPattern>() else { return };
    let written = rule.to_string();
    assert_eq!(written.parse::<HostPattern>().as_ref(), Ok(&rule), "{written} reads as it is written");
    assert!(rule.covers(&rule), "{written}");
    let Ok(url) = Url::parse(url) else { return };
    if !rule.matches(&url) {
        return;
    }
    let (star, written) = match written.split_once("*.") {
        Some((scheme, rest)) => (true, format!("{scheme}{rest}")),
        None => (false, written),
    };
    let expected = Url::parse(&written).expect("a rule is a URL, but for its star");
    assert_eq!(url.scheme(), expected.scheme(), "{written} lets {url} through");
    assert_eq!(url.port_or_known_default(), expected.port_or_known_default(), "{written} lets {url} through");
    assert!(url.username().is_empty() && url.password().is_none(), "{written} lets {url} through");
    let host = |url: &Url| url.host_str().unwrap_or_default().trim_end_matches('.').to_owned();
    let (expected_host, found) = (host(&expected), host(&url));
    if star {
        assert!(
            found.len() > expected_host.len() + 1 && found.ends_with(&format!(".{expected_host}")),
            "{written} lets {url} through"
        );
        assert!(matches!(url.host(), Some(Host::Domain(_))), "{written} lets {url} through");
    } else {
        assert_eq!(found, expected_host, "{written} lets {url} through");
    }
    let prefix = expected.path().trim_end_matches('/');
    let rest = url.path().strip_prefix(prefix).unwrap_or_else(|| panic!("{written} lets {url} through"));
    assert!(rest.is_empty() || rest.starts_with('/'), "{written} lets {url} through");
}

/// Standard output of a command component, after a byte that sets the size of each write: however it is split into
/// writes, the lines are the same, none is buffered beyond its bound, and the outcome of the run depends only on the
/// lines.
pub fn protocol(data: &[u8]) {
    let Some((size, output)) = data.split_first() else { return };
    let read = |writes: &mut dyn Iterator<Item = &[u8]>| {
        let (mut reader, mut lines) = (StdoutReader::default(), Vec::new());
        for write in writes {
            reader.push(write, |line| lines.push(line));
        }
        lines.extend(reader.finish());
        (lines, reader.has_stopped())
    };
    let (lines, stopped) = read(&mut std::iter::once(output));
    assert_eq!(
        read(&mut output.chunks(usize::from(*size).max(1))),
        (lines.clone(), stopped),
        "other writes, other lines"
    );
    let too_long = output.split(|byte| *byte == b'\n').any(|line| line.len() > MAX_LINE);
    assert_eq!(stopped, too_long);
    let mut status = RunStatus::default();
    let mut failed = false;
    for line in &lines {
        if let Line::Message(message) = line {
            assert!(message.kind.len() <= 100, "{}", message.kind);
            status.record(message, &message.message);
            failed |= matches!(message.severity(), Severity::Error | Severity::Critical);
        }
    }
    assert_eq!(status.error().is_some(), failed);
}

/// Generates inputs from seeds: the same number always generates the same inputs.
pub struct Mutator(u64);

impl Mutator {
    /// A mutator with this random seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("below a usize")
    }

    /// A seed with a few changes.
    pub fn input(&mut self, target: &FuzzTarget) -> Vec<u8> {
        let mut input = target.seeds[self.below(target.seeds.len())].to_vec();
        for _ in 0..=self.below(4) {
            let (start, end) = (self.below(input.len() + 1), self.below(input.len() + 1));
            let part = start.min(end)..start.max(end).min(start.min(end) + 1 + self.below(16)).min(input.len());
            match self.below(6) {
                0 => drop(input.drain(part)),
                1 => {
                    let copy = input[part].to_vec();
                    drop(input.splice(end..end, copy));
                }
                2 => {
                    let word = target.dictionary[self.below(target.dictionary.len())].as_bytes();
                    drop(input.splice(start..start, word.iter().copied()));
                }
                3 => {
                    let word = target.dictionary[self.below(target.dictionary.len())].as_bytes();
                    drop(input.splice(part, word.iter().copied()));
                }
                4 => {
                    let other = target.seeds[self.below(target.seeds.len())];
                    let from = self.below(other.len());
                    input.truncate(start);
                    input.extend(&other[from..]);
                }
                _ => {
                    if let Some(byte) = input.get_mut(start) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
        }
        input
    }
}

/// A guest's path: walking its steps never leaves the initial directory, and each step is exactly one name.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(path) = parse(text) else { return };
    let mut depth = 0_usize;
    for step in path.steps() {
        match step {
            PathStep::Parent => depth = depth.checked_sub(1).expect("the walk leaves its directory"),
            PathStep::Child(name) => {
                assert!(!matches!(*name, "" | "." | "..") && !name.contains(['/', '\0']), "{name:?} is no name");
                assert!(name.len() <= MAX_NAME_LENGTH, "{name:?} is too long");
                depth += 1;
            }
        }
        assert!(depth <= MAX_DEPTH, "{text:?} leads too deep");
    }
    // The same path as split by the standard library.
    let names = std::path::Path::new(text).components().filter(|part| !matches!(part, Component::CurDir)).count();
    assert_eq!(path.steps().len(), names, "{text:?}");
}
