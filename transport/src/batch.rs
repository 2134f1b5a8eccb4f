//! What waits to be written to a peer: chunks of application bytes in order.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Bytes, BytesMut};

/// The most slices that are handed to the operating system in one write; Linux takes 1024, but beyond a few dozen
/// the copy inside the kernel dwarfs the call.
pub const SLICES_MAX: usize = 64;

/// A queue of chunks, each a whole number of frames until a write has taken part of the first one.
///
/// The bound on its size is its owner's: a batch grows by [`push`](Self::push) only.
#[derive(Debug, Default)]
pub struct Batch {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl Batch {
    /// An empty batch, which holds no memory yet.
    pub const fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            len: 0,
        }
    }

    /// Appends a chunk. An empty one is dropped.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// The bytes that wait.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The chunks that wait.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Takes `n` bytes off the front.
    ///
    /// # Panics
    /// If fewer than `n` bytes wait.
    pub fn advance(&mut self, mut n: usize) {
        assert!(n <= self.len, "cannot advance by {n} of {} bytes", self.len);
        self.len -= n;
        while n > 0 {
            let Some(front) = self.chunks.front_mut() else {
                break;
            };
            if front.len() > n {
                drop(front.split_to(n));
                break;
            }
            n -= front.len();
            self.chunks.pop_front();
        }
    }

    /// Takes everything out, and gives the memory of the queue back.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Gives the memory of the queue back if nothing waits and it holds more than a few chunks' worth.
    pub fn release(&mut self) {
        if self.is_empty() && self.chunks.capacity() > 16 {
            self.chunks = VecDeque::new();
        }
    }

    /// Fills `slices` from the front with at most `limit` bytes; returns how many slices were set.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>], mut limit: usize) -> usize {
        let mut filled = 0;
        for (slot, chunk) in slices.iter_mut().zip(&self.chunks) {
            if limit == 0 {
                break;
            }
            let part = chunk.get(..limit).unwrap_or(chunk);
            limit -= part.len();
            *slot = IoSlice::new(part);
            filled += 1;
        }
        filled
    }

    /// The first chunk, or the rest of it.
    pub fn front(&self) -> Option<&Bytes> {
        self.chunks.front()
    }

    /// Takes the first chunk off.
    pub fn pop(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.pop_front()?;
        self.len -= chunk.len();
        Some(chunk)
    }

    /// Takes at most `limit` bytes off the front without copying; a chunk that is longer is cut.
    pub fn pop_limited(&mut self, limit: usize) -> Option<Bytes> {
        let front = self.chunks.front_mut()?;
        if front.len() <= limit {
            return self.pop();
        }
        let part = front.split_to(limit);
        self.len -= part.len();
        Some(part)
    }

    /// The bytes of as many whole chunks as fit in `limit`, but of one at least.
    pub(crate) fn whole_chunks_within(&self, limit: usize) -> usize {
        if self.len <= limit {
            return self.len;
        }
        let mut sum = 0;
        for chunk in &self.chunks {
            if sum > 0 && sum + chunk.len() > limit {
                break;
            }
            sum += chunk.len();
        }
        sum
    }

    /// Copies runs of chunks shorter than `small` together into blocks of at most `block` bytes.
    ///
    /// For a transport that pays for each chunk it holds.
    pub(crate) fn coalesce(&mut self, small: usize, block: usize) {
        let runs = self.chunks.iter().zip(self.chunks.iter().skip(1));
        if !runs
            .into_iter()
            .any(|(a, b)| a.len() < small && b.len() < small)
        {
            return;
        }
        let mut merged = VecDeque::with_capacity(self.chunks.len().min(self.len / small + 2));
        let mut run = BytesMut::new();
        for chunk in self.chunks.drain(..) {
            let fits = run.len() + chunk.len() <= block;
            if !run.is_empty() && (chunk.len() >= small || !fits) {
                merged.push_back(run.split().freeze());
            }
            if chunk.len() >= small {
                merged.push_back(chunk);
            } else {
                if run.capacity() < chunk.len() {
                    run.reserve(block);
                }
                run.extend_from_slice(&chunk);
            }
        }
        if !run.is_empty() {
            merged.push_back(run.freeze());
        }
        self.chunks = merged;
    }

    /// The chunks that lie together in memory, for a writer that consumes whole `Bytes`; tell
    /// [`consumed`](Self::consumed) what it took.
    pub(crate) fn contiguous_mut(&mut self) -> &mut [Bytes] {
        self.chunks.make_contiguous()
    }

    /// Accounts for `chunks` taken whole and `bytes` in all from [`contiguous_mut`](Self::contiguous_mut).
    pub(crate) fn consumed(&mut self, chunks: usize, bytes: usize) {
        drop(self.chunks.drain(..chunks));
        self.len -= bytes;
    }
}

impl Extend<Bytes> for Batch {
    fn extend<I: IntoIterator<Item = Bytes>>(&mut self, iter: I) {
        for chunk in iter {
            self.push(chunk);
        }
    }
}

impl FromIterator<Bytes> for Batch {
    fn from_iter<I: IntoIterator<Item = Bytes>>(iter: I) -> Self {
        let mut batch = Self::new();
        batch.extend(iter);
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(sizes: &[usize]) -> Batch {
        let mut bytes = (0..=u8::MAX).cycle();
        sizes
            .iter()
            .map(|&size| bytes.by_ref().take(size).collect())
            .collect()
    }

    fn bytes(batch: &Batch) -> Vec<u8> {
        batch
            .chunks
            .iter()
            .flat_map(|chunk| chunk.iter().copied())
            .collect()
    }

    #[test]
    fn advancing_crosses_chunks_and_keeps_the_count() {
        for n in 0..=60 {
            let mut b = batch(&[10, 0, 20, 30]);
            let all = bytes(&b);
            b.advance(n);
            assert_eq!(b.len(), 60 - n);
            assert_eq!(bytes(&b), all[n..]);
        }
    }

    #[test]
    fn slices_stop_at_the_limit() {
        let b = batch(&[10, 20, 30]);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(b.fill(&mut slices, 15), 2);
        assert_eq!(
            slices.iter().map(|s| s.len()).collect::<Vec<_>>(),
            [10, 5, 0, 0]
        );
        assert_eq!(b.fill(&mut slices[..2], 100), 2);
    }

    #[test]
    fn message_ends_on_a_chunk_boundary() {
        let b = batch(&[10, 20, 30]);
        assert_eq!(
            [5, 10, 29, 30, 59, 60].map(|limit| b.whole_chunks_within(limit)),
            [10, 10, 10, 30, 30, 60]
        );
    }

    #[test]
    fn coalescing_keeps_the_bytes_and_the_large_chunks() {
        let mut b = batch(&[1, 2, 3, 100, 4, 5, 90, 9, 9, 9, 9, 9]);
        let all = bytes(&b);
        b.coalesce(16, 20);
        assert_eq!(bytes(&b), all);
        let sizes: Vec<_> = b.chunks.iter().map(Bytes::len).collect();
        assert_eq!(sizes, [6, 100, 9, 90, 18, 18, 9]);
    }

    #[test]
    fn limited_pop_cuts_a_long_chunk() {
        let mut b = batch(&[10, 20]);
        assert_eq!(b.pop_limited(4).map(|c| c.len()), Some(4));
        assert_eq!(b.pop_limited(40).map(|c| c.len()), Some(6));
        assert_eq!((b.len(), b.chunks()), (20, 1));
    }
}
