use konnector_sandbox::capability::{Account as _, CodeChannel, Progress, Question};

use super::super::account::RunAccount;
use super::*;

fn state(run: &TestRun) -> Value {
    let account = run.scope.domain.accounts().get(&run.scope.instance, "account").unwrap();
    account.body.get("state").cloned().unwrap_or_default()
}

/// Answers the question once the account shows it; returns the account's state.
async fn answer_question(run: &TestRun, code: &str) -> Value {
    loop {
        let asked = state(run);
        if asked != Value::Null {
            let scope = &run.scope;
            let change = |body: &mut Object| {
                body.insert("twoFACode".to_owned(), json!(code));
                Ok(())
            };
            scope.domain.accounts().update(&scope.instance, "account", change).await.unwrap();
            return asked;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_question_is_asked_in_cozys_words() {
    let run = TestRun::unrestricted().await;
    for (medium, again, expected) in [
        (CodeChannel::Sms, false, "TWOFA_NEEDED.SMS"),
        (CodeChannel::Email, false, "TWOFA_NEEDED.EMAIL"),
        (CodeChannel::App, false, "TWOFA_NEEDED.APP_CODE"),
        (CodeChannel::PhoneCall, false, "TWOFA_NEEDED"),
        (CodeChannel::Sms, true, "TWOFA_NEEDED_RETRY.SMS"),
        (CodeChannel::Unspecified, true, "TWOFA_NEEDED_RETRY"),
    ] {
        let progress = run.progress();
        let question = Question { channel: medium, hint: "ends with 42".to_owned(), is_retry: again };
        let (code, asked) =
            tokio::join!(progress.ask_code(question, Duration::from_secs(60)), answer_question(&run, "123456"));
        assert_eq!((code, asked), (Ok("123456".to_owned()), json!(expected)));
        assert_eq!(state(&run), Value::Null);
    }
}

#[tokio::test]
async fn an_approval_is_requested_until_the_run_ends() {
    let run = TestRun::unrestricted().await;
    run.progress().request_approval("look at your telephone").await.unwrap();
    assert_eq!(state(&run), "TWOFA_NEEDED.APP");
    let account = RunAccount { scope: Arc::clone(&run.scope), initial_cookies: None };
    account.save_session(None).await.unwrap();
    assert_eq!(state(&run), Value::Null);
}

/// The operator's limit applies, even if it is longer than the timeout of Cozy's konnectors.
#[tokio::test]
async fn a_question_is_taken_back_when_its_time_is_over() {
    let run = TestRun::unrestricted().await;
    let question = || Question { channel: CodeChannel::Sms, hint: String::new(), is_retry: false };
    let asked = run.progress().ask_code(question(), Duration::from_millis(20)).await;
    assert_eq!((asked, state(&run)), (Err(CapabilityError::Unattended), Value::Null));
    let (progress, long) = (run.progress(), Duration::from_secs(3_600));
    let waiting = tokio::spawn(async move { progress.ask_code(question(), long).await });
    while state(&run) == Value::Null {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Longer than the former fixed timeout of three minutes.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(200)).await;
    tokio::time::resume();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(!waiting.is_finished(), "it waits as long as it was given");
    answer_question(&run, "123456").await;
    assert_eq!(waiting.await.expect("no panic"), Ok("123456".to_owned()));
}

#[tokio::test]
async fn a_question_of_a_run_that_is_cancelled_is_taken_back_at_its_end() {
    let run = TestRun::unrestricted().await;
    let question = Question { channel: CodeChannel::Sms, hint: String::new(), is_retry: false };
    let progress = run.progress();
    let cancelled =
        tokio::time::timeout(Duration::from_millis(50), progress.ask_code(question, Duration::from_secs(60)));
    assert!(cancelled.await.is_err());
    assert_eq!(state(&run), "TWOFA_NEEDED.SMS");
    let account = RunAccount { scope: Arc::clone(&run.scope), initial_cookies: None };
    account.save_session(None).await.unwrap();
    assert_eq!(state(&run), Value::Null);
}

/// However often a run reports, watchers get a few events, including the last state.
#[tokio::test(start_paused = true)]
async fn progress_is_published_at_a_rate_that_people_can_see() {
    let run = TestRun::unrestricted().await;
    let scope = &run.scope;
    let mut events = scope.domain.core().bus().subscribe(&scope.instance.id);
    let progress = run.progress();
    for done in 0..300_000 {
        progress.report(done, Some(300_000), "bills");
        progress.message("warning", "odd");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut told = Vec::new();
    while let Some(event) = events.try_recv() {
        told.push(event.unwrap().doc.clone());
    }
    assert!(told.len() < 50, "{} events", told.len());
    assert_eq!(told.iter().rev().find_map(|doc| doc.get("done")), Some(&json!(299_999)));
    // Pending events are published when the run ends.
    for done in 0..100 {
        progress.report(done, None, "more");
    }
    drop(progress);
    let mut last = Value::Null;
    while let Some(event) = events.try_recv() {
        last = event.unwrap().doc["done"].clone();
    }
    assert_eq!(last, 99);
}
