//! Making a backup, while others read and write.

use chrono::Utc;
use tokio::io::AsyncReadExt;

use super::crypt::Sealer;
use super::record::{Counts, Records};
use super::{BackupHeader, BackupSummary, BackupWriter};
use crate::error::{Conflict, Error, Result};
use crate::kv::Write;
use crate::open::FORMAT;
use crate::secret::MasterKey;
use crate::store::Store;
use crate::{failpoint, feed, key};

/// How many entries are read at once.
const PAGE: usize = 256;
/// Commits are held up for as long as it takes to read this many entries again.
const LAST: usize = 512;

impl Store {
    /// Writes everything that is stored at one moment during this call; what was acknowledged before is in it. `told` hears how many bytes
    /// were written.
    ///
    /// Cancel safety: a backup without its end is refused when it is read.
    ///
    /// # Errors
    /// [`Conflict::BackingUp`] while another backup is made; [`Error::Backup`] when it cannot be written; like [`Store::get`].
    pub async fn back_up(
        &self,
        key: &MasterKey,
        to: &mut dyn BackupWriter,
        told: &mut (dyn FnMut(u64) + Send),
    ) -> Result<BackupSummary> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)
            .map_err(|error| Error::backup(format!("the system has no random numbers: {error}")))?;
        let header = BackupHeader {
            created_at: Utc::now(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            format: FORMAT,
            key: key.fingerprint(),
            salt: hex::encode(salt),
        };
        let changed = self.recorder().record().await?.ok_or(Conflict::BackingUp)?;
        let kept = self.keeper().keep();
        let mut records = Records::new(Sealer::begin(to, key, &header).await?);

        let mut range = key::everything();
        loop {
            let page = self.kv().scan(&range.from, &range.to, PAGE, false)?;
            let Some((last, _)) = page.last() else { break };
            range.behind(last);
            for (key, value) in &page {
                records.entry(key, Some(value)).await?;
            }
            told(records.written());
            tokio::task::yield_now().await;
        }
        failpoint::hit("backup.entries").map_err(Error::io("write", "the backup"))?;
        // Each round is shorter than the one before: commits wait for the disk, this does not.
        let last = loop {
            let (again, held) = changed.take().await?;
            if again.len() <= LAST {
                break again.into_iter().map(|key| self.written(key)).collect::<Result<Vec<_>>>()?;
            }
            drop(held);
            for key in again {
                records.entries(self.written(key)?).await?;
            }
        };
        drop(changed);
        for entries in last {
            records.entries(entries).await?;
        }

        // Whatever the entries refer to is there, and is kept.
        let mut buffer = vec![0; 64 * 1024];
        for blob in self.blobs().list().await? {
            let (mut content, mut left) = (self.blobs().open(&blob).await?, self.blobs().size(&blob).await?);
            records.blob(blob, left).await?;
            while left > 0 {
                let read = content.read(&mut buffer).await.map_err(Error::io("read blob", blob.to_string()))?;
                let read_bytes = read as u64;
                if read == 0 || read_bytes > left {
                    return Err(Error::Corrupt { what: format!("blob {blob}"), reason: "its size changes".to_owned() });
                }
                records.write(buffer.get(..read).unwrap_or_default()).await?;
                left -= read_bytes;
                told(records.written());
            }
        }
        failpoint::hit("backup.blobs").map_err(Error::io("write", "the backup"))?;
        let (Counts { entries, blobs, .. }, bytes) = records.finish().await?;
        kept.release().await;
        told(bytes);
        Ok(BackupSummary { header, entries, blobs, bytes })
    }

    /// What was written under a key and, where it is the place of a document in the feed, under the key that this tells.
    fn written(&self, key: Vec<u8>) -> Result<Vec<Write>> {
        let value = self.kv().get(&key)?;
        let entry = value.as_deref().and_then(|value| feed::entry_at(&key, value));
        let entry = entry.map(|entry| self.kv().get(&entry).map(|value| (entry, value))).transpose()?;
        Ok(entry.into_iter().chain([(key, value)]).collect())
    }
}
