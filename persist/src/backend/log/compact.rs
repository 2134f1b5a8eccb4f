//! Frees space: what is still needed of a segment is written again at the end of the log, and
//! the segment goes with the next checkpoint. `docs/persist-log.md` §8.
//!
//! Nothing is taken away before its new place is on disk and a checkpoint says so, so that a
//! crash at any step leaves a log in which some records stand twice, and no more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Inner;
use super::frame::Kind;
use super::head;
use super::load;
use super::maintain::{Pace, Work};
use super::position::{Position, SegmentId};
use super::positions::Run;
use super::queue::Placed;
use super::record::{Expected, Record};
use super::scan::{Found, Frame, Scan};
use super::segment::{self, HEADER_LEN};
use super::segments::Segment;
use super::streams::Stream;
use crate::backend::{Error, StreamId};

/// Bytes of a stream that are moved in one frame.
const FRAME_LEN: usize = 256 << 10;

/// Bytes that are collected, by stream, before they are written: records of a stream that were
/// scattered stand together afterwards.
const COLLECTED_LEN: usize = 8 << 20;

/// Records of one stream on their way.
struct Moving {
    stream: Arc<Stream>,
    entries: Vec<u8>,
    expected: Expected,
    data: Vec<Bytes>,
    /// Numbers, and where they were.
    records: Vec<(u64, Position)>,
    len: usize,
}

/// A frame of moved records that was put in line.
struct Pushed {
    stream: Arc<Stream>,
    placed: Placed,
    records: Vec<(u64, Position)>,
}

/// What goes wrong while a segment is read.
enum Stop {
    /// It cannot be read wholly and stays.
    Damaged(String),
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Inner {
    /// Compacts the segment of which the least is needed. Whether there was one.
    pub(super) fn compact(&self) -> Result<bool, Error> {
        let mut work = self.maintenance.work.lock();
        if !work.is_counted {
            self.recount()?;
            work.is_counted = true;
        }
        let Some(segment) = self.candidate(&work.retired) else {
            return Ok(false);
        };
        match self.compact_segment(&segment, &mut work) {
            Ok(()) => {
                work.retired.push(segment.id);
                segment.set_live(0);
                self.maintenance.compacted.fetch_add(1, Ordering::Relaxed);
                Ok(true)
            }
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Damaged(what)) => {
                segment.set_damaged();
                tracing::error!(
                    segment = segment::name(segment.id),
                    "the segment is kept because it is damaged: {what}"
                );
                Ok(false)
            }
        }
    }

    fn candidate(&self, retired: &[SegmentId]) -> Option<Arc<Segment>> {
        let current = self.queue.written().segment();
        let percent = u64::from(self.config.compact_live_percent);
        let share = |segment: &Segment| segment.live() * 100 / segment.len().max(1);
        let segments = self.segments.all().into_iter();
        let low = segments.filter(|segment| {
            segment.id < current
                && !segment.is_damaged()
                && !retired.contains(&segment.id)
                && share(segment) < percent
        });
        low.min_by_key(|segment| share(segment))
    }

    fn compact_segment(&self, segment: &Segment, work: &mut Work) -> Result<(), Stop> {
        self.leave_frames(segment.id, &mut work.pace)?;
        let result = self.move_records(segment, &mut work.pace);
        self.forget_unused();
        result?;
        self.move_tombstones(segment.id, &work.retired)?;
        Ok(())
    }

    /// Writes snapshots of the streams that need a frame of the segment for more than records.
    fn leave_frames(&self, segment: SegmentId, pace: &mut Pace) -> Result<(), Stop> {
        let has_frames = |stream: &Arc<Stream>| {
            let state = stream.state.lock();
            state
                .frames
                .iter()
                .any(|placed| placed.position.segment() == segment)
        };
        let streams = self.streams.all().into_iter();
        let needing: Vec<Arc<Stream>> = streams.filter(has_frames).collect();
        self.snapshot_all(&needing, pace)?;
        let left = needing
            .iter()
            .find(|stream| has_frames(stream) && self.streams.by_id(stream.id).is_some());
        match left {
            Some(stream) => Err(Stop::Damaged(format!(
                "stream {} cannot be read",
                stream.name
            ))),
            None => Ok(()),
        }
    }

