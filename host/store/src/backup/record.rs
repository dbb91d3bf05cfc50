//! The binary encoding of the records of a backup.

use uuid::Uuid;

use super::crypt::{DecryptingReader, EncryptingWriter};
use crate::blob::BlobId;
use crate::error::{Error, Result};
use crate::kv::KvWrite;
use sha2::{Digest, Sha256};

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const BLOB: u8 = 3;
const END: u8 = 4;

/// The counts of a backup so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordCounts {
    pub(super) entries: u64,
    pub(super) blobs: u64,
    /// Number of bytes of blobs.
    pub(super) bytes: u64,
}

/// Writer of records.
pub(super) struct RecordWriter<'a> {
    sealer: EncryptingWriter<'a>,
    hash: Sha256,
    counts: RecordCounts,
}

impl<'a> RecordWriter<'a> {
    pub(super) fn new(sealer: EncryptingWriter<'a>) -> Self {
        Self { sealer, hash: Sha256::new(), counts: RecordCounts::default() }
    }

    pub(super) fn bytes_written(&self) -> u64 {
        self.sealer.bytes_written
    }

    /// Writes an entry, `None` if it was removed.
    pub(super) async fn write_entry(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.counts.entries += 1;
        match value {
            Some(value) => {
                self.write(
                    &[&[PUT], encode_length(key)?.as_slice(), encode_length(value)?.as_slice(), key, value].concat(),
                )
                .await
            }
            None => self.write(&[&[REMOVE], encode_length(key)?.as_slice(), key].concat()).await,
        }
    }

    /// Writes multiple entries.
    pub(super) async fn write_entries(&mut self, entries: Vec<KvWrite>) -> Result<()> {
        for (key, value) in entries {
            self.write_entry(&key, value.as_deref()).await?;
        }
        Ok(())
    }

    /// Writes the start of a blob; its bytes follow.
    pub(super) async fn write_blob_header(&mut self, id: BlobId, size: u64) -> Result<()> {
        self.counts.blobs += 1;
        self.counts.bytes += size;
        self.write(&[&[BLOB], id.as_bytes().as_slice(), &size.to_be_bytes()].concat()).await
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.sealer.write(bytes).await
    }

    /// Returns the counts and the length of the backup in bytes.
    pub(super) async fn finish(mut self) -> Result<(RecordCounts, u64)> {
        let hash: [u8; 32] = self.hash.finalize().into();
        let RecordCounts { entries, blobs, bytes } = self.counts;
        self.sealer.write(&[END]).await?;
        for number in [entries, blobs, bytes] {
            self.sealer.write(&number.to_be_bytes()).await?;
        }
        self.sealer.write(&hash).await?;
        Ok((self.counts, self.sealer.finish().await?))
    }
}

fn encode_length(bytes: &[u8]) -> Result<[u8; 2]> {
    let length = u16::try_from(bytes.len()).map_err(|_| Error::backup("an entry is too large"))?;
    Ok(length.to_be_bytes())
}

/// One record.
#[derive(Debug)]
pub(super) enum BackupRecord {
    Put { key: Vec<u8>, value: Vec<u8> },
    Remove { key: Vec<u8> },
    Blob { id: BlobId, size: u64 },
    End,
}

/// Reader of records.
pub(super) struct RecordReader<'a> {
    opener: DecryptingReader<'a>,
    hash: Sha256,
    pub(super) counts: RecordCounts,
}

impl<'a> RecordReader<'a> {
    pub(super) fn new(opener: DecryptingReader<'a>) -> Self {
        Self { opener, hash: Sha256::new(), counts: RecordCounts::default() }
    }

    /// Returns the number of bytes read.
    pub(super) fn bytes_read(&self) -> u64 {
        self.opener.bytes_read
    }

    /// Reads the next record; the bytes of a blob must be read before the record after it.
    ///
    /// # Errors
    ///
    /// [`Error::Backup`] if the backup is truncated, damaged, or does not match the counts at its end.
    pub(super) async fn next(&mut self) -> Result<BackupRecord> {
        let [kind] = self.read_unhashed().await?;
        if kind == END {
            return self.verify_end().await.map(|()| BackupRecord::End);
        }
        self.hash.update([kind]);
        Ok(match kind {
            PUT => {
                let (key, value) =
                    (u16::from_be_bytes(self.read_array().await?), u16::from_be_bytes(self.read_array().await?));
                self.counts.entries += 1;
                BackupRecord::Put {
                    key: self.read_bytes(key.into()).await?,
                    value: self.read_bytes(value.into()).await?,
                }
            }
            REMOVE => {
                let key = u16::from_be_bytes(self.read_array().await?);
                self.counts.entries += 1;
                BackupRecord::Remove { key: self.read_bytes(key.into()).await? }
            }
            BLOB => {
                let id = BlobId::from(Uuid::from_bytes(self.read_array().await?));
                let size = u64::from_be_bytes(self.read_array().await?);
                self.counts.blobs += 1;
                self.counts.bytes += size;
                BackupRecord::Blob { id, size }
            }
            _ => return Err(Error::backup(format!("it contains a record of the unknown kind {kind}"))),
        })
    }

    /// Reads a part of a blob, of which `left` bytes remain.
    pub(super) async fn read_blob_chunk(&mut self, left: u64) -> Result<&[u8]> {
        let max_length = usize::try_from(left).unwrap_or(usize::MAX);
        let some = self.opener.read_some(max_length).await?;
        self.hash.update(some);
        Ok(some)
    }

    async fn verify_end(&mut self) -> Result<()> {
        let mut recorded = [0; 3];
        for number in &mut recorded {
            *number = u64::from_be_bytes(self.read_unhashed().await?);
        }
        let hash: [u8; 32] = self.read_unhashed().await?;
        self.opener.finish()?;
        let RecordCounts { entries, blobs, bytes } = self.counts;
        if recorded != [entries, blobs, bytes] || hash != <[u8; 32]>::from(std::mem::take(&mut self.hash).finalize()) {
            return Err(Error::backup("its contents do not match the counts at its end"));
        }
        Ok(())
    }

    async fn read_bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.opener.read(&mut bytes).await?;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    async fn read_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.read_unhashed().await?;
        self.hash.update(bytes);
        Ok(bytes)
    }

    /// Reads bytes that are not part of the checksum.
    async fn read_unhashed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.opener.read(&mut bytes).await?;
        Ok(bytes)
    }
}
