//! Cache of values derived from stored data, valid while that data is unchanged.

use parking_lot::{Mutex, MutexGuard};
use std::borrow::Borrow;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

/// LRU cache of values derived from stored data, by key. Each use compares the stamp of the data with the store, so any
/// change takes effect at once; the comparison is skipped if the store has had no writes since.
#[derive(Debug)]
pub struct RevalidatingCache<K: Hash + Eq, S, T> {
    entries: Mutex<LruCache<K, CacheEntry<S, T>>>,
}

#[derive(Debug)]
struct CacheEntry<S, T> {
    /// The store's write count when the stamp was last read.
    writes: Option<u64>,
    stamp: S,
    value: Arc<T>,
}

impl<K: Hash + Eq, S: PartialEq, T> RevalidatingCache<K, S, T> {
    /// Creates a cache of at most `most` values.
    #[must_use]
    pub fn new(most: NonZeroUsize) -> Self {
        Self { entries: Mutex::new(LruCache::new(most)) }
    }

    /// Returns the value that `make` creates, or `None` if its data does not exist. `writes` is the store's write
    /// count, read before this call; `look` returns the stamp of the data; `make` reads the data again.
    ///
    /// # Errors
    ///
    /// Errors of `look` and `make`.
    pub fn get<Q, E>(
        &self,
        writes: Option<u64>,
        key: &Q,
        look: impl FnOnce() -> Result<Option<S>, E>,
        make: impl FnOnce(&S) -> Result<T, E>,
    ) -> Result<Option<Arc<T>>, E>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        // The write count, the stamp and the value are read in this order. After a change in between, the later ones
        // are newer, and the next use notices the change.
        if writes.is_some()
            && let Some(kept) = self.entries().get(key).filter(|kept| kept.writes == writes)
        {
            return Ok(Some(Arc::clone(&kept.value)));
        }
        let Some(stamp) = look()? else { return Ok(None) };
        if let Some(kept) = self.entries().get_mut(key).filter(|kept| kept.stamp == stamp) {
            kept.writes = writes;
            return Ok(Some(Arc::clone(&kept.value)));
        }
        let value = Arc::new(make(&stamp)?);
        self.entries().put(key.to_owned(), CacheEntry { writes, stamp, value: Arc::clone(&value) });
        Ok(Some(value))
    }

    fn entries(&self) -> MutexGuard<'_, LruCache<K, CacheEntry<S, T>>> {
        self.entries.lock()
    }
}

#[cfg(test)]
mod tests {
    use konnector_store::{Changes, DocRef, DocumentStamp, Error, InstanceId, Map, Store};
    use serde_json::json;

    use super::*;

    fn body(name: &str) -> Map {
        Map::from_iter([("name".to_owned(), json!(name))])
    }

    #[tokio::test]
    async fn a_value_is_made_again_when_its_document_has_changed() -> Result<(), Error> {
        let store = Store::in_memory();
        let at = DocRef::new(&InstanceId::global(), &crate::doctype::INSTANCES, "one");
        let memo = RevalidatingCache::<_, DocumentStamp, _>::new(NonZeroUsize::MIN);
        let mut made = 0;
        let mut name = |at: &DocRef| {
            memo.get(
                store.write_count(),
                at,
                || store.stamp(at),
                |_| {
                    made += 1;
                    Ok::<_, Error>(store.get(at)?.expect("a document").body)
                },
            )
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
    async fn the_stamp_is_looked_at_only_when_something_was_written() -> Result<(), Error> {
        let store = Store::in_memory();
        let at = |id| DocRef::new(&InstanceId::global(), &crate::doctype::INSTANCES, id);
        let create = async |id| {
            let mut changes = Changes::new();
            changes.create(at(id), body(id));
            store.commit(changes).await.map(drop)
        };
        create("one").await?;
        let memo = RevalidatingCache::<_, DocumentStamp, _>::new(NonZeroUsize::MIN);
        let mut looked = 0;
        let mut get = || {
            let look = || {
                looked += 1;
                store.stamp(&at("one"))
            };
            memo.get(store.write_count(), &at("one"), look, |_| Ok::<_, Error>(())).map(|_| looked)
        };
        assert_eq!((get()?, get()?), (1, 1));
        create("two").await?;
        assert_eq!((get()?, get()?), (2, 2));
        Ok(())
    }

    #[tokio::test]
    async fn no_more_are_kept_than_asked() -> Result<(), Error> {
        let store = Store::in_memory();
        let memo = RevalidatingCache::new(NonZeroUsize::MIN);
        for id in ["one", "two", "one"] {
            let at = DocRef::new(&InstanceId::global(), &crate::doctype::INSTANCES, id);
            if store.get(&at)?.is_none() {
                let mut changes = Changes::new();
                changes.create(at.clone(), body(id));
                store.commit(changes).await?;
            }
            memo.get(store.write_count(), &at, || store.stamp(&at), |_| Ok::<_, Error>(()))?;
            assert_eq!(memo.entries().len(), 1);
        }
        Ok(())
    }
}
