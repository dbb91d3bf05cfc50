//! OpenAPI description: it contains every route, and describes each operation completely.

use serde_json::{Value, json};

use crate::support::{Api, TestRequest};

/// Returns every operation of a description, with its method and path.
pub fn operations(description: &Value) -> Vec<(String, &Value)> {
    let paths = description["paths"].as_object().expect("paths");
    assert!(!paths.is_empty(), "the description has no path");
    paths
        .iter()
        .flat_map(|(path, item)| {
            let operations = item.as_object().expect("operations");
            assert!(!operations.is_empty(), "{path} is routed without an operation");
            operations.iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
        })
        .collect()
}

#[tokio::test]
async fn each_operation_says_what_it_does_takes_and_answers() {
    let api = Api::new().await;
    let description = api.send(TestRequest::get("/openapi.json")).await.json();
    assert_eq!(description["openapi"], "3.1.0");
    for (name, operation) in operations(&description) {
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name} has no summary");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in name.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let is_described = |known: &Value| known["name"] == parameter && known["in"] == "path";
            assert!(parameters.iter().any(is_described), "{name} has no {parameter}");
        }
        let responses = operation["responses"].as_object().expect("answers");
        let useful = responses.keys().any(|status| status.as_str() < "400" || status == "501");
        assert!(useful, "{name} has no answer but failures, and is not said to be missing");
        for (status, response) in responses {
            assert!(
                response["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{name} {status} says nothing"
            );
            if status.as_str() >= "400" {
                assert!(response["content"].is_object(), "{name} {status} has no body");
            }
        }
    }
}

#[tokio::test]
async fn an_operation_follows_from_its_handler() {
    let api = Api::new().await;
    let description = api.send(TestRequest::get("/openapi.json")).await.json();
    insta::assert_json_snapshot!(description["paths"]["/data/{doctype}/{id}"]["delete"]);
    insta::assert_json_snapshot!(description["paths"]["/jobs/queue/{worker}"]["post"]);
    insta::assert_json_snapshot!(description["components"]);
    assert_eq!(description["paths"]["/livez"]["get"]["security"], json!(null));
}
