//! `konnector check`: reports all problems of a konnector at once, each with its line or a fix.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use konnector_manifest::untrusted::truncate_middle;
use konnector_manifest::{Error, Manifest, RuleKind, TextPosition, Verb};
use konnector_sandbox::{ClampedLimit, ComponentKind, LimitPolicy, Sandbox};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::bundle;
use crate::error::Result;
use crate::output::{Mark, Output, bytes, done, eprint_line, print_marked, to_printable};
use crate::serve::config::closest_match;

/// Arguments of `konnector check`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder of the konnector.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// Maximum size of a problem's message in bytes; limited, because names in a component may be of any length.
const MAX_MESSAGE_SIZE: usize = 2_000;

/// Properties of a form field that the platform or Cozy's apps use.
const FIELD_PROPERTIES: [&str; 19] = [
    "advanced",
    "autocomplete",
    "autoFill",
    "default",
    "description",
    "displayName",
    "encrypted",
    "identifier",
    "isRequired",
    "label",
    "login",
    "max",
    "min",
    "options",
    "pattern",
    "placeholder",
    "role",
    "rotates",
    "type",
];

/// An error or warning about a konnector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct CheckProblem {
    /// Whether the problem prevents installation.
    #[serde(rename = "error")]
    is_error: bool,
    /// File name, with the line if it is known.
    #[serde(rename = "place")]
    location: String,
    message: String,
}

/// Checks a folder; fails if there are errors.
pub fn run(output: Output, Arguments { folder }: &Arguments) -> Result<ExitCode> {
    let text = bundle::read_manifest(folder)?;
    let mut problems = Vec::new();
    let manifest = check_manifest(&text, &mut problems);
    if let Some(manifest) = &manifest {
        check_files(folder, manifest, &mut problems);
    }
    for problem in &mut problems {
        problem.message = truncate_middle(std::mem::take(&mut problem.message), MAX_MESSAGE_SIZE);
    }
    let errors = problems.iter().filter(|problem| problem.is_error).count();
    let secrets = manifest.as_ref().map(secret_destinations).unwrap_or_default();
    output.show(&json!({ "problems": problems, "errors": errors, "secrets": secrets }), || {
        for secret in &secrets {
            say!("{}", to_printable(secret));
        }
        for problem in &problems {
            let mark = if problem.is_error { Mark::Problem } else { Mark::Hint };
            print_marked(mark, &to_printable(&format!("{}: {}", problem.location, problem.message)));
        }
        match (errors, &manifest) {
            (0, Some(manifest)) => {
                let warnings =
                    if problems.is_empty() { String::new() } else { format!("; warnings: {}", problems.len()) };
                done(&format!("{} {} can be installed{warnings}", manifest.name, manifest.version));
            }
            _ => eprint_line(&format!("errors to fix: {errors}")),
        }
    });
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the destinations of the account's secrets, one sentence for each secret and rule.
fn secret_destinations(manifest: &Manifest) -> Vec<String> {
    let rules = manifest.permissions.rules().iter().filter(|rule| rule.kind == RuleKind::Http);
    let bindings = rules.flat_map(|rule| rule.secrets.iter().map(move |secret| (rule, secret)));
    let mut sentences: Vec<String> = bindings
        .map(|(rule, secret)| {
            let mut hosts = rule.values.join(", ");
            if rule.selector.is_some() {
                hosts = format!("the address in the account's {hosts}");
            }
            let path = secret.path.as_deref().map(|path| format!(" below {path}")).unwrap_or_default();
            let part = match secret.fields.as_slice() {
                [] => String::new(),
                fields => format!(", as {}", fields.join(", ")),
            };
            format!("secret {} may be sent to {hosts}{path}{part}", secret.name)
        })
        .collect();
    if sentences.is_empty() {
        let secrets = manifest.secret_fields();
        sentences
            .extend(secrets.map(|name| format!("secret {name} may be sent to every host that a rule names in full")));
    }
    sentences
}

fn location(line: Option<usize>) -> String {
    line.map_or_else(|| Manifest::FILE_NAME.to_owned(), |line| format!("{}:{line}", Manifest::FILE_NAME))
}

/// Returns the manifest's file name, with the line of a field.
fn field_location(text: &[u8], path: &str) -> String {
    location(TextPosition::find(text, path).map(|position| position.line))
}

fn check_manifest(text: &[u8], problems: &mut Vec<CheckProblem>) -> Option<Manifest> {
    match Manifest::parse(text) {
        Ok(manifest) => {
            for warning in manifest.warnings() {
                let path = warning.split_once(": ").map_or("", |(path, _)| path);
                problems.push(CheckProblem {
                    is_error: false,
                    location: field_location(text, path),
                    message: warning.clone(),
                });
            }
            check_hints(text, &manifest, problems);
            Some(manifest)
        }
        Err(error) => {
            let message = match &error {
                // The position is reported separately.
                Error::AtPosition { error, .. } => error.to_string(),
                other => other.to_string(),
            };
            problems.push(CheckProblem { is_error: true, location: location(error.line()), message });
            None
        }
    }
}

/// Checks for permitted values that the author may not have intended.
fn check_hints(text: &[u8], manifest: &Manifest, problems: &mut Vec<CheckProblem>) {
    let mut hint = |path: &str, message: String| {
        problems.push(CheckProblem { is_error: false, location: field_location(text, path), message });
    };
    for name in manifest.raw().keys().filter(|name| !Manifest::KNOWN_FIELDS.contains(&name.as_str())) {
        let similar = closest_match(name, Manifest::KNOWN_FIELDS.iter().copied());
        let advice = similar
            .map_or_else(|| "it is kept but has no effect".to_owned(), |known| format!("did you mean \"{known}\"?"));
        hint(name, format!("{name}: this field is unknown; {advice}"));
    }
    for ClampedLimit { limit, requested, granted } in LimitPolicy::default().clamped_limits(&manifest.limits) {
        hint(
            &format!("limits.{limit}"),
            format!(
                "limits.{limit}: {requested} exceeds the default maximum of {granted}; the operator must allow it: konnector serve --limit {limit}={requested}"
            ),
        );
    }
    // Apps may define more properties of a field, so only those that resemble a known one are reported.
    for (name, members) in raw_fields(manifest) {
        for member in members.keys().filter(|member| !FIELD_PROPERTIES.contains(&member.as_str())) {
            let is_typo_of =
                |known: &&&str| strsim::osa_distance(member, known) <= if known.len() <= 5 { 1 } else { 2 };
            if let Some(known) = FIELD_PROPERTIES.iter().find(is_typo_of) {
                hint(
                    &format!("fields.{name}.{member}"),
                    format!("fields.{name}.{member}: this property is unknown; did you mean \"{known}\"?"),
                );
            }
        }
    }
}

/// Returns the objects that describe the form fields; those in groups are not visited.
fn raw_fields(manifest: &Manifest) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
    let fields = manifest.raw().get("fields").and_then(Value::as_object);
    let described = |name: &str| manifest.fields.iter().any(|field| field.name == name);
    fields
        .into_iter()
        .flatten()
        .filter_map(|(name, field)| Some((name, field.as_object()?)))
        .filter(move |(name, _)| described(name))
}

