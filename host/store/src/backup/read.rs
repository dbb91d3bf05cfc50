//! Reading a backup: to verify it, or into an empty store.

use bytes::Bytes;

use super::crypt::Opener;
use super::record::{Reader, Record};
use super::{BackupHeader, BackupReader, BackupSummary};
use crate::blob::BlobId;
use crate::error::{Error, Result};
use crate::kv::{Batch, Committed};
use crate::open::FORMAT;
use crate::secret::MasterKey;
use crate::store::Store;
use crate::{failpoint, feed, frame, key};

/// How many entries are written in one commit.
const PAGE: usize = 512;

/// Reads a whole backup and checks all of it: that every piece is there and unchanged, every entry readable, and that it holds what its end
/// says. `told` hears how many bytes were read.
///
/// # Errors
/// [`Error::Backup`], saying what is wrong with it; [`Error::Corrupt`] when an entry was damaged when the backup was made.
pub async fn verify_backup(
    from: &mut dyn BackupReader,
    key: &MasterKey,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<BackupSummary> {
    read(from, key, None, told).await
}

impl Store {
    /// Reads a backup into this store, which is empty. Close it afterwards and open it again, which brings the data to our format; until
    /// then nothing else is to be done with it.
    ///
    /// Cancel safety: none; a store into which a backup was read in part is worth nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the store is not empty; like [`verify_backup`] and [`Store::commit`].
    pub async fn restore(
        &self,
        from: &mut dyn BackupReader,
        key: &MasterKey,
        told: &mut (dyn FnMut(u64) + Send),
    ) -> Result<BackupSummary> {
        let used = key::all_instances();
        if !self.kv().scan(&used.from, &used.to, 1, false)?.is_empty() || !self.blobs().list().await?.is_empty() {
            let reason = "it holds data already: restore into a new folder".to_owned();
            return Err(Error::Invalid { field: "data folder", reason });
        }
        let summary = read(from, key, Some(self), told).await?;
        feed::begin_again(self).await?;
        self.note_key(&summary.header.key)?;
        Ok(summary)
    }
}

async fn read(
    from: &mut dyn BackupReader,
    key: &MasterKey,
    into: Option<&Store>,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<BackupSummary> {
    let (opener, header) = Opener::begin(from, key).await?;
    let mut reader = Reader::new(opener);
    if header.format > FORMAT {
        let BackupHeader { program, format, .. } = &header;
        let reason = format!("it holds data of format {format}: use konnector {program} or a newer one");
        return Err(Error::backup(reason));
    }
    let mut batch = Batch::default();
    loop {
        match reader.next().await? {
            Record::Put { key, value } => {
                frame::check(|| format!("entry {} of the backup", key.escape_ascii()), &value)?;
                batch.put(key, value);
            }
            Record::Remove { key } => drop(batch.remove(key)),
            Record::Blob { id, size } => blob(&mut reader, into, id, size, told).await?,
            Record::End => break,
        }
        if batch.len() >= PAGE {
            write(into, std::mem::take(&mut batch)).await?;
            told(reader.read());
        }
    }
    write(into, batch).await?;
    told(reader.read());
    Ok(BackupSummary { header, entries: reader.counts.entries, blobs: reader.counts.blobs, bytes: reader.read() })
}

async fn write(into: Option<&Store>, batch: Batch) -> Result<()> {
    if let Some(store) = into {
        // Without checks it cannot be refused.
        let _: Committed = store.kv().commit(batch).await?;
        failpoint::hit("restore.entries").map_err(Error::io("write", "the restored store"))?;
    }
    Ok(())
}

async fn blob(
    reader: &mut Reader<'_>,
    into: Option<&Store>,
    id: BlobId,
    size: u64,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<()> {
    let mut writer = match into {
        Some(store) => Some(store.blobs().create_as(id).await?),
        None => None,
    };
    let mut left = size;
    while left > 0 {
        let content = reader.content(left).await?;
        left -= content.len() as u64;
        if let Some(writer) = &mut writer {
            writer.write(Bytes::copy_from_slice(content)).await?;
        }
        told(reader.read());
    }
    if let Some(writer) = writer {
        writer.finish().await?;
        failpoint::hit("restore.blob").map_err(Error::io("write", "the restored store"))?;
    }
    Ok(())
}
