//! Environment variables of a run; none are inherited from the server. A command gets exactly the table of the Cozy API
//! (konnector run-time contract, §6.2).

use std::time::Duration;

use serde_json::Value;

use crate::job::{RunCause, RunInput};
use konnector_egress::InternalApi;

/// Size in bytes from which a payload is passed as a file.
const MAX_INLINE_PAYLOAD: usize = 100_000;
/// Name of that file in the working directory.
const PAYLOAD_FILE: &str = "cozy_payload.json";
/// Seconds that are added to the time limit reported to a konnector, as Cozy does.
const TIME_LIMIT_MARGIN_SECONDS: u64 = 5;

/// Environment variables, and the file that one of them names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) variables: Vec<(&'static str, String)>,
    pub(crate) payload_file: Option<(&'static str, String)>,
}

impl Environment {
    /// Returns the environment of a typed konnector, which receives its job as a value.
    pub(crate) fn for_typed(job: &RunInput) -> Self {
        Self { variables: vec![("TZ", job.time_zone.clone()), ("LANG", job.locale.clone())], payload_file: None }
    }

    /// Returns the environment of a command whose run may still take `remaining`; without an API, address and token are
    /// not set.
    pub(crate) fn for_command(job: &RunInput, api: Option<&dyn InternalApi>, remaining: Duration) -> Self {
        let (payload, file) = payload_variable(job.payload.as_ref());
        let seconds = remaining.as_secs() + u64::from(remaining.subsec_nanos() > 0) + TIME_LIMIT_MARGIN_SECONDS;
        let parameters = if job.parameters.is_empty() { Value::Null } else { Value::Object(job.parameters.clone()) };
        let mut variables = vec![
            ("COZY_FIELDS", job.message.to_string()),
            ("COZY_PARAMETERS", parameters.to_string()),
            ("COZY_PAYLOAD", payload),
            ("COZY_LANGUAGE", job.language.clone()),
            ("COZY_LOCALE", job.locale.clone()),
            ("COZY_TIME_LIMIT", seconds.to_string()),
            ("COZY_JOB_ID", format!("konnector/0/{}", job.id)),
            ("COZY_JOB_MANUAL_EXECUTION", matches!(job.cause, RunCause::Manual | RunCause::AccountDeleted).to_string()),
        ];
        variables.extend(job.trigger.clone().map(|trigger| ("COZY_TRIGGER_ID", trigger)));
        if let Some(api) = api {
            variables.extend([("COZY_URL", api.url().to_string()), ("COZY_CREDENTIALS", api.token().to_owned())]);
        }
        Self { variables, payload_file: file }
    }
}

/// Returns the variable for a payload; only an object is passed.
fn payload_variable(payload: Option<&Value>) -> (String, Option<(&'static str, String)>) {
    let text = payload.filter(|payload| payload.is_object()).map(Value::to_string).unwrap_or_default();
    if text.len() > MAX_INLINE_PAYLOAD {
        (format!("@{PAYLOAD_FILE}"), Some((PAYLOAD_FILE, text)))
    } else {
        (text, None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(payload: Option<Value>) -> RunInput {
        let parameters = json!({ "url": "https://a.example" });
        RunInput {
            id: "job-1".to_owned(),
            attempt: 1,
            cause: RunCause::Manual,
            parameters: parameters.as_object().cloned().unwrap_or_default(),
            payload,
            locale: "fr".to_owned(),
            time_zone: "Europe/Paris".to_owned(),
            message: json!({ "konnector": "shop", "account": "a1", "unknown": [1] }),
            trigger: Some("t1".to_owned()),
            language: "rust".to_owned(),
            last_success: None,
        }
    }

    #[test]
    fn the_table_is_complete() {
        let environment = Environment::for_command(&job(None), None, Duration::from_millis(1_500));
        let lines: Vec<_> = environment.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        COZY_FIELDS={"konnector":"shop","account":"a1","unknown":[1]}
        COZY_PARAMETERS={"url":"https://a.example"}
        COZY_PAYLOAD=
        COZY_LANGUAGE=rust
        COZY_LOCALE=fr
        COZY_TIME_LIMIT=7
        COZY_JOB_ID=konnector/0/job-1
        COZY_JOB_MANUAL_EXECUTION=true
        COZY_TRIGGER_ID=t1
        "#);
    }

    #[test]
    fn payloads_are_objects_and_large_ones_files() {
        let of = |payload| {
            let environment = Environment::for_command(&job(payload), None, Duration::from_secs(1));
            let value = environment.variables.iter().find(|(name, _)| *name == "COZY_PAYLOAD").unwrap().1.clone();
            (value, environment.payload_file)
        };
        assert_eq!(of(None), (String::new(), None));
        assert_eq!(of(Some(json!([1]))), (String::new(), None));
        assert_eq!(of(Some(json!({ "a": 1 }))), (r#"{"a":1}"#.to_owned(), None));
        let large = json!({ "a": "x".repeat(MAX_INLINE_PAYLOAD) });
        assert_eq!(of(Some(large.clone())), ("@cozy_payload.json".to_owned(), Some((PAYLOAD_FILE, large.to_string()))));
    }

    #[test]
    fn absent_values_are_null_or_omitted() {
        let job = RunInput { parameters: serde_json::Map::new(), trigger: None, cause: RunCause::Retry, ..job(None) };
        let variables = Environment::for_command(&job, None, Duration::from_secs(300)).variables;
        let value = |variable| variables.iter().find(|(name, _)| *name == variable).map(|(_, value)| value.as_str());
        assert_eq!(value("COZY_PARAMETERS"), Some("null"));
        assert_eq!(value("COZY_TRIGGER_ID"), None);
        assert_eq!(value("COZY_JOB_MANUAL_EXECUTION"), Some("false"));
        assert_eq!(value("COZY_TIME_LIMIT"), Some("305"));
    }
}
