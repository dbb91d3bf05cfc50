//! `/files`: versions.

use chrono::Duration;
use http::Method;
use http::header::{CONTENT_DISPOSITION, CONTENT_RANGE, IF_MATCH, RANGE};
use konnector_platform::Schema;
use konnector_platform::clock::Clock as _;
use konnector_store::FsckOptions;
use serde_json::{Value, json};

use crate::support::{Api, TestRequest};

/// Creates an instance with a file whose content is `one`.
async fn with_file() -> (Api, String) {
    let api = Api::new().await;
    let token = api.token("*");
    let call = TestRequest::post("/files/?Type=file&Name=a.txt&Tags=").token(&token).text("one");
    let id = api.send(call.header(http::header::CONTENT_TYPE, "text/plain")).await.id();
    (api, id)
}

impl Api {
    /// Replaces the content after this number of minutes.
    async fn put_later(&self, id: &str, minutes: i64, content: &str) -> Value {
        self.clock.set(self.clock.now() + Duration::minutes(minutes));
        let call = TestRequest::put(&format!("/files/{id}")).token(&self.token("*")).text(content.to_owned());
        let response = self.send(call).await;
        assert_eq!(response.status, 200, "{response}");
        response.json()
    }

    /// Returns the ids of a file's versions, the newest first.
    async fn versions(&self, id: &str) -> Vec<String> {
        let file = self.send(TestRequest::get(&format!("/files/{id}")).token(&self.token("*"))).await.json();
        let versions = file["data"]["relationships"]["old_versions"]["data"].as_array().cloned().unwrap_or_default();
        let included = file["included"].as_array().cloned().unwrap_or_default();
        assert_eq!(
            versions.iter().map(|version| &version["id"]).collect::<Vec<_>>(),
            included.iter().map(|version| &version["id"]).collect::<Vec<_>>()
        );
        versions.iter().map(|version| version["id"].as_str().expect("an id").to_owned()).collect()
    }

    async fn download(&self, id: &str) -> String {
        let response = self.send(TestRequest::get(&format!("/files/download/{id}")).token(&self.token("*"))).await;
        assert_eq!(response.status, 200, "{response}");
        response.text().to_owned()
    }

    /// Returns the disk usage of alice's files, and checks it against the blobs; the store must have no problems.
    async fn usage(&self) -> u64 {
        let blobs = self.platform.raw_store().blobs();
        let mut sizes = Vec::new();
        for blob in blobs.list().await.expect("a list") {
            sizes.push(blobs.size(&blob).await.expect("a size"));
        }
        let icon = b"<svg/>".len() as u64;
        let usage = self.platform.files().disk_usage(&self.alice).await.expect("a number");
        assert_eq!(sizes.iter().sum::<u64>(), usage + icon, "{sizes:?}");
        let mut problems = Vec::new();
        let options = FsckOptions { deep: true, repair: false };
        let mut on_progress = |progress: konnector_store::FsckProgress<'_>| {
            if let konnector_store::FsckProgress::Found(problem) = progress {
                problems.push(problem.to_string());
            }
        };
        self.platform.raw_store().fsck(&Schema, options, &mut on_progress).await.expect("checked");
        assert_eq!(problems, Vec::<String>::new());
        usage
    }
}

