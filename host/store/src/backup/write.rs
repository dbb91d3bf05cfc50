//! Creation of a backup while others read and write.

use std::collections::HashSet;

use chrono::Utc;
use tokio::io::AsyncReadExt as _;

use super::blob_tracker::{BlobTracker, ExpectedBlob};
use super::crypt::EncryptingWriter;
use super::record::{RecordCounts, RecordWriter};
use super::{BackupHeader, BackupSummary, BackupWriter};
use crate::blob::into_store_error;
use crate::error::{Conflict, Error, Result};
use crate::fsck::DocumentSchema;
use crate::kv::{KvWrite, Tracking};
use crate::open::CURRENT_FORMAT;
use crate::secret::MasterKey;
use crate::store::Store;
use crate::{failpoint, feed, key};

/// Number of entries read at once.
const PAGE_SIZE: usize = 256;
/// Commits are paused for as long as it takes to read this many entries again.
const MAX_FINAL_KEYS: usize = 512;

impl Store {
    /// Writes everything that is stored at one moment during this call, including every change that was acknowledged
    /// before it. Includes only the blobs that a document refers to. Reports the number of bytes written to `progress`.
    ///
    /// Cancel safety: reading a backup without its end fails.
    ///
    /// # Errors
    ///
    /// [`Conflict::BackupRunning`] while another backup is made; [`Error::BlobsDamaged`] if blobs are missing or
    /// damaged; [`Error::Backup`] if the backup cannot be written, or if too much changed in the meantime to be copied
    /// again; otherwise as [`Store::get`].
    pub async fn back_up(
        &self,
        schema: &dyn DocumentSchema,
        key: &MasterKey,
        to: &mut dyn BackupWriter,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<BackupSummary> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)
            .map_err(|error| Error::backup(format!("the system provides no random numbers: {error}")))?;
        let header = BackupHeader {
            created_at: Utc::now(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            format: CURRENT_FORMAT,
            key: key.fingerprint(),
            salt: hex::encode(salt),
        };
        let changed = self.change_tracker().start().await?.ok_or(Conflict::BackupRunning)?;
        let pin = self.deferred_deletes().pin();
        let result = self.write_backup(schema, key, to, progress, header, changed).await;
        pin.release().await;
        result
    }

    async fn write_backup(
        &self,
        schema: &dyn DocumentSchema,
        key: &MasterKey,
        to: &mut dyn BackupWriter,
        progress: &mut (dyn FnMut(u64) + Send),
        header: BackupHeader,
        changed: Tracking<'_>,
    ) -> Result<BackupSummary> {
        let mut records = RecordWriter::new(EncryptingWriter::begin(to, key, &header).await?);
        let mut blobs = BlobTracker::new(schema);

        let mut range = key::all();
        loop {
            let page = self.kv().scan(&range.from, &range.to, PAGE_SIZE, false)?;
            let Some((last, _)) = page.last() else { break };
            range.start_after(last);
            for (key, value) in &page {
                blobs.add_entry(key, Some(value));
                records.write_entry(key, Some(value)).await?;
            }
            if changed.is_nearly_full()? {
                let (changed_keys, guard) = changed.drain().await?;
                drop(guard);
                self.write_changed(changed_keys, &mut records, &mut blobs).await?;
            }
            progress(records.bytes_written());
            tokio::task::yield_now().await;
        }
        failpoint::hit("backup.entries").map_err(Error::io("write", "the backup"))?;
        // Each round is shorter than the one before, because commits wait for the disk and this loop does not.
        let last = loop {
            let (changed_keys, guard) = changed.drain().await?;
            if changed_keys.len() <= MAX_FINAL_KEYS {
                break changed_keys.into_iter().map(|key| self.current_entries(key)).collect::<Result<Vec<_>>>()?;
            }
            drop(guard);
            self.write_changed(changed_keys, &mut records, &mut blobs).await?;
        };
        drop(changed);
        for entries in last {
            track(&entries, &mut blobs);
            records.write_entries(entries).await?;
        }

        // All blobs that the entries refer to exist until the end, because removals are deferred.
        while let Some(expected) = blobs.next_expected() {
            self.write_blob(&expected, &mut records, &mut blobs, progress).await?;
        }
        blobs.finish()?;
        failpoint::hit("backup.blobs").map_err(Error::io("write", "the backup"))?;
        let (RecordCounts { entries, blobs, .. }, bytes) = records.finish().await?;
        progress(bytes);
        Ok(BackupSummary { header, entries, blobs, bytes })
    }

    async fn write_changed(
        &self,
        keys: HashSet<Vec<u8>>,
        records: &mut RecordWriter<'_>,
        contents: &mut BlobTracker<'_>,
    ) -> Result<()> {
        for key in keys {
            let entries = self.current_entries(key)?;
            track(&entries, contents);
            records.write_entries(entries).await?;
        }
        Ok(())
    }

    /// Writes a blob. Problems with it are recorded, so all problems of the other blobs are reported too.
    async fn write_blob(
        &self,
        ExpectedBlob { document, link, is_body }: &ExpectedBlob,
        records: &mut RecordWriter<'_>,
        contents: &mut BlobTracker<'_>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<()> {
        if *is_body {
            match self.read_blob(link).await {
                Ok(bytes) => {
                    contents.add_body(document, link, &bytes);
                    records.write_blob_header(link.blob, bytes.len() as u64).await?;
                    records.write(&bytes).await?;
                }
                Err(error) => contents.report_unreadable(document, link.blob, &error),
            }
            return Ok(());
        }
        let mut content = match self.open_blob(link).await {
            Ok(content) => content,
            Err(error) => {
                contents.report_unreadable(document, link.blob, &error);
                return Ok(());
            }
        };
        let mut left = content.size();
        records.write_blob_header(link.blob, left).await?;
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            match content.read(&mut buffer).await {
                Ok(read) => {
                    records.write(buffer.get(..read).unwrap_or_default()).await?;
                    left -= (read as u64).min(left);
                }
                Err(error) => {
                    contents.report_unreadable(document, link.blob, &into_store_error(link.blob, error));
                    // The backup fails at its end; until then it continues with zeros, to find further problems.
                    buffer.fill(0);
                    while left > 0 {
                        let some = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                        records.write(buffer.get(..some).unwrap_or_default()).await?;
                        left -= some as u64;
                    }
                }
            }
            progress(records.bytes_written());
        }
        Ok(())
    }

    /// Returns the entry under a key and, if it is the place of a document in the feed, the entry that it points to.
    fn current_entries(&self, key: Vec<u8>) -> Result<Vec<KvWrite>> {
        let value = self.kv().get(&key)?;
        let entry = value.as_deref().and_then(|value| feed::entry_key(&key, value));
        let entry = entry.map(|entry| self.kv().get(&entry).map(|value| (entry, value))).transpose()?;
        Ok(entry.into_iter().chain([(key, value)]).collect())
    }
}

fn track(entries: &[KvWrite], contents: &mut BlobTracker<'_>) {
    for (key, value) in entries {
        contents.add_entry(key, value.as_deref());
    }
}