fn check_files(folder: &Path, manifest: &Manifest, problems: &mut Vec<CheckProblem>) {
    let mut report = |is_error: bool, location: &str, message: String| {
        problems.push(CheckProblem { is_error, location: location.to_owned(), message });
    };
    for name in manifest.icon.iter().chain(&manifest.on_delete_account) {
        match bundle::read_file(folder, name) {
            Ok(Some(_)) => {}
            Ok(None) => report(true, name, "the manifest names this file, but it does not exist".to_owned()),
            Err(error) => report(true, name, error.to_string()),
        }
    }
    if let Some(other) = manifest.on_delete_account.as_ref().filter(|name| **name != manifest.component) {
        report(
            false,
            other,
            format!(
                r#"it is not run; when an account is deleted, {0} runs with the cause account-deleted; set "on_delete_account": "{0}""#,
                manifest.component
            ),
        );
    }
    let component = match bundle::read_file(folder, &manifest.component) {
        Ok(Some(component)) => component,
        Ok(None) => {
            report(
                true,
                &manifest.component,
                "the component does not exist yet; compile it: konnector build".to_owned(),
            );
            return;
        }
        Err(error) => {
            report(true, &manifest.component, error.to_string());
            return;
        }
    };
    if let Some(advice) = bundle::stale_component(folder, &manifest.component) {
        report(false, &manifest.component, advice);
    }
    let info = match Sandbox::inspect(&component) {
        Ok(info) => info,
        Err(error) => {
            report(true, &manifest.component, error.to_string());
            return;
        }
    };
    let uses = |interface: &str| info.imports.iter().any(|import| import.starts_with(&format!("{interface}@")));
    let is_command = info.kind == ComponentKind::Command;
    let http = manifest.permissions.rules().iter().any(|rule| matches!(rule.kind, RuleKind::Http));
    if (uses("konnector:host/http") || uses("wasi:http/outgoing-handler")) && !http {
        report(
            false,
            Manifest::FILE_NAME,
            format!(
                r#"the component uses the network, but no rule names a host{}; add to "permissions": "vendor": {{ "type": "http", "values": ["https://www.vendor.example"] }}"#,
                if is_command { ", so it can reach only COZY_URL" } else { "" }
            ),
        );
    }
    if info.reads_secrets {
        report(
            false,
            &manifest.component,
            "it can read passwords (konnector:host/reveal), so users are warned; if possible, fill forms with secrets instead".to_owned(),
        );
    }
    let accounts =
        "io.cozy.accounts".parse().is_ok_and(|accounts| manifest.permissions.allows_any(Verb::Get, &accounts));
    match (is_command, accounts) {
        (true, true) => report(
            false,
            Manifest::FILE_NAME,
            "its rule on io.cozy.accounts lets this command component read the account's passwords, so users are warned; with the SDK, a konnector fills forms with passwords that it never sees".to_owned(),
        ),
        (true, false) if !manifest.fields.is_empty() => report(
            false,
            Manifest::FILE_NAME,
            r#"the component is a command, which reads its account from COZY_URL, but no rule allows that; add to "permissions": "accounts": { "type": "io.cozy.accounts", "verbs": ["GET"] }"#.to_owned(),
        ),
        _ => {}
    }
    if info.size > 8 << 20 {
        report(
            false,
            &manifest.component,
            format!("its size is {}; build it in the release profile, with strip = true", bytes(info.size as u64)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> String {
        let mut problems = Vec::new();
        check_manifest(text.as_bytes(), &mut problems);
        problems.iter().map(|problem| format!("{}: {}\n", problem.location, problem.message)).collect()
    }

    #[test]
    fn problems_of_a_manifest_have_their_line() {
        let verbs = "{\n  \"name\": \"A\",\n  \"version\": \"1.0.0\",\n  \"permissions\": {\n    \"bills\": {\n      \"type\": \"io.cozy.bills\",\n      \"verbs\": [\"FETCH\"]\n    }\n  }\n}";
        let comma = "{\n  \"name\": \"A\",\n}";
        insta::assert_snapshot!([checked(verbs), checked(comma)].concat(), @r#"
        manifest.konnector:7: permissions.bills.verbs: "FETCH" is not a valid verb; use GET, POST, PUT, PATCH and DELETE, or ALL alone
        manifest.konnector:3: the manifest is not valid JSON: line 3, column 1: trailing comma
        "#);
    }

    #[test]
    fn it_says_where_secrets_go() {
        let manifest = |rule: &str| {
            let text = format!(
                r#"{{ "name": "A", "version": "1.0.0", "fields": {{ "password": {{ "type": "password" }} }},
                      "permissions": {{ "vendor": {{ "type": "http", "values": ["https://a.example"]{rule} }} }} }}"#
            );
            secret_destinations(&Manifest::parse(text.as_bytes()).unwrap()).join("\n")
        };
        insta::assert_snapshot!(manifest(""), @"secret password may be sent to every host that a rule names in full");
        insta::assert_snapshot!(manifest(r#", "secrets": { "password": { "path": "/login", "fields": ["pass"] } }"#), @"secret password may be sent to https://a.example below /login, as pass");
    }

    #[test]
    fn what_a_server_would_ignore_or_cut_is_a_hint() {
        let text = "{\n  \"name\": \"A\",\n  \"version\": \"1.0.0\",\n  \"permisions\": {},\n  \"colour\": 1,\n  \"limits\": { \"memory_mib\": 2048,\n    \"walls\": 1 }\n}";
        insta::assert_snapshot!(checked(text), @r#"
        manifest.konnector:7: limits.walls: this limit is unknown and ignored; the limits are memory_mib, table_elements, handles, host_call_mib, cpu_s, wall_s, answer_s, requests, upload_mib, download_mib, body_mib, documents, files, file_mib, uploads, scratch_mib, scratch_files, open_files, log_lines, log_kib, log_line_kib
        manifest.konnector:4: permisions: this field is unknown; did you mean "permissions"?
        manifest.konnector:5: colour: this field is unknown; it is kept but has no effect
        manifest.konnector:6: limits.memory_mib: 2048 exceeds the default maximum of 512; the operator must allow it: konnector serve --limit memory_mib=2048
        "#);
    }

    #[test]
    fn a_misspelt_property_of_a_field_is_a_hint() {
        let text = r#"{ "name": "A", "version": "1.0.0", "fields": {
            "login": { "typ": "text", "icon": "person", "isRequird": false } } }"#;
        insta::assert_snapshot!(checked(text), @r#"
        manifest.konnector:2: fields.login.typ: this property is unknown; did you mean "type"?
        manifest.konnector:2: fields.login.isRequird: this property is unknown; did you mean "isRequired"?
        "#);
    }

    #[test]
    fn a_folder_without_component_says_how_to_get_one() {
        let folder = tempfile::tempdir().unwrap();
        let manifest =
            Manifest::parse(br#"{"name":"A","version":"1.0.0","type":"konnector","icon":"icon.svg","on_delete_account":"clean.js","permissions":{}}"#)
                .unwrap();
        let mut problems = Vec::new();
        check_files(folder.path(), &manifest, &mut problems);
        let lines: Vec<_> =
            problems.iter().map(|problem| format!("{}: {}", problem.location, problem.message)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        icon.svg: the manifest names this file, but it does not exist
        clean.js: the manifest names this file, but it does not exist
        clean.js: it is not run; when an account is deleted, konnector.wasm runs with the cause account-deleted; set "on_delete_account": "konnector.wasm"
        konnector.wasm: the component does not exist yet; compile it: konnector build
        "#);
    }
}
