use konnector_sandbox::capability::{Entry, Files, Reference, SaveOutcome, SavedFile, Target};

use super::*;
use konnector_files::TRASH_ID;

fn target(name: &str) -> Target {
    Target { name: name.to_owned(), key: Some(name.to_owned()), ..Target::default() }
}

fn reference(id: &str) -> Reference {
    Reference { doctype: "io.cozy.bills".to_owned(), id: id.to_owned() }
}

async fn store(files: &RunFiles, target: Target, content: &'static str) -> Result<SavedFile, CapabilityError> {
    let mut upload = files.begin_upload(target).await?;
    upload.write(content.into()).await?;
    upload.commit().await
}

async fn names(files: &RunFiles, folder: &str) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), None);
    loop {
        let page = files.list_folder(folder, 2, cursor).await.unwrap();
        names.extend(page.entries.iter().map(|entry| match entry {
            Entry::File(file) => file.path.clone(),
            Entry::Folder(folder) => format!("{}/", folder.path),
        }));
        cursor = page.next_cursor;
        if cursor.is_none() {
            return names;
        }
    }
}

#[tokio::test]
async fn a_cursor_is_valid_for_its_folder_only() {
    let run = TestRun::unrestricted().await;
    let files = run.files();
    for name in ["one/a", "one/b", "two/a", "two/b"] {
        files.ensure_folder(name).await.unwrap();
    }
    let next = files.list_folder("one", 1, None).await.unwrap().next_cursor;
    assert_eq!(files.list_folder("one", 1, next.clone()).await.unwrap().entries.len(), 1);
    for (folder, cursor) in [("two", next), ("one", Some("a".to_owned()))] {
        let refused = files.list_folder(folder, 1, cursor).await;
        assert!(matches!(refused, Err(CapabilityError::Invalid(_))), "{folder}: {refused:?}");
    }
}

