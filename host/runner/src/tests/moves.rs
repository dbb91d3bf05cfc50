//! A move never extends a run's permissions on a file.

use konnector_sandbox::capability::{ChildRef, Destination, Files as _, Tree as _, TreeError};

use super::*;
use crate::tree::RunTree;
use konnector_files::{File, Reference};

const ACCOUNT_FOLDER: &str = "/Administrative/Bank101/account";

/// A run that may read, create and move all files; tests choose its other permissions on a directory.
struct MoveFixture {
    run: TestRun,
    papers: File,
    own: File,
}

impl MoveFixture {
    async fn new() -> Self {
        let mut run = TestRun::unrestricted().await;
        let scope = Arc::get_mut(&mut run.scope).unwrap();
        let papers =
            scope.domain.files().ensure_directory(&scope.instance, &format!("{ACCOUNT_FOLDER}/papers")).await.unwrap();
        let own =
            scope.domain.files().ensure_directory(&scope.instance, &format!("{ACCOUNT_FOLDER}/own")).await.unwrap();
        let rules = json!({ "files": { "type": "io.cozy.files", "verbs": ["GET", "POST", "PATCH"] } });
        scope.permissions = Permissions::from_manifest(&object(rules)).unwrap();
        Self { run, papers, own }
    }

    /// The manifest gives every verb on `own`.
    async fn allowed_by_manifest() -> Self {
        let mut mover = Self::new().await;
        let scope = Arc::get_mut(&mut mover.run.scope).unwrap();
        let mut rules = scope.permissions.to_manifest();
        rules.insert("own".to_owned(), json!({ "type": "io.cozy.files", "values": [mover.own.id] }));
        scope.permissions = Permissions::from_manifest(&rules).unwrap();
        mover
    }

    /// `own` is the konnector's folder for another account, so its token gives every verb on it.
    async fn allowed_by_reference() -> Self {
        let mover = Self::new().await;
        let RunContext { domain, instance, konnector, permissions, .. } = &*mover.run.scope;
        let mut changes = Changes::new();
        domain.permissions().stage(instance, &konnector.slug, permissions, &mut changes).unwrap();
        domain.core().commit(changes).await.unwrap();
        domain.permissions().allow_referenced_folders(instance, &konnector.slug).await.unwrap();
        let reference = |doctype: &str, id: &str| Reference { doctype: doctype.to_owned(), id: id.to_owned() };
        let mark = [
            reference("io.cozy.konnectors", &konnector.doc_id()),
            reference("io.cozy.accounts.sourceAccountIdentifier", "bob"),
        ];
        domain.files().add_references(instance, &mover.own.id, &mark).await.unwrap();
        mover
    }

    async fn save(&self, directory: &File, name: &str) -> File {
        let tree = RunTree::new(&self.run.scope).unwrap();
        let mut draft = tree.create_draft().await.unwrap();
        draft.write(name.to_owned().into()).await.unwrap();
        let to = Destination::New { directory: directory.id.clone(), name: name.to_owned() };
        draft.commit(&to).await.unwrap();
        self.child(directory, name).unwrap()
    }

    fn child(&self, directory: &File, name: &str) -> Option<File> {
        self.run.scope.domain.files().child(&self.run.scope.instance, &directory.id, name).unwrap()
    }

    async fn rename(&self, (from, name): (&File, &str), (to, new): (&File, &str)) -> Result<(), TreeError> {
        let tree = RunTree::new(&self.run.scope).unwrap();
        tree.rename(ChildRef { directory: &from.id, name }, ChildRef { directory: &to.id, name: new }).await
    }
}

