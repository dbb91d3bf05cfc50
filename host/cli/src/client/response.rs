//! Responses of the server, and advice for its errors.

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde_json::{Map, Value, json};
use url::Url;

use crate::error::{Error, Result};
use crate::hint;

/// Joins a base URL, a path and a query.
pub fn join_url(base: &Url, path: &str, query: &[(&str, &str)]) -> Result<Url> {
    let mut url = base
        .join(path.trim_start_matches('/'))
        .map_err(|error| Error::usage(format!("'{path}' does not make a valid URL: {error}"), ""))?;
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// Returns the error for a server that cannot be reached.
pub fn connection_error(url: &Url, error: &reqwest::Error) -> Error {
    let reason = if error.is_timeout() { "it did not respond in time".to_owned() } else { root_cause(error) };
    Error::failed(
        format!("cannot reach a server at {}: {reason}", url.as_str().trim_end_matches('/')),
        "start one with `konnector serve`, or select another with --data-dir or --admin-url",
    )
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Returns the body of a successful response, otherwise the error in it.
pub async fn text(response: Response) -> Result<String> {
    let status = response.status();
    let url = response.url().clone();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| format_retry_after(value.to_str().ok()?));
    let body = response.text().await.map_err(|error| connection_error(&url, &error))?;
    if status.is_success() { Ok(body) } else { Err(to_error(status, retry_after.as_deref(), &body)) }
}

/// Returns a successful response unchanged, otherwise the error in it.
pub async fn check_status(response: Response) -> Result<Response> {
    if response.status().is_success() {
        Ok(response)
    } else {
        text(response).await.and(Err(Error::message("the server rejected the request")))
    }
}

/// Parses JSON; null if the body is empty.
pub fn parse(body: &str) -> Result<Value> {
    if body.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(body)
        .map_err(|error| Error::failed(format!("the server's response is not valid JSON: {error}"), ""))
}

/// Creates the error for an unsuccessful response. `retry_after` is its header in words.
fn to_error(status: StatusCode, retry_after: Option<&str>, body: &str) -> Error {
    let message = detail(body).unwrap_or_else(|| format!("the server responded with {status}"));
    let advice = match status {
        StatusCode::UNAUTHORIZED => "the token may have expired; try again",
        StatusCode::FORBIDDEN if body.contains("passphrase") => {
            "the passphrase belongs to another server; select this server's data folder with --data-dir"
        }
        StatusCode::NOT_FOUND if body.contains("no instance has the domain") => {
            return Error::failed(message, format!("list the instances: {}", hint::command("instances ls")));
        }
        StatusCode::TOO_MANY_REQUESTS => {
            return Error::failed(message, format!("try again {}", retry_after.unwrap_or("later")));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            return Error::failed(message, retry_after.map(|time| format!("try again {time}")).unwrap_or_default());
        }
        StatusCode::INTERNAL_SERVER_ERROR => "see the server's log",
        _ => "",
    };
    Error::failed(message, advice)
}

/// Formats the header `Retry-After` (RFC 9110 §10.2.3): seconds or a date.
fn format_retry_after(value: &str) -> Option<String> {
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(format!("in {seconds} s"));
    }
    let date = chrono::DateTime::parse_from_rfc2822(value).ok()?;
    Some(format!("at {}", date.to_utc().format("%Y-%m-%d %H:%M:%SZ")))
}

/// Returns the message of an error in one of four formats: JSON:API, CouchDB's, OAuth's (RFC 6749 §5.2) or plain text
/// (Cozy API: errors).
fn detail(body: &str) -> Option<String> {
    let Ok(value) = serde_json::from_str::<Value>(body) else {
        let text = body.trim();
        return (!text.is_empty() && !text.starts_with('<')).then(|| text.to_owned());
    };
    let text = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    if let Some(error) = value.get("errors").and_then(|errors| errors.get(0)) {
        let source = error.get("source");
        let location = source.and_then(|source| text(source, "parameter").or_else(|| text(source, "pointer")));
        let location = location.map(|location| to_cli_name(&location));
        let sentence = text(error, "detail").or_else(|| text(error, "title"))?;
        return Some(match location {
            Some(location) if !sentence.contains(&location) => format!("{location}: {sentence}"),
            _ => sentence,
        });
    }
    let members = ["reason", "error_description", "error"];
    members.iter().find_map(|name| text(&value, name)).or_else(|| value.as_str().map(str::to_owned))
}

