//! Unique indexes: one value per key, for looking up documents by something other than their id.

use serde::{Deserialize, Serialize};

use crate::error::{Conflict, Result};
use crate::id::InstanceId;
use crate::key;
use crate::kv::Kv;
use crate::view::{self, View};

/// Number of entries read at once.
const PAGE_SIZE: usize = 256;

/// An entry. It repeats its key, which may be truncated in the map.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct UniqueRecord {
    key: String,
    value: String,
}

mod check;

pub(crate) use check::{check_entry, check_unique_key};

pub(crate) fn put(view: &mut View<'_>, instance: &InstanceId, index: &str, key: &str, value: &str) -> Result<()> {
    let unique_key = key::of_unique(instance, index, key)?;
    match view.get::<UniqueRecord>(&unique_key)? {
        Some(record) if record.value == value => Ok(()),
        Some(record) => {
            Err(Conflict::Taken { index: index.to_owned(), key: key.to_owned(), holder: record.value }.into())
        }
        None => view.put(unique_key, &UniqueRecord { key: key.to_owned(), value: value.to_owned() }),
    }
}

pub(crate) fn remove(view: &mut View<'_>, instance: &InstanceId, index: &str, key: &str) -> Result<()> {
    view.remove(key::of_unique(instance, index, key)?);
    Ok(())
}

pub(crate) fn lookup(kv: &dyn Kv, instance: &InstanceId, index: &str, key: &str) -> Result<Option<String>> {
    let record = view::read::<UniqueRecord>(kv, &key::of_unique(instance, index, key)?)?;
    Ok(record.map(|record| record.value))
}

pub(crate) fn lookup_prefix(
    kv: &dyn Kv,
    instance: &InstanceId,
    index: &str,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, String)>> {
    let mut range = key::unique_range(instance, index, prefix)?;
    if let Some(after) = after {
        range.start_after(&key::of_unique(instance, index, after)?);
    }
    let mut found = Vec::new();
    loop {
        let page = view::scan::<UniqueRecord>(kv, &range, PAGE_SIZE.min(limit.saturating_sub(found.len())))?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        range.start_after(last);
        // The range of a prefix over 128 bytes contains other keys too.
        let records = page.into_iter().map(|(_, record)| record).filter(|record| record.key.starts_with(prefix));
        found.extend(records.map(|record| (record.key, record.value)));
    }
}
