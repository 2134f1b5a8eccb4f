//! The replica of a log, without I/O: what the service has, and behind it what is not saved yet.

use std::collections::{BTreeMap, VecDeque};

use crate::persist::kv::{Saved, Write};
use crate::persist::wire::Fault;

/// Most records of one save.
const SAVE_RECORDS_MAX: usize = 1_000;

/// An entry that was added here and is not known to be in the service's view.
#[derive(Debug)]
struct Local<T> {
    id: String,
    value: T,
    state: Sending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Waiting,
    Sent,
    /// It is written, and seen once the feed has come to this revision.
    Written(u64),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tape<T> {
    confirmed: BTreeMap<u64, T>,
    local: VecDeque<Local<T>>,
}

impl<T: Clone> Tape<T> {
    pub(super) fn new() -> Self {
        Self {
            confirmed: BTreeMap::new(),
            local: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, id: String, value: T) {
        self.local.push_back(Local {
            id,
            value,
            state: Sending::Waiting,
        });
    }

    pub(super) fn len(&self) -> usize {
        self.confirmed.len() + self.local.len()
    }

    /// The entries in order, each with its number if it is known.
    pub(super) fn entries(&self) -> Vec<(Option<u64>, T)> {
        let confirmed = self.confirmed.iter();
        let confirmed = confirmed.map(|(seq, value)| (Some(*seq), value.clone()));
        let local = self.local.iter().map(|local| (None, local.value.clone()));
        confirmed.chain(local).collect()
    }

    pub(super) fn is_saved(&self) -> bool {
        self.local
            .iter()
            .all(|local| matches!(local.state, Sending::Written(_)))
    }

    pub(super) fn has_outgoing(&self) -> bool {
        self.local
            .iter()
            .any(|local| local.state == Sending::Waiting)
    }

    /// What is to be sent now, in order. Each of it is to be [`settled`](Self::settle).
    pub(super) fn outgoing(&mut self) -> Vec<Write<T>> {
        let waiting = self
            .local
            .iter_mut()
            .filter(|local| local.state == Sending::Waiting);
        let sent = waiting.take(SAVE_RECORDS_MAX).map(|local| {
            local.state = Sending::Sent;
            Write {
                key: String::new(),
                value: Some(local.value.clone()),
                ttl: None,
                id: local.id.clone(),
                expect: None,
            }
        });
        sent.collect()
    }

    /// Takes the answer to a write; what was refused, with the reason.
    pub(super) fn settle(&mut self, id: &str, saved: Saved) -> Option<(T, Fault)> {
        let at = self.local.iter().position(|local| local.id == id)?;
        match saved {
            Saved::Written { revision, .. } => {
                let local = self.local.get_mut(at)?;
                local.state = Sending::Written(revision);
                None
            }
            Saved::Unknown => {
                let local = self.local.get_mut(at)?;
                local.state = Sending::Waiting;
                None
            }
            Saved::Refused(fault) => Some((self.local.remove(at)?.value, fault)),
        }
    }

    /// The service has a record; whether that is news.
    pub(super) fn put(&mut self, seq: u64, id: Option<&str>, value: T) -> bool {
        if let Some(at) = self
            .local
            .iter()
            .position(|local| id == Some(local.id.as_str()))
        {
            self.local.remove(at);
        }
        self.confirmed.insert(seq, value).is_none()
    }

    /// Records are gone; those that were known.
    pub(super) fn gone(&mut self, from: u64, to: u64) -> Vec<(u64, T)> {
        let gone: Vec<u64> = self
            .confirmed
            .range(from..=to)
            .map(|(seq, _)| *seq)
            .collect();
        let gone = gone.into_iter();
        gone.filter_map(|seq| Some((seq, self.confirmed.remove(&seq)?)))
            .collect()
    }

    /// Everything that the service has follows; in a new epoch what was written in the old one is gone.
    pub(super) fn resync(&mut self, is_new_epoch: bool) -> Vec<(u64, T)> {
        if is_new_epoch {
            self.local
                .retain(|local| !matches!(local.state, Sending::Written(_)));
        }
        std::mem::take(&mut self.confirmed).into_iter().collect()
    }

    /// The feed has told everything up to a revision: what was written until then and not seen is gone again.
    pub(super) fn reach(&mut self, revision: u64) {
        self.local.retain(
            |local| !matches!(local.state, Sending::Written(written) if written <= revision),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::wire::FaultKind;

    fn values(tape: &Tape<u32>) -> Vec<(Option<u64>, u32)> {
        tape.entries()
    }

    #[test]
    fn entries_are_at_the_end_at_once_and_move_when_they_are_confirmed() {
        let mut tape = Tape::new();
        assert!(tape.put(1, None, 10));
        tape.push("a".to_owned(), 20);
        tape.push("b".to_owned(), 30);
        assert_eq!(values(&tape), [(Some(1), 10), (None, 20), (None, 30)]);
        let sent = tape.outgoing();
        assert_eq!(sent.len(), 2);
        assert!(!tape.has_outgoing() && !tape.is_saved());
        assert!(tape.put(2, Some("b"), 30), "the answer was slower");
        assert!(tape.settle("b", Saved::Unknown).is_none());
        tape.settle("a", Saved::Unknown);
        assert_eq!(tape.outgoing(), sent[..1], "with the same id");
        tape.settle(
            "a",
            Saved::Written {
                seq: 3,
                revision: 3,
            },
        );
        assert!(tape.is_saved());
        assert_eq!(values(&tape), [(Some(1), 10), (Some(2), 30), (None, 20)]);
        tape.put(3, Some("a"), 20);
        tape.reach(3);
        assert_eq!(values(&tape), [(Some(1), 10), (Some(2), 30), (Some(3), 20)]);
        assert_eq!(tape.gone(1, 2), [(1, 10), (2, 30)]);
    }

    #[test]
    fn what_is_refused_is_taken_back_and_what_vanished_is_not_shown() {
        let mut tape = Tape::new();
        for (id, value) in [("a", 1), ("b", 2), ("c", 3)] {
            tape.push(id.to_owned(), value);
        }
        tape.outgoing();
        let fault = Fault::new(FaultKind::Reject, "full");
        assert_eq!(
            tape.settle("a", Saved::Refused(fault.clone())),
            Some((1, fault))
        );
        let written = |revision| Saved::Written { seq: 0, revision };
        tape.settle("b", written(5));
        tape.settle("c", written(6));
        tape.reach(5);
        assert_eq!(values(&tape), [(None, 3)]);
        tape.resync(true);
        assert_eq!(tape.len(), 0);
    }
}
