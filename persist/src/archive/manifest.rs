//! Which segments make up a log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::source::SegmentFile;

/// The version of the format.
pub(super) const FORMAT: u32 = 1;

/// A log at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the format: 1.
    pub format: u32,
    /// Grows by one with each manifest.
    pub generation: u64,
    /// When it was written, in milliseconds since 1970.
    pub time: u64,
    /// The number of the log, in 16 hexadecimal digits.
    pub log: String,
    /// The node that wrote it.
    pub node: String,
    /// The segments, by number.
    pub segments: BTreeMap<u64, Segment>,
}

/// A segment in the archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The name of its file.
    pub name: String,
    /// Bytes of the file.
    pub len: u64,
    /// What makes it up, in order.
    pub parts: Vec<Part>,
}

/// Some bytes of a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The name of the object below `segments/`; its content never changes.
    pub object: String,
    /// Bytes of the file.
    pub len: u64,
    /// Bytes of the object, which is compressed with zstd.
    pub stored_len: u64,
    /// SHA-256 of the bytes of the file, in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// The number of a log as text.
    pub(super) fn log_name(number: u64) -> String {
        format!("{number:016x}")
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.len).sum()
    }

    /// Whether the archive has all of a segment.
    pub(super) fn has(&self, file: &SegmentFile) -> bool {
        self.segments
            .get(&file.number)
            .is_some_and(|kept| kept.len == file.len)
    }

    /// The names of all objects.
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        let parts = self.segments.values().flat_map(|segment| &segment.parts);
        parts.map(|part| part.object.as_str())
    }
}