#[tokio::test]
async fn a_replaced_content_becomes_a_version() {
    let (api, id) = with_file().await;
    assert_eq!(api.versions(&id).await, Vec::<String>::new());
    let file = api.put_later(&id, 1, "second").await;
    let versions = api.versions(&id).await;
    assert_eq!(versions.len(), 1);
    assert_eq!(file["data"]["relationships"]["old_versions"]["data"][0]["id"], json!(versions[0]));
    insta::assert_json_snapshot!(file["included"][0], {
        ".id" => "<id>", ".meta.rev" => "<rev>", ".attributes.file_id" => "<id>", ".relationships.file.data.id" => "<id>"
    }, @r#"
    {
      "type": "io.cozy.files.versions",
      "id": "<id>",
      "attributes": {
        "file_id": "<id>",
        "updated_at": "2026-11-20T12:00:00Z",
        "size": "3",
        "md5sum": "+XxdKZQb+xsv2rCHSQargg==",
        "mime": "text/plain",
        "tags": [],
        "cozyMetadata": {
          "doctypeVersion": "1",
          "metadataVersion": 1,
          "createdAt": "2026-11-20T12:01:00Z",
          "updatedAt": "2026-11-20T12:01:00Z",
          "uploadedAt": "2026-11-20T12:00:00Z",
          "uploadedBy": {
            "slug": "CLI"
          },
          "uploadedOn": "http://alice.example/"
        }
      },
      "meta": {
        "rev": "<rev>"
      },
      "links": {},
      "relationships": {
        "file": {
          "data": {
            "type": "io.cozy.files",
            "id": "<id>"
          }
        }
      }
    }
    "#);
    assert_eq!(api.usage().await, 9);

    // A content that is replaced soon does not become a version.
    api.put_later(&id, 14, "third").await;
    assert_eq!(api.versions(&id).await, versions);
    assert_eq!(api.usage().await, 8);
    // Unless the version has tags.
    let tagged =
        TestRequest::patch(&format!("/files/{id}")).token(&api.token("*")).attributes(json!({ "tags": ["kept"] }));
    assert_eq!(api.send(tagged).await.status, 200);
    api.put_later(&id, 0, "fourth").await;
    assert_eq!(api.versions(&id).await.len(), 2);
    assert_eq!((api.download(&id).await, api.download(&versions[0]).await), ("fourth".to_owned(), "one".to_owned()));
    assert_eq!(api.usage().await, "fourth".len() as u64 + 3 + 5);
}

/// Cozy keeps 20 contents, including the current one.
#[tokio::test]
async fn the_oldest_versions_go() {
    let (api, id) = with_file().await;
    for number in 0..25 {
        api.put_later(&id, 16, &format!("content {number:02}")).await;
    }
    let versions = api.versions(&id).await;
    assert_eq!(versions.len(), 19);
    assert_eq!(api.download(&versions[0]).await, "content 23");
    assert_eq!(api.download(&versions[18]).await, "content 05");
    assert_eq!(api.usage().await, 20 * 10);
    // Reverting to the oldest version.
    let revert = TestRequest::post(&format!("/files/revert/{}", versions[18])).token(&api.token("*"));
    assert_eq!(api.send(revert).await.status, 200);
    assert_eq!(api.download(&id).await, "content 05");
    assert_eq!((api.versions(&id).await.len(), api.usage().await), (19, 20 * 10));
}

#[tokio::test]
async fn a_version_is_downloaded_as_the_file_was() {
    let (api, id) = with_file().await;
    api.put_later(&id, 20, "%PDF-1.7 second").await;
    let version = api.versions(&id).await.remove(0);
    let token = api.token("*");
    let get = |path: &str| TestRequest::get(path).token(&token);
    let whole = api.send(get(&format!("/files/download/{version}"))).await;
    assert_eq!((whole.text(), whole.header(http::header::CONTENT_TYPE)), ("one", "text/plain"));
    // Cozy's client encodes the slash.
    let encoded = api.send(get(&format!("/files/download/{}", version.replace('/', "%2F")))).await;
    assert_eq!(encoded.text(), "one");
    let part = api.send(get(&format!("/files/download/{version}?Dl=1")).header(RANGE, "bytes=1-")).await;
    assert_eq!((part.status, part.text(), part.header(CONTENT_RANGE)), (206, "ne", "bytes 1-2/3"));
    let head = api.send(TestRequest::new(Method::HEAD, &format!("/files/download/{version}")).token(&token)).await;
    assert_eq!((head.status, head.header(http::header::CONTENT_LENGTH)), (200, "3"));

    let link = format!("/files/downloads?VersionId={}&Filename=old%2520copy.txt", version.replace('/', "%2F"));
    let link = api.send(TestRequest::post(&link).token(&token)).await.json()["links"]["related"].clone();
    let followed = api.send(TestRequest::get(&format!("{}?Dl=1", link.as_str().expect("a link")))).await;
    assert_eq!(
        (followed.text(), followed.header(CONTENT_DISPOSITION)),
        ("one", "attachment; filename=\"old copy.txt\"")
    );
    for (path, status) in [
        (format!("/files/download/{id}/1-unknown"), 404),
        (format!("/files/download/unknown/{}", version.rsplit('/').next().expect("a revision")), 404),
    ] {
        assert_eq!(api.send(get(&path)).await.status, status, "{path}");
    }
    let other = api.token("io.cozy.files:GET:another");
    assert_eq!(api.send(TestRequest::get(&format!("/files/download/{version}")).token(&other)).await.status, 403);
}

#[tokio::test]
async fn a_file_goes_back_to_a_version() {
    let (api, id) = with_file().await;
    api.put_later(&id, 20, "%PDF-1.7 second").await;
    let version = api.versions(&id).await.remove(0);
    let revert = |version: &str| TestRequest::post(&format!("/files/revert/{version}")).token(&api.token("*"));
    let stale = revert(&version).header(IF_MATCH, "1-badbadbadbadbadbadbadbadbadbadba");
    assert_eq!(api.send(stale).await.status, 412);
    let reverted = api.send(revert(&version)).await;
    assert_eq!(reverted.status, 200, "{reverted}");
    let attributes = reverted.json()["data"]["attributes"].clone();
    assert_eq!((&attributes["mime"], &attributes["class"]), (&json!("text/plain"), &json!("text")));
    assert_eq!((&attributes["size"], &attributes["updated_at"]), (&json!("3"), &json!("2026-11-20T12:00:00Z")));
    assert_eq!(api.download(&id).await, "one");
    let versions = api.versions(&id).await;
    assert_eq!(versions.len(), 1, "what it was is a version now, the one that came back is none any more");
    assert_eq!(api.download(&versions[0]).await, "%PDF-1.7 second");
    assert_eq!(api.send(revert(&version)).await.status, 404);
    assert_eq!(api.usage().await, 18);
    api.send(TestRequest::delete(&format!("/files/{id}")).token(&api.token("*"))).await;
    assert_eq!(api.send(revert(&versions[0])).await.status, 400, "it is in the trash");
}

#[tokio::test]
async fn other_metadata_makes_a_version_of_the_same_content() {
    let (api, id) = with_file().await;
    let create = TestRequest::post(&format!("/files/{id}/versions")).token(&api.token("*"));
    let changed = api.send(create.attributes(json!({ "category": "report" }))).await;
    assert_eq!(changed.status, 200, "{changed}");
    assert_eq!(changed.json()["data"]["attributes"]["metadata"], json!({ "category": "report" }));
    let version = api.versions(&id).await.remove(0);
    assert_eq!((api.download(&id).await, api.download(&version).await), ("one".to_owned(), "one".to_owned()));
    assert_eq!(api.usage().await, 6, "each has its own content");
    let delete = TestRequest::delete(&format!("/files/{version}")).token(&api.token("*"));
    assert_eq!(api.send(delete).await.status, 204);
    assert_eq!(api.download(&id).await, "one");
    let unknown = TestRequest::post("/files/unknown/versions").token(&api.token("*")).attributes(json!({}));
    assert_eq!(api.send(unknown).await.status, 404);
}

#[tokio::test]
async fn versions_are_tagged_and_deleted() {
    let (api, id) = with_file().await;
    for content in ["two", "three", "four"] {
        api.put_later(&id, 20, content).await;
    }
    let versions = api.versions(&id).await;
    let token = api.token("*");
    let patch =
        |attributes: Value| TestRequest::patch(&format!("/files/{}", versions[0])).token(&token).attributes(attributes);
    let tagged = api.send(patch(json!({ "tags": ["a", "a", "b"] }))).await.json();
    assert_eq!(tagged["data"]["attributes"]["tags"], json!(["a", "b"]));
    assert_eq!(api.send(patch(json!({ "tags": 1 }))).await.status, 422);
    let delete = |path: &str, token: &str| TestRequest::delete(&format!("/files/{path}")).token(token);
    assert_eq!(api.send(delete(&versions[1], &api.token("io.cozy.files:GET"))).await.status, 403);
    assert_eq!(api.send(delete(&versions[1], &token)).await.status, 204);
    assert_eq!(api.send(delete(&versions[1], &token)).await.status, 404);
    assert_eq!(api.versions(&id).await, [versions[0].clone(), versions[2].clone()]);
    assert_eq!(api.usage().await, 4 + 5 + 3);

    // Versions of every file, and of a permanently deleted file.
    assert_eq!(api.send(delete("versions", &api.token("io.cozy.files:DELETE:one"))).await.status, 403);
    assert_eq!(api.send(delete("versions", &token)).await.status, 204);
    assert_eq!(api.versions(&id).await, Vec::<String>::new());
    assert_eq!(api.usage().await, 4);
    api.put_later(&id, 20, "five").await;
    assert_eq!(api.usage().await, 8);
    let token = api.token("*");
    let deleted =
        TestRequest::patch(&format!("/files/{id}")).token(&token).attributes(json!({ "permanent_delete": true }));
    assert_eq!(api.send(deleted).await.status, 204);
    assert_eq!(api.usage().await, 0);
    let read = TestRequest::get("/data/io.cozy.files.versions/_all_docs").token(&token);
    assert_eq!(api.send(read).await.json()["rows"].as_array().map_or(0, Vec::len), 0);
}
