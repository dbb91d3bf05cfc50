//! Many concurrent writers, which together use no more space than the quota.

use tokio::task::JoinSet;

use super::*;
use crate::file::{ContentWriter, ROOT_ID};

const QUOTA: u64 = 100;

async fn fixture() -> RaceFixture {
    let mut site = RaceFixture::new().await;
    site.instance.disk_quota = Some(QUOTA);
    site
}

async fn begin(site: &RaceFixture) -> ContentWriter {
    site.platform.files().create_content_writer(&site.instance).await.unwrap()
}

fn bytes(count: usize) -> bytes::Bytes {
    vec![b'x'; count].into()
}

fn new(name: &str) -> NewContent {
    NewContent::with_new_id(ROOT_ID.to_owned(), name.to_owned(), "text/plain".to_owned())
}

#[tokio::test]
async fn what_is_being_written_counts_until_it_is_a_file_or_given_up() {
    let site = fixture().await;
    let (platform, instance) = (&site.platform, &site.instance);
    let (mut first, mut second) = (begin(&site).await, begin(&site).await);
    assert!(first.write(bytes(60)).await.is_ok());
    assert!(second.reserve(41).is_err(), "announced");
    assert!(second.write(bytes(41)).await.is_err(), "without a word");
    assert_eq!(platform.files().remaining_space(instance).await.unwrap(), 40);
    drop((first, second));
    assert_eq!(platform.files().remaining_space(instance).await.unwrap(), QUOTA);

    // Reserved space is available to the upload that reserved it, and counts once.
    let mut first = begin(&site).await;
    assert!(first.reserve(60).is_ok());
    let mut second = begin(&site).await;
    assert!(second.write(bytes(41)).await.is_err());
    assert!(first.write(bytes(60)).await.is_ok());
    let written = first.finish().await.unwrap();
    assert!(begin(&site).await.reserve(41).is_err(), "no file has it yet");
    let file = platform.files().create(instance, &new("a"), &written).await.unwrap();
    drop(written);
    assert_eq!(platform.files().remaining_space(instance).await.unwrap(), 40);

    // Copies and versions count towards the same quota.
    let copied = platform.files().copy(instance, &file, None, None).await;
    assert!(matches!(copied, Err(Error::TooLarge(_))), "{copied:?}");
    let annotated = platform.files().annotate(instance, &file.id, None, Object::new(), Object::new()).await;
    assert!(matches!(annotated, Err(Error::TooLarge(_))), "{annotated:?}");
    assert_eq!(platform.files().remaining_space(instance).await.unwrap(), 40);
    assert_eq!(platform.core().store().blobs().list().await.unwrap().len(), 1, "nothing is left of them");
}

/// Uploads and copies of 30 bytes each: as many succeed as the quota has room for.
#[tokio::test]
async fn together_they_stay_within_the_quota() {
    let site = Arc::new(fixture().await);
    let mut content = begin(&site).await;
    assert!(content.write(bytes(30)).await.is_ok());
    let written = content.finish().await.unwrap();
    let file = site.platform.files().create(&site.instance, &new("first"), &written).await.unwrap();
    drop(written);
    let mut racing = JoinSet::new();
    for number in 0..8 {
        let (site, file) = (Arc::clone(&site), file.clone());
        racing.spawn(async move {
            let (platform, instance) = (&site.platform, &site.instance);
            if number % 2 == 0 {
                return platform.files().copy(instance, &file, None, None).await.is_ok();
            }
            let mut content = begin(&site).await;
            for _ in 0..3 {
                if content.write(bytes(10)).await.is_err() {
                    return false;
                }
                tokio::task::yield_now().await;
            }
            let written = content.finish().await.unwrap();
            platform.files().create(instance, &new(&format!("{number}")), &written).await.is_ok()
        });
    }
    let came = racing.join_all().await.into_iter().filter(|came| *came).count();
    let used = site.platform.files().disk_usage(&site.instance).await.unwrap();
    assert_eq!(used, 30 * (1 + came as u64));
    assert!(used <= QUOTA, "{used}");
    assert_eq!(site.platform.files().remaining_space(&site.instance).await.unwrap(), QUOTA - used);
    site.assert_fsck_clean().await;
}
