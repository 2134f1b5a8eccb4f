//! What waits to be written, and where in the log it will stand.
//!
//! Whoever writes a frame copies it here under a lock and learns at once where it will be. The
//! writer takes everything that waits; while it writes and syncs, the next group fills. So a
//! group is as large as the disk is slow, and nobody waits when nothing is under way.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dialtone_client::persist::wire::Durability;
use parking_lot::{Condvar, Mutex};

use super::done::{Failure, Waiter};
use super::frame::{self, Kind};
use super::position::{Position, SegmentId};
use super::segment::HEADER_LEN;

/// Data at least this long is written from where it is; copying less is cheaper than another
/// part of a vectored write.
const SHARE_LEN_MIN: usize = 16 << 10;

/// The way from those who write frames to the writer.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// The writer waits here.
    filled: Condvar,
    /// Readers wait here for what is about to be written.
    readable: Condvar,
    /// Threads wait here for room.
    drained: Condvar,
    /// All before this place is on disk.
    synced: AtomicU64,
    /// All before this place can be read.
    written: AtomicU64,
    /// Longest segment, in bytes, unless a single frame is longer.
    segment_len_max: u64,
    /// With more bytes than this waiting, nothing more is taken.
    len_max: usize,
}

#[derive(Debug)]
struct State {
    next: Position,
    group: Group,
    /// What the next group is built in, so that memory is not taken and given back all the time.
    spare: Vec<u8>,
    writer_waits: bool,
    closing: bool,
    failure: Option<Failure>,
}

/// Frames that are written and synced together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) runs: Vec<Run>,
    pub(crate) waiters: Vec<Waiter>,
    /// Whether somebody waits for the disk.
    pub(crate) sync: bool,
    pub(crate) len: usize,
    pub(crate) frames: u64,
}

/// Frames that stand one behind the other in a segment.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) segment: SegmentId,
    pub(crate) offset: u32,
    pub(crate) bytes: Vec<u8>,
    /// Data that was not copied, and before which byte of `bytes` it belongs.
    pub(crate) shared: Vec<(usize, Bytes)>,
    pub(crate) len: usize,
}

/// Where a frame that waits will stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) position: Position,
    /// Bytes that it takes.
    pub(crate) len: u32,
}

/// Why a frame was not taken. The waiter has not been told.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The disk failed before.
    Failed(Failure),
    /// The queue is closed.
    Closed,
    /// Too much waits already.
    Busy,
}

