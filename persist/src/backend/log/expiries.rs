//! When something of a stream is over that is not loaded, so that it is loaded then.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::backend::StreamId;

/// Streams by when to look at them, in milliseconds since 1970. Those that are loaded need no entry; one that is left is
/// looked at in vain.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    by_time: Mutex<BTreeSet<(u64, StreamId)>>,
}

impl Expiries {
    /// Looks at a stream at `due`.
    pub(crate) fn add(&self, due: u64, stream: StreamId) {
        self.by_time.lock().insert((due, stream));
    }

    /// The streams that are due at `now`, at most `limit`; they have no entry any more.
    pub(crate) fn take(&self, now: u64, limit: usize) -> Vec<StreamId> {
        let mut by_time = self.by_time.lock();
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some((due, stream)) = by_time.pop_first()
        {
            if due > now {
                by_time.insert((due, stream));
                break;
            }
            taken.push(stream);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_told_once_and_the_earliest_first() {
        let expiries = Expiries::default();
        for (due, stream) in [(30, 3), (10, 1), (20, 2), (20, 4)] {
            expiries.add(due, StreamId(stream));
        }
        let take = |now, limit| -> Vec<u64> {
            let taken = expiries.take(now, limit);
            taken.iter().map(|id| id.0).collect()
        };
        assert!(take(9, 9).is_empty());
        assert_eq!(take(20, 2), [1, 2]);
        assert_eq!(take(20, 9), [4]);
        assert!(take(20, 9).is_empty());
        assert_eq!(take(99, 9), [3]);
    }
}
