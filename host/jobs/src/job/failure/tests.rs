use super::*;

/// Each failure has one code, one retry rule and one sentence. Codes are those of the Cozy API (konnector run-time
/// contract).
#[test]
fn every_failure_has_its_code() {
    let text = String::new;
    let action = |action| Failure::UserAction(action, String::new());
    let failures = [
        Failure::BadCredentials(text()),
        Failure::MissingCredentials(text()),
        Failure::TooManyAttempts(text()),
        action(UserAction::AcceptTerms),
        action(UserAction::ChangePassword),
        action(UserAction::StrongAuthentication),
        action(UserAction::WebAuthentication),
        action(UserAction::Reconnect),
        action(UserAction::AccountRemoved),
        action(UserAction::PermissionsChanged),
        action(UserAction::Unspecified),
        Failure::CodeMissing(text()),
        Failure::CodeRejected(text()),
        Failure::ChallengeUnsupported(text()),
        Failure::CaptchaFailed(text()),
        Failure::VendorDown(text()),
        Failure::VendorMaintenance(text()),
        Failure::RateLimited(Some(60)),
        Failure::VendorChanged(text()),
        Failure::Denied(text()),
        Failure::StorageFull(text()),
        Failure::LimitReached(text()),
        Failure::Cancelled,
        Failure::HostFailed(text()),
        Failure::Bug(text()),
    ];
    let line = |failure: &Failure| {
        let JobFailure { code, message, retry, pauses_schedule: pause } = JobFailure::from_failure(failure);
        let retry = match retry {
            Retry::Never => "never".to_owned(),
            Retry::Once => "once".to_owned(),
            Retry::Fault => "once, a fault".to_owned(),
            Retry::WhenSpaceAvailable => "when there is room".to_owned(),
            Retry::BackOff { at_least } => format!("after {}s", at_least.as_secs()),
        };
        format!("{code} | {retry}{} | {message}", if pause { ", schedule waits" } else { "" })
    };
    insta::assert_snapshot!(failures.iter().map(line).collect::<Vec<_>>().join("\n"), @r"
    LOGIN_FAILED | never, schedule waits | The vendor rejected the login or the password. Correct them in the account.
    LOGIN_FAILED.NEEDS_SECRET | never, schedule waits | The login needs a field that the account lacks. Add it.
    LOGIN_FAILED.TOO_MANY_ATTEMPTS | never, schedule waits | The vendor temporarily locked the account after too many attempts. Wait, then sign in at the vendor's site.
    USER_ACTION_NEEDED.CGU_FORM | never | The vendor requires you to accept its new terms. Sign in at the vendor's site, then launch the konnector.
    USER_ACTION_NEEDED.CHANGE_PASSWORD | never, schedule waits | The vendor requires a new password. Sign in at the vendor's site, then launch the konnector.
    USER_ACTION_NEEDED.SCA_REQUIRED | never, schedule waits | The vendor requires strong authentication. Sign in at the vendor's site, then launch the konnector.
    USER_ACTION_NEEDED.WEBAUTH_REQUIRED | never, schedule waits | The vendor requires a login on its own page. Sign in at the vendor's site, then launch the konnector.
    USER_ACTION_NEEDED.OAUTH_OUTDATED | never, schedule waits | The vendor no longer accepts the connection. Sign in at the vendor's site, then launch the konnector.
    USER_ACTION_NEEDED.ACCOUNT_REMOVED | never, schedule waits | The account no longer exists at the vendor. Sign in at the vendor's site, then launch the konnector.
    USER_ACTION_NEEDED.PERMISSIONS_CHANGED | never, schedule waits | The permissions at the vendor have changed. Sign in at the vendor's site, then launch the konnector.
    USER_ACTION_NEEDED | never, schedule waits | The vendor requires an action from you. Sign in at the vendor's site, then launch the konnector.
    USER_ACTION_NEEDED.TWOFA_EXPIRED | never, schedule waits | The vendor asked for a one-time code, but none was entered in time. Launch the konnector manually and have the code ready.
    USER_ACTION_NEEDED.WRONG_TWOFA_CODE | never, schedule waits | The vendor rejected the one-time code. Launch the konnector manually to get another one.
    CHALLENGE_ASKED | never, schedule waits | The vendor requires a verification that the konnector does not support. Sign in at the vendor's site, then launch the konnector; if this happens again, tell the konnector's author.
    CAPTCHA_RESOLUTION_FAILED | once | The vendor's site asked for a captcha, which was not solved.
    VENDOR_DOWN | after 0s | The vendor's site does not respond. This is usually temporary.
    VENDOR_DOWN.MAINTENANCE | after 0s | The vendor's site is under maintenance. This is usually temporary.
    VENDOR_DOWN.RATE_LIMITED | after 60s | The vendor's site limits the number of requests. This is usually temporary.
    UNKNOWN_ERROR.VENDOR_CHANGED | once, a fault | The vendor's site differs from what the konnector expects. The konnector's author must adapt the konnector.
    UNKNOWN_ERROR.PERMISSION_DENIED | never, schedule waits | The konnector requested something that is not permitted. Unless the operator can allow it, its author must add the rule to the manifest.
    DISK_QUOTA_EXCEEDED | when there is room | Your storage space is used up. Free some space, or ask the operator for more.
    UNKNOWN_ERROR.PARTIAL_SYNC | never | The data fetched so far is saved. You need not do anything: the next run continues with the rest.
    UNKNOWN_ERROR.CANCELLED | never | The run was cancelled.
    UNKNOWN_ERROR | once | The server failed while the konnector ran. If this happens again, tell the operator.
    UNKNOWN_ERROR | once, a fault | The konnector has a bug. If this happens again, tell its author.
    ");
}

fn reported(error: &str, no_retry: bool) -> JobFailure {
    JobFailure::from_failure(&Failure::Custom { error: error.to_owned(), no_retry })
}

#[test]
fn a_code_means_the_same_whoever_says_it() {
    let nothing = String::new;
    for (error, typed) in [
        ("LOGIN_FAILED", Failure::BadCredentials(nothing())),
        ("LOGIN_FAILED.NEEDS_SECRET", Failure::MissingCredentials(nothing())),
        ("LOGIN_FAILED.TOO_MANY_ATTEMPTS", Failure::TooManyAttempts(nothing())),
        ("USER_ACTION_NEEDED", Failure::UserAction(UserAction::Unspecified, nothing())),
        ("USER_ACTION_NEEDED.CGU_FORM", Failure::UserAction(UserAction::AcceptTerms, nothing())),
        ("USER_ACTION_NEEDED.SCA_REQUIRED", Failure::UserAction(UserAction::StrongAuthentication, nothing())),
        ("USER_ACTION_NEEDED.SOMETHING", Failure::UserAction(UserAction::Unspecified, nothing())),
        ("USER_ACTION_NEEDED.WRONG_TWOFA_CODE", Failure::CodeRejected(nothing())),
        ("CHALLENGE_ASKED", Failure::ChallengeUnsupported(nothing())),
        ("CAPTCHA_RESOLUTION_FAILED.TIMEOUT", Failure::CaptchaFailed(nothing())),
        ("VENDOR_DOWN.BANK_DOWN", Failure::VendorDown(nothing())),
        ("DISK_QUOTA_EXCEEDED", Failure::StorageFull(nothing())),
        ("exit status 3", Failure::Bug("exit status 3".to_owned())),
    ] {
        let typed = JobFailure::from_failure(&typed);
        assert_eq!(reported(error, false), JobFailure { code: JobErrorCode::Custom(error.to_owned()), ..typed });
    }
}

#[test]
fn which_codes_make_the_schedule_wait() {
    let pauses = |error| reported(error, false).pauses_schedule;
    assert!(pauses("LOGIN_FAILED") && pauses("LOGIN_FAILED: wrong") && pauses("USER_ACTION_NEEDED.OTHER"));
    // Exactly this one does not pause the schedule.
    assert!(!pauses("USER_ACTION_NEEDED.CGU_FORM") && pauses("USER_ACTION_NEEDED.CGU_FORM.X"));
    assert!(!pauses("VENDOR_DOWN") && !pauses("X") && !pauses("not LOGIN_FAILED"));
}

#[test]
fn what_is_not_to_be_tried_again_is_not() {
    assert_eq!(reported("VENDOR_DOWN", true).retry, Retry::Never);
    assert!(matches!(reported("VENDOR_DOWN", false).retry, Retry::BackOff { .. }));
    assert_eq!((reported("X", false).retry, reported("X", true).retry), (Retry::Fault, Retry::Never));
    insta::assert_snapshot!(reported("no page for bills", false).message, @"no page for bills. The konnector has a bug. If this happens again, tell its author.");
}

/// Most standard libraries report a quota only as "I/O error", so the program cannot say more.
#[test]
fn a_reached_limit_is_not_called_a_bug() {
    let limit = QuotaKind::Limit { limit: konnector_manifest::Limit::FileContent, value: 5 << 20 };
    let classify = |outcome: Outcome, quota| {
        let failure = JobFailure::from_outcome_with_quota(&outcome, Some(quota)).unwrap();
        format!("{} | {:?} | {}", failure.code, failure.retry, failure.message)
    };
    let bug = || Outcome::Failed(Failure::Bug("I/O error (os error 29)".to_owned()));
    let custom = |error: &str| Outcome::Failed(Failure::Custom { error: error.to_owned(), no_retry: false });
    let lines = [
        classify(bug(), limit),
        classify(bug(), QuotaKind::Storage),
        classify(custom("exit status 1"), limit),
        classify(custom("LOGIN_FAILED"), limit),
        classify(Outcome::Aborted(AbortReason::Trap("the konnector panicked: I/O error".to_owned())), limit),
        classify(Outcome::Failed(Failure::VendorDown("503".to_owned())), limit),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
    UNKNOWN_ERROR | Fault | I/O error (os error 29). A file could not be written: the run's limit file_mib of 5 MiB has been reached. The konnector's author can request a higher limit in the manifest ("limits": { "file_mib": … }), up to the maximum that the operator allows.
    DISK_QUOTA_EXCEEDED | WhenSpaceAvailable | I/O error (os error 29). A file could not be written: no storage space is left. Free some space, or ask the operator for more.
    exit status 1 | Fault | exit status 1. A file could not be written: the run's limit file_mib of 5 MiB has been reached. The konnector's author can request a higher limit in the manifest ("limits": { "file_mib": … }), up to the maximum that the operator allows.
    LOGIN_FAILED | Never | The vendor rejected the login or the password. Correct them in the account.
    UNKNOWN_ERROR | Fault | The run was stopped: the konnector panicked: I/O error. A file could not be written before: the run's limit file_mib of 5 MiB has been reached. The konnector's author can request a higher limit in the manifest ("limits": { "file_mib": … }), up to the maximum that the operator allows.
    VENDOR_DOWN | BackOff { at_least: 0ns } | 503. The vendor's site does not respond. This is usually temporary.
    "#);
}

#[test]
fn a_message_is_a_sentence_that_another_may_follow() {
    let error = crate::Error::Component("it is damaged; run it again".to_owned());
    let damaged = JobFailure::setup_failed(&error);
    assert_eq!(
        damaged.message,
        "The run could not be set up: the component cannot be used: it is damaged; run it again."
    );
}