#[tokio::test]
async fn a_run_gains_nothing_by_a_move() {
    for mover in [MoveFixture::allowed_by_manifest().await, MoveFixture::allowed_by_reference().await] {
        let files = mover.run.files();
        let mine = mover.save(&mover.papers, "mine.txt").await;
        let bill = mover.save(&mover.own, "bill.txt").await;
        let refused = error_text(files.move_file(&id(mine.id.as_str()), "own", "mine.txt").await);
        assert!(refused.contains("would then allow PUT on it"), "{refused}");
        assert_eq!(mover.child(&mover.papers, "mine.txt").unwrap().id, mine.id);
        files.move_file(&id(mine.id.as_str()), "papers/2026", "mine.txt").await.unwrap();
        files.move_file(&id(bill.id.as_str()), "own/2026", "bill.txt").await.unwrap();
        files.move_file(&id(bill.id.as_str()), "papers", "bill.txt").await.unwrap();
    }
}

#[tokio::test]
async fn a_run_gains_nothing_by_a_rename() {
    for mover in [MoveFixture::allowed_by_manifest().await, MoveFixture::allowed_by_reference().await] {
        let MoveFixture { run, papers, own } = &mover;
        let mine = mover.save(papers, "mine.txt").await;
        mover.save(own, "bill.txt").await;
        let (domain, instance) = (&run.scope.domain, &run.scope.instance);
        let inner = domain.files().create_directory(instance, papers, "inner").await.unwrap();
        domain.files().create_directory(instance, own, "empty").await.unwrap();
        for (name, new) in [
            ("mine.txt", "mine.txt"),
            // Replacing another file.
            ("mine.txt", "bill.txt"),
            ("inner", "inner"),
        ] {
            let refused = mover.rename((papers, name), (own, new)).await;
            // The run's own rules do not allow it to write into the konnector's folder.
            let refusals = ["would then allow", "no rule for PUT on io.cozy.files"];
            let is_refusal = |why: &str| refusals.iter().any(|refusal| why.contains(refusal));
            assert!(matches!(&refused, Err(TreeError::Denied(why)) if is_refusal(why)), "{refused:?}");
        }
        assert!(mover.rename((papers, "inner"), (own, "empty")).await.is_err());
        assert_eq!(mover.child(papers, "mine.txt").unwrap().id, mine.id);
        // Allowed if no permission is gained.
        mover.rename((papers, "mine.txt"), (&inner, "yours.txt")).await.unwrap();
        mover.rename((own, "bill.txt"), (own, "2026.txt")).await.unwrap();
        mover.rename((own, "2026.txt"), (papers, "2026.txt")).await.unwrap();
    }
}

#[tokio::test]
async fn contents_take_put_and_names_take_patch() {
    let mut mover = MoveFixture::new().await;
    let papers = mover.papers.clone();
    let file = mover.save(&papers, "a.txt").await;
    mover.save(&papers, "b.txt").await;
    let write = async |mover: &MoveFixture| {
        let tree = RunTree::new(&mover.run.scope).unwrap();
        let to = Destination::Existing(file.id.clone());
        tree.check_write(&to).await?;
        let mut draft = tree.create_draft().await?;
        draft.write("another content".into()).await?;
        draft.commit(&to).await.map(drop)
    };
    let lacks = |done: Result<(), TreeError>, verb: &str| match done {
        Err(TreeError::Denied(why)) => assert!(why.contains(&format!("no rule for {verb} on io.cozy.files")), "{why}"),
        other => panic!("{other:?}"),
    };
    lacks(write(&mover).await, "PUT");
    mover.rename((&papers, "a.txt"), (&papers, "c.txt")).await.unwrap();
    // The file with that name gets new content.
    lacks(mover.rename((&papers, "c.txt"), (&papers, "b.txt")).await, "PUT");

    let rules = json!({ "files": { "type": "io.cozy.files", "verbs": ["GET", "POST", "PUT"] } });
    let scope = Arc::get_mut(&mut mover.run.scope).unwrap();
    scope.permissions = Permissions::from_manifest(&object(rules)).unwrap();
    write(&mover).await.unwrap();
    lacks(mover.rename((&papers, "c.txt"), (&papers, "d.txt")).await, "PATCH");
}