#[tokio::test]
async fn an_open_file_is_one_content() {
    let run = TestRun::unrestricted().await;
    let files = run.files();
    store(&files, target("a.txt"), "the first content").await.unwrap();
    let mut open = files.open(&key("a.txt")).await.unwrap();
    assert_eq!(open.read(0, 3).await.unwrap(), "the");
    assert_eq!(store(&files, target("a.txt"), "another").await.unwrap().outcome, SaveOutcome::Updated);
    assert_eq!((open.size(), open.read(4, 100).await.unwrap()), (17, "first content".into()));
    files.trash(vec![key("a.txt")]).await.unwrap();
    assert_eq!(open.read(4, 5).await.unwrap(), "first");
    assert_eq!(open.read(17, 5).await.unwrap(), "");
    assert_eq!(open.read(u64::MAX, u32::MAX).await.unwrap(), "");
    insta::assert_snapshot!(error_text(files.open(&key("a.txt")).await.map(drop)), @r#"NotFound("there is no file with the key 'a.txt'")"#);
}

#[tokio::test]
async fn storing_the_same_again_changes_nothing() {
    let run = TestRun::unrestricted().await;
    let files = run.files();
    let with = |references: &[&str]| Target {
        metadata: object(json!({ "page": 1 })),
        references: references.iter().map(|id| reference(id)).collect(),
        ..target("a.txt")
    };
    assert_eq!(store(&files, with(&["1"]), "a").await.unwrap().outcome, SaveOutcome::Created);
    assert_eq!(store(&files, with(&["1"]), "a").await.unwrap().outcome, SaveOutcome::Unchanged);
    assert_eq!(store(&files, with(&["2"]), "a").await.unwrap().outcome, SaveOutcome::Updated);
    let details = files.describe(&key("a.txt")).await.unwrap();
    assert_eq!(details.references, [reference("1"), reference("2")]);
    assert_eq!(json!(details.metadata), json!({ "page": 1, "fileIdAttributes": "a.txt" }));
}

#[tokio::test]
async fn metadata_and_references_are_changed() {
    let run = TestRun::unrestricted().await;
    let files = run.files();
    let stored = store(&files, target("a.txt"), "a").await.unwrap();
    let file = id(stored.file.id.as_str());
    files.merge_metadata(&file, object(json!({ "label": { "a": 1, "b": 2 }, "old": true }))).await.unwrap();
    files.merge_metadata(&file, object(json!({ "label": { "b": null, "c": 3 }, "old": null }))).await.unwrap();
    files.add_references(&file, vec![reference("1"), reference("2"), reference("1")]).await.unwrap();
    files.add_references(&file, vec![reference("2")]).await.unwrap();
    files.remove_references(&file, vec![reference("1"), reference("3")]).await.unwrap();
    let details = files.describe(&key("a.txt")).await.unwrap();
    assert_eq!(json!(details.metadata), json!({ "fileIdAttributes": "a.txt", "label": { "a": 1, "c": 3 } }));
    assert_eq!(details.references, [reference("2")]);
    assert_eq!(details.entry, Entry::File(stored.file));

    let many = (0..1_000).map(|number| reference(&format!("r{number}"))).collect();
    let named = |doctype: &str, id: &str| vec![Reference { doctype: doctype.to_owned(), id: id.to_owned() }];
    let refusals = [
        error_text(files.add_references(&file, many).await),
        error_text(files.add_references(&file, named("no type", "1")).await),
        error_text(files.add_references(&file, named("io.cozy.bills", "")).await),
        error_text(files.merge_metadata(&file, object(json!({ "x": "y".repeat(70_000) }))).await),
        error_text(files.merge_metadata(&id("none"), Object::new()).await),
        error_text(files.add_references(&key("none"), Vec::new()).await),
        error_text(files.describe(&id("none")).await),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    Invalid("'a.txt' would have more than 1000 references")
    Invalid("references: 'no type' is not a valid doctype: \"no type\" is not a doctype that a rule can name: it contains a character other than a-z, 0-9, \"_\" and \".\"")
    Invalid("references: '' is not a valid document id")
    Invalid("the metadata of 'a.txt' would be 70057 bytes long; the maximum is 65536 bytes")
    NotFound("there is no file 'none'")
    NotFound("there is no file with the key 'none'")
    NotFound("there is no file 'none'")
    "#);
}

#[tokio::test]
async fn folders_are_made_and_listed_page_by_page() {
    let run = TestRun::unrestricted().await;
    let files = run.files();
    assert_eq!(names(&files, "").await, [""; 0], "a folder that is not there yet is empty");
    let folder = files.ensure_folder("2026/november").await.unwrap();
    assert_eq!(folder.path, "/Administrative/Bank101/account/2026/november");
    assert_eq!(files.ensure_folder("/2026//november/").await.unwrap(), folder);
    for name in ["c.txt", "a.txt", "b.txt"] {
        store(&files, Target { folder: "2026".to_owned(), ..target(name) }, "x").await.unwrap();
    }
    let at = |name: &str| format!("/Administrative/Bank101/account/2026/{name}");
    assert_eq!(names(&files, "2026").await, [at("a.txt"), at("b.txt"), at("c.txt"), at("november/")]);
    assert_eq!(names(&files, "2026/november").await, [""; 0]);
    // Nothing leads out of the account's folder.
    assert_eq!(
        files.ensure_folder("../../elsewhere").await.unwrap().path,
        "/Administrative/Bank101/account/file/file/elsewhere"
    );
    files.add_references(&id(folder.id.as_str()), vec![reference("album")]).await.unwrap();
    assert_eq!(files.describe(&id(folder.id.as_str())).await.unwrap().references, [reference("album")]);
    let refusals = [
        error_text(files.list_folder("2026/a.txt", 1, None).await),
        error_text(files.ensure_folder("2026/a.txt").await),
        error_text(files.open(&id(folder.id.as_str())).await.map(drop)),
        error_text(files.trash(vec![id(folder.id.as_str())]).await),
        error_text(files.move_file(&id(folder.id), "", "x").await),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    Invalid("folder: 'a.txt' is a file, not a folder")
    Conflict("'a.txt' is a file, not a directory")
    NotFound("'november' is a directory and has no content")
    Invalid("locators: only files can be moved to the trash, not folders")
    Invalid("locator: only files can be moved, not folders")
    "#);
}

#[tokio::test]
async fn a_file_is_moved_within_the_accounts_folder_only() {
    let run = TestRun::unrestricted().await;
    let files = run.files();
    store(&files, target("a.txt"), "a").await.unwrap();
    store(&files, target("b.txt"), "b").await.unwrap();
    let moved = |name: &'static str, to: &'static str| {
        let files = run.files();
        async move { files.move_file(&key(name), "old", to).await.unwrap().path }
    };
    assert_eq!(moved("a.txt", "x/1.txt").await, "/Administrative/Bank101/account/old/x-1.txt");
    assert_eq!(moved("a.txt", "1.txt").await, "/Administrative/Bank101/account/old/1.txt");
    assert_eq!(moved("b.txt", "1.txt").await, "/Administrative/Bank101/account/old/1 (2).txt");
    assert_eq!(moved("b.txt", "2.txt").await, "/Administrative/Bank101/account/old/2.txt");
    assert_eq!(
        files.lookup(vec!["a.txt".to_owned()]).await.unwrap()[0].as_ref().unwrap().path,
        "/Administrative/Bank101/account/old/1.txt"
    );

    // The user moves one of them.
    let (scope, file) = (&run.scope, files.lookup(vec!["a.txt".to_owned()]).await.unwrap().remove(0).unwrap());
    let root = scope.domain.files().get(&scope.instance, konnector_files::ROOT_ID).unwrap();
    scope.domain.files().move_to_free_name(&scope.instance, &file.id, &root, "mine.txt").await.unwrap();
    let refusals = [
        error_text(files.move_file(&key("a.txt"), "", "a.txt").await),
        error_text(files.move_file(&key("none"), "", "a.txt").await),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    Denied("the file /mine.txt is outside the folder /Administrative/Bank101/account; only files in this folder can be moved")
    NotFound("there is no file with the key 'none'")
    "#);
    assert_eq!(store(&files, target("a.txt"), "new").await.unwrap().file.path, "/mine.txt");
}

#[tokio::test]
async fn rules_are_checked_by_verb() {
    let run = TestRun::with_rules(json!({ "files": { "type": "io.cozy.files", "verbs": ["GET", "POST"] } })).await;
    let files = run.files();
    assert_eq!(files.check_save().await, Ok(()));
    store(&files, target("a.txt"), "a").await.unwrap();
    let file = key("a.txt");
    let refusals = [
        error_text(store(&files, target("a.txt"), "b").await),
        error_text(files.merge_metadata(&file, Object::new()).await),
        error_text(files.add_references(&file, vec![reference("1")]).await),
        error_text(files.remove_references(&file, vec![reference("1")]).await),
        error_text(files.move_file(&file, "", "b.txt").await),
        error_text(files.trash(vec![file]).await),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    Denied("the manifest has no rule for PUT on io.cozy.files; add to \"permissions\": \"files2\": { \"type\": \"io.cozy.files\", \"verbs\": [\"PUT\"] }")
    Denied("the manifest has no rule for PATCH on io.cozy.files; add to \"permissions\": \"files2\": { \"type\": \"io.cozy.files\", \"verbs\": [\"PATCH\"] }")
    Denied("the manifest has no rule for PATCH on io.cozy.files; add to \"permissions\": \"files2\": { \"type\": \"io.cozy.files\", \"verbs\": [\"PATCH\"] }")
    Denied("the manifest has no rule for PATCH on io.cozy.files; add to \"permissions\": \"files2\": { \"type\": \"io.cozy.files\", \"verbs\": [\"PATCH\"] }")
    Denied("the manifest has no rule for PATCH on io.cozy.files; add to \"permissions\": \"files2\": { \"type\": \"io.cozy.files\", \"verbs\": [\"PATCH\"] }")
    Denied("the manifest has no rule for DELETE on io.cozy.files; add to \"permissions\": \"files2\": { \"type\": \"io.cozy.files\", \"verbs\": [\"DELETE\"] }")
    "#);

    let run = TestRun::with_rules(json!({ "bills": { "type": "io.cozy.bills" } })).await;
    let (files, file) = (run.files(), key("a.txt"));
    let refusals = [
        error_text(files.check_save().await),
        error_text(files.lookup(Vec::new()).await),
        error_text(files.open(&file).await.map(drop)),
        error_text(files.describe(&file).await),
        error_text(files.list_folder("", 1, None).await),
        error_text(files.ensure_folder("x").await),
        error_text(files.begin_upload(target("a.txt")).await.map(drop)),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    Denied("the manifest has no rule for GET on io.cozy.files; add to \"permissions\": \"files\": { \"type\": \"io.cozy.files\", \"verbs\": [\"GET\"] }")
    Denied("the manifest has no rule for GET on io.cozy.files; add to \"permissions\": \"files\": { \"type\": \"io.cozy.files\", \"verbs\": [\"GET\"] }")
    Denied("the manifest has no rule for GET on io.cozy.files; add to \"permissions\": \"files\": { \"type\": \"io.cozy.files\", \"verbs\": [\"GET\"] }")
    Denied("the manifest has no rule for GET on io.cozy.files; add to \"permissions\": \"files\": { \"type\": \"io.cozy.files\", \"verbs\": [\"GET\"] }")
    Denied("the manifest has no rule for GET on io.cozy.files; add to \"permissions\": \"files\": { \"type\": \"io.cozy.files\", \"verbs\": [\"GET\"] }")
    Denied("the manifest has no rule for POST on io.cozy.files; add to \"permissions\": \"files\": { \"type\": \"io.cozy.files\", \"verbs\": [\"POST\"] }")
    Denied("the manifest has no rule for POST on io.cozy.files; add to \"permissions\": \"files\": { \"type\": \"io.cozy.files\", \"verbs\": [\"POST\"] }")
    "#);
}

#[tokio::test]
async fn a_run_without_its_lease_changes_no_file() {
    let run = TestRun::unrestricted().await;
    let files = run.files();
    let stored = store(&files, target("a.txt"), "a").await.unwrap();
    let before = files.describe(&key("a.txt")).await.unwrap();
    let mut upload = files.begin_upload(target("b.txt")).await.unwrap();
    upload.write("b".into()).await.unwrap();
    run.lose_lease().await;
    let file = id(stored.file.id);
    assert_eq!(upload.commit().await.unwrap_err(), CapabilityError::LeaseLost);
    assert_eq!(files.merge_metadata(&file, object(json!({ "a": 1 }))).await, Err(CapabilityError::LeaseLost));
    assert_eq!(files.add_references(&file, vec![reference("1")]).await, Err(CapabilityError::LeaseLost));
    assert_eq!(files.move_file(&file, "", "c.txt").await.unwrap_err(), CapabilityError::LeaseLost);
    assert_eq!(files.ensure_folder("new").await.unwrap_err(), CapabilityError::LeaseLost);
    assert_eq!(files.trash(vec![file]).await, Err(CapabilityError::LeaseLost));
    assert_eq!(files.describe(&key("a.txt")).await.unwrap(), before);
    let trash = run.scope.domain.files().children(&run.scope.instance, TRASH_ID, None, 10).unwrap();
    assert!(trash.is_empty());
}

/// Replaces the bytes of a content, or deletes it.
async fn damage(run: &TestRun, key: &str, bytes: Option<&'static str>) {
    let domain = &run.scope.domain;
    let file = domain.files().get(&run.scope.instance, &run.scope.id_for_key("file by key", key)).unwrap();
    let blob = file.content.unwrap().blob;
    domain.core().store().blobs().remove(&blob).await.unwrap();
    if let Some(bytes) = bytes {
        let mut writer = domain.core().store().blobs().create_as(blob).await.unwrap();
        writer.write(bytes.into()).await.unwrap();
        writer.finish().await.unwrap();
    }
}

/// If a content is damaged in any way, the look-up does not find it, the konnector fetches it again, and nothing
/// unreadable remains.
#[tokio::test]
async fn a_lost_content_is_fetched_again() {
    for (name, lost) in [("missing", None), ("cut", Some("the con")), ("flipped", Some("the contenT"))] {
        let run = TestRun::unrestricted().await;
        let files = run.files();
        store(&files, target("a.txt"), "the content").await.unwrap();
        store(&files, target("b.txt"), "the other content").await.unwrap();
        damage(&run, "a.txt", lost).await;
        let found = files.lookup(vec!["a.txt".to_owned(), "b.txt".to_owned()]).await.unwrap();
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true], "{name}");
        let read = match files.open(&key("a.txt")).await {
            Err(error) => Err(error),
            Ok(mut open) => open.read(0, 100).await.map(drop),
        };
        assert!(read.is_err(), "{name}");

        let again = store(&files, target("a.txt"), "the content").await.unwrap();
        assert_eq!(again.outcome, SaveOutcome::Updated, "{name}");
        assert_eq!(
            store(&files, target("a.txt"), "the content").await.unwrap().outcome,
            SaveOutcome::Unchanged,
            "{name}"
        );
        assert!(files.lookup(vec!["a.txt".to_owned()]).await.unwrap()[0].is_some(), "{name}");
        let mut problems = Vec::new();
        let told = &mut |event: konnector_store::FsckProgress<'_>| {
            if let konnector_store::FsckProgress::Found(problem) = event {
                problems.push(problem.to_string());
            }
        };
        let check = konnector_store::FsckOptions { deep: true, repair: false };
        run.scope.domain.core().store().fsck(&konnector_platform::Schema, check, told).await.unwrap();
        assert_eq!(problems, [""; 0], "{name}");
    }
}