impl Queue {
    /// An empty queue; the first frame will stand at `next`, and all before is on disk.
    pub(crate) fn new(next: Position, segment_len_max: u64, len_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                next,
                group: Group::default(),
                spare: Vec::new(),
                writer_waits: false,
                closing: false,
                failure: None,
            }),
            filled: Condvar::new(),
            readable: Condvar::new(),
            drained: Condvar::new(),
            synced: AtomicU64::new(next.number()),
            written: AtomicU64::new(next.number()),
            segment_len_max,
            len_max,
        }
    }

    /// Where the next frame will stand, unless it begins a segment.
    pub(crate) fn next(&self) -> Position {
        self.state.lock().next
    }

    /// All before this place is on disk.
    pub(crate) fn synced(&self) -> Position {
        Position::from_number(self.synced.load(Ordering::Acquire))
    }

    /// All before this place can be read.
    pub(crate) fn written(&self) -> Position {
        Position::from_number(self.written.load(Ordering::Acquire))
    }

    /// Why nothing is taken any more, if so.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.state.lock().failure.clone()
    }

    /// Puts a frame in line. `head` is sealed here, where its place is known. A waiter is taken
    /// only together with the frame.
    pub(crate) fn push(
        &self,
        kind: Kind,
        head: &mut [u8],
        data: &[Bytes],
        waiter: &mut Option<Waiter>,
    ) -> Result<Placed, Refused> {
        let data_len = data.iter().map(Bytes::len).sum();
        let len = frame::frame_len(head.len(), data_len);
        let mut state = self.state.lock();
        if let Some(failure) = &state.failure {
            return Err(Refused::Failed(failure.clone()));
        }
        if state.closing {
            return Err(Refused::Closed);
        }
        if state.group.len > self.len_max {
            return Err(Refused::Busy);
        }
        let position = state.place(len, self.segment_len_max);
        let synced = self.synced_in(position.segment());
        frame::seal(head, kind, data_len, position.segment(), synced);
        if let Some(waiter) = waiter.take() {
            state.group.sync |= waiter.until == Durability::Fsync;
            state.group.waiters.push(waiter);
        }
        state.append(position, head, data, len);
        let wake = std::mem::take(&mut state.writer_waits);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(Placed {
            position,
            len: frame_len_u32(len),
        })
    }

    /// Has everything synced that waits or was written.
    pub(crate) fn flush(&self, waiter: Waiter) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if let Some(failure) = &state.failure {
            return Err(Refused::Failed(failure.clone()));
        }
        if state.closing {
            return Err(Refused::Closed);
        }
        state.group.sync = true;
        state.group.waiters.push(waiter);
        let wake = std::mem::take(&mut state.writer_waits);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Bytes of a segment that are known to be on disk.
    fn synced_in(&self, segment: SegmentId) -> u32 {
        let synced = self.synced();
        if synced.segment() == segment {
            synced.offset()
        } else {
            HEADER_LEN
        }
    }

    /// Waits until there is room, on a thread that may.
    pub(crate) fn room_blocking(&self) {
        let mut state = self.state.lock();
        while state.group.len > self.len_max / 2 && state.failure.is_none() {
            self.drained.wait(&mut state);
        }
    }

    /// Everything that waits, as soon as something does. `None`: closed and empty.
    pub(crate) fn take(&self) -> Option<Group> {
        let mut state = self.state.lock();
        while state.group.runs.is_empty() && state.group.waiters.is_empty() {
            if state.closing {
                return None;
            }
            state.writer_waits = true;
            self.filled.wait(&mut state);
        }
        let group = std::mem::take(&mut state.group);
        drop(state);
        self.drained.notify_all();
        Some(group)
    }

    /// What was taken can be read, and, if it was synced, is on disk.
    pub(crate) fn advance(&self, end: Position, durability: Durability) {
        match durability {
            Durability::Memory => {}
            Durability::Os => {
                self.written.store(end.number(), Ordering::Release);
                // Taken so that nobody checks before and waits after.
                drop(self.state.lock());
                self.readable.notify_all();
            }
            Durability::Fsync => self.synced.store(end.number(), Ordering::Release),
        }
    }

    /// Waits until what stands at `position` can be read, on a thread that may.
    pub(crate) fn wait_readable(&self, position: Position) -> Result<(), Failure> {
        if position < self.written() {
            return Ok(());
        }
        let mut state = self.state.lock();
        while position >= self.written() {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            self.readable.wait(&mut state);
        }
        Ok(())
    }

    /// Gives back the memory of a group.
    pub(crate) fn recycle(&self, group: Group) {
        let Some(run) = group.runs.into_iter().next() else {
            return;
        };
        let mut bytes = run.bytes;
        bytes.clear();
        // A burst does not keep its memory for ever.
        if bytes.capacity() <= self.len_max {
            self.state.lock().spare = bytes;
        }
    }

    /// Takes nothing any more, and tells all who wait why.
    pub(crate) fn fail(&self, failure: &Failure) {
        let mut state = self.state.lock();
        state.failure = Some(failure.clone());
        let group = std::mem::take(&mut state.group);
        drop(state);
        self.drained.notify_all();
        self.readable.notify_all();
        tell(group.waiters, failure);
    }

    /// Takes nothing any more; what waits is written.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.filled.notify_one();
    }
}

fn frame_len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("bounded by HEAD_LEN_MAX and DATA_LEN_MAX")
}

/// Tells all of them why they wait in vain.
pub(crate) fn tell(waiters: Vec<Waiter>, failure: &Failure) {
    for waiter in waiters {
        waiter.tell(Err(failure.clone()));
    }
}

impl State {
    /// The place of a frame of this length.
    fn place(&mut self, len: usize, segment_len_max: u64) -> Position {
        let len = u64::try_from(len).expect("memory is smaller than this");
        let begins = self.next.offset() == HEADER_LEN;
        let position = if u64::from(self.next.offset()) + len > segment_len_max && !begins {
            Position::new(self.next.segment() + 1, HEADER_LEN)
        } else {
            self.next
        };
        let end = u64::from(position.offset()) + len;
        let end = u32::try_from(end).expect("a segment is shorter than 4 GiB");
        self.next = Position::new(position.segment(), end);
        position
    }

    fn append(&mut self, position: Position, head: &[u8], data: &[Bytes], len: usize) {
        let same = self.group.runs.last().map(|run| run.segment) == Some(position.segment());
        if !same {
            self.group.runs.push(Run {
                segment: position.segment(),
                offset: position.offset(),
                bytes: std::mem::take(&mut self.spare),
                shared: Vec::new(),
                len: 0,
            });
        }
        let run = self.group.runs.last_mut().expect("one was pushed");
        run.bytes.extend_from_slice(head);
        let mut written = head.len();
        for part in data {
            written += part.len();
            if part.len() < SHARE_LEN_MIN {
                run.bytes.extend_from_slice(part);
            } else {
                run.shared.push((run.bytes.len(), part.clone()));
            }
        }
        run.bytes.resize(run.bytes.len() + len - written, 0);
        run.len += len;
        self.group.len += len;
        self.group.frames += 1;
    }
}
