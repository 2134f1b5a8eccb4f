//! Message ids: made so that no two are the same, and so that a repeated write is written once.

use std::sync::atomic::{AtomicU64, Ordering};

/// Gives message ids: random digits that are this giver's own, and a number.
#[derive(Debug)]
pub(super) struct Ids {
    own: u64,
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self {
            own: rand::random(),
            next: AtomicU64::new(1),
        }
    }

    pub(super) fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}.{number:x}", self.own)
    }
}
