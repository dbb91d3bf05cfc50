//! Many concurrent changes of the file tree. Regardless of their results, the tree stays consistent.
//!
//! Tasks on one thread plan their changes at the same time, each from the state that it sees, and commit one after the
//! other. No plan takes another into account.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use tokio::task::JoinSet;

use super::*;
use crate::file::{FileKind, FilePatch, NewDirectory, ROOT_ID, TRASH_ID};
use crate::stored::Stored;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A change. Numbers select among the files that exist when it begins.
#[derive(Debug, Clone)]
enum TreeChange {
    Directory {
        within: usize,
        name: &'static str,
    },
    Ensure {
        names: Vec<&'static str>,
    },
    File {
        within: usize,
        name: &'static str,
    },
    Copy {
        what: usize,
        within: usize,
    },
    Move {
        what: usize,
        to: usize,
    },
    Rename {
        what: usize,
        name: &'static str,
    },
    /// A move as a run does it, which may replace a file.
    MoveOver {
        what: usize,
        to: usize,
        name: &'static str,
    },
    Trash {
        what: usize,
    },
    Restore {
        what: usize,
    },
    Destroy {
        what: usize,
    },
    EmptyTrash,
}

fn change() -> impl Strategy<Value = TreeChange> {
    let (n, name) = (0..12_usize, proptest::sample::select(&NAMES[..]));
    prop_oneof![
        4 => (n.clone(), name.clone()).prop_map(|(within, name)| TreeChange::Directory { within, name }),
        1 => proptest::collection::vec(name.clone(), 1..4).prop_map(|names| TreeChange::Ensure { names }),
        2 => (n.clone(), name.clone()).prop_map(|(within, name)| TreeChange::File { within, name }),
        1 => (n.clone(), n.clone()).prop_map(|(what, within)| TreeChange::Copy { what, within }),
        6 => (n.clone(), n.clone()).prop_map(|(what, to)| TreeChange::Move { what, to }),
        2 => (n.clone(), name.clone()).prop_map(|(what, name)| TreeChange::Rename { what, name }),
        2 => (n.clone(), n.clone(), name).prop_map(|(what, to, name)| TreeChange::MoveOver { what, to, name }),
        2 => n.clone().prop_map(|what| TreeChange::Trash { what }),
        1 => n.clone().prop_map(|what| TreeChange::Restore { what }),
        1 => n.prop_map(|what| TreeChange::Destroy { what }),
        1 => Just(TreeChange::EmptyTrash),
    ]
}

impl RaceFixture {
    /// Returns all files and directories except the trash, in the order of their creation.
    fn files(&self) -> Vec<File> {
        let listed = self.platform.core().store().list(&self.instance.id, &FILES, None, 1_000).unwrap();
        let read = |document| Stored::<File>::from_document(&FILES, document).unwrap();
        let files = listed.into_iter().map(|document| File { id: document.id.clone(), ..read(document).value });
        files.filter(|file| file.id != TRASH_ID).collect()
    }

    async fn blob(&self, content: &'static str) -> konnector_store::BlobInfo {
        let mut writer = self.platform.core().store().blobs().create().await.unwrap();
        writer.write(content.into()).await.unwrap();
        writer.finish().await.unwrap()
    }

