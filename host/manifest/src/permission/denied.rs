//! The error that names the missing rule.

use serde_json::Value;
use url::Url;

use super::Permissions;
use crate::{Doctype, HostPattern, Verb};

/// No rule allows the access. The message names the rule to add to the manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PermissionDenied {
    /// A sentence for the author of the konnector.
    pub message: String,
}

pub(super) fn on_type(permissions: &Permissions, verb: Verb, doctype: &Doctype) -> PermissionDenied {
    let missing = if permissions.allows_any(verb, doctype) {
        format!("the manifest allows {verb} only on some documents of {doctype}, but not on the whole type")
    } else {
        format!("the manifest has no rule for {verb} on {doctype}")
    };
    with_proposed_rule(&missing, permissions, doctype, &document_rule(verb, doctype, None))
}

pub(super) fn on_document(permissions: &Permissions, verb: Verb, doctype: &Doctype, id: &str) -> PermissionDenied {
    if permissions.allows_any(verb, doctype) {
        let id = quoted(id);
        let missing = format!("the manifest has no rule for {verb} on the document {id} of {doctype}");
        return with_proposed_rule(&missing, permissions, doctype, &document_rule(verb, doctype, Some(&id)));
    }
    let missing = format!("the manifest has no rule for {verb} on {doctype}");
    with_proposed_rule(&missing, permissions, doctype, &document_rule(verb, doctype, None))
}

/// Creates the error for a request to a host. `titles` are those of all rules of the set; `narrowed` says that a rule
/// names the host, for other paths.
pub(super) fn on_host(titles: &[String], narrowed: bool, method: &str, url: &Url) -> PermissionDenied {
    let method = method.to_ascii_uppercase();
    let Some(origin) = HostPattern::from_origin(url) else {
        return not_a_web_address(url);
    };
    let with_path = || format!("{origin}{}", url.path().trim_end_matches('/'));
    // Some paths cannot be written in a rule.
    let address = Some(narrowed)
        .filter(|narrowed| *narrowed)
        .map(|_| with_path())
        .filter(|text| text.parse::<HostPattern>().is_ok());
    let address = address.unwrap_or_else(|| origin.to_string());
    let title = unused_title("vendor", |title| titles.iter().any(|used| used == title));
    let rule = format!(r#"{{ "type": "http", "verbs": [{}], "values": [{}] }}"#, quoted(&method), quoted(&address));
    PermissionDenied {
        message: format!(
            r#"the manifest has no rule for {method} on {address}; add to "permissions": {}: {rule}"#,
            quoted(&title)
        ),
    }
}

/// Creates the error for a secret. `is_allowed_elsewhere`: whether the rule allows the secret with other paths or
/// methods.
pub(super) fn on_secret(secret: &str, is_allowed_elsewhere: bool, method: &str, url: &Url) -> PermissionDenied {
    let (secret, method) = (quoted(secret), method.to_ascii_uppercase());
    let Some(origin) = HostPattern::from_origin(url) else {
        return not_a_web_address(url);
    };
    let message = if is_allowed_elsewhere {
        format!(
            r#"the manifest binds the secret {secret} to other paths or methods than {method} {origin}{}; widen "path" or "methods" of the secret in the rule"#,
            url.path()
        )
    } else {
        format!(
            r#"the manifest does not allow the secret {secret} in {method} requests to {origin}; add to the rule for this host: "secrets": [{secret}]"#
        )
    };
    PermissionDenied { message }
}

fn not_a_web_address(url: &Url) -> PermissionDenied {
    let message = match (url.scheme(), url.host_str()) {
        ("http" | "https", Some(host)) => {
            format!("the address of {host} contains a user name or a password; send them in the Authorization header")
        }
        (scheme, _) => format!("konnectors can reach only http and https addresses, not {scheme}"),
    };
    PermissionDenied { message }
}

fn document_rule(verb: Verb, doctype: &Doctype, id: Option<&str>) -> String {
    let values = id.map(|id| format!(r#", "values": [{id}]"#)).unwrap_or_default();
    format!(r#"{{ "type": "{doctype}", "verbs": ["{verb}"]{values} }}"#)
}

fn with_proposed_rule(missing: &str, permissions: &Permissions, doctype: &Doctype, rule: &str) -> PermissionDenied {
    let used = |title: &str| permissions.rules().iter().any(|rule| rule.title == title);
    let title = quoted(&unused_title(doctype.last_part(), used));
    PermissionDenied { message: format!(r#"{missing}; add to "permissions": {title}: {rule}"#) }
}

/// Returns `preferred`, or `preferred2`, `preferred3`, … if it is taken.
pub(super) fn unused_title(preferred: &str, used: impl Fn(&str) -> bool) -> String {
    let mut title = preferred.to_owned();
    let mut number = 2_u64;
    while used(&title) {
        title = format!("{preferred}{number}");
        number += 1;
    }
    title
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
