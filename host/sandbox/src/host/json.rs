//! JSON from the guest. All of it is parsed here. Each text is measured before any value is built from it; see
//! [`json_budget`](konnector_manifest::json_budget).

use konnector_manifest::json_budget::{JsonBudget, JsonBudgetExceeded, MAX_DOCUMENT_BYTES};
use serde_json::{Map, Value};

use crate::capability::CapabilityError;
use konnector_egress::yield_budget::{YIELD_INTERVAL_BYTES, YieldBudget};

/// Parses a short text that has its own limit in the contract. `argument` names it in the error.
pub(super) fn parse_json(argument: &str, text: &str) -> Result<Value, CapabilityError> {
    let checked = JsonBudget::for_call(text.len()).check(text.as_bytes());
    checked.map_err(|error| json_budget_error(argument, error))?;
    parse(argument, text)
}

/// Parses a short JSON object.
pub(super) fn parse_object(argument: &str, text: &str) -> Result<Map<String, Value>, CapabilityError> {
    into_object(argument, parse_json(argument, text)?)
}

/// Returns an upper bound of the size in memory of a text's values in bytes; a number above the limit if the text
/// cannot be parsed.
pub(super) fn weight(text: &str) -> usize {
    let mut budget = JsonBudget::for_call(text.len());
    // A text over the budget is rejected when it is parsed.
    let _ = budget.check(text.as_bytes());
    budget.used()
}

/// Parses the documents of one call.
pub(super) struct DocumentParser {
    budget: JsonBudget,
    yield_budget: YieldBudget,
}

impl DocumentParser {
    /// Creates a parser for documents of these sizes.
    pub(super) fn new(sizes: impl Iterator<Item = usize>) -> Self {
        Self { budget: JsonBudget::for_call(sizes.sum()), yield_budget: YieldBudget::default() }
    }

    /// Parses the next document. Yields while doing so.
    pub(super) async fn parse_document(
        &mut self,
        argument: &str,
        text: &str,
    ) -> Result<Map<String, Value>, CapabilityError> {
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(CapabilityError::TooLarge(MAX_DOCUMENT_BYTES as u64));
        }
        let mut scan = self.budget.scanner();
        for part in text.as_bytes().chunks(YIELD_INTERVAL_BYTES) {
            scan.feed(part).map_err(|error| json_budget_error(argument, error))?;
            self.yield_budget.consume(part.len()).await;
        }
        let read = into_object(argument, parse(argument, text)?)?;
        self.yield_budget.consume(text.len()).await;
        Ok(read)
    }
}

fn json_budget_error(argument: &str, error: JsonBudgetExceeded) -> CapabilityError {
    CapabilityError::Invalid(format!("{argument}: {error}"))
}

fn parse(argument: &str, text: &str) -> Result<Value, CapabilityError> {
    serde_json::from_str(text)
        .map_err(|error| CapabilityError::Invalid(format!("{argument}: the value is not valid JSON: {error}")))
}

fn into_object(argument: &str, value: Value) -> Result<Map<String, Value>, CapabilityError> {
    match value {
        Value::Object(object) => Ok(object),
        other => {
            Err(CapabilityError::Invalid(format!("{argument}: expected a JSON object, got {}", json_type_name(&other))))
        }
    }
}

fn json_type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_argument() {
        insta::assert_snapshot!(parse_object("metadata", "[1]").unwrap_err(), @"metadata: expected a JSON object, got an array");
        insta::assert_snapshot!(parse_object("body", "{").unwrap_err(), @"body: the value is not valid JSON: EOF while parsing an object at line 1 column 1");
        insta::assert_snapshot!(parse_object("patch", &"[".repeat(1_000)).unwrap_err(), @"patch: nested deeper than 120 levels; flatten it");
    }

    #[tokio::test]
    async fn documents_are_limited_in_size_and_share_a_budget() {
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_DOCUMENT_BYTES));
        let mut documents = DocumentParser::new([large.len()].into_iter());
        assert_eq!(documents.parse_document("body", &large).await, Err(CapabilityError::TooLarge(8 << 20)));
        let many = format!("{{\"a\":[{}0]}}", "0,".repeat(40_000));
        let mut documents = DocumentParser::new([many.len(), many.len()].into_iter());
        assert!(documents.parse_document("items[0].body", &many).await.is_ok());
        let rejected = documents.parse_document("items[1].body", &many).await.unwrap_err();
        insta::assert_snapshot!(rejected, @"items[1].body: its values would take more than 8 MiB of memory; send fewer at a time, or fewer fields in each");
    }
}
