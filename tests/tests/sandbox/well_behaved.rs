//! Well-behaved konnectors.

use std::time::Duration;

use konnector_sandbox::{CodeOrigin, Outcome, Report};
use konnector_tests::fakes::FakeEnvironment;
use konnector_tests::guest;
use serde_json::json;

use super::run;

#[tokio::test]
async fn doing_nothing_is_reported_as_such() {
    let environment = FakeEnvironment::default();
    let output = run(&guest("noop"), json!({}), &environment).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
    assert_eq!(environment.log(), "");
    assert!(output.receipt.peak_memory > 0 && output.receipt.instantiate_us > 0);
    assert_eq!((output.receipt.requests, output.receipt.documents), Default::default());
    assert_eq!(*environment.account.sessions.lock().unwrap(), 1, "the session is kept once");
}

#[tokio::test]
async fn every_function_of_the_contract_returns() {
    let environment = FakeEnvironment::default();
    let output = run(&guest("echo"), json!({ "deep": { "er": 1 } }), &environment).await;
    insta::assert_debug_snapshot!(output.outcome, @r#"
    Completed(
        Report {
            problems: [
                Problem {
                    item: "bill 7",
                    message: "no amount",
                },
            ],
            problem_count: 1,
        },
    )
    "#);
    insta::assert_snapshot!(environment.log(), @r#"
    Info: Job { id: "job-1", attempt: 1, cause: Cause::Manual, last-success: Some(1700000000000), parameters: "{\"deep\":{\"er\":1}}", payload: None, locale: "fr", time-zone: "Europe/Paris" }
    Info: Some(Info { id: "account-1", konnector: "bank101", name: Some("My bank"), identifier: Some("claude@example.org") })
    Info: {"login":"claude@example.org"}
    Info: Ok(None)
    Info: Ok(())
    Info: Ok(Some("{\"cursor\":7}"))
    Info: Err(Error::Invalid("state: the value is not valid JSON: EOF while parsing an object at line 1 column 1"))
    Info: Err(Error::TooLarge(65536))
    Info: ["password"]
    Info: Ok(true)
    Info: Err(Error::NotFound("the account has no secret field `pin`"))
    Info: Err(Error::NotFound("the account has no secret field `pin`"))
    Info: the password has 8 characters: [masked]
    Info: Ok(())
    Info: the token is [masked]
    Info: ["password", "refresh_token"]
    Info: Ok([SavedDocument { id: "io.cozy.bills-1", rev: "1-0", outcome: SaveOutcome::Created }, SavedDocument { id: "io.cozy.bills-2", rev: "1-0", outcome: SaveOutcome::Created }])
    Info: Ok([SavedDocument { id: "io.cozy.bills-1", rev: "1-0", outcome: SaveOutcome::Unchanged }, SavedDocument { id: "io.cozy.bills-2", rev: "2-0", outcome: SaveOutcome::Updated }])
    Info: Err(Error::Invalid("items[0].body (key `1`): expected a JSON object, got an array"))
    Info: Err(Error::Invalid("items: got 501 items, but at most 500 are allowed at a time"))
    Info: Ok(Document { id: "io.cozy.bills-2", rev: "2-0", body: "{\"amount\":3}" })
    Info: Ok("io.cozy.bills-2")
    Info: Err(Error::NotFound("io.cozy.bills nothing"))
    Info: Err(Error::Denied("the manifest has no rule for GET on io.cozy.contacts"))
    Info: Ok(())
    Info: Err(Error::Denied("the manifest has no rule for GET on io.cozy.contacts"))
    Info: Ok([SavedDocument { id: "io.cozy.bills-2", rev: "3-0", outcome: SaveOutcome::Updated }])
    Info: Err(Error::Conflict("io.cozy.bills-2 is at revision 3-0"))
    Info: Err(Error::NotFound("io.cozy.bills io.cozy.bills-9"))
    Info: Err(Error::Invalid("changes[0].body: expected a JSON object, got a number"))
    Info: Ok((["io.cozy.bills-2"], None))
    Info: Ok((["io.cozy.bills-2"], Some("1")))
    Info: Ok((["io.cozy.bills-1"], None))
    Info: Ok((["io.cozy.bills-2"], None))
    Info: Err(Error::Invalid("limit: expected 1 to 1000, got 0"))
    Info: Err(Error::Invalid("index-fields: `a..b` is not a field path; write `vendor` or `cozyMetadata.createdAt`, at most 256 bytes"))
    Info: Err(Error::Invalid("index-fields: got 9 fields, but at most 8 are allowed"))
    Info: Err(Error::Invalid("equals: got 2 values, but the index has only 1 fields"))
    Info: Err(Error::Invalid("range: every field of the index already has a value in `equals`"))
    Info: Err(Error::Invalid("equals[0]: the value is not valid JSON: EOF while parsing an object at line 1 column 1"))
    Info: Err(Error::Invalid("range.upper: the value is not valid JSON: expected value at line 1 column 1"))
    Info: Err(Error::TooLarge(65536))
    Info: Ok(2)
    Info: Err(Error::Invalid("locators: got 501 items, but at most 500 are allowed at a time"))
    Info: Ok(())
    Info: Ok(SavedFile { file: File { id: "bill.pdf", path: "/Administration/Bank101/bill.pdf", size: 8, mime: "application/pdf", sha256: "86edbaa24831badfa0a8b04bb410141e2ee4182b6d0014493fe262a7a331c20b" }, outcome: SaveOutcome::Created })
    Info: Ok([Some("/Administration/Bank101/bill.pdf"), None])
    Info: 8 Ok([49, 46]) Ok([])
    Info: Err(Error::NotFound("file nothing"))
    Info: Err(Error::Invalid("metadata: the value is not valid JSON: EOF while parsing a list at line 1 column 1"))
    Info: Err(Error::TooLarge(65536))
    Info: Err(Error::Denied("the manifest has no rule for GET on io.cozy.files"))
    Info: Ok(())
    Info: Err(Error::Invalid("patch: expected a JSON object, got an array"))
    Info: Err(Error::NotFound("file nothing"))
    Info: Ok(())
    Info: Err(Error::Invalid("references: got 501 items, but at most 500 are allowed at a time"))
    Info: Ok(())
    Info: Err(Error::NotFound("file nothing"))
    Info: Ok(Details { entry: Entry::File(File { id: "bill.pdf", path: "/Administration/Bank101/bill.pdf", size: 8, mime: "application/pdf", sha256: "86edbaa24831badfa0a8b04bb410141e2ee4182b6d0014493fe262a7a331c20b" }), created-at: -1, updated-at: 1, metadata: "{\"read\":true}", references: [Reference { doctype: "io.cozy.bills", id: "2" }] })
    Info: Err(Error::NotFound("file nothing"))
    Info: Ok(Folder { id: "id of 2026/11", path: "/Administration/Bank101/2026/11" })
    Info: Err(Error::Denied("the manifest has no rule for GET on io.cozy.files"))
    Info: Ok("/Administration/Bank101/november.pdf")
    Info: Err(Error::NotFound("file nothing"))
    Info: Ok((1, None))
    Info: Err(Error::Denied("the manifest has no rule for GET on io.cozy.files"))
    Info: Err(Error::Invalid("limit: expected 1 to 1000, got 1001"))
    Info: Ok(1)
    Info: Err(Error::Invalid("locators: got 501 items, but at most 500 are allowed at a time"))
    Info: Err(HttpError::Denied("the manifest has no rule for GET on https://vendor.example; add to \"permissions\": \"vendor\": { \"type\": \"http\", \"verbs\": [\"GET\"], \"values\": [\"https://vendor.example\"] }"))
    Info: Err(HttpError::Invalid("url: relative URL without a base"))
    Info: Err(HttpError::Denied("the manifest has no rule for GET on https://elsewhere.example; add to \"permissions\": \"vendor\": { \"type\": \"http\", \"verbs\": [\"GET\"], \"values\": [\"https://elsewhere.example\"] }"))
    Info: true
    Error: two user=[masked]
    Error: lines of [masked]
    Info: Ok(())
    Info: [("TZ", "Europe/Paris"), ("LANG", "fr")]
    Info: []
    Info: true
    Info: Some("")
    "#);
    insta::assert_debug_snapshot!(environment.progress.events.lock().unwrap(), @r#"
    [
        "1 of Some(2): bills of [masked]",
        "login succeeded",
        "approval: the bank's application of [masked]",
    ]
    "#);
    let mut receipt = output.receipt;
    (receipt.cpu_ms, receipt.wall_ms, receipt.instantiate_us, receipt.peak_memory) = (0, 0, 0, 0);
    assert!(receipt.code != CodeOrigin::Memory && receipt.prepare_us > 0, "the first run in this process");
    (receipt.code, receipt.prepare_us) = (CodeOrigin::Disk, 0);
    insta::assert_json_snapshot!(receipt, @r#"
    {
      "hosts": [],
      "requests": 0,
      "bytes_up": 0,
      "bytes_down": 0,
      "documents": {
        "created": 2,
        "updated": 2,
        "unchanged": 1,
        "deleted": 2
      },
      "files": {
        "created": 1,
        "updated": 2,
        "unchanged": 0,
        "deleted": 1
      },
      "files_not_saved": 0,
      "file_bytes": 8,
      "cpu_ms": 0,
      "wall_ms": 0,
      "waited_ms": 0,
      "code": "disk",
      "prepare_us": 0,
      "instantiate_us": 0,
      "peak_memory": 0,
      "log_lines": 81,
      "log_lines_dropped": 0,
      "reads_secrets": true,
      "secrets_read": 1
    }
    "#);
}

#[tokio::test]
async fn the_clock_is_paused_while_the_user_is_asked() {
    let environment = FakeEnvironment::with_limits(|limits| limits.wall = Duration::from_millis(1_000));
    *environment.progress.code.lock().unwrap() = Some((Duration::from_millis(1_500), "123456".to_owned()));
    let output = run(&guest("ask_code"), json!({}), &environment).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
    insta::assert_snapshot!(environment.log(), @r#"
    Info: Ok("123456")
    Info: the clock stood still
    "#);
    assert!(output.receipt.waited_ms >= 1_500, "{}", output.receipt.waited_ms);
}

#[tokio::test]
async fn a_question_that_nobody_answers_has_an_end() {
    let environment = FakeEnvironment::with_limits(|limits| limits.answer_timeout = Duration::from_millis(50));
    *environment.progress.code.lock().unwrap() = Some((Duration::from_secs(60), "too late".to_owned()));
    let output = run(&guest("ask_code"), json!({}), &environment).await;
    insta::assert_debug_snapshot!(output.outcome, @r#"
    Failed(
        CodeMissing(
            "Error::Unattended",
        ),
    )
    "#);
}

/// A guest that asks forever occupies its worker no longer than twice the limit.
#[tokio::test]
async fn questions_in_a_loop_have_an_end() {
    let output = async |answer_ms: u64, code: (u64, &str)| {
        let environment =
            FakeEnvironment::with_limits(|limits| limits.answer_timeout = Duration::from_millis(answer_ms));
        *environment.progress.code.lock().unwrap() = Some((Duration::from_millis(code.0), code.1.to_owned()));
        run(&guest("asks_again"), json!({}), &environment).await.outcome
    };
    insta::assert_debug_snapshot!(output(60_000, (1, "123456")).await, @r#"
    Failed(
        LimitReached(
            "Error::LimitReached(\"the limit on questions to the user has been reached\") after 5 questions",
        ),
    )
    "#);
    // If nobody responds, it ends after two full waits.
    insta::assert_debug_snapshot!(output(50, (60_000, "too late")).await, @r#"
    Failed(
        LimitReached(
            "Error::LimitReached(\"the limit on questions to the user has been reached\") after 2 questions",
        ),
    )
    "#);
}

#[tokio::test]
async fn a_failed_allocation_can_be_survived() {
    let environment = FakeEnvironment::with_limits(|limits| limits.memory = 32 << 20);
    let output = run(&guest("tries_again"), json!({}), &environment).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()), "{}", environment.log());
    assert!((16 << 20..=32 << 20).contains(&output.receipt.peak_memory), "{}", output.receipt.peak_memory);
}

#[tokio::test]
async fn uploads_that_are_not_committed_leave_nothing() {
    let environment = FakeEnvironment::with_limits(|limits| limits.uploads = 3);
    let output = run(&guest("uploads"), json!({ "uploads": 100_000 }), &environment).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()), "{}", environment.log());
    insta::assert_snapshot!(environment.log(), @r#"
    Info: Err(Error::TooLarge(1048576))
    Info: Err(Error::Internal("the disk is full"))
    Info: Err(Error::Invalid("an earlier write to this upload failed; begin a new one"))
    Info: Err(Error::Invalid("an earlier write to this upload failed; begin a new one"))
    Info: after 3 uploads: Error::LimitReached("the run's limit uploads of 3 has been reached")
    "#);
    assert!(environment.files.stored.lock().unwrap().is_empty());
    assert_eq!(
        environment.files.open.load(std::sync::atomic::Ordering::SeqCst),
        0,
        "the host drops what the guest forgot"
    );
}

#[tokio::test]
async fn open_files_are_counted_and_closed() {
    let environment = FakeEnvironment::with_limits(|limits| limits.open_files = 3);
    environment.files.stored.lock().unwrap().insert("bill.pdf".to_owned(), b"%PDF-".to_vec());
    let output = run(&guest("opens"), json!({}), &environment).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()), "{}", environment.log());
    insta::assert_snapshot!(environment.log(), @r#"
    Info: after 3: Error::LimitReached("the run's limit open_files of 3 has been reached")
    Info: Ok(5)
    "#);
    assert_eq!(
        environment.files.open.load(std::sync::atomic::Ordering::SeqCst),
        0,
        "the host closes what the guest forgot"
    );
}

#[tokio::test]
async fn standard_output_is_log_lines_and_nothing_else() {
    let environment = FakeEnvironment::default();
    let output = run(&guest("output_flood"), json!({}), &environment).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
    insta::assert_snapshot!(environment.log(), @r#"
    Info: {"type":"error","message":"LOGIN_FAILED"}
    Info: all is well fdp.exe
    Warn: a warning
    Info: not � text
    Info: no line feed
    "#);
}
