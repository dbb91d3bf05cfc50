//! The encryption of a backup: XChaCha20-Poly1305 in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár
//! 2015), which detects changed, missing, repeated or moved pieces and marks the last one.

use aead_stream::{NewStream, Nonce, StreamBE32, StreamPrimitive};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{BackupHeader, BackupReader, BackupWriter};
use crate::error::{Error, Result};
use crate::secret::MasterKey;

/// Size of a piece before encryption, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// Number of bytes that encryption adds to a piece.
const TAG_BYTES: usize = 16;
const MAGIC: &[u8] = b"konnector-backup-1\n";
/// Magic string at the start of every backup, regardless of its version.
const MAGIC_PREFIX: &[u8] = b"konnector-backup-";
/// Maximum length of the header, in bytes.
const MAX_HEADER_BYTES: usize = 4096;

type Stream = StreamBE32<XChaCha20Poly1305>;

/// Creates the cipher. The key of a backup is used for nothing else, so a nonce of zeros with the number of the piece
/// is used only once.
fn cipher_stream(key: &MasterKey, salt: &str) -> Stream {
    let key = key.derive(&format!("backup/{salt}"));
    Stream::from_aead(XChaCha20Poly1305::new((&*key).into()), &Nonce::<XChaCha20Poly1305, Stream>::default())
}

/// Encrypting writer.
pub(super) struct EncryptingWriter<'a> {
    to: &'a mut dyn BackupWriter,
    stream: Stream,
    /// The start of the file; each piece is bound to it.
    header: Vec<u8>,
    chunk: Vec<u8>,
    number: u32,
    pub(super) bytes_written: u64,
}

impl<'a> EncryptingWriter<'a> {
    pub(super) async fn begin(to: &'a mut dyn BackupWriter, key: &MasterKey, header: &BackupHeader) -> Result<Self> {
        let json = serde_json::to_vec(header).map_err(|error| Error::backup(error.to_string()))?;
        let head = [MAGIC, json.as_slice(), b"\n"].concat();
        to.write_all(&head).await.map_err(write_error)?;
        let (piece, written) = (Vec::with_capacity(CHUNK_BYTES + TAG_BYTES), head.len() as u64);
        Ok(Self {
            to,
            stream: cipher_stream(key, &header.salt),
            header: head,
            chunk: piece,
            number: 0,
            bytes_written: written,
        })
    }

    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            // A full piece is written only when more data follows, because the last piece is marked as such.
            if self.chunk.len() == CHUNK_BYTES {
                self.write_chunk(false).await?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Writes the last piece; returns the size of the file in bytes.
    pub(super) async fn finish(mut self) -> Result<u64> {
        self.write_chunk(true).await?;
        self.to.flush().await.map_err(write_error)?;
        Ok(self.bytes_written)
    }

    async fn write_chunk(&mut self, last: bool) -> Result<()> {
        self.stream
            .encrypt_in_place(self.number, last, &self.header, &mut self.chunk)
            .map_err(|_| Error::backup("it is too large to encrypt"))?;
        self.to.write_all(&self.chunk).await.map_err(write_error)?;
        self.bytes_written += self.chunk.len() as u64;
        self.number = self.number.checked_add(1).ok_or_else(|| Error::backup("it is too large to encrypt"))?;
        self.chunk.clear();
        Ok(())
    }
}

fn write_error(error: std::io::Error) -> Error {
    Error::backup(format!("it cannot be written: {error}"))
}

/// Decrypting reader of a backup.
pub(super) struct DecryptingReader<'a> {
    from: &'a mut dyn BackupReader,
    stream: Stream,
    header: Vec<u8>,
    /// The part of the next piece that was already read.
    lookahead: Vec<u8>,
    chunk: Vec<u8>,
    offset: usize,
    number: u32,
    last: bool,
    pub(super) bytes_read: u64,
}

