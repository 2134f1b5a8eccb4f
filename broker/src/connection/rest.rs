//! What one read leaves for the next: the beginning of a frame that has not arrived whole.

use std::task::{Context, Poll};

use dialtone_protocol::codec;
use dialtone_transport::{Error, Lane, Reader};

/// Bytes that are read at once. Larger reads make larger writes, which is what throughput depends
/// on, until the buffer leaves the processor's cache.
pub(crate) const READ_LEN: usize = 256 << 10;

/// A frame of which more than this has arrived is continued in a buffer of its own instead of
/// being copied through the shared one with every read.
const REST_LEN_MAX: usize = 32 << 10;

/// Bytes of a lane that were read and not understood yet. An empty one holds no memory.
#[derive(Debug, Default)]
pub(crate) struct Rest(Vec<u8>);

impl Rest {
    /// Whether the frame is continued here rather than in the thread's buffer.
    pub(crate) const fn is_long(&self) -> bool {
        self.0.len() > REST_LEN_MAX
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Reads into the thread's buffer, behind a copy of what is here.
    pub(crate) fn poll_shared(
        &self,
        reader: &mut Reader,
        cx: &mut Context<'_>,
        lane: Lane,
        buffer: &mut Vec<u8>,
    ) -> Poll<Result<usize, Error>> {
        buffer.clear();
        buffer.reserve(READ_LEN + REST_LEN_MAX);
        buffer.extend_from_slice(&self.0);
        reader.poll_recv(cx, lane, buffer)
    }

    /// Replaces what is here by what was not understood of the thread's buffer.
    pub(crate) fn keep(&mut self, left: &[u8]) {
        if left.is_empty() {
            self.0 = Vec::new();
        } else {
            self.0.clear();
            self.0.extend_from_slice(left);
        }
    }

    /// Reads behind what is here: up to the end of the frame if its length is known, and `read_len_max` at most.
    pub(crate) fn poll_own(
        &mut self,
        reader: &mut Reader,
        cx: &mut Context<'_>,
        lane: Lane,
        frame_len_max: u32,
        read_len_max: Option<usize>,
    ) -> Poll<Result<usize, Error>> {
        let frame_len_max = frame_len_max as usize;
        let len = codec::missing(&self.0).clamp(READ_LEN, frame_len_max.max(READ_LEN));
        self.0
            .reserve_exact(read_len_max.map_or(len, |max| len.min(max)));
        reader.poll_recv(cx, lane, &mut self.0)
    }

    /// Takes away what was understood.
    pub(crate) fn consume(&mut self, len: usize) {
        self.0.drain(..len);
        if !self.is_long() {
            self.0.shrink_to_fit();
        }
    }
}

impl From<Vec<u8>> for Rest {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}
