use proptest::prelude::*;

use super::*;

const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn source(text: &str) -> Source {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn folders_of_the_server() {
    assert_eq!(source("file:///srv/my%20konnector"), Source::File(PathBuf::from("/srv/my konnector")));
}

#[test]
fn archives() {
    let Source::Http { url, sha256 } = source(&format!("https://dl.example/a.tar.gz?x=1#{HASH}")) else { panic!() };
    assert_eq!(url.as_str(), "https://dl.example/a.tar.gz?x=1");
    assert_eq!(sha256.map(hex::encode).as_deref(), Some(HASH));
    assert!(matches!(source("http://dl.example/a.tgz"), Source::Http { sha256: None, .. }));
    assert_eq!(
        source(&format!("https://dl.example/a#{}", HASH.to_uppercase())),
        source(&format!("https://dl.example/a#{HASH}"))
    );
}

#[test]
fn git_repositories() {
    for (text, transport, url, branch) in [
        ("git://git.example/me/bank.git", GitTransport::Git, "git://git.example/me/bank.git", None),
        (
            "git+https://git.example/me/bank.git#build",
            GitTransport::Https,
            "https://git.example/me/bank.git",
            Some("build"),
        ),
        (
            "git+ssh://git@git.example:2222/me/bank#a/b",
            GitTransport::Ssh,
            "ssh://git@git.example:2222/me/bank",
            Some("a/b"),
        ),
        ("ssh+git://git@git.example/me/bank", GitTransport::Ssh, "ssh://git@git.example/me/bank", None),
    ] {
        let url = Url::parse(url).unwrap();
        assert_eq!(source(text), Source::Git { transport, url, branch: branch.map(str::to_owned) });
    }
}

#[test]
fn registries() {
    let bank: Slug = "bank101".parse().unwrap();
    for (text, channel, version) in [
        ("registry://bank101", "stable", None),
        ("registry://bank101/", "stable", None),
        ("registry://bank101/beta", "beta", None),
        ("registry://bank101/1.2.3", "stable", Some("1.2.3")),
        ("registry://bank101/dev/1.2.3-dev.abc", "dev", Some("1.2.3-dev.abc")),
        ("registry://bank101/latest", "stable", None),
        ("registry://bank101/beta/latest", "beta", None),
    ] {
        let expected =
            Source::Registry { name: bank.clone(), channel: channel.to_owned(), version: version.map(str::to_owned) };
        assert_eq!(source(text), expected, "{text}");
    }
    assert_eq!(Source::registry(bank).to_string(), "registry://bank101/stable");
}

#[test]
fn oci_artifacts() {
    for (text, expected) in [
        ("oci://Registry.Example:5000/me/bank:1.2.0", "oci://registry.example:5000/me/bank:1.2.0"),
        ("oci://registry.example/bank", "oci://registry.example/bank:latest"),
    ] {
        assert_eq!(source(text).to_string(), expected);
    }
    let text = format!("oci://registry.example/a/b/bank@sha256:{HASH}");
    assert!(matches!(source(&text), Source::Oci { reference: OciReference::Digest(_), .. }));
    assert_eq!(source(&text).to_string(), text);
}

#[test]
fn is_a_text_in_json() {
    let json = serde_json::to_string(&source("registry://bank101/beta")).unwrap();
    assert_eq!(json, r#""registry://bank101/beta""#);
    assert_eq!(serde_json::from_str::<Source>(&json).unwrap(), source("registry://bank101/beta"));
}

#[test]
fn error_texts() {
    let texts: Vec<_> = [
        "",
        "bank101",
        "/srv/bank",
        "ftp://x.example/a",
        "file://srv/bank",
        "file:///srv/bank#x",
        "https://",
        "https://dl.example/a#123",
        "git://",
        "git+https://git.example",
        "git+https://git.example/a#--upload-pack=x",
        "registry://Bank",
        "registry://bank/beta/dev",
        "registry://bank/1.0.0/2.0.0",
        "registry://bank//1.0.0",
        "oci://registry.example",
        "oci://registry.example/Bank",
        "oci://x.example/a:b:c",
        "oci://x.example/a@md5:1",
        "oci://me@x.example/a",
    ]
    .iter()
    .map(|text| text.parse::<Source>().expect_err(text).to_string())
    .collect();
    insta::assert_snapshot!(texts.join("\n"), @r#"
    "" is not a valid source: it has no scheme; use one of file, http, https, git, git+https, git+ssh, ssh+git, registry, oci, as in "file:///srv/my-konnector"
    "bank101" is not a valid source: it has no scheme; use one of file, http, https, git, git+https, git+ssh, ssh+git, registry, oci, as in "file:///srv/my-konnector"
    "/srv/bank" is not a valid source: it has no scheme; use one of file, http, https, git, git+https, git+ssh, ssh+git, registry, oci, as in "file:///srv/my-konnector"
    "ftp://x.example/a" is not a valid source: the scheme "ftp" is not supported; use one of file, http, https, git, git+https, git+ssh, ssh+git, registry, oci
    "file://srv/bank" is not a valid source: it is not file:// with an absolute path; write for example "file:///srv/my-konnector"
    "file:///srv/bank#x" is not a valid source: it is not file:// with an absolute path; write for example "file:///srv/my-konnector"
    "https://" is not a valid source: empty host
    "https://dl.example/a#123" is not a valid source: the part after # is not a SHA-256; write the SHA-256 of the archive as 64 hexadecimal digits
    "git://" is not a valid source: the host or the repository is missing; write for example "git+https://git.example/me/my-konnector.git"
    "git+https://git.example" is not a valid source: the host or the repository is missing; write for example "git+https://git.example/me/my-konnector.git"
    "git+https://git.example/a#--upload-pack=x" is not a valid source: a branch cannot start with "-"
    "registry://Bank" is not a valid source: "Bank" is not a valid slug; use only a-z, 0-9 and "-"
    "registry://bank/beta/dev" is not a valid source: it names two channels or two versions; write registry://name[/channel][/version]
    "registry://bank/1.0.0/2.0.0" is not a valid source: it names two channels or two versions; write registry://name[/channel][/version]
    "registry://bank//1.0.0" is not a valid source: "" is neither a channel nor a version
    "oci://registry.example" is not a valid source: the repository is missing; write for example "oci://registry.example/me/my-konnector:1.0.0"
    "oci://registry.example/Bank" is not a valid source: "Bank" is not a valid name of a repository; its parts use a-z, 0-9 and, between them, ".", "_" and "-"
    "oci://x.example/a:b:c" is not a valid source: "b:c" is not a valid tag; use letters, digits, "_", "." and "-"
    "oci://x.example/a@md5:1" is not a valid source: the part after @ is not a digest; write sha256: and 64 hexadecimal digits
    "oci://me@x.example/a" is not a valid source: "me@x.example" is not a host with an optional port
    "#);
}

proptest! {
    #[test]
    fn text_form_round_trips(
        text in "(file:///|https?://x\\.example/|git://x\\.example/|git\\+https://x\\.example/|(git\\+ssh|ssh\\+git)://git@x\\.example/|registry://|oci://x\\.example/)[a-z0-9 %./:-]{1,12}(#[a-z/]{0,4})?",
    ) {
        let Ok(read) = text.parse::<Source>() else { return Ok(()) };
        prop_assert_eq!(read.to_string().parse::<Source>(), Ok(read));
    }

    #[test]
    fn reading_never_panics(text in any::<String>()) {
        let _ = text.parse::<Source>();
    }
}
