//! Sends its vendor everything that it has: the account, the state of an earlier run, and each secret, as a
//! placeholder and in clear.

use serde_json::json;
use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let url = parameters(&job)["url"].as_str().unwrap_or_default().to_owned();
    let cookies: Vec<_> = http::cookies(&url).unwrap_or_default().into_iter().map(|cookie| cookie.value).collect();
    let secrets: Vec<_> = secrets::names()
        .into_iter()
        .map(|name| {
            json!([name, secrets::placeholder(&name).unwrap_or_default(), reveal::reveal(&name).unwrap_or_default()])
        })
        .collect();
    let body = json!({
        "fields": account::fields(),
        "state": account::load_state().unwrap_or_default(),
        "cookies": cookies,
        "secrets": secrets,
    });
    if let Some(info) = account::describe() {
        account::save_state(&json!(format!("kept-by-{}", info.konnector)).to_string()).expect("a state is kept");
        http::set_cookie(&url, &format!("sid=of-{}; Path=/", info.konnector)).expect("a cookie is kept");
    }
    let request = http::Request {
        method: "POST".to_owned(),
        url,
        headers: vec![http::Header { name: "content-type".to_owned(), value: "application/json".to_owned() }],
        body: Some(body.to_string().into_bytes()),
        form_charset: None,
        response_format: http::BodyFormat::ByMediaType,
        follow_redirects: false,
        timeout_ms: None,
    };
    http::send(&request).map_err(|error| Failure::Bug(format!("{error:?}")))?;
    Ok(empty_report())
}
