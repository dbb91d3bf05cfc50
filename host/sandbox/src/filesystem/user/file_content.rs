//! The content of an open file, which is the stored content, a draft that is written sequentially, or a copy in memory
//! if it is written in any other order.

use bytes::Bytes;

use super::super::bindings::wasi::filesystem::types::ErrorCode;
use super::super::error::{FilesystemError, Result};
use super::super::memory;
use super::Mount;
use crate::capability::{ContentReader, Destination, Draft, Node, SaveOutcome};

/// Size of a copied chunk in bytes.
const COPY_CHUNK_SIZE: usize = 256 << 10;

/// Content, and whether it differs from the stored content.
pub(super) struct FileContent {
    state: ContentState,
    /// Whether there are changes to commit.
    pub(super) is_dirty: bool,
}

enum ContentState {
    /// No content; stored content, if any, is to be replaced.
    Empty,
    /// The stored content.
    Stored(Box<dyn ContentReader>),
    /// Content that was just committed to the file with this id; opened only when it is needed.
    Committed { id: String, size: u64 },
    /// Content that is written sequentially.
    Draft { draft: Box<dyn Draft>, length: u64 },
    /// Content that is written in any other order.
    MemoryCopy(memory::SparseContent),
    /// A write failed; the remaining content is incomplete and must never become a file.
    Broken(ErrorCode),
}

impl FileContent {
    /// Creates the content of a new file, or of one whose content is to be replaced.
    pub(super) const fn empty() -> Self {
        Self { state: ContentState::Empty, is_dirty: true }
    }

    /// Creates the content of an existing file.
    pub(super) fn stored(content: Box<dyn ContentReader>) -> Self {
        Self { state: ContentState::Stored(content), is_dirty: false }
    }

    pub(super) fn len(&self) -> u64 {
        match &self.state {
            ContentState::Empty | ContentState::Broken(_) => 0,
            ContentState::Stored(content) => content.size(),
            ContentState::Committed { size, .. } => *size,
            ContentState::Draft { length, .. } => *length,
            ContentState::MemoryCopy(content) => content.len(),
        }
    }

    pub(super) async fn read(&mut self, mount: &Mount, offset: u64, max: usize) -> Result<Bytes> {
        self.reopen(mount).await?;
        if let ContentState::Draft { .. } = self.state {
            self.copy_to_memory(mount).await?;
        }
        match &mut self.state {
            ContentState::Empty => Ok(Bytes::new()),
            ContentState::Stored(content) => mount.unless_cancelled(content.read(offset, max)).await,
            ContentState::MemoryCopy(content) => Ok(content.read(offset, max).into()),
            ContentState::Broken(code) => Err((*code).into()),
            ContentState::Draft { .. } | ContentState::Committed { .. } => Err(ErrorCode::Io.into()),
        }
    }

    /// Writes all bytes, or marks the content as broken. A write that continues where the last one ended, or at the end
    /// of the stored content, goes directly to a draft.
    pub(super) async fn write(&mut self, mount: &Mount, offset: u64, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.is_dirty = true;
        let written = self.write_some(mount, offset, bytes).await;
        if let Err(FilesystemError::Code(code)) = written {
            self.state = ContentState::Broken(code);
        }
        written
    }

    async fn write_some(&mut self, mount: &Mount, offset: u64, bytes: Bytes) -> Result<()> {
        if let ContentState::Broken(code) = self.state {
            return Err(code.into());
        }
        self.reopen(mount).await?;
        if offset != self.len() {
            self.copy_to_memory(mount).await?;
        } else if let ContentState::Empty | ContentState::Stored(_) = self.state {
            self.begin_draft(mount).await?;
        }
        match &mut self.state {
            ContentState::MemoryCopy(content) => Ok(content.write(offset, &bytes)?),
            _ => self.append(mount, bytes).await,
        }
    }

    pub(super) async fn set_len(&mut self, mount: &Mount, length: u64) -> Result<()> {
        if length == self.len() && !matches!(self.state, ContentState::Broken(_)) {
            return Ok(());
        }
        if length == 0 {
            *self = Self::empty();
            return Ok(());
        }
        self.reopen(mount).await?;
        self.copy_to_memory(mount).await?;
        self.is_dirty = true;
        match &mut self.state {
            ContentState::MemoryCopy(content) => Ok(content.set_len(length)?),
            _ => Err(ErrorCode::Io.into()),
        }
    }

