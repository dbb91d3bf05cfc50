//! Sets the vendor's URL in the manifest of the example, because in the demo the vendor uses a free port.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The vendor's URL in the manifest.
const DEFAULT_VENDOR_URL: &str = "http://127.0.0.1:9091";

/// Rewrites the manifest of a bundle for the URL `vendor`, without a trailing slash.
pub fn set_vendor_url(manifest: &Path, vendor: &str) -> Result<()> {
    let text = fs::read(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let mut value: Value = serde_json::from_slice(&text).context("the manifest is not valid JSON")?;
    let replaced = retarget(&mut value, vendor);
    if replaced == 0 {
        bail!(
            "{} does not contain {DEFAULT_VENDOR_URL}, so the konnector cannot be pointed at {vendor}",
            manifest.display()
        );
    }
    fs::write(manifest, serde_json::to_vec_pretty(&value)?)
        .with_context(|| format!("cannot write {}", manifest.display()))
}

/// Replaces the default URL in the values of `http` rules and in the parameters; returns the number of replacements.
fn retarget(manifest: &mut Value, vendor: &str) -> usize {
    let mut replaced = 0;
    if let Some(rules) = manifest.get_mut("permissions").and_then(Value::as_object_mut) {
        let http = rules.values_mut().filter(|rule| rule.get("type").and_then(Value::as_str) == Some("http"));
        replaced += http.filter_map(|rule| rule.get_mut("values")).map(|values| replace(values, vendor)).sum::<usize>();
    }
    if let Some(parameters) = manifest.get_mut("parameters") {
        replaced += replace(parameters, vendor);
    }
    replaced
}

fn replace(value: &mut Value, vendor: &str) -> usize {
    match value {
        Value::String(text) => {
            match text.strip_prefix(DEFAULT_VENDOR_URL).filter(|rest| rest.is_empty() || rest.starts_with('/')) {
                Some(rest) => {
                    *text = format!("{vendor}{rest}");
                    1
                }
                None => 0,
            }
        }
        Value::Array(items) => items.iter_mut().map(|item| replace(item, vendor)).sum(),
        Value::Object(members) => members.values_mut().map(|member| replace(member, vendor)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_and_parameters_follow_the_vendor_and_nothing_else_does() {
        let mut manifest = json!({
            "vendor_link": "http://127.0.0.1:9091",
            "permissions": {
                "bills": { "type": "io.cozy.bills", "values": ["http://127.0.0.1:9091"] },
                "vendor": { "type": "http", "values": ["http://127.0.0.1:9091", "http://127.0.0.1:90911", "https://bank.example"] },
            },
            "parameters": { "url": "http://127.0.0.1:9091/login", "pages": 3 },
        });
        assert_eq!(retarget(&mut manifest, "http://127.0.0.1:40123"), 2);
        insta::assert_json_snapshot!(manifest, @r#"
        {
          "vendor_link": "http://127.0.0.1:9091",
          "permissions": {
            "bills": {
              "type": "io.cozy.bills",
              "values": [
                "http://127.0.0.1:9091"
              ]
            },
            "vendor": {
              "type": "http",
              "values": [
                "http://127.0.0.1:40123",
                "http://127.0.0.1:90911",
                "https://bank.example"
              ]
            }
          },
          "parameters": {
            "url": "http://127.0.0.1:40123/login",
            "pages": 3
          }
        }
        "#);
    }

    #[test]
    fn a_manifest_without_the_usual_address_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("manifest.konnector");
        fs::write(&file, r#"{"permissions":{}}"#).unwrap();
        let error = set_vendor_url(&file, "http://127.0.0.1:1").unwrap_err().to_string();
        assert!(error.contains("does not contain http://127.0.0.1:9091"), "{error}");
    }
}
