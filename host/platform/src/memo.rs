//! What was made from documents, kept for as long as they stay the same.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use konnector_store::{DocRef, Stamp, Store};
use lru::LruCache;

use crate::Result;

/// Values made from documents, the ones used last. What was read is compared with what is stored at each use, so that a change counts at
/// once, whoever made it.
#[derive(Debug)]
pub struct Memo<T> {
    kept: Mutex<LruCache<DocRef, Kept<T>>>,
}

#[derive(Debug)]
struct Kept<T> {
    stamp: Stamp,
    value: Arc<T>,
}

impl<T> Memo<T> {
    /// Keeps so many values at most.
    #[must_use]
    pub fn new(most: NonZeroUsize) -> Self {
        Self { kept: Mutex::new(LruCache::new(most)) }
    }

    /// What `make` made of a document, `None` when there is no such document. `make` reads it anew.
    ///
    /// # Errors
    ///
    /// When the store fails, and what `make` answers.
    pub fn get<E: From<konnector_store::Error>>(
        &self,
        store: &Store,
        at: &DocRef,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Option<Arc<T>>, E> {
        // Read before the document is: a change in between makes the value newer than its stamp, and it is made once more.
        let Some(stamp) = store.stamp(at)? else { return Ok(None) };
        if let Some(kept) = self.kept().get(at).filter(|kept| kept.stamp == stamp) {
            return Ok(Some(Arc::clone(&kept.value)));
        }
        let value = Arc::new(make()?);
        self.kept().put(at.clone(), Kept { stamp, value: Arc::clone(&value) });
        Ok(Some(value))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, LruCache<DocRef, Kept<T>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use konnector_store::{Changes, Error, InstanceId, Map};
    use serde_json::json;

    use super::*;

    fn body(name: &str) -> Map {
        Map::from_iter([("name".to_owned(), json!(name))])
    }

    #[tokio::test]
    async fn a_value_is_made_again_when_its_document_has_changed() -> Result<(), Error> {
        let store = Store::in_memory();
        let at = DocRef::new(&InstanceId::global(), &crate::doctype::INSTANCES, "one");
        let memo = Memo::new(NonZeroUsize::MIN);
        let mut made = 0;
        let mut name = |at: &DocRef| {
            memo.get(&store, at, || {
                made += 1;
                Ok::<_, Error>(store.get(at)?.expect("a document").body)
            })
            .map(|found| (found.map(|body| body["name"].clone()), made))
        };
        assert_eq!(name(&at)?, (None, 0));

        let mut changes = Changes::new();
        changes.create(at.clone(), body("first"));
        let first = store.commit(changes).await?.remove(0);
        assert_eq!(name(&at)?, (Some(json!("first")), 1));
        assert_eq!(name(&at)?, (Some(json!("first")), 1));

        let mut changes = Changes::new();
        changes.put(at.clone(), &first, body("second"));
        let second = store.commit(changes).await?.remove(0);
        assert_eq!(name(&at)?, (Some(json!("second")), 2));

        let mut changes = Changes::new();
        changes.delete(at.clone(), &second);
        store.commit(changes).await?;
        assert_eq!(name(&at)?, (None, 2));
        Ok(())
    }

    #[tokio::test]
    async fn no_more_are_kept_than_asked() -> Result<(), Error> {
        let store = Store::in_memory();
        let memo = Memo::new(NonZeroUsize::MIN);
        for id in ["one", "two", "one"] {
            let at = DocRef::new(&InstanceId::global(), &crate::doctype::INSTANCES, id);
            if store.get(&at)?.is_none() {
                let mut changes = Changes::new();
                changes.create(at.clone(), body(id));
                store.commit(changes).await?;
            }
            memo.get(&store, &at, || Ok::<_, Error>(()))?;
            assert_eq!(memo.kept().len(), 1);
        }
        Ok(())
    }
}
