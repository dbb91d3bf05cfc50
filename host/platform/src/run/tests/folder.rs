//! The folder that a command component is told of.

use super::super::folder::correct;
use super::*;
use crate::file::Reference;
use crate::trigger::NewTrigger;

/// A run whose job asks for a folder, after `before` changed what there is; answers the id that it is told.
async fn told(run: &mut Run, folder: &str) -> String {
    let scope = Arc::get_mut(&mut run.scope).unwrap();
    let mut message = json!({ "konnector": "bank101", "account": "account", "folder_to_save": folder });
    scope.job.message = message.clone();
    correct(scope, &run.manifest, &mut message).await.unwrap();
    message["folder_to_save"].as_str().unwrap().to_owned()
}

fn reference(doctype: &str, id: &str) -> Reference {
    Reference { doctype: doctype.to_owned(), id: id.to_owned() }
}

#[tokio::test]
async fn a_folder_is_made_marked_and_remembered() {
    let mut run = Run::free().await;
    let (platform, instance) = (run.scope.platform.clone(), run.scope.instance.clone());
    let new = NewTrigger {
        kind: "@webhook".to_owned(),
        worker: KONNECTOR_WORKER.to_owned(),
        message: json!({ "konnector": "bank101", "account": "account", "folder_to_save": "yes" }),
        ..NewTrigger::default()
    };
    let trigger = platform.create_trigger(&instance, new).await.unwrap();
    let id = told(&mut run, "yes").await;
    let directory = platform.file(&instance, &id).unwrap();
    assert_eq!(directory.path.as_deref(), Some("/Administrative/Bank101/account"));
    let marks = [
        reference("io.cozy.konnectors", "io.cozy.konnectors/bank101"),
        reference("io.cozy.accounts.sourceAccountIdentifier", "ada"),
    ];
    assert_eq!(directory.referenced_by, marks);
    assert_eq!(platform.trigger(&instance, &trigger.id).unwrap().message["folder_to_save"], json!(id));
    let account = platform.account(&instance, "account").unwrap();
    assert_eq!(account.body["defaultFolderPath"], "/Administrative/Bank101/account");
}

#[tokio::test]
async fn the_only_folder_that_refers_to_the_account_is_taken() {
    let mut run = Run::free().await;
    let (platform, instance) = (run.scope.platform.clone(), run.scope.instance.clone());
    let konnector = reference("io.cozy.konnectors", "io.cozy.konnectors/bank101");
    let other = reference("io.cozy.accounts.sourceAccountIdentifier", "bob");
    let mark = async |path: &str, references: &[Reference]| {
        let directory = platform.ensure_directory(&instance, path).await.unwrap();
        platform.add_references(&instance, &directory.id, references).await.unwrap().id
    };
    mark("/Of/Bob", &[konnector.clone(), other]).await;
    let own = mark("/Moved/Here", std::slice::from_ref(&konnector)).await;
    assert_eq!(told(&mut run, "gone").await, own);
    // Of two, neither is; and each run reads the account anew.
    Arc::get_mut(&mut run.scope).unwrap().account = Some(platform.account(&instance, "account").unwrap());
    mark("/And/There", &[konnector]).await;
    let made = told(&mut run, "gone").await;
    assert_eq!(
        platform.file(&instance, &made).unwrap().path.as_deref(),
        Some("/Moved/Here"),
        "the account remembers it"
    );
}
