//! The end of a terminal's output, with the places at which viewers are. Pure.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

/// See the module. Places are counted in bytes from the beginning of the output.
#[derive(Debug)]
pub(super) struct History {
    kept: VecDeque<u8>,
    /// Where what is kept begins.
    start: u64,
    len_max: usize,
    lag_max: u64,
    viewers: BTreeMap<u64, u64>,
    next_viewer: u64,
}

/// What a viewer gets next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// Bytes that are not kept any longer.
    pub(super) skipped: u64,
    pub(super) bytes: Bytes,
}

impl History {
    pub(super) fn new(len_max: usize, lag_max: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            start: 0,
            len_max,
            // Whoever lags by more than is kept misses something.
            lag_max: lag_max.min(len_max) as u64,
            viewers: BTreeMap::new(),
            next_viewer: 0,
        }
    }

    /// Where the output ends.
    pub(super) fn end(&self) -> u64 {
        self.start + self.kept.len() as u64
    }

    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn viewers(&self) -> usize {
        self.viewers.len()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        let excess = self.kept.len().saturating_sub(self.len_max);
        self.kept.drain(..excess);
        self.start += excess as u64;
    }

    /// Whether more output may be read: somebody keeps up, or nobody looks.
    pub(super) fn has_room(&self) -> bool {
        let end = self.end();
        let fastest = self.viewers.values().max();
        fastest.is_none_or(|at| end - at < self.lag_max)
    }

    /// A viewer who begins with what is kept.
    pub(super) fn join(&mut self) -> u64 {
        let viewer = self.next_viewer;
        self.next_viewer += 1;
        self.viewers.insert(viewer, self.start);
        viewer
    }

    pub(super) fn leave(&mut self, viewer: u64) {
        self.viewers.remove(&viewer);
    }

    /// What a viewer has not seen yet, at most so many bytes; `None` if it has seen all.
    pub(super) fn next(&mut self, viewer: u64, len_max: usize) -> Option<Next> {
        let (start, end) = (self.start, self.end());
        let at = self.viewers.get_mut(&viewer)?;
        let skipped = start.saturating_sub(*at);
        let from = *at + skipped;
        let to = end.min(from + len_max as u64);
        if from == to {
            return None;
        }
        *at = to;
        let bytes = self.slice(from, to);
        Some(Next { skipped, bytes })
    }

    /// What is kept from a place on, and where that really begins.
    pub(super) fn since(&self, from: u64, len_max: usize) -> (u64, Bytes) {
        let from = from.clamp(self.start, self.end());
        let to = self.end().min(from + len_max as u64);
        (from, self.slice(from, to))
    }

    fn slice(&self, from: u64, to: u64) -> Bytes {
        let index = |at: u64| usize::try_from(at - self.start).unwrap_or(self.kept.len());
        let range = self.kept.range(index(from)..index(to));
        range.copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(u8),
        Next(u64, u8),
        Join,
        Leave(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1_u8..40).prop_map(Step::Push),
            4 => (0_u64..4, 1_u8..20).prop_map(|(viewer, len)| Step::Next(viewer, len)),
            1 => Just(Step::Join),
            1 => (0_u64..4).prop_map(Step::Leave),
        ];
        proptest::collection::vec(step, 0..80)
    }

    proptest! {
        /// Viewers see the output in order, and what they do not see they are told of.
        #[test]
        fn viewers_see_everything_or_know_what_they_missed(steps in steps()) {
            let mut history = History::new(50, 30);
            let mut whole: Vec<u8> = Vec::new();
            let mut at: BTreeMap<u64, u64> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Push(len) => {
                        let new: Vec<u8> = (0..len).map(|n| n.wrapping_add(whole.last().copied().unwrap_or(0))).collect();
                        whole.extend(&new);
                        history.push(&new);
                    }
                    Step::Join => {
                        let begin = (whole.len() as u64).saturating_sub(50);
                        at.insert(history.join(), begin);
                    }
                    Step::Leave(viewer) => {
                        history.leave(viewer);
                        at.remove(&viewer);
                    }
                    Step::Next(viewer, len) => {
                        let next = history.next(viewer, usize::from(len));
                        let Some(seen) = at.get_mut(&viewer) else {
                            prop_assert_eq!(next, None);
                            continue;
                        };
                        match next {
                            None => prop_assert_eq!(*seen, whole.len() as u64),
                            Some(next) => {
                                *seen += next.skipped;
                                let from = usize::try_from(*seen).unwrap();
                                let wanted = &whole[from..from + next.bytes.len()];
                                prop_assert_eq!(&next.bytes[..], wanted);
                                prop_assert!(next.bytes.len() <= usize::from(len) && !next.bytes.is_empty());
                                *seen += next.bytes.len() as u64;
                            }
                        }
                    }
                }
                prop_assert!(history.kept.len() <= 50);
                let fastest = at.values().max();
                let lag = fastest.map(|at| whole.len() as u64 - at);
                prop_assert_eq!(history.has_room(), lag.is_none_or(|lag| lag < 30));
            }
        }
    }

    #[test]
    fn a_part_can_be_asked_for() {
        let mut history = History::new(4, 4);
        history.push(b"abcdef");
        assert_eq!(history.since(0, 10), (2, Bytes::from_static(b"cdef")));
        assert_eq!(history.since(3, 2), (3, Bytes::from_static(b"de")));
        assert_eq!(history.since(9, 2), (6, Bytes::new()));
        assert_eq!((history.start(), history.end()), (2, 6));
    }
}
