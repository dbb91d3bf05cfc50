//! A user moves, renames, trashes and deletes the folder and the files of a run during the run. Nothing is lost, and no
//! file of the user becomes the konnector's.

use konnector_sandbox::capability::{Files, SavedFile, Target, Upload};
use konnector_store::FsckOptions;
use tokio::task::JoinSet;

use super::*;
use konnector_files::{File, FilePatch, NewDirectory, ROOT_ID};
use konnector_platform::Schema;

const FOLDER: &str = "/Administrative/Bank101/account";

async fn begin_upload(files: &RunFiles, name: &str) -> Box<dyn Upload> {
    let (name, key) = (name.to_owned(), Some(name.to_owned()));
    let target = Target { name, key, folder: "2026".to_owned(), ..Target::default() };
    let mut upload = files.begin_upload(target).await.unwrap();
    upload.write("content".into()).await.unwrap();
    upload
}

async fn save(files: &RunFiles, name: &str) -> Result<SavedFile, CapabilityError> {
    begin_upload(files, name).await.commit().await
}

impl TestRun {
    fn file_at(&self, path: &str) -> File {
        self.scope
            .domain
            .files()
            .get_by_path(&self.scope.instance, path)
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn rename(&self, file: &File, name: &str, dir_id: &str) {
        let patch = FilePatch { name: Some(name.to_owned()), dir_id: Some(dir_id.to_owned()), ..FilePatch::default() };
        self.scope.domain.files().patch(&self.scope.instance, &file.id, None, &patch).await.unwrap();
    }

    async fn trash(&self, file: &File) {
        self.scope.domain.files().trash(&self.scope.instance, &file.id, None, &Object::new()).await.unwrap();
    }

    async fn destroy(&self, file: &File) {
        self.trash(file).await;
        self.scope.domain.files().destroy(&self.scope.instance, &file.id, None).await.unwrap();
    }

    async fn assert_fsck_clean(&self) {
        let mut problems = Vec::new();
        let told = &mut |event: konnector_store::FsckProgress<'_>| {
            if let konnector_store::FsckProgress::Found(problem) = event {
                problems.push(problem.to_string());
            }
        };
        self.scope.domain.core().store().fsck(&Schema, FsckOptions { deep: true, repair: false }, told).await.unwrap();
        assert_eq!(problems, [""; 0]);
    }
}

#[tokio::test]
async fn files_go_to_where_the_user_moves_the_folder() {
    let run = TestRun::unrestricted().await;
    let files = run.files();
    save(&files, "a.txt").await.unwrap();
    let folder = run.file_at(FOLDER);
    let to = run.scope.domain.files().ensure_directory(&run.scope.instance, "/Bills").await.unwrap();
    run.rename(&folder, "My bank", &to.id).await;
    assert_eq!(save(&files, "b.txt").await.unwrap().file.path, "/Bills/My bank/2026/b.txt");
    assert_eq!(files.ensure_folder("2027").await.unwrap().path, "/Bills/My bank/2027");
    assert_eq!(files.list_folder("2026", 9, None).await.unwrap().entries.len(), 2);
    let moved = files.move_file(&key("a.txt"), "2027", "c.txt").await.unwrap();
    assert_eq!(moved.path, "/Bills/My bank/2027/c.txt");
    // The user also renames entries in it.
    run.rename(&run.file_at("/Bills/My bank/2026"), "old", &folder.id).await;
    assert_eq!(save(&files, "d.txt").await.unwrap().file.path, "/Bills/My bank/2026/d.txt");
    assert_eq!(save(&files, "b.txt").await.unwrap().file.path, "/Bills/My bank/old/b.txt");
    assert!(run.scope.domain.files().get_by_path(&run.scope.instance, FOLDER).is_err(), "no second folder is made");
    run.assert_fsck_clean().await;
}

#[tokio::test]
async fn a_folder_that_the_user_removes_is_made_and_marked_again() {
    let run = TestRun::unrestricted().await;
    let files = run.files();
    save(&files, "a.txt").await.unwrap();
    for gone in [true, false] {
        let former = run.file_at(FOLDER);
        let waiting = begin_upload(&files, "b.txt").await;
        if gone {
            run.destroy(&former).await
        } else {
            run.trash(&former).await
        }
        assert_eq!(files.list_folder("2026", 9, None).await.unwrap().entries.len(), 0);
        let stored = waiting.commit().await.unwrap();
        assert_eq!(stored.file.path, format!("{FOLDER}/2026/b.txt"));
        let folder = run.file_at(FOLDER);
        assert_ne!(folder.id, former.id);
        assert_eq!(folder.referenced_by.len(), 2);
    }
    // A file in the trash is restored with its content, into the existing folder.
    assert_eq!(save(&files, "a.txt").await.unwrap().file.path, format!("{FOLDER}/2026/a.txt"));
    run.assert_fsck_clean().await;
}