    /// Applies a change.
    async fn apply(&self, files: &[File], change: TreeChange) -> Result<(), Error> {
        let (platform, instance) = (&self.platform, &self.instance);
        let file = |n: usize| &files[n % files.len()];
        let patch = |patch: FilePatch, what: usize| async move {
            platform.files().patch(instance, &file(what).id, None, &patch).await.map(drop)
        };
        match change {
            TreeChange::Directory { within, name } => {
                let new = NewDirectory { name: name.to_owned(), ..NewDirectory::default() };
                platform.files().create_directory_with(instance, &file(within).id, new).await.map(drop)
            }
            TreeChange::Ensure { names } => {
                platform.files().ensure_directory(instance, &format!("/{}", names.join("/"))).await.map(drop)
            }
            TreeChange::File { within, name } => {
                let new = NewContent::with_new_id(file(within).id.clone(), name.to_owned(), "text/plain".to_owned());
                platform.files().create(instance, &new, &self.blob("content").await).await.map(drop)
            }
            TreeChange::Copy { what, within } => {
                platform.files().copy(instance, file(what), None, Some(&file(within).id)).await.map(drop)
            }
            TreeChange::Move { what, to } => {
                patch(FilePatch { dir_id: Some(file(to).id.clone()), ..FilePatch::default() }, what).await
            }
            TreeChange::Rename { what, name } => {
                patch(FilePatch { name: Some(name.to_owned()), ..FilePatch::default() }, what).await
            }
            TreeChange::MoveOver { what, to, name } => {
                if file(what).id == ROOT_ID || file(to).kind == FileKind::File {
                    return Ok(());
                }
                let over = platform.files().child(instance, &file(to).id, name)?;
                let over = over.filter(|over| over.kind == file(what).kind && over.id != file(what).id);
                platform.files().relocate(instance, file(what), file(to), name, over.as_ref()).await
            }
            TreeChange::Trash { what } => {
                platform.files().trash(instance, &file(what).id, None, &Object::new()).await.map(drop)
            }
            TreeChange::Restore { what } => platform.files().restore(instance, &file(what).id, None).await.map(drop),
            TreeChange::Destroy { what } => platform.files().destroy(instance, &file(what).id, None).await,
            TreeChange::EmptyTrash => platform.files().empty_trash(instance).await,
        }
    }

    /// Applies changes concurrently; returns their results.
    async fn apply_concurrently(self: &Arc<Self>, changes: Vec<TreeChange>) -> Vec<Result<(), Error>> {
        let files = Arc::new(self.files());
        let mut racing = JoinSet::new();
        let count = changes.len();
        for (number, change) in changes.into_iter().enumerate() {
            let (site, files) = (Arc::clone(self), Arc::clone(&files));
            racing.spawn(async move { (number, site.apply(&files, change).await) });
        }
        let ended: BTreeMap<usize, Result<(), Error>> = racing.join_all().await.into_iter().collect();
        assert_eq!(ended.len(), count);
        ended.into_values().collect()
    }

    /// Asserts that every path is the parent directory's path plus the name, no directory contains itself, and names
    /// are unique in a directory.
    async fn assert_tree(&self) {
        let files = self.files();
        let trash = self.platform.files().get(&self.instance, TRASH_ID).unwrap();
        let by_id: BTreeMap<&str, &File> = files.iter().chain([&trash]).map(|file| (file.id.as_str(), file)).collect();
        let mut places = HashSet::new();
        for file in by_id.values().filter(|file| file.id != ROOT_ID) {
            assert!(places.insert((&file.dir_id, &file.name)), "two are called {} in {}", file.name, file.dir_id);
            let directory = by_id.get(file.dir_id.as_str());
            let directory = directory.unwrap_or_else(|| panic!("'{}' lies in nothing", file.name));
            let above = directory.path.as_deref().unwrap_or_else(|| panic!("'{}' lies in a file", file.name));
            if file.kind == FileKind::Directory {
                let path = format!("{}/{}", above.trim_end_matches('/'), file.name);
                assert_eq!(file.path.as_deref(), Some(path.as_str()));
            }
            let (mut at, mut steps) = (*file, 0);
            while at.id != ROOT_ID {
                at = by_id[at.dir_id.as_str()];
                steps += 1;
                assert!(steps < 100, "'{}' lies in itself", file.name);
            }
        }
        self.assert_fsck_clean().await;
    }
}

/// Runs a test on a runtime with one thread, plus one for blocking work.
fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_stays_one_whoever_changes_it_at_the_same_time(
        rounds in proptest::collection::vec(proptest::collection::vec(change(), 1..6), 1..12),
    ) {
        block_on(async {
            let site = Arc::new(RaceFixture::new().await);
            site.platform.files().ensure_directory(&site.instance, "/a/b/c").await.unwrap();
            site.platform.files().ensure_directory(&site.instance, "/d/a").await.unwrap();
            for round in rounds {
                let told = format!("{round:?}");
                for ended in site.apply_concurrently(round).await {
                    let known = matches!(
                        ended,
                        Ok(()) | Err(Error::NotFound(_) | Error::Conflict(_) | Error::BadRequest(_)
                            | Error::PreconditionFailed { .. } | Error::TooLarge(_) | Error::InvalidParameter { .. })
                    );
                    assert!(known, "{ended:?} of {told}");
                }
                site.assert_tree().await;
            }
        });
    }
}

