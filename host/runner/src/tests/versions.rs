//! A run and the user write the same file in turn. The content of each becomes a version when the other replaces it.

use konnector_sandbox::capability::{ChildRef, Destination, Files as _, Target, Tree as _};
use konnector_store::BlobInfo;

use super::*;
use crate::tree::RunTree;
use konnector_files::{File, NewContent, upload_provenance};

/// A run that saved a file three times, the last time within the delay between two versions.
struct Saved {
    run: TestRun,
    id: String,
}

impl Saved {
    async fn new() -> Self {
        let run = TestRun::unrestricted().await;
        let id = save(&run, "first").await;
        save(&run, "second").await;
        let saved = Self { run, id };
        assert_eq!(saved.versions().await, ["first"], "the first version is kept");
        save(&saved.run, "third").await;
        assert_eq!(saved.versions().await, ["first"], "one writer leaves a version at times");
        saved
    }

    fn file(&self) -> File {
        self.run.scope.domain.files().get(&self.run.scope.instance, &self.id).unwrap()
    }

    /// Returns the contents of the versions, in the order of their creation.
    async fn versions(&self) -> Vec<String> {
        let RunContext { domain, instance, .. } = &*self.run.scope;
        let mut versions = domain.files().versions(instance, &self.id).unwrap();
        // The clock is fixed; the id ends with the revision, of which there are fewer than ten here.
        versions.sort_by_key(|version| version.id.clone());
        let mut contents = Vec::new();
        for version in versions {
            let content = domain.core().store().read_blob(&version.content.to_content_link()).await.unwrap();
            contents.push(String::from_utf8(content).unwrap());
        }
        contents
    }

    /// The user replaces the content.
    async fn edit(&self, content: &'static str) {
        let RunContext { domain, instance, .. } = &*self.run.scope;
        let file = self.file();
        let new = NewContent {
            provenance: upload_provenance("drive"),
            ..NewContent::new(file.id, file.dir_id, file.name, "text/plain".to_owned())
        };
        domain.files().overwrite(instance, &new, &blob(&self.run, content).await).await.unwrap();
    }

    fn uploaded_by(&self) -> Value {
        self.file().cozy_metadata.get("uploadedBy").unwrap()["slug"].clone()
    }
}

async fn blob(run: &TestRun, content: &'static str) -> BlobInfo {
    let mut writer = run.scope.domain.files().create_content_writer(&run.scope.instance).await.unwrap();
    writer.write(content.into()).await.map_err(crate::Error::from).unwrap();
    (*writer.finish().await.unwrap()).clone()
}

async fn save(run: &TestRun, content: &'static str) -> String {
    let target = Target { name: "a.txt".to_owned(), key: Some("a".to_owned()), ..Target::default() };
    let mut upload = run.files().begin_upload(target).await.unwrap();
    upload.write(content.into()).await.unwrap();
    upload.commit().await.unwrap().file.id
}

#[tokio::test]
async fn an_edit_of_the_user_is_kept_when_the_konnector_saves_the_file_again() {
    let saved = Saved::new().await;
    assert_eq!(saved.uploaded_by(), "bank101");
    saved.edit("edited").await;
    assert_eq!(saved.versions().await, ["first", "third"], "the user replaced what the konnector wrote");
    assert_eq!(saved.uploaded_by(), "drive");
    save(&saved.run, "again").await;
    assert_eq!(saved.versions().await, ["first", "third", "edited"], "the konnector replaced what the user wrote");
    assert_eq!(saved.uploaded_by(), "bank101");
}

#[tokio::test]
async fn an_edit_of_the_user_is_kept_when_a_run_writes_or_renames_over_it() {
    let saved = Saved::new().await;
    saved.edit("edited").await;
    let tree = RunTree::new(&saved.run.scope).unwrap();
    let write = async |to: &Destination, content: &'static str| {
        let mut draft = tree.create_draft().await.unwrap();
        draft.write(content.into()).await.unwrap();
        draft.commit(to).await.unwrap();
    };
    write(&Destination::Existing(saved.id.clone()), "again").await;
    assert_eq!(saved.versions().await, ["first", "third", "edited"]);

    saved.edit("edited").await;
    assert_eq!(saved.versions().await, ["first", "third", "edited", "again"]);
    let file = saved.file();
    write(&Destination::New { directory: file.dir_id.clone(), name: "b.txt".to_owned() }, "elsewhere").await;
    let place = |name| ChildRef { directory: &file.dir_id, name };
    tree.rename(place("b.txt"), place("a.txt")).await.unwrap();
    assert_eq!(saved.versions().await, ["first", "third", "edited", "again", "edited"]);
    assert_eq!(saved.uploaded_by(), "bank101");
}
