//! What happened to a stream that was not an append, and how revisions and numbers belong together.

use std::collections::VecDeque;

use crate::backend::Logged;

/// Most ranges and keys that a stream's history keeps in all.
const WEIGHT_MAX: usize = 1_000_000;

/// The changes since the horizon that were not appends, oldest first.
///
/// Above the horizon every revision is either an entry here or an append, and appends number the records without gaps.
/// So the revision of a record follows from its number, and nothing needs to be kept per record.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Every change up to this revision is forgotten.
    revision: u64,
    /// The last number that was given by then.
    seq: u64,
    log: VecDeque<Logged>,
    weight: usize,
}

impl History {
    /// A history that a store has kept.
    pub fn load(horizon: (u64, u64), log: Vec<Logged>) -> Self {
        Self {
            revision: horizon.0,
            seq: horizon.1,
            weight: log.iter().map(weight).sum(),
            log: log.into(),
        }
    }

    /// The revision from which on everything is known.
    pub fn horizon(&self) -> u64 {
        self.revision
    }

    /// Adds a change, and forgets the oldest ones beyond `kept`.
    pub fn push(&mut self, change: Logged, kept: u64) {
        self.weight += weight(&change);
        self.log.push_back(change);
        self.trim(kept);
    }

    /// Forgets the oldest changes beyond `kept`.
    pub fn trim(&mut self, kept: u64) {
        while self.log.len() as u64 > kept || self.weight > WEIGHT_MAX {
            let Some(oldest) = self.log.pop_front() else {
                return;
            };
            self.weight -= weight(&oldest);
            self.revision = oldest.revision;
            self.seq = oldest.last_seq;
        }
    }

    /// Forgets everything up to `revision`, when `seq` was the last number: numbers before had gaps.
    pub fn restart(&mut self, revision: u64, seq: u64) {
        *self = Self {
            revision,
            seq,
            ..Self::default()
        };
    }

    /// The changes after a revision, oldest first.
    pub fn after(&self, revision: u64) -> impl Iterator<Item = &Logged> {
        let start = self.log.partition_point(|entry| entry.revision <= revision);
        self.log.range(start..)
    }

    /// The last number that was given up to a revision; `None` below the horizon.
    pub fn seq_at(&self, revision: u64) -> Option<u64> {
        let since = revision.checked_sub(self.revision)?;
        let others = self.log.partition_point(|entry| entry.revision <= revision) as u64;
        Some(self.seq + since - others)
    }

    /// The revision that a record above the horizon made; `None` for others.
    pub fn revision_of(&self, seq: u64) -> Option<u64> {
        let since = seq.checked_sub(self.seq).filter(|since| *since > 0)?;
        let others = self.log.partition_point(|entry| entry.last_seq < seq) as u64;
        Some(self.revision + since + others)
    }
}

fn weight(change: &Logged) -> usize {
    let removed = change.remove.as_ref();
    1 + removed.map_or(0, |remove| remove.ranges.len() + remove.keys.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(revision: u64, last_seq: u64) -> Logged {
        Logged {
            revision,
            last_seq,
            remove: None,
        }
    }

    #[test]
    fn revisions_and_numbers_follow_from_each_other() {
        // Revisions 1 and 2 are appends, 3 is another change, 4 an append, 5 and 6 others, 7 an append.
        let mut history = History::default();
        for change in [other(3, 2), other(5, 3), other(6, 3)] {
            history.push(change, 100);
        }
        let seqs: Vec<u64> = (0..=7)
            .map(|revision| history.seq_at(revision).unwrap())
            .collect();
        assert_eq!(seqs, [0, 1, 2, 2, 3, 3, 3, 4]);
        let revisions: Vec<u64> = (1..=4)
            .map(|seq| history.revision_of(seq).unwrap())
            .collect();
        assert_eq!(revisions, [1, 2, 4, 7]);
        history.trim(2);
        assert_eq!((history.horizon(), history.seq_at(2)), (3, None));
        assert_eq!((history.seq_at(3), history.seq_at(7)), (Some(2), Some(4)));
        assert_eq!(
            (history.revision_of(2), history.revision_of(3)),
            (None, Some(4))
        );
        assert_eq!(history.after(5).count(), 1);
    }
}
