//! Downloads the files that the test requests.

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let parameters = parameters(&job);
    for download in parameters["downloads"].as_array().into_iter().flatten() {
        let text = |name: &str| download[name].as_str().unwrap_or_default().to_owned();
        let request = http::Request {
            method: "GET".to_owned(),
            url: text("url"),
            headers: Vec::new(),
            body: None,
            form_charset: None,
            response_format: http::BodyFormat::ByMediaType,
            follow_redirects: true,
            timeout_ms: None,
        };
        let outcome = match http::download(&request, &target(&text("name"))) {
            Ok(stored) => {
                format!("{} {} {} bytes {:?}", stored.file.path, stored.file.mime, stored.file.size, stored.outcome)
            }
            Err(error) => format!("{error:?}"),
        };
        log_info(format!("{}: {outcome}", text("name")));
    }
    Ok(empty_report())
}
