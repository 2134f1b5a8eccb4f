//! Message ids that were used a short while ago.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::backend::MessageId;

/// Most ids of a stream that are remembered, however long its window: about 100 MB of them.
pub const IDS_MAX: usize = 1_000_000;

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// The number of the record.
    pub seq: u64,
    /// When it was accepted, in milliseconds since 1970.
    pub time: u64,
    /// The revision that it made.
    pub revision: u64,
}

/// The ids of a stream.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    used: HashMap<Arc<str>, Used, ahash::RandomState>,
    /// By time: when the clock was set back, that is not the order in which they were used.
    order: BTreeSet<(u64, Arc<str>)>,
}

impl Ids {
    /// The ids that a store has kept, oldest first.
    pub fn load(ids: Vec<MessageId>) -> Self {
        let mut loaded = Self::default();
        for entry in ids {
            let used = Used {
                seq: entry.seq,
                time: entry.time,
                revision: entry.revision,
            };
            loaded.insert(entry.id, used);
        }
        loaded
    }

    /// Forgets what is older than `window` at `now`, in milliseconds.
    pub fn expire(&mut self, now: u64, window: u64) {
        while let Some((time, _)) = self.order.first()
            && time.saturating_add(window) <= now
        {
            self.forget_oldest();
        }
    }

    /// What an id stands for.
    pub fn get(&self, id: &str) -> Option<Used> {
        self.used.get(id).copied()
    }

    /// The ids that count at `now`, with the numbers of their records.
    pub fn known(&self, now: u64, window: u64) -> BTreeMap<Arc<str>, u64> {
        let is_known = |used: &Used| used.time.saturating_add(window) > now;
        let known = self.used.iter().filter(|(_, used)| is_known(used));
        known.map(|(id, used)| (Arc::clone(id), used.seq)).collect()
    }

    /// Remembers an id that is not known.
    pub fn insert(&mut self, id: Arc<str>, used: Used) {
        self.order.insert((used.time, Arc::clone(&id)));
        self.used.insert(id, used);
        if self.order.len() > IDS_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((time, id)) = self.order.pop_first() else {
            return;
        };
        // The id may have been used again since, when the window was shorter for a while.
        if self.used.get(&id).is_some_and(|used| used.time == time) {
            self.used.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(seq: u64, time: u64) -> Used {
        Used {
            seq,
            time,
            revision: seq,
        }
    }

    #[test]
    fn ids_are_known_for_the_window() {
        let mut ids = Ids::default();
        ids.insert("a".into(), used(1, 100));
        ids.insert("b".into(), used(2, 150));
        ids.expire(199, 100);
        assert_eq!(ids.get("a"), Some(used(1, 100)));
        ids.expire(200, 100);
        assert_eq!((ids.get("a"), ids.get("b")), (None, Some(used(2, 150))));
        ids.expire(0, 100);
        assert_eq!(ids.get("b"), Some(used(2, 150)), "the clock was set back");
    }
}
