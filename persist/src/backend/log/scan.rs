//! Reads a segment from its beginning to its end, past what is broken in it.

use std::io;
use std::ops::Range;

use super::frame::{ALIGNMENT, FIXED_LEN, Fixed, MARK, MARK_AT};
use super::position::SegmentId;
use crate::disk::File;

/// Bytes read at once. A tenth of it is as fast from the page cache; disks like long reads.
const WINDOW: usize = 1 << 20;

/// A walk through the frames of one segment.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    file: &'a dyn File,
    segment: SegmentId,
    /// Bytes of the file that are looked at.
    len: u64,
    /// Where the next frame should begin.
    at: u64,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    buffer_at: u64,
}

/// What stands at a place of a segment.
#[derive(Debug)]
pub(crate) enum Found<'s> {
    /// A frame whose head is as it was written. The data may not be.
    Frame(Frame<'s>),
    /// Bytes in which no frame begins, before the next frame or the end.
    Damage(Range<u64>),
    /// The end of what was written.
    End,
}

/// One frame as it stands in a segment.
#[derive(Debug)]
pub(crate) struct Frame<'s> {
    pub(crate) offset: u64,
    pub(crate) fixed: Fixed,
    pub(crate) head: &'s [u8],
    pub(crate) data: &'s [u8],
}

impl<'a> Scan<'a> {
    /// A walk that begins at `from`, which is a place where a frame begins, and looks at nothing
    /// behind byte `len`.
    pub(crate) fn new(file: &'a dyn File, segment: SegmentId, from: u64, len: u64) -> Self {
        Self {
            file,
            segment,
            len,
            at: from,
            buffer: Vec::new(),
            buffer_at: from,
        }
    }

    /// What comes next. After the end it is the end again.
    pub(crate) fn next(&mut self) -> io::Result<Found<'_>> {
        if self.at >= self.len {
            return Ok(Found::End);
        }
        if let Some(fixed) = self.frame_at(self.at)? {
            let offset = self.at;
            self.at += len_u64(fixed.frame_len());
            let from = self.index(offset);
            let (head, rest) = self.buffer[from..].split_at(fixed.head_len);
            return Ok(Found::Frame(Frame {
                offset,
                fixed,
                head,
                data: &rest[..fixed.data_len],
            }));
        }
        let from = self.at;
        self.at = self.next_frame_after(from)?;
        if self.at == self.len && self.is_zero(from)? {
            return Ok(Found::End);
        }
        Ok(Found::Damage(from..self.at))
    }

    /// The frame that begins at `at`, if a whole one does. It is in the buffer then.
    fn frame_at(&mut self, at: u64) -> io::Result<Option<Fixed>> {
        if !self.fill(at, FIXED_LEN)? {
            return Ok(None);
        }
        let from = self.index(at);
        let Some(fixed) = Fixed::read(&self.buffer[from..], self.segment) else {
            return Ok(None);
        };
        if !self.fill(at, fixed.head_len + fixed.data_len)? {
            return Ok(None);
        }
        let from = self.index(at);
        let head = &self.buffer[from..from + fixed.head_len];
        Ok(fixed.agrees_with(head).then_some(fixed))
    }

    /// Where the first whole frame behind `from` begins, or the end.
    fn next_frame_after(&mut self, from: u64) -> io::Result<u64> {
        let mut at = from + len_u64(ALIGNMENT);
        // Ends because `at` grows by at least one alignment a round.
        while self.fill(at, FIXED_LEN)? {
            let index = self.index(at);
            let Some(next) = find_mark(&self.buffer[index..]) else {
                let skipped = self.buffer.len() - index - FIXED_LEN + ALIGNMENT;
                at += len_u64(skipped / ALIGNMENT * ALIGNMENT);
                continue;
            };
            at += len_u64(next);
            if self.frame_at(at)?.is_some() {
                return Ok(at);
            }
            at += len_u64(ALIGNMENT);
        }
        Ok(self.len)
    }

    fn is_zero(&mut self, from: u64) -> io::Result<bool> {
        let mut at = from;
        // Ends because `at` grows by what is in the buffer, which is at least a byte.
        while at < self.len {
            if !self.fill(at, 1)? {
                return Ok(true);
            }
            let index = self.index(at);
            let rest = &self.buffer[index..];
            if rest.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += len_u64(rest.len());
        }
        Ok(true)
    }

    fn index(&self, at: u64) -> usize {
        usize::try_from(at - self.buffer_at).expect("the buffer is in memory")
    }

    /// Has `len` bytes from `at` on in the buffer, and says whether there are so many.
    fn fill(&mut self, at: u64, len: usize) -> io::Result<bool> {
        let end = at + len_u64(len);
        if end > self.len {
            return Ok(false);
        }
        if at >= self.buffer_at && end <= self.buffer_at + len_u64(self.buffer.len()) {
            return Ok(true);
        }
        let left = usize::try_from(self.len - at).unwrap_or(usize::MAX);
        self.buffer.resize(len.max(WINDOW).min(left), 0);
        self.buffer_at = at;
        let read = self.file.read_at(&mut self.buffer, at)?;
        self.buffer.truncate(read);
        Ok(read >= len)
    }
}

