//! Reads frames whose places are known, several at once where they stand close together.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;

use super::frame::{FIXED_LEN, Fixed, Kind};
use super::position::SegmentId;
use super::queue::{Placed, Queue};
use super::segment;
use super::segments::Segments;
use crate::disk::read_exact_at;

/// Most bytes read at once, unless a frame is longer.
const READ_LEN_MAX: u64 = 4 << 20;

/// Bytes between two frames that are read and thrown away rather than asking twice: a read from
/// the page cache costs about as much as copying so many.
const GAP_MAX: u32 = 16 << 10;

/// A frame that was read.
#[derive(Debug)]
pub(crate) struct ReadFrame {
    pub(crate) placed: Placed,
    pub(crate) kind: Kind,
    pub(crate) head: Bytes,
    /// May be damaged: each part has its own checksum.
    pub(crate) data: Bytes,
}

/// A frame that cannot be read.
#[derive(Debug, Clone)]
pub(crate) struct Unreadable {
    pub(crate) placed: Placed,
    /// What is wrong, with file and offset.
    pub(crate) text: String,
    /// It says nothing about what is stored: the segment is gone, and whoever looks again finds the frame at another
    /// place; or there was no room for another open file.
    pub(crate) is_gone: bool,
}

/// The way to the frames of a log.
#[derive(Debug, Clone)]
pub(crate) struct Frames {
    pub(crate) segments: Arc<Segments>,
    pub(crate) queue: Arc<Queue>,
}

impl Frames {
    /// Reads frames and hands each over, in the order given. It blocks.
    pub(crate) fn each(&self, all: &[Placed], mut each: impl FnMut(Result<ReadFrame, Unreadable>)) {
        let mut rest = all;
        // Ends because a span has at least one frame.
        while !rest.is_empty() {
            let (span, behind) = rest.split_at(span_len(rest));
            rest = behind;
            match self.read_span(span) {
                Ok(bytes) => span.iter().for_each(|placed| {
                    let from = offset(placed) - offset(&span[0]);
                    each(parse(
                        *placed,
                        &bytes.slice(at(from)..at(from + u64::from(placed.len))),
                    ));
                }),
                // One of them is at fault, and the others can be read.
                Err(_) if span.len() > 1 => {
                    for placed in span {
                        each(self.read_one(*placed));
                    }
                }
                Err(error) => each(Err(unreadable(span[0], &error))),
            }
        }
    }

    fn read_one(&self, placed: Placed) -> Result<ReadFrame, Unreadable> {
        match self.read_span(&[placed]) {
            Ok(bytes) => parse(placed, &bytes),
            Err(error) => Err(unreadable(placed, &error)),
        }
    }

    /// Reads all bytes from the first frame to the last one.
    fn read_span(&self, span: &[Placed]) -> io::Result<Bytes> {
        let (Some(first), Some(last)) = (span.first(), span.last()) else {
            return Ok(Bytes::new());
        };
        let from = offset(first);
        let end = offset(last) + u64::from(last.len);
        self.queue
            .wait_readable(last.position)
            .map_err(io::Error::other)?;
        let file = self.segments.file(first.position.segment())?;
        let mut bytes = vec![0; at(end - from)];
        read_exact_at(&*file, &mut bytes, from)?;
        Ok(Bytes::from(bytes))
    }

    /// Reads the heads of frames without their data, where that is less. It blocks.
    pub(crate) fn each_head(
        &self,
        all: &[Placed],
        mut each: impl FnMut(Result<ReadFrame, Unreadable>),
    ) {
        let mut small = Vec::new();
        for placed in all {
            if placed.len <= GAP_MAX {
                small.push(*placed);
                continue;
            }
            self.each(&std::mem::take(&mut small), &mut each);
            each(self.read_head(*placed));
        }
        self.each(&small, &mut each);
    }

    fn read_head(&self, placed: Placed) -> Result<ReadFrame, Unreadable> {
        let start = Placed {
            len: GAP_MAX,
            ..placed
        };
        let bytes = self
            .read_span(&[start])
            .map_err(|error| unreadable(placed, &error))?;
        let fixed = Fixed::read(&bytes, placed.position.segment());
        match fixed {
            Some(fixed) if fixed.head_len <= bytes.len() => {
                let head = bytes.slice(..fixed.head_len);
                check(placed, fixed, head, Bytes::new())
            }
            Some(_) => self.read_one(placed),
            None => Err(damaged(placed, "no frame begins here")),
        }
    }
}

/// How many of the first frames are read at once.
fn span_len(frames: &[Placed]) -> usize {
    let Some(first) = frames.first() else {
        return 0;
    };
    let follows = |pair: &&[Placed]| {
        let [before, next] = pair else {
            return false;
        };
        let end = offset(before) + u64::from(before.len);
        segment_of(next) == segment_of(first)
            && offset(next) >= end
            && offset(next) - end <= u64::from(GAP_MAX)
            && offset(next) + u64::from(next.len) - offset(first) <= READ_LEN_MAX
    };
    1 + frames.windows(2).take_while(follows).count()
}

fn segment_of(placed: &Placed) -> SegmentId {
    placed.position.segment()
}

fn offset(placed: &Placed) -> u64 {
    u64::from(placed.position.offset())
}

fn at(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a read fits into memory")
}

fn parse(placed: Placed, bytes: &Bytes) -> Result<ReadFrame, Unreadable> {
    let Some(fixed) = Fixed::read(bytes, segment_of(&placed)) else {
        return Err(damaged(placed, "no frame begins here"));
    };
    let end = fixed.head_len + fixed.data_len;
    if bytes.len() < end {
        return Err(damaged(placed, "the frame has another length"));
    }
    let head = bytes.slice(..fixed.head_len);
    check(placed, fixed, head, bytes.slice(fixed.head_len..end))
}

fn check(placed: Placed, fixed: Fixed, head: Bytes, data: Bytes) -> Result<ReadFrame, Unreadable> {
    debug_assert!(head.len() >= FIXED_LEN, "the fixed fields were read");
    if !fixed.agrees_with(&head) {
        return Err(damaged(placed, "the checksum of the head is wrong"));
    }
    Ok(ReadFrame {
        placed,
        kind: fixed.kind,
        head,
        data,
    })
}

/// Says what is wrong, and where.
pub(crate) fn problem_at(placed: Placed, what: &str) -> String {
    let name = segment::name(segment_of(&placed));
    format!("{name}, byte {}: {what}", placed.position.offset())
}

fn damaged(placed: Placed, what: &str) -> Unreadable {
    Unreadable {
        placed,
        text: problem_at(placed, what),
        is_gone: false,
    }
}

fn unreadable(placed: Placed, error: &io::Error) -> Unreadable {
    Unreadable {
        placed,
        text: problem_at(placed, &format!("it cannot be read: {error}")),
        is_gone: is_passing(error),
    }
}

/// Whether an error says nothing about what is stored: the segment is gone, or there is no room for another open file.
fn is_passing(error: &io::Error) -> bool {
    let lacks_room = Errno::from_io_error(error)
        .is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOMEM].contains(&errno));
    lacks_room || error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_free_descriptors_has_no_damaged_records() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOENT] {
            assert!(is_passing(&errno.into()), "{errno}");
        }
        for errno in [Errno::IO, Errno::ACCESS] {
            assert!(!is_passing(&errno.into()), "{errno}");
        }
    }
}
