//! How far the archive is.

use std::sync::Arc;

use parking_lot::Mutex;

/// An archiver in numbers. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// When the last manifest was written; what was stored by then is in the archive. 0 for never.
    pub archived_at: u64,
    /// Its number.
    pub generation: u64,
    /// Bytes of the log that no manifest has yet.
    pub waiting_bytes: u64,
    /// Bytes that were uploaded since the start.
    pub uploaded_bytes: u64,
    /// How many attempts failed since the last one that succeeded.
    pub failures: u64,
    /// Why the last one failed.
    pub error: Option<String>,
}

/// A status that several look at.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Status>>);

impl Shared {
    pub(super) fn get(&self) -> Status {
        self.0.lock().clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock());
    }
}