/// Where in `bytes`, at a multiple of the alignment, a frame may begin.
fn find_mark(bytes: &[u8]) -> Option<usize> {
    let last = bytes.len().checked_sub(FIXED_LEN)?;
    (0..=last)
        .step_by(ALIGNMENT)
        .find(|from| bytes[from + MARK_AT..].starts_with(&MARK))
}

fn len_u64(len: usize) -> u64 {
    u64::try_from(len).expect("memory is smaller than this")
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::frame::{self, Kind};
    use super::super::segment;
    use super::*;
    use crate::disk::{Disk as _, Simulated};

    /// A frame whose head and data have these lengths.
    fn frame(head_len: usize, data_len: usize, fill: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::begin(&mut bytes);
        bytes.resize(FIXED_LEN + head_len, fill);
        frame::seal(&mut bytes, Kind::Commit, data_len, 1, 0);
        bytes.resize(bytes.len() + data_len, fill);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes
    }

    fn file(bytes: &[u8]) -> Arc<dyn File> {
        let disk = Simulated::new();
        let file = disk.create(&segment::name(1)).unwrap();
        file.write_at(&mut [IoSlice::new(bytes)], 0).unwrap();
        file
    }

    /// The offsets of frames, and the damaged ranges.
    fn walk(bytes: &[u8]) -> (Vec<u64>, Vec<Range<u64>>) {
        let file = file(bytes);
        let mut scan = Scan::new(&*file, 1, 0, len_u64(bytes.len()));
        let (mut frames, mut damage) = (Vec::new(), Vec::new());
        loop {
            match scan.next().unwrap() {
                Found::Frame(frame) => frames.push(frame.offset),
                Found::Damage(range) => damage.push(range),
                Found::End => return (frames, damage),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damage_costs_the_frames_that_it_touches(
            lens in prop::collection::vec((0..40_usize, 0..3000_usize), 1..12),
            damaged in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
            zeros in 0..4000_usize,
        ) {
            let mut bytes = Vec::new();
            let mut starts = Vec::new();
            for (head_len, data_len) in &lens {
                starts.push((len_u64(bytes.len()), FIXED_LEN + head_len));
                bytes.extend(frame(*head_len, *data_len, 0x5a));
            }
            let mut broken = Vec::new();
            for index in damaged {
                let (start, head_len) = starts[index.index(starts.len())];
                let at = usize::try_from(start).unwrap() + index.index(head_len);
                bytes[at] ^= 0x10;
                broken.push((start, at));
            }
            bytes.resize(bytes.len() + zeros, 0);
            let (frames, damage) = walk(&bytes);
            // An even number of flips of one byte is none.
            let is_broken = |start: u64| {
                broken.iter().any(|(other, at)| {
                    *other == start && broken.iter().filter(|(_, a)| a == at).count() % 2 == 1
                })
            };
            let whole: Vec<u64> = starts.iter().map(|(start, _)| *start)
                .filter(|start| !is_broken(*start)).collect();
            prop_assert_eq!(&frames, &whole);
            let touched = starts.iter().filter(|(start, _)| is_broken(*start));
            for (start, _) in touched {
                prop_assert!(damage.iter().any(|range| range.contains(start)));
            }
        }
    }

    #[test]
    fn long_frames_and_long_damage_cross_windows() {
        let long = frame(0, 3 * WINDOW + 17, 1);
        let short = frame(8, 8, 2);
        let mut bytes = [&long[..], &short, &long, &short].concat();
        let second = long.len() + short.len();
        bytes[second] ^= 1;
        let (frames, damage) = walk(&bytes);
        let last = len_u64(second + long.len());
        assert_eq!(frames, [0, len_u64(long.len()), last]);
        assert_eq!(damage, std::slice::from_ref(&(len_u64(second)..last)));
    }

    #[test]
    fn every_torn_end_is_damage_or_nothing() {
        let whole = frame(9, 20, 3);
        let bytes = [&whole[..], &whole].concat();
        for len in whole.len()..bytes.len() {
            let (frames, damage) = walk(&bytes[..len]);
            // Without the padding at its end a frame is whole.
            let complete = len >= whole.len() + FIXED_LEN + 9 + 20;
            assert_eq!(frames.len(), if complete { 2 } else { 1 }, "{len}");
            let rest = len_u64(whole.len())..len_u64(len);
            let torn = !complete && len > whole.len();
            assert_eq!(damage, if torn { vec![rest] } else { vec![] }, "{len}");
        }
    }
}
