//! What makes a socket reliable: what was sent and is not acknowledged, and what came out of turn. No I/O.

use std::collections::{BTreeMap, VecDeque};

/// Numbers what is sent and keeps it until it is acknowledged.
#[derive(Debug)]
pub(super) struct Sending<T> {
    next: u64,
    kept: VecDeque<(u64, T)>,
    max: usize,
}

impl<T> Sending<T> {
    /// Keeps at most `max`.
    pub(super) fn new(max: usize) -> Self {
        Self {
            next: 1,
            kept: VecDeque::new(),
            max,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.kept.len() < self.max
    }

    /// The number up to which everything is acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.kept.front().map_or(self.next, |(seq, _)| *seq) - 1
    }

    pub(super) fn is_drained(&self) -> bool {
        self.kept.is_empty()
    }

    /// Keeps a message; its number.
    pub(super) fn push(&mut self, message: T) -> u64 {
        let seq = self.next;
        self.next += 1;
        self.kept.push_back((seq, message));
        seq
    }

    /// The other end has everything up to this number.
    pub(super) fn acknowledge(&mut self, emitted: u64) {
        while self.kept.front().is_some_and(|(seq, _)| *seq <= emitted) {
            self.kept.pop_front();
        }
    }

    /// A message that is kept.
    pub(super) fn get(&self, seq: u64) -> Option<&T> {
        let (first, _) = self.kept.front()?;
        let index = usize::try_from(seq.checked_sub(*first)?).ok()?;
        self.kept.get(index).map(|(_, message)| message)
    }

    /// The newest message that is not acknowledged: whoever gets it notices what is missing before it.
    pub(super) fn last(&self) -> Option<(u64, &T)> {
        self.kept.back().map(|(seq, message)| (*seq, message))
    }
}

/// Puts what arrives in order.
#[derive(Debug)]
pub(super) struct Receiving<T> {
    next: u64,
    early: BTreeMap<u64, T>,
    max: usize,
}

/// What to do about a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrived<T> {
    /// These are next.
    Next(Vec<T>),
    /// It is kept; these numbers are missing before it.
    Early(Vec<u64>),
    /// It was there before.
    Again,
}

/// Most numbers that are asked for again at once.
const MISSING_MAX: usize = 1_000;

impl<T> Receiving<T> {
    /// Keeps at most `max` that came too early.
    pub(super) fn new(max: usize) -> Self {
        Self {
            next: 1,
            early: BTreeMap::new(),
            max,
        }
    }

    /// The number of the last message that was next.
    pub(super) fn emitted(&self) -> u64 {
        self.next - 1
    }

    /// Takes a message.
    pub(super) fn accept(&mut self, seq: u64, message: T) -> Arrived<T> {
        if seq < self.next {
            return Arrived::Again;
        }
        if seq > self.next {
            if self.early.len() < self.max {
                self.early.insert(seq, message);
            }
            let missing = (self.next..seq).filter(|seq| !self.early.contains_key(seq));
            return Arrived::Early(missing.take(MISSING_MAX).collect());
        }
        let mut ready = vec![message];
        self.next += 1;
        while let Some(message) = self.early.remove(&self.next) {
            ready.push(message);
            self.next += 1;
        }
        Arrived::Next(ready)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_acknowledged_is_forgotten() {
        let mut sending = Sending::new(2);
        assert_eq!((sending.push('a'), sending.push('b')), (1, 2));
        assert!(!sending.has_room());
        assert_eq!(
            (sending.get(1), sending.get(3), sending.get(0)),
            (Some(&'a'), None, None)
        );
        sending.acknowledge(1);
        assert_eq!((sending.get(1), sending.get(2)), (None, Some(&'b')));
        assert_eq!(sending.last(), Some((2, &'b')));
        sending.acknowledge(7);
        assert!(sending.is_drained() && sending.has_room());
        assert_eq!(sending.acknowledged(), 2);
        assert_eq!(sending.push('c'), 3);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut receiving = Receiving::new(8);
        assert_eq!(receiving.accept(3, 'c'), Arrived::Early(vec![1, 2]));
        assert_eq!(receiving.accept(1, 'a'), Arrived::Next(vec!['a']));
        assert_eq!(receiving.accept(1, 'a'), Arrived::Again);
        assert_eq!(receiving.accept(2, 'b'), Arrived::Next(vec!['b', 'c']));
        assert_eq!(receiving.emitted(), 3);
    }

    proptest! {
        /// In whatever order and however often messages come, each is handed on once and in order.
        #[test]
        fn messages_come_out_in_order(arrivals in proptest::collection::vec(1_u64..12, 0..80)) {
            let mut receiving = Receiving::new(16);
            let mut out = Vec::new();
            for seq in &arrivals {
                if let Arrived::Next(ready) = receiving.accept(*seq, *seq) {
                    out.extend(ready);
                }
            }
            let expected: Vec<u64> = (1..12).take_while(|seq| arrivals.contains(seq)).collect();
            prop_assert_eq!(out, expected);
        }
    }
}