impl<'a> DecryptingReader<'a> {
    /// Reads the start of the backup.
    ///
    /// # Errors
    ///
    /// [`Error::Backup`] if the stream is not a backup or has a newer version; [`Error::BackupKey`] if it was made with
    /// another key.
    pub(super) async fn begin(from: &'a mut dyn BackupReader, key: &MasterKey) -> Result<(Self, BackupHeader)> {
        let mut head = vec![0; MAGIC.len()];
        let begins = from.read_exact(&mut head).await.is_ok();
        if !begins || !head.starts_with(MAGIC_PREFIX) {
            return Err(Error::backup("it is not a konnector backup"));
        }
        if head != MAGIC {
            return Err(Error::backup("it was made by a newer konnector; use that version"));
        }
        while head.len() < MAX_HEADER_BYTES && head.iter().filter(|byte| **byte == b'\n').count() < 2 {
            head.push(from.read_u8().await.map_err(|_| Error::backup("its header is truncated"))?);
        }
        let json = head.get(MAGIC.len()..).unwrap_or_default();
        let header: BackupHeader =
            serde_json::from_slice(json).map_err(|error| Error::backup(format!("its header is damaged: {error}")))?;
        if header.key != key.fingerprint() {
            let (needed, found) = (&header.key, key.fingerprint());
            let reason = format!(
                "it was made with the key {needed}, but the key file contains {found}; \
                 pass the right key with --key-file"
            );
            return Err(Error::BackupKey { reason });
        }
        let (stream, read) = (cipher_stream(key, &header.salt), head.len() as u64);
        let (ahead, piece) = (Vec::new(), Vec::new());
        Ok((
            Self {
                from,
                stream,
                header: head,
                lookahead: ahead,
                chunk: piece,
                offset: 0,
                number: 0,
                last: false,
                bytes_read: read,
            },
            header,
        ))
    }

    /// Fills `bytes` completely.
    ///
    /// # Errors
    ///
    /// [`Error::Backup`] if the backup is truncated or damaged.
    pub(super) async fn read(&mut self, mut bytes: &mut [u8]) -> Result<()> {
        while !bytes.is_empty() {
            let some = self.read_some(bytes.len()).await?;
            let (now, later) = bytes.split_at_mut(some.len());
            now.copy_from_slice(some);
            bytes = later;
        }
        Ok(())
    }

    /// Returns the next bytes, at least one and at most `most`.
    pub(super) async fn read_some(&mut self, most: usize) -> Result<&[u8]> {
        while self.offset == self.chunk.len() {
            if self.last {
                return Err(Error::backup("it ends in the middle of an entry"));
            }
            self.read_chunk().await?;
        }
        let end = self.chunk.len().min(self.offset.saturating_add(most));
        let some = self.chunk.get(self.offset..end).unwrap_or_default();
        self.offset = end;
        Ok(some)
    }

    /// Requires the end of the backup.
    pub(super) fn finish(&self) -> Result<()> {
        if self.last && self.offset == self.chunk.len() {
            return Ok(());
        }
        Err(Error::backup("it has data after its end"))
    }

    async fn read_chunk(&mut self) -> Result<()> {
        // Reading one byte more than a piece shows whether another one follows.
        let mut piece = std::mem::take(&mut self.lookahead);
        let missing = (CHUNK_BYTES + TAG_BYTES + 1).saturating_sub(piece.len()) as u64;
        let limited = &mut (&mut *self.from).take(missing);
        limited.read_to_end(&mut piece).await.map_err(|error| Error::backup(format!("it cannot be read: {error}")))?;
        self.last = piece.len() <= CHUNK_BYTES + TAG_BYTES;
        if !self.last {
            self.lookahead.extend(piece.pop());
        }
        let position = self.bytes_read;
        self.bytes_read += piece.len() as u64;
        let sealed = if self.last { piece.clone() } else { Vec::new() };
        if self.stream.decrypt_in_place(self.number, self.last, &self.header, &mut piece).is_err() {
            let mut whole = sealed;
            let cut_off =
                self.last && self.stream.decrypt_in_place(self.number, false, &self.header, &mut whole).is_ok();
            return Err(Error::backup(if cut_off || piece.is_empty() {
                format!("it is truncated after {} bytes", self.bytes_read)
            } else if self.last {
                format!("it is truncated or damaged after byte {position}")
            } else {
                format!("it is damaged between bytes {position} and {}", self.bytes_read)
            }));
        }
        (self.chunk, self.offset) = (piece, 0);
        self.number = self.number.wrapping_add(1);
        Ok(())
    }
}
