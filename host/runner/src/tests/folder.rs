//! The folder of a run, for components of both kinds, is found even if the user moves it.

use konnector_manifest::Verb;
use konnector_sandbox::capability::{Files, Target};

use super::*;
use konnector_documents::doctype::FILES;
use konnector_files::{FilePatch, ROOT_ID, Reference};
use konnector_jobs::trigger::NewTrigger;

/// Starts a run whose job names a folder, after `before` changed the state; returns the folder id in its message.
async fn corrected_folder(run: &mut TestRun, folder: &str) -> String {
    let scope = Arc::get_mut(&mut run.scope).unwrap();
    let mut message = json!({ "konnector": "bank101", "account": "account", "folder_to_save": folder });
    scope.job.message = message.clone();
    RunFolder::resolve(scope, &run.manifest).unwrap().set_message_folder(scope, &mut message).await.unwrap();
    message["folder_to_save"].as_str().unwrap().to_owned()
}

fn reference(doctype: &str, id: &str) -> Reference {
    Reference { doctype: doctype.to_owned(), id: id.to_owned() }
}

#[tokio::test]
async fn a_folder_is_made_marked_and_remembered() {
    let mut run = TestRun::unrestricted().await;
    let (domain, instance) = (run.scope.domain.clone(), run.scope.instance.clone());
    let new = NewTrigger {
        kind: "@webhook".to_owned(),
        worker: KONNECTOR_WORKER.to_owned(),
        message: json!({ "konnector": "bank101", "account": "account", "folder_to_save": "yes" }),
        ..NewTrigger::default()
    };
    let trigger = domain.triggers().create(&instance, new).await.unwrap();
    let id = corrected_folder(&mut run, "yes").await;
    let directory = domain.files().get(&instance, &id).unwrap();
    assert_eq!(directory.path.as_deref(), Some("/Administrative/Bank101/account"));
    let marks = [
        reference("io.cozy.konnectors", "io.cozy.konnectors/bank101"),
        reference("io.cozy.accounts.sourceAccountIdentifier", "ada"),
    ];
    assert_eq!(directory.referenced_by, marks);
    assert_eq!(domain.triggers().get(&instance, &trigger.id).unwrap().message["folder_to_save"], json!(id));
    let account = domain.accounts().get(&instance, "account").unwrap();
    assert_eq!(account.body["defaultFolderPath"], "/Administrative/Bank101/account");
    let metadata = json!(directory.cozy_metadata);
    insta::assert_snapshot!(metadata, @r#"{"doctypeVersion":"1","metadataVersion":1,"createdAt":"2026-11-03T08:00:00Z","updatedAt":"2026-11-03T08:00:00Z","createdOn":"http://ada.example.org/","createdByApp":"bank101","sourceAccount":"account","updatedByApps":[{"slug":"bank101","date":"2026-11-03T08:00:00Z","instance":"http://ada.example.org/"}]}"#);
}

/// A typed component gets no message, so its first file creates the folder.
#[tokio::test]
async fn a_typed_component_saves_to_a_folder_that_is_marked_and_found_after_a_renaming() {
    let run = TestRun::unrestricted().await;
    let (domain, instance) = (run.scope.domain.clone(), run.scope.instance.clone());
    save(&run.files(), "a.txt").await;
    let directory = domain.files().get_by_path(&instance, "/Administrative/Bank101/account").unwrap();
    assert_eq!(directory.referenced_by.len(), 2);
    assert_eq!(
        domain.accounts().get(&instance, "account").unwrap().body["defaultFolderPath"],
        "/Administrative/Bank101/account"
    );
    let renamed = FilePatch { name: Some("My bank".to_owned()), ..FilePatch::default() };
    domain.files().patch(&instance, &directory.id, None, &renamed).await.unwrap();
    save(&run.files(), "b.txt").await;
    let path = "/Administrative/Bank101/My bank/b.txt";
    assert_eq!(domain.files().get_by_path(&instance, path).unwrap().dir_id, directory.id);
    assert!(domain.files().get_by_path(&instance, "/Administrative/Bank101/account").is_err());
}

async fn save(files: &RunFiles, name: &str) {
    let target = Target { name: name.to_owned(), key: Some(name.to_owned()), ..Target::default() };
    let mut upload = files.begin_upload(target).await.unwrap();
    upload.write("content".into()).await.unwrap();
    upload.commit().await.unwrap();
}

/// Clients write the account's identifier into its `cozyMetadata`.
#[tokio::test]
async fn the_identifier_of_the_account_s_metadata_counts() {
    let mut run = TestRun::unrestricted().await;
    let scope = Arc::get_mut(&mut run.scope).unwrap();
    let mut account: Account = (**scope.account.as_ref().unwrap()).clone();
    account.body.insert("cozyMetadata".to_owned(), json!({ "sourceAccountIdentifier": "ada@bank.example" }));
    scope.account = Some(account.authorize(&scope.konnector.slug).unwrap());
    let id = corrected_folder(&mut run, "yes").await;
    let directory = run.scope.domain.files().get(&run.scope.instance, &id).unwrap();
    let identifier = reference("io.cozy.accounts.sourceAccountIdentifier", "ada@bank.example");
    assert!(directory.referenced_by.contains(&identifier), "{:?}", directory.referenced_by);
}

/// A konnector can name a folder in its own job or account, but that must not make it the konnector's folder.
#[tokio::test]
async fn a_folder_of_the_user_is_saved_to_and_not_marked() {
    let mut run = TestRun::unrestricted().await;
    let (domain, instance) = (run.scope.domain.clone(), run.scope.instance.clone());
    let taxes = domain.files().ensure_directory(&instance, "/Taxes").await.unwrap();
    assert_eq!(corrected_folder(&mut run, &taxes.id).await, taxes.id);
    assert_eq!(corrected_folder(&mut run, ROOT_ID).await, ROOT_ID);
    let scope = Arc::get_mut(&mut run.scope).unwrap();
    let mut account: Account = (**scope.account.as_ref().unwrap()).clone();
    account.body.insert("defaultFolderPath".to_owned(), json!("/Taxes"));
    scope.account = Some(account.authorize(&scope.konnector.slug).unwrap());
    assert_eq!(corrected_folder(&mut run, "gone").await, taxes.id);
    for id in [&taxes.id, ROOT_ID] {
        assert_eq!(domain.files().get(&instance, id).unwrap().referenced_by, []);
    }
    let mark = Reference { doctype: "io.cozy.konnectors".to_owned(), id: "io.cozy.konnectors/bank101".to_owned() };
    let mark = konnector_sandbox::capability::Reference { doctype: mark.doctype, id: mark.id };
    let refused = run.files().add_references(&id(taxes.id.as_str()), vec![mark]).await;
    insta::assert_snapshot!(error_text(refused), @r#"Denied("references: a konnector must not set references of the doctype io.cozy.konnectors, which mark the owner of a folder")"#);
}

#[tokio::test]
async fn a_run_without_an_account_marks_no_folder() {
    let mut run = TestRun::unrestricted().await;
    Arc::get_mut(&mut run.scope).unwrap().account = None;
    let id = corrected_folder(&mut run, "yes").await;
    let directory = run.scope.domain.files().get(&run.scope.instance, &id).unwrap();
    assert_eq!((directory.path.as_deref(), directory.referenced_by.len()), (Some("/Administrative/Bank101"), 0));
}

/// Cozy API, permission top-up. The rule exists once, and applies below folders that refer to this konnector only.
#[tokio::test]
async fn a_konnector_works_in_the_folders_that_refer_to_it() {
    let run = TestRun::unrestricted().await;
    let (domain, instance) = (run.scope.domain.clone(), run.scope.instance.clone());
    let slug = run.scope.konnector.slug.clone();
    let mut changes = Changes::new();
    // The author used the title of the server's rule for another one.
    let rules = json!({ "referenced folders": { "type": "io.cozy.bills" } });
    let rules = Permissions::from_manifest(&object(rules)).unwrap();
    domain.permissions().stage(&instance, &slug, &rules, &mut changes).unwrap();
    domain.core().commit(changes).await.unwrap();
    for _ in 0..2 {
        domain.permissions().allow_referenced_folders(&instance, &slug).await.unwrap();
    }
    let rules = domain.permissions().of_konnector(&instance, &slug).unwrap();
    assert_eq!(rules.rules().len(), 2);
    let own = domain.files().ensure_directory(&instance, "/Moved/Here").await.unwrap();
    let konnector = reference("io.cozy.konnectors", "io.cozy.konnectors/bank101");
    domain.files().add_references(&instance, &own.id, &[konnector]).await.unwrap();
    let below = domain.files().ensure_directory(&instance, "/Moved/Here/2026").await.unwrap();
    let other = domain.files().ensure_directory(&instance, "/Moved").await.unwrap();
    for verb in Verb::ALL {
        assert!(domain.files().is_allowed(&instance, &rules, &[verb], &below).unwrap(), "{verb}");
        assert!(!domain.files().is_allowed(&instance, &rules, &[verb], &other).unwrap(), "{verb}");
    }
    assert!(!rules.allows_type(Verb::Get, &FILES));
    // The run itself only has the permissions of the manifest.
    let own = domain.permissions().of_capabilities(&instance, &slug).unwrap();
    assert!(!own.allows_any(Verb::Get, &FILES) && own.rules().len() == 1);
    assert!(own.allows_type(Verb::Get, &"io.cozy.bills".parse().unwrap()));
}

#[tokio::test]
async fn the_only_folder_that_refers_to_the_account_is_taken() {
    let mut run = TestRun::unrestricted().await;
    let (domain, instance) = (run.scope.domain.clone(), run.scope.instance.clone());
    let konnector = reference("io.cozy.konnectors", "io.cozy.konnectors/bank101");
    let other = reference("io.cozy.accounts.sourceAccountIdentifier", "bob");
    let mark = async |path: &str, references: &[Reference]| {
        let directory = domain.files().ensure_directory(&instance, path).await.unwrap();
        domain.files().add_references(&instance, &directory.id, references).await.unwrap().id
    };
    mark("/Of/Bob", &[konnector.clone(), other]).await;
    let own = mark("/Moved/Here", std::slice::from_ref(&konnector)).await;
    assert_eq!(corrected_folder(&mut run, "gone").await, own);
    // If there are two, neither is used; and each run reads the account again.
    let account = domain.accounts().get(&instance, "account").unwrap().authorize(&run.scope.konnector.slug).unwrap();
    Arc::get_mut(&mut run.scope).unwrap().account = Some(account);
    mark("/And/There", &[konnector]).await;
    let made = corrected_folder(&mut run, "gone").await;
    assert_eq!(
        domain.files().get(&instance, &made).unwrap().path.as_deref(),
        Some("/Moved/Here"),
        "the account remembers it"
    );
}
