//! Reports why it was started and for which account: in its log, and to the vendor if it has one, which may reject
//! it.

use serde_json::json;
use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let fields: Value = serde_json::from_str(&account::fields()).unwrap_or_default();
    let payload = job.payload.as_deref().map(serde_json::from_str::<Value>).transpose().unwrap_or_default();
    let message =
        json!({ "cause": format!("{:?}", job.cause), "login": fields["login"], "payload": payload }).to_string();
    log_info(&message);
    let Some(url) = parameters(&job)["url"].as_str().map(str::to_owned) else { return Ok(empty_report()) };
    let request = http::Request {
        method: "POST".to_owned(),
        url,
        headers: Vec::new(),
        body: Some(message.into_bytes()),
        form_charset: None,
        response_format: http::BodyFormat::ByMediaType,
        follow_redirects: false,
        timeout_ms: None,
    };
    match http::send(&request) {
        Ok(answer) if answer.status == 200 => Ok(empty_report()),
        Ok(answer) => Err(Failure::Bug(format!("the vendor answers {}", answer.status))),
        Err(error) => Err(Failure::Bug(format!("{error:?}"))),
    }
}