    fn move_records(&self, segment: &Segment, pace: &mut Pace) -> Result<(), Stop> {
        let unreadable =
            |error: std::io::Error| Stop::Damaged(format!("it cannot be read: {error}"));
        let file = self.segments.file(segment.id).map_err(unreadable)?;
        let mut scan = Scan::new(&*file, segment.id, u64::from(HEADER_LEN), segment.len());
        let mut moving: BTreeMap<StreamId, Vec<Moving>> = BTreeMap::new();
        let mut collected = 0;
        loop {
            match scan.next().map_err(unreadable)? {
                Found::Damage(range) => {
                    return Err(Stop::Damaged(format!(
                        "bytes {} to {}",
                        range.start, range.end
                    )));
                }
                Found::End => break,
                Found::Frame(frame) => {
                    let len = frame.fixed.frame_len() as u64;
                    pace.spend(len, self.config.compact_bytes_per_second, &self.maintenance);
                    collected += self.collect(segment.id, &frame, &mut moving)?;
                }
            }
            if collected >= COLLECTED_LEN {
                self.write_moved(std::mem::take(&mut moving), pace)?;
                collected = 0;
            }
            if self.maintenance.is_stopping() && self.is_closed() {
                return Err(Stop::Failed(Error::Closed));
            }
        }
        self.write_moved(moving, pace)?;
        Ok(())
    }

    /// Takes what is needed of a frame. Says how many bytes.
    fn collect(
        &self,
        segment: SegmentId,
        frame: &Frame<'_>,
        moving: &mut BTreeMap<StreamId, Vec<Moving>>,
    ) -> Result<usize, Stop> {
        let not_understood = || {
            Stop::Damaged(format!(
                "the frame at byte {} cannot be understood",
                frame.offset
            ))
        };
        if !matches!(frame.fixed.kind, Kind::Commit | Kind::Moved) {
            return Ok(0);
        }
        let (id, _) = head::stream(frame.head).ok_or_else(not_understood)?;
        let Some(stream) = self.streams.by_id(id) else {
            return Ok(0);
        };
        let offset = u32::try_from(frame.offset)
            .ok()
            .ok_or_else(not_understood)?;
        let position = Position::new(segment, offset);
        let records = head::records(frame.fixed.kind, frame.head).ok_or_else(not_understood)?;
        match load::find(&self.frames, &stream) {
            Ok(()) => {}
            Err(Error::NotFound) => return Ok(0),
            Err(error) => return Err(Stop::Damaged(error.to_string())),
        }
        let state = stream.state.lock();
        let is_needed = |seq: u64| {
            let positions = state.positions.as_ref();
            let run = positions.and_then(|positions| positions.get(seq));
            run.is_some_and(|run| run.position == position)
        };
        let mut needed = records;
        needed.retain(|(record, _)| is_needed(record.seq));
        drop(state);
        let mut collected = 0;
        for (record, from) in needed {
            let part = frame
                .data
                .get(from..from + record.stored_len)
                .ok_or_else(not_understood)?;
            let moving = moving.entry(id).or_default();
            if moving.last().is_none_or(|last| last.len >= FRAME_LEN) {
                moving.push(Moving::new(&stream));
            }
            let last = moving.last_mut().expect("one was pushed");
            collected += last.add(&record, part, position);
        }
        Ok(collected)
    }

    /// Writes records at their new places, and makes these known once they are on disk.
    fn write_moved(
        &self,
        moving: BTreeMap<StreamId, Vec<Moving>>,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        let mut pushed = Vec::new();
        for moving in moving.into_values().flatten() {
            let len = moving.len as u64;
            pace.spend(len, self.config.compact_bytes_per_second, &self.maintenance);
            pushed.push(self.push_moved(moving)?);
            self.maintenance
                .moved_bytes
                .fetch_add(len, Ordering::Relaxed);
        }
        if pushed.is_empty() {
            return Ok(());
        }
        self.flush()?;
        for pushed in &pushed {
            self.take_up_moved(pushed);
        }
        Ok(())
    }

