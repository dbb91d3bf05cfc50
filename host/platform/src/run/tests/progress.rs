use konnector_sandbox::capability::{Account as _, Medium, Progress, Question};

use super::super::account::RunAccount;
use super::*;

fn state(run: &Run) -> Value {
    let account = run.scope.platform.account(&run.scope.instance, "account").unwrap();
    account.body.get("state").cloned().unwrap_or_default()
}

/// Answers the question once the account says that there is one; answers what the account said.
async fn answer(run: &Run, code: &str) -> Value {
    loop {
        let asked = state(run);
        if asked != Value::Null {
            let scope = &run.scope;
            let change = |body: &mut Object| {
                body.insert("twoFACode".to_owned(), json!(code));
                Ok(())
            };
            scope.platform.change_account(&scope.instance, "account", change).await.unwrap();
            return asked;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_question_is_asked_in_cozys_words() {
    let run = Run::free().await;
    for (medium, again, expected) in [
        (Medium::Sms, false, "TWOFA_NEEDED.SMS"),
        (Medium::Email, false, "TWOFA_NEEDED.EMAIL"),
        (Medium::App, false, "TWOFA_NEEDED.APP_CODE"),
        (Medium::PhoneCall, false, "TWOFA_NEEDED"),
        (Medium::Sms, true, "TWOFA_NEEDED_RETRY.SMS"),
        (Medium::Unspecified, true, "TWOFA_NEEDED_RETRY"),
    ] {
        let progress = run.progress();
        let question = Question { medium, hint: "ends with 42".to_owned(), again };
        let (code, asked) = tokio::join!(progress.ask_code(question), answer(&run, "123456"));
        assert_eq!((code, asked), (Ok("123456".to_owned()), json!(expected)));
        assert_eq!(state(&run), Value::Null);
    }
}

#[tokio::test]
async fn an_approval_is_requested_until_the_run_ends() {
    let run = Run::free().await;
    run.progress().request_approval("look at your telephone").await.unwrap();
    assert_eq!(state(&run), "TWOFA_NEEDED.APP");
    let account = RunAccount { scope: Arc::clone(&run.scope), session: None };
    account.save_session(None).await.unwrap();
    assert_eq!(state(&run), Value::Null);
}
