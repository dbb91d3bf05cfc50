//! The content of an open file: what is stored, a draft that is written from beginning to end, or a copy in memory where it is written in
//! any other order.

use bytes::Bytes;

use super::super::bindings::wasi::filesystem::types::ErrorCode;
use super::super::failure::{Failure, Result};
use super::super::memory;
use super::Mount;
use crate::capability::{Content, Destination, Draft, Node, Written};

/// Bytes that are copied at a time.
const COPY: usize = 256 << 10;

/// Content, and whether it differs from what is stored.
pub(super) struct Body {
    state: State,
    /// There is something to commit.
    pub(super) changed: bool,
}

enum State {
    /// Nothing, and nothing stored that counts.
    Empty,
    /// What is stored.
    Stored(Box<dyn Content>),
    /// What was stored just now, in the file with this id; opened when it is needed, if at all.
    Committed { id: String, size: u64 },
    /// Written in one go.
    Draft { draft: Box<dyn Draft>, length: u64 },
    /// Written in some other order.
    Copy(memory::Content),
    /// A write failed; what is left is not what the guest meant, and must never become a file.
    Broken(ErrorCode),
}

impl Body {
    /// Of a file that is new, or whose content is to be replaced.
    pub(super) const fn empty() -> Self {
        Self { state: State::Empty, changed: true }
    }

    /// Of a file that is there.
    pub(super) fn stored(content: Box<dyn Content>) -> Self {
        Self { state: State::Stored(content), changed: false }
    }

    pub(super) fn len(&self) -> u64 {
        match &self.state {
            State::Empty | State::Broken(_) => 0,
            State::Stored(content) => content.size(),
            State::Committed { size, .. } => *size,
            State::Draft { length, .. } => *length,
            State::Copy(content) => content.len(),
        }
    }

    pub(super) async fn read(&mut self, mount: &Mount, offset: u64, max: usize) -> Result<Bytes> {
        self.reopen(mount).await?;
        if let State::Draft { .. } = self.state {
            self.copy(mount).await?;
        }
        match &mut self.state {
            State::Empty => Ok(Bytes::new()),
            State::Stored(content) => mount.ask(content.read(offset, max)).await,
            State::Copy(content) => Ok(content.read(offset, max).into()),
            State::Broken(code) => Err((*code).into()),
            State::Draft { .. } | State::Committed { .. } => Err(ErrorCode::Io.into()),
        }
    }

    /// Writes all of it, or breaks the content. What goes on where the last write ended, or at the end of what is stored, goes straight to
    /// a draft.
    pub(super) async fn write(&mut self, mount: &Mount, offset: u64, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.changed = true;
        let written = self.write_some(mount, offset, bytes).await;
        if let Err(Failure::Code(code)) = written {
            self.state = State::Broken(code);
        }
        written
    }

    async fn write_some(&mut self, mount: &Mount, offset: u64, bytes: Bytes) -> Result<()> {
        if let State::Broken(code) = self.state {
            return Err(code.into());
        }
        self.reopen(mount).await?;
        if offset != self.len() {
            self.copy(mount).await?;
        } else if let State::Empty | State::Stored(_) = self.state {
            self.begin_draft(mount).await?;
        }
        match &mut self.state {
            State::Copy(content) => Ok(content.write(offset, &bytes)?),
            _ => self.append(mount, bytes).await,
        }
    }

    pub(super) async fn set_len(&mut self, mount: &Mount, length: u64) -> Result<()> {
        if length == self.len() && !matches!(self.state, State::Broken(_)) {
            return Ok(());
        }
        if length == 0 {
            *self = Self::empty();
            return Ok(());
        }
        self.reopen(mount).await?;
        self.copy(mount).await?;
        self.changed = true;
        match &mut self.state {
            State::Copy(content) => Ok(content.set_len(length)?),
            _ => Err(ErrorCode::Io.into()),
        }
    }

    /// Makes the content visible. Afterwards it is what is stored.
    pub(super) async fn commit(&mut self, mount: &Mount, to: &Destination) -> Result<(Node, Written)> {
        match &self.state {
            State::Broken(code) => return Err((*code).into()),
            State::Draft { .. } => {}
            State::Empty | State::Stored(_) | State::Committed { .. } | State::Copy(_) => {
                self.begin_draft(mount).await?
            }
        }
        let State::Draft { draft, .. } = self.take() else {
            return Err(ErrorCode::Io.into());
        };
        let (node, written) = mount.ask(draft.commit(to)).await?;
        self.changed = false;
        self.state = State::Committed { id: node.id.clone(), size: node.size };
        Ok((node, written))
    }

    /// Opens what was committed, to read it or to go on from it.
    async fn reopen(&mut self, mount: &Mount) -> Result<()> {
        if let State::Committed { id, .. } = &self.state {
            self.state = State::Stored(mount.ask(mount.tree.open(id)).await?);
        }
        Ok(())
    }

    /// Takes the content for a step that leaves none when it is given up half-way.
    const fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Broken(ErrorCode::Io))
    }

    /// Appends to the draft, which is lost when that fails or is given up.
    async fn append(&mut self, mount: &Mount, bytes: Bytes) -> Result<()> {
        let State::Draft { mut draft, length } = self.take() else {
            return Err(ErrorCode::Io.into());
        };
        let size = bytes.len() as u64;
        mount.count_bytes(size)?;
        mount.ask(draft.write(bytes)).await?;
        self.state = State::Draft { draft, length: length + size };
        Ok(())
    }

    /// A draft with the content so far.
    async fn begin_draft(&mut self, mount: &Mount) -> Result<()> {
        let draft = mount.ask(mount.tree.draft()).await?;
        let mut before = std::mem::replace(&mut self.state, State::Draft { draft, length: 0 });
        let mut offset = 0;
        loop {
            let part = match &mut before {
                State::Stored(content) => mount.ask(content.read(offset, COPY)).await?,
                State::Copy(content) => content.read(offset, COPY).into(),
                State::Empty | State::Committed { .. } | State::Draft { .. } | State::Broken(_) => return Ok(()),
            };
            if part.is_empty() {
                return Ok(());
            }
            offset += part.len() as u64;
            self.append(mount, part).await?;
        }
    }

    /// A copy in memory of the content so far.
    async fn copy(&mut self, mount: &Mount) -> Result<()> {
        if matches!(self.state, State::Copy(_)) {
            return Ok(());
        }
        let mut copy = memory::Content::new(std::sync::Arc::clone(&mount.scratch));
        // Takes the room first: what does not fit is not fetched.
        copy.set_len(self.len())?;
        match self.take() {
            State::Empty | State::Committed { .. } => {}
            State::Stored(mut content) => {
                let mut offset = 0;
                loop {
                    let part = mount.ask(content.read(offset, COPY)).await?;
                    if part.is_empty() {
                        break;
                    }
                    copy.write(offset, &part)?;
                    offset += part.len() as u64;
                }
            }
            State::Draft { draft, .. } => copy.write(0, &mount.ask(draft.take_back()).await?)?,
            State::Copy(content) => copy = content,
            State::Broken(code) => return Err(code.into()),
        }
        self.state = State::Copy(copy);
        Ok(())
    }
}