/// Creates a fixture with some directories, and a function that finds them by path.
async fn with_directories(paths: &[&str]) -> (Arc<RaceFixture>, impl Fn(&str) -> usize) {
    let site = Arc::new(RaceFixture::new().await);
    for path in paths {
        site.platform.files().ensure_directory(&site.instance, path).await.unwrap();
    }
    let files = site.files();
    let numbered = move |path: &str| files.iter().position(|file| file.path.as_deref() == Some(path)).unwrap();
    (site, numbered)
}

#[tokio::test]
async fn two_directories_that_are_moved_into_each_other_make_no_cycle() {
    let (site, at) = with_directories(&["/a", "/b"]).await;
    let ended = site
        .apply_concurrently(vec![
            TreeChange::Move { what: at("/a"), to: at("/b") },
            TreeChange::Move { what: at("/b"), to: at("/a") },
        ])
        .await;
    assert!(matches!(&ended[..], [Ok(()), Err(Error::PreconditionFailed { name: "dir-id", .. })]), "{ended:?}");
    site.assert_tree().await;
    assert!(site.platform.files().get_by_path(&site.instance, "/b/a").is_ok());
}

/// The later operation finds the directory where it is at that time.
#[tokio::test]
async fn what_is_made_beside_the_move_of_a_directory_lies_in_it() {
    let (site, at) = with_directories(&["/a/b", "/d"]).await;
    let ended = site
        .apply_concurrently(vec![
            TreeChange::Move { what: at("/a"), to: at("/d") },
            TreeChange::Directory { within: at("/a/b"), name: "c" },
            TreeChange::File { within: at("/a/b"), name: "d" },
            TreeChange::Rename { what: at("/a/b"), name: "e" },
        ])
        .await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    site.assert_tree().await;
    for path in ["/d/a/e/c", "/d/a/e/d"] {
        site.platform.files().get_by_path(&site.instance, path).unwrap();
    }
    // And in the other order.
    let (site, at) = with_directories(&["/a/b", "/d"]).await;
    let ended = site
        .apply_concurrently(vec![
            TreeChange::Directory { within: at("/a/b"), name: "c" },
            TreeChange::Move { what: at("/a"), to: at("/d") },
        ])
        .await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    site.assert_tree().await;
    site.platform.files().get_by_path(&site.instance, "/d/a/b/c").unwrap();
}

#[tokio::test]
async fn what_comes_into_a_directory_beside_its_removal_is_refused() {
    let (site, at) = with_directories(&["/a/b"]).await;
    let what = at("/a");
    let ended = site
        .apply_concurrently(vec![
            TreeChange::Trash { what },
            TreeChange::File { within: at("/a/b"), name: "c" },
            TreeChange::Directory { within: what, name: "c" },
        ])
        .await;
    assert!(matches!(&ended[..], [Ok(()), Err(Error::NotFound(_)), Err(Error::NotFound(_))]), "{ended:?}");
    site.assert_tree().await;
    // It is deleted even if something in it is restored in the meantime.
    let b = site.files().into_iter().position(|file| file.name == "b").unwrap();
    let ended = site.apply_concurrently(vec![TreeChange::Restore { what: b }, TreeChange::Destroy { what }]).await;
    let [restored, Ok(())] = &ended[..] else { panic!("{ended:?}") };
    let is_there = site.files().iter().any(|file| file.name == "b");
    assert_eq!(restored.is_ok(), is_there, "{ended:?}");
    site.assert_tree().await;
}

/// A trashed file is restored to the new location of its directory.
#[tokio::test]
async fn a_file_that_is_trashed_beside_the_move_of_its_directory_remembers_the_right_one() {
    let (site, at) = with_directories(&["/a", "/d"]).await;
    let (a, d) = (at("/a"), at("/d"));
    site.apply_concurrently(vec![TreeChange::File { within: a, name: "c" }]).await;
    let file = site.platform.files().get_by_path(&site.instance, "/a/c").unwrap();
    let c = site.files().iter().position(|other| other.id == file.id).unwrap();
    let ended = site.apply_concurrently(vec![TreeChange::Move { what: a, to: d }, TreeChange::Trash { what: c }]).await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    let file = site.platform.files().get(&site.instance, &file.id).unwrap();
    assert_eq!(file.restore_path.as_deref(), Some("/d/a"));
}

