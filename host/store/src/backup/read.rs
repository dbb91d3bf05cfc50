//! Reading a backup, to verify it or to restore it into an empty store.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::blob_tracker::{BlobDigest, BlobTracker};
use super::crypt::DecryptingReader;
use super::record::{BackupRecord, RecordReader};
use super::{BackupHeader, BackupReader, BackupSummary};
use crate::blob::BlobId;
use crate::document::MAX_DOCUMENT_BYTES;
use crate::error::{Error, Result};
use crate::fsck::DocumentSchema;
use crate::kv::{Batch, CommitOutcome};
use crate::open::CURRENT_FORMAT;
use crate::secret::MasterKey;
use crate::store::Store;
use crate::{failpoint, feed, frame, key};

/// Number of entries written in one commit.
const RESTORE_BATCH_SIZE: usize = 512;

/// Reads a whole backup and verifies that every piece is present and unchanged, that every entry is readable, and that
/// the backup contains the counts stated at its end and every blob that a document refers to. Reports the number of
/// bytes read to `progress`.
///
/// # Errors
///
/// [`Error::Backup`] with the problem of the backup; [`Error::Corrupt`] if an entry was damaged when the backup was
/// made; [`Error::BlobsDamaged`] if blobs were damaged then.
pub async fn verify_backup(
    from: &mut dyn BackupReader,
    schema: &dyn DocumentSchema,
    key: &MasterKey,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<BackupSummary> {
    let mut contents = BlobTracker::new(schema);
    let summary = read_backup(from, key, &mut BackupSink::Verify(&mut contents), progress).await?;
    contents.finish()?;
    Ok(summary)
}

impl Store {
    /// Restores a backup into this store, which must be empty. Afterwards, close it and open it again, which migrates
    /// the data to the current format; do nothing else with it before.
    ///
    /// Not cancel-safe: a partially restored store is unusable.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the store is not empty; otherwise as [`verify_backup`] and [`Store::commit`].
    pub async fn restore(
        &self,
        from: &mut dyn BackupReader,
        key: &MasterKey,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<BackupSummary> {
        let used = key::all_instances();
        if !self.kv().scan(&used.from, &used.to, 1, false)?.is_empty() || !self.blobs().list().await?.is_empty() {
            let reason = "it already contains data; restore into a new folder".to_owned();
            return Err(Error::Invalid { field: "data folder", reason });
        }
        let summary = read_backup(from, key, &mut BackupSink::Store(self), progress).await?;
        feed::renew_incarnation(self).await?;
        self.save_key_fingerprint(&summary.header.key)?;
        Ok(summary)
    }
}

/// Destination of the records that are read.
enum BackupSink<'a, 'b> {
    Store(&'a Store),
    Verify(&'a mut BlobTracker<'b>),
}

async fn read_backup(
    from: &mut dyn BackupReader,
    key: &MasterKey,
    into: &mut BackupSink<'_, '_>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<BackupSummary> {
    let (opener, header) = DecryptingReader::begin(from, key).await?;
    let mut reader = RecordReader::new(opener);
    if header.format > CURRENT_FORMAT {
        let BackupHeader { program, format, .. } = &header;
        let reason = format!("it contains data of format {format}; use konnector {program} or a newer version");
        return Err(Error::backup(reason));
    }
    let mut batch = Batch::default();
    loop {
        match reader.next().await? {
            BackupRecord::Put { key, value } => {
                frame::verify(|| format!("entry {} of the backup", key.escape_ascii()), &value)?;
                if let BackupSink::Verify(contents) = into {
                    contents.add_entry(&key, Some(&value));
                }
                batch.put(key, value);
            }
            BackupRecord::Remove { key } => {
                if let BackupSink::Verify(contents) = into {
                    contents.add_entry(&key, None);
                }
                batch.remove(key);
            }
            BackupRecord::Blob { id, size } => read_blob(&mut reader, into, id, size, progress).await?,
            BackupRecord::End => break,
        }
        if batch.len() >= RESTORE_BATCH_SIZE {
            write_batch(into, std::mem::take(&mut batch)).await?;
            progress(reader.bytes_read());
        }
    }
    write_batch(into, batch).await?;
    progress(reader.bytes_read());
    Ok(BackupSummary { header, entries: reader.counts.entries, blobs: reader.counts.blobs, bytes: reader.bytes_read() })
}

async fn write_batch(into: &BackupSink<'_, '_>, batch: Batch) -> Result<()> {
    if let BackupSink::Store(store) = into {
        // Without checks, the commit cannot be rejected.
        let _: CommitOutcome = store.kv().commit(batch).await?;
        failpoint::hit("restore.entries").map_err(Error::io("write", "the restored store"))?;
    }
    Ok(())
}

async fn read_blob(
    reader: &mut RecordReader<'_>,
    into: &mut BackupSink<'_, '_>,
    id: BlobId,
    size: u64,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<()> {
    let mut writer = match into {
        BackupSink::Store(store) => Some(store.blobs().create_as(id).await?),
        BackupSink::Verify(_) => None,
    };
    let mut bytes = matches!(into, BackupSink::Verify(contents) if contents.is_body(&id)).then(Vec::new);
    if bytes.is_some() && size > MAX_DOCUMENT_BYTES as u64 {
        return Err(Error::backup(format!(
            "the document in blob {id} is {size} bytes long, but the limit is {MAX_DOCUMENT_BYTES} bytes"
        )));
    }
    let (mut left, mut hash) = (size, Sha256::new());
    while left > 0 {
        let content = reader.read_blob_chunk(left).await?;
        left -= content.len() as u64;
        match &mut writer {
            Some(writer) => writer.write(Bytes::copy_from_slice(content)).await?,
            None => hash.update(content),
        }
        if let Some(bytes) = &mut bytes {
            bytes.extend_from_slice(content);
        }
        progress(reader.bytes_read());
    }
    if let BackupSink::Verify(contents) = into {
        contents.add_blob(id, BlobDigest { size, sha256: hash.finalize().into() }, bytes.as_deref());
    }
    if let Some(writer) = writer {
        writer.finish().await?;
        failpoint::hit("restore.blob").map_err(Error::io("write", "the restored store"))?;
    }
    Ok(())
}