    /// Makes the content visible. Afterwards it is the stored content.
    pub(super) async fn commit(&mut self, mount: &Mount, to: &Destination) -> Result<(Node, SaveOutcome)> {
        match &self.state {
            ContentState::Broken(code) => return Err((*code).into()),
            ContentState::Draft { .. } => {}
            ContentState::Empty
            | ContentState::Stored(_)
            | ContentState::Committed { .. }
            | ContentState::MemoryCopy(_) => self.begin_draft(mount).await?,
        }
        let ContentState::Draft { draft, .. } = self.take() else {
            return Err(ErrorCode::Io.into());
        };
        let (node, written) = mount.unless_cancelled(draft.commit(to)).await?;
        self.is_dirty = false;
        self.state = ContentState::Committed { id: node.id.clone(), size: node.size };
        Ok((node, written))
    }

    /// Opens the committed content, to read it or to continue from it.
    async fn reopen(&mut self, mount: &Mount) -> Result<()> {
        if let ContentState::Committed { id, .. } = &self.state {
            self.state = ContentState::Stored(mount.unless_cancelled(mount.tree.open(id)).await?);
        }
        Ok(())
    }

    /// Takes the content, and marks the file as broken until the caller sets the new content. A step that is abandoned
    /// halfway therefore leaves the file broken.
    const fn take(&mut self) -> ContentState {
        std::mem::replace(&mut self.state, ContentState::Broken(ErrorCode::Io))
    }

    /// Appends to the draft, which is lost if that fails or is abandoned.
    async fn append(&mut self, mount: &Mount, bytes: Bytes) -> Result<()> {
        let ContentState::Draft { mut draft, length } = self.take() else {
            return Err(ErrorCode::Io.into());
        };
        let size = bytes.len() as u64;
        mount.charge_bytes(size)?;
        mount.unless_cancelled(draft.write(bytes)).await?;
        self.state = ContentState::Draft { draft, length: length + size };
        Ok(())
    }

    /// Begins a draft with the content so far.
    async fn begin_draft(&mut self, mount: &Mount) -> Result<()> {
        let draft = mount.unless_cancelled(mount.tree.create_draft()).await?;
        let mut before = std::mem::replace(&mut self.state, ContentState::Draft { draft, length: 0 });
        let mut offset = 0;
        loop {
            let part = match &mut before {
                ContentState::Stored(content) => mount.unless_cancelled(content.read(offset, COPY_CHUNK_SIZE)).await?,
                ContentState::MemoryCopy(content) => content.read(offset, COPY_CHUNK_SIZE).into(),
                ContentState::Empty
                | ContentState::Committed { .. }
                | ContentState::Draft { .. }
                | ContentState::Broken(_) => return Ok(()),
            };
            if part.is_empty() {
                return Ok(());
            }
            offset += part.len() as u64;
            self.append(mount, part).await?;
        }
    }

    /// Copies the content so far to memory.
    async fn copy_to_memory(&mut self, mount: &Mount) -> Result<()> {
        if matches!(self.state, ContentState::MemoryCopy(_)) {
            return Ok(());
        }
        let mut copy = memory::SparseContent::new(std::sync::Arc::clone(&mount.scratch));
        // Reserves the space first, so that content that does not fit is not fetched.
        copy.set_len(self.len())?;
        match self.take() {
            ContentState::Empty | ContentState::Committed { .. } => {}
            ContentState::Stored(mut content) => {
                let mut offset = 0;
                loop {
                    let part = mount.unless_cancelled(content.read(offset, COPY_CHUNK_SIZE)).await?;
                    if part.is_empty() {
                        break;
                    }
                    copy.write(offset, &part)?;
                    offset += part.len() as u64;
                }
            }
            ContentState::Draft { draft, .. } => copy.write(0, &mount.unless_cancelled(draft.into_bytes()).await?)?,
            ContentState::MemoryCopy(content) => copy = content,
            ContentState::Broken(code) => return Err(code.into()),
        }
        self.state = ContentState::MemoryCopy(copy);
        Ok(())
    }
}