/// Folders that the user creates while the run starts remain the user's.
#[tokio::test]
async fn a_folder_that_the_user_makes_meanwhile_is_not_marked() {
    let run = Arc::new(TestRun::unrestricted().await);
    let above =
        run.scope.domain.files().ensure_directory(&run.scope.instance, "/Administrative/Bank101").await.unwrap();
    for first in [true, false] {
        let files = Arc::new(run.files());
        let mut racing = JoinSet::new();
        let saved = {
            let files = Arc::clone(&files);
            async move { save(&files, "a.txt").await.map(drop).is_ok() }
        };
        let made = {
            let (run, above) = (Arc::clone(&run), above.id.clone());
            async move {
                let new = NewDirectory { name: "account".to_owned(), ..NewDirectory::default() };
                run.scope.domain.files().create_directory_with(&run.scope.instance, &above, new).await.is_ok()
            }
        };
        let (saving, making) = if first {
            let saving = racing.spawn(saved).id();
            (saving, racing.spawn(made).id())
        } else {
            let making = racing.spawn(made).id();
            (racing.spawn(saved).id(), making)
        };
        let mut ended = std::collections::HashMap::new();
        while let Some(one) = racing.join_next_with_id().await {
            let (id, done) = one.unwrap();
            ended.insert(id, done);
        }
        assert!(ended[&saving]);
        let folder = run.file_at(FOLDER);
        assert_eq!(folder.referenced_by.is_empty(), ended[&making], "made by the user: {}", ended[&making]);
        run.destroy(&folder).await;
        let account = run.scope.domain.accounts().get(&run.scope.instance, "account").unwrap();
        assert_eq!(account.body["defaultFolderPath"], FOLDER);
    }
    run.assert_fsck_clean().await;
}

#[tokio::test]
async fn a_file_is_saved_whatever_the_user_does_with_the_former_one() {
    let run = TestRun::unrestricted().await;
    let files = run.files();
    save(&files, "a.txt").await.unwrap();
    let former = run.file_at(&format!("{FOLDER}/2026/a.txt"));
    let waiting = begin_upload(&files, "a.txt").await;
    run.rename(&former, "mine.txt", ROOT_ID).await;
    assert_eq!(waiting.commit().await.unwrap().file.path, "/mine.txt", "it stays where the user put it");
    let waiting = begin_upload(&files, "a.txt").await;
    run.trash(&former).await;
    assert_eq!(waiting.commit().await.unwrap().file.path, format!("{FOLDER}/2026/a.txt"));
    let waiting = begin_upload(&files, "a.txt").await;
    run.destroy(&former).await;
    assert_eq!(waiting.commit().await.unwrap().file.path, format!("{FOLDER}/2026/a.txt"));
    assert!(matches!(files.open(&key("a.txt")).await, Ok(open) if open.size() == 7));
    run.assert_fsck_clean().await;
}

/// After concurrent operations, every saved file exists, with its content.
#[tokio::test]
async fn nothing_that_was_saved_is_lost() {
    let run = Arc::new(TestRun::unrestricted().await);
    let files = Arc::new(run.files());
    save(&files, "first.txt").await.unwrap();
    for round in 0..6 {
        let folder = run.file_at(FOLDER);
        let mut racing = JoinSet::new();
        for number in 0..4 {
            let files = Arc::clone(&files);
            racing.spawn(async move { Some(save(&files, &format!("{number}.txt")).await.unwrap().file.id) });
        }
        let (user, files_again) = (Arc::clone(&run), Arc::clone(&files));
        racing.spawn(async move {
            let to = user
                .scope
                .domain
                .files()
                .ensure_directory(&user.scope.instance, &format!("/moved/{round}"))
                .await
                .unwrap();
            match round % 3 {
                0 => user.rename(&folder, "elsewhere", &to.id).await,
                1 => user.trash(&folder).await,
                _ => user.rename(&folder, &format!("renamed {round}"), &folder.dir_id).await,
            }
            None
        });
        let saved = racing.join_all().await.into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(saved.len(), 4);
        for id in saved {
            let file = run.scope.domain.files().get(&run.scope.instance, &id).unwrap();
            assert_eq!(run.scope.domain.files().read_content(&file).await.unwrap(), b"content");
        }
        run.assert_fsck_clean().await;
        // The folder is back at its path for the next round.
        save(&files_again, "first.txt").await.unwrap();
        if run.scope.domain.files().get_by_path(&run.scope.instance, FOLDER).is_err() {
            let now = files.ensure_folder("").await.unwrap();
            let now = run.scope.domain.files().get(&run.scope.instance, &now.id).unwrap();
            let above = run
                .scope
                .domain
                .files()
                .ensure_directory(&run.scope.instance, "/Administrative/Bank101")
                .await
                .unwrap();
            run.rename(&now, "account", &above.id).await;
        }
    }
}
