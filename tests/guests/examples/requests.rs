//! Sends the requests of the test and logs everything that it receives.

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let parameters = parameters(&job);
    for request in parameters["requests"].as_array().into_iter().flatten() {
        let text = |name: &str| request[name].as_str().map(str::to_owned);
        let headers = request["headers"].as_object().into_iter().flatten();
        let secret = secrets::placeholder("password").expect("a password");
        let sent = http::Request {
            method: text("method").unwrap_or_else(|| "GET".to_owned()),
            url: text("url").unwrap_or_default(),
            headers: headers
                .map(|(name, value)| http::Header {
                    name: name.clone(),
                    value: value.as_str().unwrap_or_default().replace("{password}", &secret),
                })
                .collect(),
            body: text("body").map(|body| body.replace("{password}", &secret).into_bytes()),
            form_charset: None,
            response_format: http::BodyFormat::ByMediaType,
            follow_redirects: true,
            timeout_ms: request["timeout"].as_u64().map(|timeout| timeout as u32),
        };
        let outcome = match http::send(&sent) {
            Ok(response) => format!("{} {:?}", response.status, response.body),
            Err(error) => format!("{error:?}"),
        };
        // The placeholder differs in every run.
        log_info(outcome.replace(&secret, "{password}"));
    }
    Ok(empty_report())
}
