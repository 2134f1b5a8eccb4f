//! Whether there is an order in which operations on one key, one after the other, explain all their answers, each at a
//! moment between its beginning and its end (the search of Wing and Gong, with the memory of Lowe).

use std::collections::{BTreeMap, HashSet};

/// Most operations of one history.
const OPS_MAX: usize = 64;

/// The message id of a value; `None` where the key has none.
pub(crate) type Value = Option<String>;

/// What was asked and answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// The value was asked for.
    Read(Value),
    /// A value was written over the one that was expected.
    Written { id: String, over: Value },
    /// It was refused, since the key's record had this number.
    Refused { over: Value, actual: u64 },
    /// Nobody knows: it is written at any time after its beginning, or never.
    Unknown { id: String, over: Value },
}

/// An operation and the moments around it.
#[derive(Debug, Clone)]
pub(crate) struct Timed {
    pub(crate) op: Op,
    pub(crate) began: u64,
    /// Of unknown ones nobody knows when they end.
    pub(crate) ended: u64,
}

/// What the numbers are that were seen beside values.
pub(crate) type Numbers = BTreeMap<u64, String>;

/// Whether such an order exists.
///
/// # Panics
/// With more than [`OPS_MAX`] operations.
pub(crate) fn is_linearizable(history: &[Timed], numbers: &Numbers) -> bool {
    assert!(history.len() <= OPS_MAX, "{} operations", history.len());
    let mut search = Search {
        history,
        numbers,
        seen: HashSet::new(),
    };
    search.from(0, None)
}

struct Search<'h> {
    history: &'h [Timed],
    numbers: &'h Numbers,
    /// Which operations were done, and what the value was then, where that led nowhere.
    seen: HashSet<(u64, Value)>,
}

impl Search<'_> {
    /// Goes on behind the operations in `done`, one bit for each.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "each step makes the value that it goes on with"
    )]
    fn from(&mut self, done: u64, value: Value) -> bool {
        let history = self.history;
        let open = |index: &usize| done & (1 << index) == 0;
        let left = || (0..history.len()).filter(open);
        let is_known = |index: &usize| !matches!(history[*index].op, Op::Unknown { .. });
        let Some(first_end) = left()
            .filter(is_known)
            .map(|index| history[index].ended)
            .min()
        else {
            return true;
        };
        if !self.seen.insert((done, value.clone())) {
            return false;
        }
        left()
            .filter(|index| history[*index].began < first_end)
            .any(|index| {
                let after = self.after(&history[index].op, &value);
                after.is_some_and(|after| self.from(done | (1 << index), after))
            })
    }

    /// The value after an operation, if its answer is right where `value` is there before.
    fn after(&self, op: &Op, value: &Value) -> Option<Value> {
        match op {
            Op::Read(read) => (read == value).then(|| value.clone()),
            Op::Written { id, over } | Op::Unknown { id, over } => {
                (over == value).then(|| Some(id.clone()))
            }
            Op::Refused { over, actual } => {
                let is_it = match self.numbers.get(actual) {
                    Some(id) => value.as_ref() == Some(id),
                    None if *actual == 0 => value.is_none(),
                    // The number of a value that nobody saw.
                    None => value
                        .as_ref()
                        .is_some_and(|id| self.numbers.values().all(|seen| seen != id)),
                };
                (over != value && is_it).then(|| value.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(history: &[(u64, u64, Op)]) -> bool {
        let history: Vec<Timed> = history
            .iter()
            .map(|(began, ended, op)| Timed {
                op: op.clone(),
                began: *began,
                ended: *ended,
            })
            .collect();
        let numbers = [(1, "a".to_owned()), (2, "b".to_owned())].into();
        is_linearizable(&history, &numbers)
    }

    fn written(id: &str, over: Option<&str>) -> Op {
        Op::Written {
            id: id.to_owned(),
            over: over.map(str::to_owned),
        }
    }

    fn read(value: Option<&str>) -> Op {
        Op::Read(value.map(str::to_owned))
    }

    fn unknown(id: &str, over: Option<&str>) -> Op {
        Op::Unknown {
            id: id.to_owned(),
            over: over.map(str::to_owned),
        }
    }

    #[test]
    fn right_histories_are_accepted() {
        assert!(check(&[]));
        // The read is during the write, and may be before it.
        assert!(check(&[(1, 4, written("a", None)), (2, 3, read(None))]));
        assert!(check(&[
            (1, 4, written("a", None)),
            (2, 3, read(Some("a")))
        ]));
        let refused = Op::Refused {
            over: None,
            actual: 1,
        };
        assert!(check(&[(1, 4, written("a", None)), (2, 3, refused)]));
        let late = unknown("a", None);
        assert!(check(&[(1, 9, late.clone()), (2, 3, read(None))]));
        assert!(check(&[
            (1, 9, late),
            (2, 3, read(None)),
            (4, 5, read(Some("a")))
        ]));
    }

    #[test]
    fn wrong_histories_are_not() {
        let stale = [(1, 2, written("a", None)), (3, 4, read(None))];
        assert!(!check(&stale), "stale read");
        let both = [(1, 4, written("a", None)), (2, 3, written("b", None))];
        assert!(!check(&both), "two successors");
        let back = [
            (1, 9, unknown("a", None)),
            (2, 3, read(Some("a"))),
            (4, 5, read(None)),
        ];
        assert!(!check(&back), "a write that is taken back");
        let refused = Op::Refused {
            over: None,
            actual: 0,
        };
        assert!(!check(&[(1, 2, refused)]), "refused though it held");
        let early = [(1, 2, read(Some("a"))), (3, 4, written("a", None))];
        assert!(!check(&early), "read before it was written");
    }
}