    fn push_moved(&self, moving: Moving) -> Result<Pushed, Error> {
        let mut head = head::moved(moving.stream.id, moving.records.len());
        head.extend_from_slice(&moving.entries);
        self.queue.room_blocking();
        let placed = self
            .queue
            .push(Kind::Moved, &mut head, &moving.data, &mut None)?;
        self.count(placed);
        Ok(Pushed {
            stream: moving.stream,
            placed,
            records: moving.records,
        })
    }

    fn take_up_moved(&self, pushed: &Pushed) {
        let mut state = pushed.stream.state.lock();
        if state.deleted {
            drop(state);
            self.bury(&[pushed.placed]);
            return;
        }
        let to = Run {
            seq: 0,
            count: 1,
            position: pushed.placed.position,
            len: pushed.placed.len,
            records: pushed.records.len() as u64,
        };
        let mut removed_meanwhile = 0;
        if let Some(positions) = &mut state.positions {
            for (seq, from) in &pushed.records {
                if !positions.relocate(*seq, *from, to) {
                    removed_meanwhile += 1;
                }
            }
        }
        state.frames.push(pushed.placed);
        state.generation += 1;
        drop(state);
        self.segments
            .bury(to.position.segment(), to.share(removed_meanwhile));
    }

    /// Keeps the frames that say that a stream was deleted, as long as there is a segment that
    /// may have something of it.
    fn move_tombstones(&self, segment: SegmentId, retired: &[SegmentId]) -> Result<(), Error> {
        let here: Vec<_> = self
            .tombstones
            .lock()
            .iter()
            .filter(|(_, tombstone)| tombstone.placed.position.segment() == segment)
            .map(|(id, tombstone)| (*id, *tombstone))
            .collect();
        let segments = self.segments.all();
        let mut left = segments.iter().map(|segment| segment.id);
        let oldest = left.find(|id| *id != segment && !retired.contains(id));
        let mut moved = Vec::new();
        for (id, mut tombstone) in here {
            if oldest.is_none_or(|oldest| oldest > tombstone.first) {
                self.tombstones.lock().remove(&id);
                continue;
            }
            let mut head = head::delete(id, tombstone.first);
            tombstone.placed = self.queue.push(Kind::Delete, &mut head, &[], &mut None)?;
            self.count(tombstone.placed);
            moved.push((id, tombstone));
        }
        if !moved.is_empty() {
            self.flush()?;
            self.tombstones.lock().extend(moved);
        }
        Ok(())
    }

    /// Counts what is needed of each segment anew: after a crash the numbers of the checkpoint
    /// say nothing of what was removed since.
    fn recount(&self) -> Result<(), Error> {
        let current = self.queue.next().segment();
        let mut live: BTreeMap<SegmentId, u64> = BTreeMap::new();
        let mut add =
            |position: Position, len: u64| *live.entry(position.segment()).or_default() += len;
        for stream in self.streams.all() {
            if self.maintenance.is_stopping() {
                return Err(Error::Closed);
            }
            let found = match load::read(&self.frames, &stream) {
                Ok(found) => found,
                Err(Error::NotFound) => continue,
                Err(error) => return Err(error),
            };
            for run in found.folded.positions.from(0) {
                add(run.position, run.share(run.count));
            }
            for placed in &found.without_records {
                add(placed.position, u64::from(placed.len));
            }
            for placed in stream.state.lock().snapshot() {
                add(placed.position, u64::from(placed.len));
            }
        }
        for segment in self.segments.all() {
            if segment.id < current {
                segment.set_live(live.get(&segment.id).copied().unwrap_or(0));
            }
        }
        Ok(())
    }
}

impl Moving {
    fn new(stream: &Arc<Stream>) -> Self {
        Self {
            stream: Arc::clone(stream),
            entries: Vec::new(),
            expected: head::MOVED_EXPECTED,
            data: Vec::new(),
            records: Vec::new(),
            len: 0,
        }
    }

    fn add(&mut self, record: &Record<'_>, data: &[u8], position: Position) -> usize {
        let before = self.entries.len();
        record.put(&mut self.entries, &mut self.expected);
        self.data.push(Bytes::copy_from_slice(data));
        self.records.push((record.seq, position));
        let len = self.entries.len() - before + data.len();
        self.len += len;
        len
    }
}
