//! A run's view of a deleted account.

use konnector_accounts::Account;
use konnector_documents::principal::Audience;

use super::*;

#[tokio::test]
async fn the_run_that_cleans_up_still_reads_its_account_and_no_other_does() {
    let rules = json!({ "accounts": { "type": "io.cozy.accounts", "verbs": ["GET"] } });
    let run = TestRun::with_rules(rules.clone()).await;
    let RunContext { domain, instance, konnector, .. } = &*run.scope;
    let mut changes = Changes::new();
    let mut installed = konnector.clone();
    installed.manifest_fields.insert("on_delete_account".to_owned(), json!("clean.js"));
    let body = konnector_documents::stored::to_object(&installed).unwrap();
    changes.create(instance.doc(&konnector_documents::doctype::KONNECTORS, konnector.doc_id()), body);
    domain.permissions().stage(instance, &konnector.slug, &run.scope.permissions, &mut changes).unwrap();
    domain.core().commit(changes).await.unwrap();
    let before = domain.accounts().get(instance, "account").unwrap();
    let job = domain.jobs().delete_account(instance, "account", None).await.unwrap().unwrap();
    assert_eq!((job.cause, job.is_clean_up()), (Cause::AccountDeleted, true));
    let read = |account: Option<&str>| {
        let token = domain.auth().issue_run_token(instance, &konnector.slug, account, &run.lease).unwrap();
        let principal = domain.auth().authenticate(instance, &token).unwrap();
        domain.core().documents().read(instance, &principal, &ACCOUNTS, "account")
    };
    let found = read(Some("account")).unwrap();
    assert_eq!((found.rev, found.body), (before.rev, before.body));
    assert!(read(Some("other")).is_err() && read(None).is_err());
    let Account { id, .. } = domain.accounts().get_deleted(instance, "account").unwrap();
    assert_eq!(id, "account");
}

/// A leaked token of a run is valid only inside that run, and only until its lease ends.
#[tokio::test]
async fn the_token_of_a_run_is_good_inside_of_it_and_nowhere_else() {
    let run = TestRun::with_rules(json!({ "accounts": { "type": "io.cozy.accounts", "verbs": ["GET"] } })).await;
    let RunContext { domain, instance, konnector, .. } = &*run.scope;
    let token = domain.auth().issue_run_token(instance, &konnector.slug, Some("account"), &run.lease).unwrap();
    let outside = &run.outside;
    let refused = |domain: &JobContext, token: &str| {
        matches!(domain.auth().authenticate(instance, token), Err(crate::Error::WrongRunToken))
    };
    assert_eq!(domain.auth().authenticate(instance, &token).unwrap().konnector(), Some("bank101"));
    assert!(refused(outside, &token), "from outside");
    let later = Lease { epoch: run.lease.epoch + 1, ..run.lease.clone() };
    assert!(refused(&domain.fenced(&later), &token), "the next run of the same job");
    let job = instance.doc(&konnector_documents::doctype::JOBS, "another");
    assert!(refused(&domain.fenced(&Lease { job, ..run.lease.clone() }), &token), "another job");
    // A token that an operator issues for development is valid from outside, but not inside a run.
    for audience in [Audience::Konnector, Audience::Cli] {
        let issued = outside.auth().issue_token(instance, audience, "bank101", "*").unwrap();
        assert!(outside.auth().authenticate(instance, &issued).is_ok());
        assert!(refused(domain, &issued), "another token in a run");
    }
    run.lose_lease().await;
    assert!(refused(domain, &token) && refused(outside, &token), "after the run");
}