/// The longest name is not truncated by the number that it gets in the trash.
#[tokio::test]
async fn a_restored_file_has_its_own_name_again() {
    let (site, at) = with_directories(&["/a/x", "/b/x"]).await;
    let (platform, instance) = (&site.platform, &site.instance);
    let long: &'static str = format!("{}.pdf", "l".repeat(251)).leak();
    for within in [at("/a"), at("/b")] {
        site.apply_concurrently(vec![TreeChange::File { within, name: long }])
            .await
            .into_iter()
            .for_each(Result::unwrap);
    }
    for name in [long, "x"] {
        let mut ids = Vec::new();
        for directory in ["a", "b"] {
            let file = platform.files().get_by_path(instance, &format!("/{directory}/{name}")).unwrap();
            platform.files().trash(instance, &file.id, None, &Object::new()).await.unwrap();
            ids.push(file.id);
        }
        let numbered = platform.files().get(instance, &ids[1]).unwrap();
        assert_ne!(numbered.name, name);
        assert!(
            !json!(crate::stored::without_reserved_fields(crate::stored::to_object(&numbered).unwrap()))
                .to_string()
                .contains("restore_name")
        );
        let restored = platform.files().restore(instance, &ids[1], None).await.unwrap();
        assert_eq!((restored.name.as_str(), restored.restore_name), (name, None));
        // Another file took the name in the meantime.
        let b = platform.files().get_by_path(instance, "/b").unwrap();
        platform
            .files()
            .patch(instance, &ids[1], None, &FilePatch { dir_id: Some(ROOT_ID.to_owned()), ..FilePatch::default() })
            .await
            .unwrap();
        platform
            .files()
            .patch(instance, &ids[1], None, &FilePatch { dir_id: Some(b.id), ..FilePatch::default() })
            .await
            .unwrap();
        platform.files().restore(instance, &ids[0], None).await.unwrap();
    }
    // A file of a directory that had a number in the trash is restored under the directory's original name.
    let file = site.platform.files().ensure_directory(instance, "/b/x/below").await.unwrap();
    for path in ["/a/x", "/b/x"] {
        let directory = platform.files().get_by_path(instance, path).unwrap();
        platform.files().trash(instance, &directory.id, None, &Object::new()).await.unwrap();
    }
    platform.files().restore(instance, &file.id, None).await.unwrap();
    assert_eq!(platform.files().get_by_path(instance, "/b/x/below").unwrap().id, file.id);
    site.assert_tree().await;
}

/// No file is added to an instance during its deletion.
#[tokio::test]
async fn an_upload_that_ends_after_its_instance_is_refused() {
    let site = RaceFixture::new().await;
    let (platform, instance) = (&site.platform, &site.instance);
    let former = site.file("former.txt", &["one"]).await;
    let new = NewContent::with_new_id(ROOT_ID.to_owned(), "a.txt".to_owned(), "text/plain".to_owned());
    let [blob, other] = [site.blob("late").await, site.blob("later").await];
    platform.delete_instance("ada.example").await.unwrap();
    let late = platform.files().create(instance, &new, &blob).await;
    assert!(matches!(late, Err(Error::NotFound(_))), "{late:?}");
    let new = NewContent { id: former.id, ..new };
    let late = platform.files().overwrite(instance, &new, &other).await;
    assert!(matches!(late, Err(Error::NotFound(_))), "{late:?}");
    let job = platform.jobs().push(instance, client_job()).await;
    assert!(matches!(job, Err(Error::NotFound(_))), "{job:?}");
    assert!(platform.core().store().doctypes(&instance.id).unwrap().is_empty());
    assert!(platform.core().store().blobs().list().await.unwrap().is_empty());
    site.assert_fsck_clean().await;
}

