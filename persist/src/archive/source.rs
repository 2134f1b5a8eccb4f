//! What is archived: segments that only grow, the last of them at its end.

use std::io;
use std::sync::Arc;

use crate::backend::log::Log;

/// A log in files.
///
/// Calls block; they are made on threads that may wait.
pub trait Source: Send + Sync + std::fmt::Debug + 'static {
    /// A number that no other log has.
    fn log(&self) -> u64;

    /// The segments that there are, in the order of their numbers. All but the last are complete.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn segments(&self) -> io::Result<Vec<SegmentFile>>;

    /// The bytes of a segment from `from` to its `len`; `None` when it is gone by now. What was written once is the same
    /// as long as the process runs.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read(&self, segment: &SegmentFile, from: u64) -> io::Result<Option<Vec<u8>>>;
}

/// A segment as it is at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its number; no other segment of the log ever has it.
    pub number: u64,
    /// The name of its file.
    pub name: String,
    /// How many of its bytes are written.
    pub len: u64,
}

impl Source for Log {
    fn log(&self) -> u64 {
        self.number()
    }

    fn segments(&self) -> io::Result<Vec<SegmentFile>> {
        let segments = self.files().into_iter();
        Ok(segments
            .map(|(number, name, len)| SegmentFile { number, name, len })
            .collect())
    }

    fn read(&self, segment: &SegmentFile, from: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.disk().open(&segment.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let len = segment.len.saturating_sub(from);
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        crate::disk::read_exact_at(&*file, &mut bytes, from)?;
        Ok(Some(bytes))
    }
}

impl<S: Source> Source for Arc<S> {
    fn log(&self) -> u64 {
        (**self).log()
    }

    fn segments(&self) -> io::Result<Vec<SegmentFile>> {
        (**self).segments()
    }

    fn read(&self, segment: &SegmentFile, from: u64) -> io::Result<Option<Vec<u8>>> {
        (**self).read(segment, from)
    }
}
