//! Chunks in the order of their numbers, however they come. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::{Code, Error};

/// Most chunks that wait for an earlier one.
const EARLY_MAX: usize = 16;

/// Existing senders end with a chunk that is shorter than this, in bytes, if anything is left for one.
const FULL_LEN: usize = 4 << 20;

/// What an answer brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chunk {
    Bytes {
        /// From 1 on.
        seq: u64,
        bytes: Bytes,
    },
    Done {
        /// How many bytes there were, if the sender says so.
        bytes: Option<u64>,
        /// The SHA-256 of them, if the sender says so.
        digest: Option<String>,
    },
}

/// How long to wait for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// It must come.
    Long,
    /// It may come: the end was told, which may have overtaken the last chunk.
    Short,
    /// Nothing can come any longer.
    Over,
}

/// What has come so far.
#[derive(Debug, Default)]
pub(super) struct Order {
    early: BTreeMap<u64, Bytes>,
    /// Chunks that were handed out.
    taken: u64,
    /// Bytes that were handed out.
    written: u64,
    last_len: usize,
    done: Option<(Option<u64>, Option<String>)>,
}

impl Order {
    /// Takes what has come.
    pub(super) fn push(&mut self, chunk: Chunk) -> Result<(), Error> {
        match chunk {
            Chunk::Done { bytes, digest } => self.done = Some((bytes, digest)),
            Chunk::Bytes { seq, bytes } => {
                if seq <= self.taken || self.early.insert(seq, bytes).is_some() {
                    let text = format!("chunk {seq} came twice");
                    return Err(Error::new(Code::Conflict, text));
                }
                if self.early.len() > EARLY_MAX {
                    let text = format!("lost data: chunk {} did not come", self.taken + 1);
                    return Err(Error::new(Code::Conflict, text));
                }
            }
        }
        Ok(())
    }

    /// The next chunk, if it is there.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let bytes = self.early.remove(&(self.taken + 1))?;
        self.taken += 1;
        self.written += bytes.len() as u64;
        self.last_len = bytes.len();
        Some(bytes)
    }

    pub(super) fn wait(&self) -> Wait {
        let Some((bytes, _)) = &self.done else {
            return Wait::Long;
        };
        let is_whole = match bytes {
            Some(bytes) => self.written >= *bytes,
            None => self.early.is_empty() && (1..FULL_LEN).contains(&self.last_len),
        };
        if is_whole { Wait::Over } else { Wait::Short }
    }

    /// What the sender said at the end, if all came before it.
    pub(super) fn end(&self) -> Option<(Option<u64>, Option<String>)> {
        self.done.clone().filter(|_| self.early.is_empty())
    }

    /// How many chunks there were.
    pub(super) const fn count(&self) -> u64 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(seq: u64, len: usize) -> Chunk {
        Chunk::Bytes {
            seq,
            bytes: vec![seq.to_le_bytes()[0]; len].into(),
        }
    }

    const fn done(bytes: Option<u64>) -> Chunk {
        Chunk::Done {
            bytes,
            digest: None,
        }
    }

    proptest! {
        /// In whatever order they come, within the bound, they are handed out in theirs.
        #[test]
        fn chunks_are_put_in_order(all in Just((1_u64..=10).collect::<Vec<_>>()).prop_shuffle(), at in 0_usize..=10) {
            let mut order = Order::default();
            let mut seen = Vec::new();
            for (index, seq) in all.iter().enumerate() {
                if index == at {
                    order.push(done(Some(30))).unwrap();
                }
                prop_assert_ne!(order.wait(), Wait::Over);
                order.push(bytes(*seq, 3)).unwrap();
                while let Some(bytes) = order.pop() {
                    seen.push(u64::from(bytes[0]));
                }
            }
            if at == 10 {
                prop_assert_eq!(order.end(), None);
                order.push(done(Some(30))).unwrap();
            }
            prop_assert_eq!(seen, (1..=10).collect::<Vec<_>>());
            prop_assert_eq!((order.wait(), order.end()), (Wait::Over, Some((Some(30), None))));
        }
    }

    #[test]
    fn the_end_may_have_overtaken_a_chunk() {
        let mut order = Order::default();
        order.push(done(None)).unwrap();
        assert_eq!(
            order.wait(),
            Wait::Short,
            "of an empty file, or before its chunk"
        );
        order.push(bytes(2, 10)).unwrap();
        assert_eq!(
            (order.wait(), order.end()),
            (Wait::Short, None),
            "the first is missing"
        );
        order.push(bytes(1, FULL_LEN)).unwrap();
        order.pop().unwrap();
        order.pop().unwrap();
        assert_eq!(order.wait(), Wait::Over, "the last one is short");
        let mut order = Order::default();
        order.push(bytes(1, FULL_LEN)).unwrap();
        order.pop().unwrap();
        assert_eq!(order.wait(), Wait::Long);
        order.push(done(None)).unwrap();
        assert_eq!(order.wait(), Wait::Short, "a rest may follow");
    }

    #[test]
    fn what_is_lost_or_comes_twice_is_noticed() {
        let mut order = Order::default();
        order.push(bytes(1, 1)).unwrap();
        assert!(order.push(bytes(1, 1)).is_err());
        order.pop().unwrap();
        assert!(order.push(bytes(1, 1)).is_err());
        let mut late = (3..40).map(|seq| order.push(bytes(seq, 1)));
        let error = late.find_map(Result::err).unwrap();
        assert!(error.text.contains("lost data: chunk 2"), "{error}");
    }
}
