//! The contents of one simulated file: as seen, as durable, and what lies between.

use std::io;

/// One file without its name.
#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    /// What a process reads.
    seen: Vec<u8>,
    /// What survives a loss of power for certain.
    durable: Vec<u8>,
    /// What was done since the last sync, in order.
    pub(super) changes: Vec<Change>,
}

/// One change of the contents that no sync has made durable.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

impl Change {
    /// Does to `contents` what it did when it was made.
    pub(super) fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if contents.len() < end {
                    contents.resize(end, 0);
                }
                contents[*offset..end].copy_from_slice(bytes);
            }
            Self::Len(len) => contents.resize(*len, 0),
        }
    }
}

impl Inode {
    /// A file that contains this, durably.
    pub(super) fn durable(contents: Vec<u8>) -> Self {
        Self {
            seen: contents.clone(),
            durable: contents,
            changes: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.seen.len()).expect("memory is smaller than this")
    }

    /// Bytes written since the last sync.
    pub(super) fn unsynced(&self) -> usize {
        let len = |change: &Change| match change {
            Change::Write { bytes, .. } => bytes.len(),
            Change::Len(_) => 0,
        };
        self.changes.iter().map(len).sum()
    }

    pub(super) fn contents(&self) -> &[u8] {
        &self.seen
    }

    pub(super) fn durable_contents(&self) -> &[u8] {
        &self.durable
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.changes.push(change);
    }

    pub(super) fn write(&mut self, bytes: Vec<u8>, offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        if !bytes.is_empty() {
            self.change(Change::Write { offset, bytes });
        }
        Ok(())
    }

    pub(super) fn set_len(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.change(Change::Len(len));
        Ok(())
    }

    /// What is seen becomes what survives, except for what an earlier sync has forgotten: the
    /// kernel believes that it is on the disk.
    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that failed: what was to be written never is, and is seen all the same.
    pub(super) fn forget(&mut self) {
        let len = self.seen.len();
        self.changes.clear();
        // Metadata is not data: the journal of the file system has the length.
        self.durable.resize(len, 0);
    }

    pub(super) fn flip(&mut self, byte: usize, mask: u8) -> io::Result<()> {
        for contents in [&mut self.seen, &mut self.durable] {
            let found = contents.get_mut(byte);
            let found = found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            *found ^= mask;
        }
        Ok(())
    }
}