/// Like the previous test, but planned while the instance existed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_commits_beside_the_removal_of_its_instance_is_refused() {
    let site = RaceFixture::new().await;
    let (platform, instance) = (site.platform.clone(), site.instance.clone());
    let blob = site.blob("late").await;
    let new = NewContent::with_new_id(ROOT_ID.to_owned(), "a.txt".to_owned(), "text/plain".to_owned());
    // It is deleted after the upload found its directory for the last time.
    let (remover, runtime) = (platform.clone(), tokio::runtime::Handle::current());
    site.kv.before_commit(move || {
        tokio::task::block_in_place(|| runtime.block_on(remover.delete_instance("ada.example"))).unwrap();
    });
    let late = platform.files().create(&instance, &new, &blob).await;
    assert!(matches!(late, Err(Error::NotFound(_))), "{late:?}");
    assert!(platform.core().store().doctypes(&instance.id).unwrap().is_empty());
    assert!(platform.core().store().blobs().list().await.unwrap().is_empty());
    site.assert_fsck_clean().await;
}

/// A bad state left by an earlier version or a manual change is found, and the move that the check advises repairs it.
#[tokio::test]
async fn fsck_finds_what_does_not_fit_and_a_move_mends_it() {
    let (site, at) = with_directories(&["/a/x", "/b", "/c", "/d/e"]).await;
    let (platform, instance, files) = (&site.platform, &site.instance, site.files());
    let id = |path: &str| files[at(path)].id.clone();
    site.apply_concurrently(vec![TreeChange::File { within: at("/d"), name: "d" }])
        .await
        .into_iter()
        .for_each(Result::unwrap);
    // Written without the platform: a is in b and b in a, c has a wrong path, d is missing.
    let mut changes = Changes::new();
    for (path, to, said) in
        [("/a", id("/b"), "/b/a"), ("/b", id("/a"), "/a/b"), ("/c", ROOT_ID.to_owned(), "/elsewhere")]
    {
        let file = &files[at(path)];
        let mut found = platform.core().store().get(&instance.doc(&FILES, file.id.as_str())).unwrap().unwrap();
        let name = &file.name;
        changes.remove_unique(&instance.id, "files.children", format!("{ROOT_ID}/{name}"));
        changes.put_unique(&instance.id, "files.children", format!("{to}/{name}"), file.id.as_str());
        found.body.insert("dir_id".to_owned(), json!(to));
        found.body.insert("path".to_owned(), json!(said));
        changes.put(instance.doc(&FILES, file.id.as_str()), &found.rev, found.body);
    }
    let gone = platform.core().store().get(&instance.doc(&FILES, id("/d"))).unwrap().unwrap();
    changes.remove_unique(&instance.id, "files.children", format!("{ROOT_ID}/d"));
    changes.delete(instance.doc(&FILES, id("/d")), &gone.rev);
    platform.core().store().commit(changes).await.unwrap();

    let mut found = Vec::new();
    let told = &mut |event: konnector_store::FsckProgress<'_>| {
        if let konnector_store::FsckProgress::Found(problem) = event {
            found.push((problem.to_string(), problem.advice()));
        }
    };
    platform.core().store().fsck(&Schema, FsckOptions { deep: false, repair: false }, told).await.unwrap();
    let mut reasons: Vec<_> =
        found.iter().map(|(problem, _)| problem.rsplit_once(": ").unwrap().1.to_owned()).collect();
    reasons.sort();
    let missing = format!("its directory '{}' does not exist", id("/d"));
    let below = "its stored path is '/a/x', but it is at '/b/a/x'";
    let elsewhere = "its stored path is '/elsewhere', but it is at '/c'";
    let expected = ["it contains itself", "it contains itself", &missing, &missing, below, elsewhere];
    assert_eq!(reasons, expected);
    let advice = "move it into an existing directory, which rewrites its path (PATCH /files/ID)";
    assert!(found.iter().all(|(_, told)| *told == advice), "{found:?}");

    let mend = platform.files().ensure_directory(instance, "/mended").await.unwrap();
    let lost = site.files().into_iter().filter(|file| file.dir_id == id("/d")).map(|file| file.id);
    for what in [id("/a"), id("/c")].into_iter().chain(lost) {
        let moved = FilePatch { dir_id: Some(mend.id.clone()), ..FilePatch::default() };
        platform.files().patch(instance, &what, None, &moved).await.unwrap();
    }
    site.assert_tree().await;
    for path in ["/mended/a/x", "/mended/a/b", "/mended/c", "/mended/d", "/mended/e"] {
        platform.files().get_by_path(instance, path).unwrap();
    }
}