/// Returns the name on the command line for the location of an error: a field without the path to it, as in
/// `time_zone`, or the flag of a parameter.
fn to_cli_name(location: &str) -> String {
    match location {
        "AccountID" | "/data/attributes/message/account" | "/data/attributes/arguments/account" => "--account",
        "DomainAliases" => "--alias",
        "DiskQuota" => "--disk-quota",
        "PublicName" => "--public-name",
        "Timezone" => "--timezone",
        "Locale" => "--locale",
        "Email" => "--email",
        "Scope" => "--scope",
        "RedirectURI" => "--redirect-uri",
        "SoftwareID" => "--software-id",
        other => other.strip_prefix("/data/attributes/").unwrap_or(other),
    }
    .to_owned()
}

/// Flattens a JSON:API resource into one object: `id`, then its attributes.
pub fn flatten(document: &Value) -> Value {
    let data = document.get("data").unwrap_or(document);
    // The documented response of an installation is a list of one.
    let resource = data.get(0).unwrap_or(data);
    let mut members = Map::new();
    if let Some(id) = resource.get("id") {
        members.insert("id".to_owned(), id.clone());
    }
    if let Some(attributes) = resource.get("attributes").and_then(Value::as_object) {
        members.extend(
            attributes.iter().filter(|(name, _)| *name != "id").map(|(name, value)| (name.clone(), value.clone())),
        );
    }
    if let Some(rev) = resource.get("meta").and_then(|meta| meta.get("rev")).filter(|rev| **rev != json!("")) {
        members.insert("rev".to_owned(), rev.clone());
    }
    if let Some(address) = resource.get("links").and_then(|links| links.get("webhook")) {
        members.insert("webhook".to_owned(), address.clone());
    }
    Value::Object(members)
}

/// Flattens each resource of a JSON:API list.
pub fn flatten_list(document: &Value) -> Vec<Value> {
    let resources = document.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    resources.iter().map(flatten).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_four_shapes_of_errors_are_read() {
        let bodies = [
            r#"{"errors":[{"status":"422","title":"Invalid Parameter","detail":"Invalid name","source":{"parameter":"slug"}}]}"#,
            r#"{"errors":[{"status":"422","detail":"it is unknown","source":{"pointer":"/data/attributes/time_zone"}}]}"#,
            r#"{"errors":[{"status":"422","detail":"none was given","source":{"parameter":"AccountID"}}]}"#,
            r#"{"errors":[{"status":"404","title":"Not Found","source":{}}]}"#,
            r#"{"ok":false,"status":"404","error":"not_found","reason":"missing"}"#,
            r#"{"error":"invalid_redirect_uri","error_description":"\"x\" is no absolute address"}"#,
            "bad passphrase",
        ];
        let read = bodies.map(|body| detail(body).unwrap());
        assert_eq!(
            read,
            [
                "slug: Invalid name",
                "time_zone: it is unknown",
                "--account: none was given",
                "Not Found",
                "missing",
                "\"x\" is no absolute address",
                "bad passphrase"
            ]
        );
        assert_eq!(detail("<html>"), None);
        assert_eq!(detail(""), None);
    }

    #[test]
    fn the_advice_to_wait_is_the_servers() {
        let advice = |status, header: Option<&str>| match to_error(
            status,
            header.and_then(format_retry_after).as_deref(),
            "locked",
        ) {
            Error::Failed { advice, .. } => advice,
            other => panic!("{other}"),
        };
        let date = Some("Sun, 29 Nov 2026 12:53:46 GMT");
        assert_eq!(advice(StatusCode::TOO_MANY_REQUESTS, date), "try again at 2026-11-29 12:53:46Z");
        assert_eq!(advice(StatusCode::SERVICE_UNAVAILABLE, Some("5")), "try again in 5 s");
        assert_eq!(advice(StatusCode::TOO_MANY_REQUESTS, None), "try again later");
        assert_eq!(advice(StatusCode::SERVICE_UNAVAILABLE, None), "");
    }

    #[test]
    fn a_resource_becomes_one_object() {
        let document = json!({ "data": [{ "type": "t", "id": "1", "attributes": { "state": "ready" }, "meta": { "rev": "2-a" } }] });
        assert_eq!(flatten(&document), json!({ "id": "1", "state": "ready", "rev": "2-a" }));
    }

    #[test]
    fn a_query_is_encoded() {
        let base = "http://127.0.0.1:6060".parse().unwrap();
        let url = join_url(&base, "/instances/token", &[("Scope", "* a&b")]).unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:6060/instances/token?Scope=*+a%26b");
    }
}
