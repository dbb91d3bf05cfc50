//! What a run sees of an account that was deleted.

use crate::account::Account;

use super::*;

#[tokio::test]
async fn the_run_that_cleans_up_still_reads_its_account_and_no_other_does() {
    let rules = json!({ "accounts": { "type": "io.cozy.accounts", "verbs": ["GET"] } });
    let run = Run::with(rules.clone()).await;
    let Scope { platform, instance, konnector, .. } = &*run.scope;
    let mut changes = Changes::new();
    let mut installed = konnector.clone();
    installed.members.insert("on_delete_account".to_owned(), json!("clean.js"));
    let body = crate::stored::object(&installed).unwrap();
    changes.create(instance.doc(&crate::doctype::KONNECTORS, konnector.doc_id()), body);
    platform.stage_permissions(instance, &konnector.slug, &run.scope.permissions, &mut changes).unwrap();
    platform.commit(changes).await.unwrap();
    let before = platform.account(instance, "account").unwrap();
    let job = platform.remove_account(instance, "account", None).await.unwrap().unwrap();
    assert_eq!((job.cause, job.is_clean_up()), (Cause::AccountDeleted, true));
    let read = |account: Option<&str>| {
        let token = platform.issue_run_token(instance, &konnector.slug, account).unwrap();
        let principal = platform.authenticate(instance, &token).unwrap();
        platform.read_document(instance, &principal, &ACCOUNTS, "account")
    };
    let found = read(Some("account")).unwrap();
    assert_eq!((found.rev, found.body), (before.rev, before.body));
    assert!(read(Some("other")).is_err() && read(None).is_err());
    let Account { id, .. } = platform.deleted_account(instance, "account").unwrap();
    assert_eq!(id, "account");
}
