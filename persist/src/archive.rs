//! The archive: a copy of a node's log in a folder or an S3-compatible store, from which a lost disk is replaced.
//!
//! ```text
//!   segments of the log ──▶ Archiver ──▶ <prefix>/segments/segment-0000000007…zst       never changed
//!                              └───────▶ <prefix>/manifests/00000000000000000042.json   written last
//! ```
//!
//! A *manifest* names the segments that a log consists of. Each one is a log as a crash could have left it, so that
//! opening what was restored is the same as starting after a crash. Manifests that are kept are the points in time to
//! which one can go back.

mod copy;
mod manifest;
mod restore;
mod retention;
mod source;
mod status;
mod store;
mod upload;

pub use copy::{Copied, CopyError, Source as CopySource, Step, copy};
pub use manifest::{Manifest, Part, Segment};
pub use restore::{Point, RestoreError, Restored, restore, unfinished};
pub use source::{SegmentFile, Source};
pub use status::Status;
pub use store::{Archive, ArchiveError, Location, OpenError};
pub use upload::{Archiver, Config};
