//! `http.download`, against an in-memory server.

use konnector_sandbox::{Outcome, Report, RunOutput};
use konnector_tests::fakes::FakeEnvironment;
use konnector_tests::guest;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::run;

/// Responds to every request by its path; returns its own address.
async fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4_096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]);
            let (status, body) = match request.split(' ').nth(1) {
                Some("/bill.pdf") => ("200 OK", format!("%PDF-1.7\n{}\n%%EOF\n", "x".repeat(99_993))),
                Some("/half.pdf") => ("200 OK", format!("%PDF-1.7\n{}", "x".repeat(100_000))),
                Some("/login.pdf") => ("200 OK", "<!DOCTYPE html><html><title>Sign in</title></html>".to_owned()),
                Some("/empty.pdf") => ("200 OK", String::new()),
                Some("/part.txt") => ("206 Partial Content\r\ncontent-range: bytes 0-4/99", "hello".to_owned()),
                Some("/all.txt") => ("206 Partial Content\r\ncontent-range: bytes 0-4/5", "hello".to_owned()),
                Some("/later.txt") => ("202 Accepted", "come back later".to_owned()),
                Some("/nothing.txt") => ("204 No Content", String::new()),
                _ => ("404 Not Found", "no such bill".to_owned()),
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    format!("http://{address}")
}

async fn download(environment: &mut FakeEnvironment, names: &[&str]) -> RunOutput {
    let server = server().await;
    environment.hosts = vec![server.clone()];
    let downloads: Vec<_> =
        names.iter().map(|name| json!({ "url": format!("{server}/{name}"), "name": name })).collect();
    run(&guest("download"), json!({ "downloads": downloads }), environment).await
}

#[tokio::test]
async fn a_bill_is_stored_and_a_login_page_is_not() {
    let mut environment = FakeEnvironment::default();
    let output = download(&mut environment, &["bill.pdf", "login.pdf", "empty.pdf", "missing.pdf", "half.pdf"]).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
    insta::assert_snapshot!(environment.log(), @r#"
    Info: bill.pdf: /Administration/Bank101/bill.pdf application/pdf 100009 bytes SaveOutcome::Created
    Info: login.pdf: DownloadError::UnexpectedContent("expected application/pdf, got text/html")
    Info: empty.pdf: DownloadError::UnexpectedContent("expected application/pdf, got an empty file")
    Info: missing.pdf: DownloadError::Status(404)
    Info: half.pdf: DownloadError::Http(HttpError::Protocol("the PDF is truncated; its last 1 KiB contains no %%EOF"))
    "#);
    let stored = environment.files.stored.lock().unwrap();
    assert_eq!(stored.keys().collect::<Vec<_>>(), ["bill.pdf"]);
    assert_eq!(stored["bill.pdf"].len(), 100_009);
    assert_eq!(environment.files.open.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!((output.receipt.files.created, output.receipt.file_bytes, output.receipt.requests), (1, 200_018, 5));
    assert_eq!(output.receipt.hosts.len(), 1);
}

#[tokio::test]
async fn a_part_of_a_file_is_not_stored() {
    let mut environment = FakeEnvironment::default();
    download(&mut environment, &["part.txt", "later.txt", "nothing.txt", "all.txt"]).await;
    insta::assert_snapshot!(environment.log(), @r"
    Info: part.txt: DownloadError::Status(206)
    Info: later.txt: DownloadError::Status(202)
    Info: nothing.txt: DownloadError::Status(204)
    Info: all.txt: /Administration/Bank101/all.txt application/pdf 5 bytes SaveOutcome::Created
    ");
    assert_eq!(environment.files.stored.lock().unwrap().keys().collect::<Vec<_>>(), ["all.txt"]);
}

#[tokio::test]
async fn a_download_keeps_to_the_limits() {
    let mut environment = FakeEnvironment::with_limits(|limits| limits.files = 1);
    download(&mut environment, &["bill.pdf", "bill.pdf"]).await;
    insta::assert_snapshot!(environment.log(), @r#"
    Info: bill.pdf: /Administration/Bank101/bill.pdf application/pdf 100009 bytes SaveOutcome::Created
    Info: bill.pdf: DownloadError::File(Error::LimitReached("the run's limit files of 1 has been reached"))
    "#);

    let mut environment = FakeEnvironment::with_limits(|limits| limits.file_bytes = 50_000);
    download(&mut environment, &["bill.pdf"]).await;
    insta::assert_snapshot!(environment.log(), @r#"Info: bill.pdf: DownloadError::File(Error::LimitReached("the run's limit file_mib of 48 KiB has been reached"))"#);
    assert!(environment.files.stored.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_host_that_the_manifest_does_not_name_is_denied() {
    let environment = FakeEnvironment::default();
    let downloads = json!({ "downloads": [{ "url": "https://elsewhere.example/a.pdf", "name": "a.pdf" }] });
    run(&guest("download"), downloads, &environment).await;
    insta::assert_snapshot!(environment.log(), @r#"Info: a.pdf: DownloadError::Http(HttpError::Denied("the manifest has no rule for GET on https://elsewhere.example; add to \"permissions\": \"vendor\": { \"type\": \"http\", \"verbs\": [\"GET\"], \"values\": [\"https://elsewhere.example\"] }"))"#);
}
