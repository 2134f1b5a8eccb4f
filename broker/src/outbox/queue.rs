//! Encoded frames in order: small ones in one growing buffer, large ones by reference.

use std::collections::VecDeque;

use bytes::Bytes;
use dialtone_transport::Batch;

/// A buffer that has grown to this is closed and a new one begun, so that growing never copies
/// much.
const TAIL_LEN_MAX: usize = 64 << 10;

/// The least that a new buffer is made with.
const TAIL_LEN_MIN: usize = 128;

/// Encoded frames in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    chunks: VecDeque<Chunk>,
    chunks_len: usize,
    tail: Vec<u8>,
    /// What the last buffers needed, so that a busy peer's buffer is made in the right size.
    usual: u32,
}

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    /// Its last frame is whole; otherwise the next chunk is the rest of it.
    whole: bool,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.chunks_len + self.tail.len()
    }

    /// The buffer to append a frame of about `len` bytes to.
    #[inline]
    pub(super) fn tail(&mut self, len: usize) -> &mut Vec<u8> {
        if self.tail.capacity() - self.tail.len() < len {
            self.grow(len);
        }
        &mut self.tail
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        if self.tail.len() + len > TAIL_LEN_MAX {
            self.close_tail(true);
        }
        if self.tail.capacity() == 0 {
            let usual = (self.usual as usize).clamp(TAIL_LEN_MIN, TAIL_LEN_MAX);
            self.tail = Vec::with_capacity(usual.max(len));
        } else {
            self.tail.reserve(len);
        }
    }

    /// Appends a frame whose end is `shared` and whose beginning `head` writes.
    pub(super) fn push_shared(&mut self, head: impl FnOnce(&mut Vec<u8>), shared: Bytes) {
        head(self.tail(64));
        self.close_tail(false);
        self.push_chunk(shared);
    }

    /// Appends encoded frames by reference.
    pub(super) fn push(&mut self, frames: Bytes) {
        self.close_tail(true);
        self.push_chunk(frames);
    }

    fn push_chunk(&mut self, bytes: Bytes) {
        self.chunks_len += bytes.len();
        self.chunks.push_back(Chunk { bytes, whole: true });
    }

    /// Moves chunks to `taken`, of about `len` bytes in all.
    pub(super) fn take_some(&mut self, taken: &mut Vec<Bytes>, mut len: usize) {
        while len > 0
            && let Some(chunk) = self.pop()
        {
            len = len.saturating_sub(chunk.bytes.len());
            taken.push(chunk.bytes);
        }
    }

    fn pop(&mut self) -> Option<Chunk> {
        if self.chunks.is_empty() {
            self.close_tail(true);
        }
        let chunk = self.chunks.pop_front()?;
        self.chunks_len -= chunk.bytes.len();
        Some(chunk)
    }

    /// `whole` says whether the tail ends with a whole frame.
    fn close_tail(&mut self, whole: bool) {
        if self.tail.is_empty() {
            return;
        }
        let len = u32::try_from(self.tail.len()).unwrap_or(u32::MAX);
        // Rises at once and falls slowly.
        self.usual = len.max(self.usual - self.usual / 8);
        self.chunks_len += self.tail.len();
        let bytes = Bytes::from(std::mem::take(&mut self.tail));
        self.chunks.push_back(Chunk { bytes, whole });
    }

    /// Moves chunks to `batch` until it holds `len_max` bytes; the last one may exceed it. What was
    /// moved ends with a whole frame, so that another one may follow it whatever becomes of the rest.
    pub(super) fn move_to(&mut self, batch: &mut Batch, len_max: usize) {
        let mut whole = true;
        while batch.len() < len_max || !whole {
            let Some(chunk) = self.pop() else { break };
            whole = chunk.whole;
            batch.push(chunk.bytes);
        }
        if self.chunks.is_empty() && self.chunks.capacity() > 64 {
            self.chunks = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Queue {
        fn clone_for_tests(&self) -> Self {
            let chunks = self.chunks.iter().map(|chunk| Chunk {
                bytes: chunk.bytes.clone(),
                whole: chunk.whole,
            });
            Self {
                chunks: chunks.collect(),
                tail: self.tail.clone(),
                ..*self
            }
        }
    }

    fn drain(queue: &mut Queue, len_max: usize) -> usize {
        let mut batch = Batch::new();
        queue.move_to(&mut batch, len_max);
        batch.len()
    }

    #[test]
    fn lengths_add_up_and_order_is_kept() {
        let mut queue = Queue::default();
        queue.tail(5).extend_from_slice(b"small");
        queue.push_shared(
            |out| out.extend_from_slice(b"head"),
            Bytes::from_static(b"shared"),
        );
        queue.tail(4).extend_from_slice(b"tail");
        assert_eq!(queue.len(), 19);
        let mut batch = Batch::new();
        queue.move_to(&mut batch, usize::MAX);
        assert_eq!((queue.len(), batch.len()), (0, 19));
    }

    #[test]
    fn a_turn_is_bounded() {
        let mut queue = Queue::default();
        for _ in 0..10 {
            queue.push(Bytes::from(vec![0; 100]));
        }
        assert_eq!(
            drain(&mut queue, 250),
            300,
            "the chunk that crosses the bound goes whole"
        );
        assert_eq!(queue.len(), 700);
        assert_eq!(drain(&mut queue, usize::MAX), 700);
    }

    #[test]
    fn what_is_moved_ends_with_a_whole_frame() {
        let mut queue = Queue::default();
        for _ in 0..3 {
            queue.tail(100).extend_from_slice(&[1; 100]);
            queue.push_shared(
                |out| out.extend_from_slice(b"head"),
                Bytes::from(vec![2; 50]),
            );
        }
        for len_max in [1, 100, 104, 105] {
            assert_eq!(
                drain(&mut queue.clone_for_tests(), len_max),
                154,
                "{len_max}"
            );
        }
        assert_eq!(drain(&mut queue, 155), 308);
    }

    #[test]
    fn buffers_do_not_grow_beyond_their_bound_by_copying() {
        let mut queue = Queue::default();
        for _ in 0..10_000 {
            queue.tail(100).extend_from_slice(&[7; 100]);
            assert!(queue.tail.capacity() <= TAIL_LEN_MAX * 2);
        }
        assert_eq!(drain(&mut queue, usize::MAX), 1_000_000);
    }
}
