//! The bytes of a file in memory, in chunks that exist only where something was written.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ErrorCode;
use super::quota::{ByteReservation, ScratchQuota};

/// Size of a chunk in bytes.
const CHUNK_SIZE: usize = 64 << 10;

/// Sparse bytes of any length; holes take no memory. The whole length still counts against the quota, because a guest
/// may fill the holes later, and must not be rejected then.
#[derive(Debug)]
pub(crate) struct SparseContent {
    length: u64,
    /// Chunks by their number. Missing chunks, and the bytes after the end of a shorter one, are zeros.
    chunks: BTreeMap<u64, Vec<u8>>,
    reservation: ByteReservation,
}

/// The part of a range within one chunk.
struct ChunkRange {
    chunk: u64,
    from: usize,
    length: usize,
}

/// Splits a range into parts.
fn chunk_ranges(offset: u64, length: usize) -> impl Iterator<Item = ChunkRange> {
    let (mut position, mut remaining) = (offset, length);
    std::iter::from_fn(move || {
        let from = usize::try_from(position % CHUNK_SIZE as u64).ok()?;
        let part = ChunkRange { chunk: position / CHUNK_SIZE as u64, from, length: remaining.min(CHUNK_SIZE - from) };
        (position, remaining) = (position + part.length as u64, remaining - part.length);
        (part.length > 0).then_some(part)
    })
}

impl SparseContent {
    pub(crate) fn new(quota: Arc<ScratchQuota>) -> Self {
        Self { length: 0, chunks: BTreeMap::new(), reservation: ByteReservation::empty(quota) }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.length
    }

    /// Reads at most `max` bytes from `offset`; returns none after the end.
    pub(crate) fn read(&self, offset: u64, max: usize) -> Vec<u8> {
        let length = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX).min(max);
        let mut bytes = Vec::with_capacity(length);
        for part in chunk_ranges(offset, length) {
            let end = bytes.len() + part.length;
            if let Some(chunk) = self.chunks.get(&part.chunk) {
                let stored = chunk.get(part.from..).unwrap_or_default();
                bytes.extend_from_slice(stored.get(..part.length).unwrap_or(stored));
            }
            bytes.resize(end, 0);
        }
        bytes
    }

    /// Writes all of `bytes`, or nothing. Empty writes have no effect at any offset.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ErrorCode> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or(ErrorCode::FileTooLarge)?;
        if end > self.length {
            self.reservation.resize(end)?;
            self.length = end;
        }
        let mut rest = bytes;
        for part in chunk_ranges(offset, bytes.len()) {
            let (now, later) = rest.split_at(part.length);
            rest = later;
            let chunk = self.chunks.entry(part.chunk).or_default();
            let end = part.from + part.length;
            if chunk.len() < end {
                // Grows by doubling, but never beyond the size of a chunk.
                let capacity = end.max(2 * chunk.capacity()).min(CHUNK_SIZE);
                chunk.reserve_exact(capacity - chunk.len());
                chunk.resize(end, 0);
            }
            if let Some(place) = chunk.get_mut(part.from..end) {
                place.copy_from_slice(now);
            }
        }
        Ok(())
    }

    /// Truncates the content, or appends zeros.
    pub(crate) fn set_len(&mut self, length: u64) -> Result<(), ErrorCode> {
        self.reservation.resize(length)?;
        if length < self.length {
            // Everything from the new end on must read as zeros when the file grows again.
            drop(self.chunks.split_off(&length.div_ceil(CHUNK_SIZE as u64)));
            if let Some(last) = self.chunks.get_mut(&(length / CHUNK_SIZE as u64)) {
                last.truncate(usize::try_from(length % CHUNK_SIZE as u64).unwrap_or(CHUNK_SIZE));
            }
        }
        self.length = length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(limit: u64) -> (SparseContent, Arc<ScratchQuota>) {
        let quota = ScratchQuota::new(limit, 10, |_| {});
        (SparseContent::new(Arc::clone(&quota)), quota)
    }

    #[test]
    fn a_hole_counts_and_takes_no_memory() {
        let (mut content, quota) = content(1 << 40);
        content.write(1 << 39, b"end").unwrap();
        assert_eq!(quota.used().0, (1 << 39) + 3);
        assert_eq!(content.chunks.len(), 1);
        assert_eq!(content.read((1 << 39) - 2, 10), b"\0\0end");
        content.set_len(1).unwrap();
        assert_eq!((quota.used().0, content.chunks.len()), (1, 0));
        drop(content);
        assert_eq!(quota.used().0, 0);
    }

    #[test]
    fn a_write_that_does_not_fit_changes_nothing() {
        let (mut content, quota) = content(10);
        content.write(0, b"12345").unwrap();
        assert_eq!(content.write(8, b"abc"), Err(ErrorCode::Quota));
        assert_eq!(content.write(u64::MAX, b"abc"), Err(ErrorCode::FileTooLarge));
        assert_eq!(content.set_len(11), Err(ErrorCode::Quota));
        content.write(u64::MAX, b"").unwrap();
        assert_eq!((content.read(0, 100), content.len(), quota.used().0), (b"12345".to_vec(), 5, 5));
        content.write(5, b"67890").unwrap();
    }

    #[test]
    fn a_small_file_takes_little_memory() {
        let (mut content, _) = content(1 << 20);
        content.write(0, b"x").unwrap();
        assert!(content.chunks[&0].capacity() < 64);
    }

    #[derive(Debug, Clone)]
    enum ContentChange {
        Write(u64, Vec<u8>),
        Length(u64),
    }

    fn change() -> impl Strategy<Value = ContentChange> {
        let place = prop_oneof![0..300_000_u64, (0..4_u64).prop_map(|chunk| chunk * CHUNK_SIZE as u64)];
        prop_oneof![
            3 => (place.clone(), proptest::collection::vec(any::<u8>(), 0..200)).prop_map(|(offset, bytes)| ContentChange::Write(offset, bytes)),
            1 => (0..3_u64, 0..2_u64).prop_map(|(chunks, more)| ContentChange::Write(chunks * 50_000, vec![7; CHUNK_SIZE + more as usize])),
            1 => place.prop_map(ContentChange::Length),
        ]
    }

    proptest! {
        #[test]
        fn it_reads_as_a_vector_does(changes in proptest::collection::vec(change(), 0..20), at in 0..300_000_u64, max in 0..200_000_usize) {
            let (mut content, quota) = content(1 << 30);
            let mut model: Vec<u8> = Vec::new();
            for change in changes {
                match change {
                    ContentChange::Write(at, bytes) => {
                        content.write(at, &bytes).unwrap();
                        if !bytes.is_empty() {
                            model.resize(model.len().max(at as usize + bytes.len()), 0);
                            model[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
                        }
                    }
                    ContentChange::Length(length) => {
                        content.set_len(length).unwrap();
                        model.resize(length as usize, 0);
                    }
                }
                prop_assert_eq!(quota.used().0, model.len() as u64);
            }
            let start = (at as usize).min(model.len());
            let end = (start + max).min(model.len());
            prop_assert!(content.read(at, max) == model[start..end]);
            prop_assert!(content.read(0, usize::MAX) == model);
        }
    }
}
