//! Reading a backup: to verify it, or into an empty store.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::contents::{Contents, Met};
use super::crypt::Opener;
use super::record::{Reader, Record};
use super::{BackupHeader, BackupReader, BackupSummary};
use crate::blob::BlobId;
use crate::document::LIMIT as MAX_DOCUMENT_BYTES;
use crate::error::{Error, Result};
use crate::fsck::Schema;
use crate::kv::{Batch, Committed};
use crate::open::FORMAT;
use crate::secret::MasterKey;
use crate::store::Store;
use crate::{failpoint, feed, frame, key};

/// How many entries are written in one commit.
const PAGE: usize = 512;

/// Reads a whole backup and checks all of it: that every piece is there and unchanged, every entry readable, that it holds what its end
/// says, and every content that a document refers to. `told` hears how many bytes were read.
///
/// # Errors
/// [`Error::Backup`], saying what is wrong with it; [`Error::Corrupt`] when an entry was damaged when the backup was made;
/// [`Error::Contents`] when contents were.
pub async fn verify_backup(
    from: &mut dyn BackupReader,
    schema: &dyn Schema,
    key: &MasterKey,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<BackupSummary> {
    let mut contents = Contents::new(schema);
    let summary = read(from, key, &mut Into::Check(&mut contents), told).await?;
    contents.finish()?;
    Ok(summary)
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
        let summary = read(from, key, &mut Into::Store(self), told).await?;
        feed::begin_again(self).await?;
        self.note_key(&summary.header.key)?;
        Ok(summary)
    }
}

/// What becomes of what is read.
enum Into<'a, 'b> {
    Store(&'a Store),
    Check(&'a mut Contents<'b>),
}

async fn read(
    from: &mut dyn BackupReader,
    key: &MasterKey,
    into: &mut Into<'_, '_>,
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
                if let Into::Check(contents) = into {
                    contents.entry(&key, Some(&value));
                }
                batch.put(key, value);
            }
            Record::Remove { key } => {
                if let Into::Check(contents) = into {
                    contents.entry(&key, None);
                }
                batch.remove(key);
            }
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

async fn write(into: &Into<'_, '_>, batch: Batch) -> Result<()> {
    if let Into::Store(store) = into {
        // Without checks it cannot be refused.
        let _: Committed = store.kv().commit(batch).await?;
        failpoint::hit("restore.entries").map_err(Error::io("write", "the restored store"))?;
    }
    Ok(())
}

async fn blob(
    reader: &mut Reader<'_>,
    into: &mut Into<'_, '_>,
    id: BlobId,
    size: u64,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<()> {
    let mut writer = match into {
        Into::Store(store) => Some(store.blobs().create_as(id).await?),
        Into::Check(_) => None,
    };
    let mut bytes = matches!(into, Into::Check(contents) if contents.is_body(&id)).then(Vec::new);
    if bytes.is_some() && size > MAX_DOCUMENT_BYTES as u64 {
        return Err(Error::backup(format!(
            "the document in blob {id} has {size} bytes, and none is larger than {MAX_DOCUMENT_BYTES}"
        )));
    }
    let (mut left, mut hash) = (size, Sha256::new());
    while left > 0 {
        let content = reader.content(left).await?;
        left -= content.len() as u64;
        match &mut writer {
            Some(writer) => writer.write(Bytes::copy_from_slice(content)).await?,
            None => hash.update(content),
        }
        if let Some(bytes) = &mut bytes {
            bytes.extend_from_slice(content);
        }
        told(reader.read());
    }
    if let Into::Check(contents) = into {
        contents.met(id, Met { size, sha256: hash.finalize().into() }, bytes.as_deref());
    }
    if let Some(writer) = writer {
        writer.finish().await?;
        failpoint::hit("restore.blob").map_err(Error::io("write", "the restored store"))?;
    }
    Ok(())
}
