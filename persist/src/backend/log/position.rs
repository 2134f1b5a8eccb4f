//! Where something is in the log.

use std::fmt;

/// Number of a segment, from 1. Numbers are never given again.
pub(crate) type SegmentId = u32;

/// A place in the log: a segment and a byte in it. Places are ordered as they were written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Position(u64);

impl Position {
    /// Before everything.
    pub(crate) const ZERO: Self = Self(0);

    pub(crate) fn new(segment: SegmentId, offset: u32) -> Self {
        Self(u64::from(segment) << 32 | u64::from(offset))
    }

    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// As one number, which grows with the log.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    pub(crate) fn segment(self) -> SegmentId {
        SegmentId::try_from(self.0 >> 32).expect("32 bits remain")
    }

    pub(crate) fn offset(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).expect("32 bits remain")
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} byte {}", self.segment(), self.offset())
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment(), self.offset())
    }
}
