//! Opens a log: the latest checkpoint, then what was written behind it, to the last whole frame.
//! `docs/persist-log.md` §7.
//!
//! What was not synced when the power went may be missing in any place behind the last sync.
//! Each frame says how much of its segment was on disk when it was written, so that a frame that
//! is missing before that is damage, which is reported and stepped over; the first one that is
//! missing behind it is the end, and what follows was acknowledged to nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::builder::Builder;
use super::checkpoint::{self, Checkpoint, Summary};
use super::frame::ALIGNMENT;
use super::head;
use super::position::{Position, SegmentId};
use super::queue::Placed;
use super::scan::{Found, Frame, Scan};
use super::segment::{self, HEADER_LEN};
use super::segments::{Segment, Segments};
use crate::disk::{Disk, File, read_exact_at};

/// What opening a log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Whether there was a checkpoint to begin with.
    pub from_checkpoint: bool,
    /// Frames read behind it.
    pub frames: u64,
    /// Bytes read behind it.
    pub bytes: u64,
    /// Bytes cut from the end of the last segment: what was being written when the power went.
    pub truncated: u64,
    /// What is damaged, with file and offset.
    pub problems: Vec<String>,
}

/// A log that was read.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) segments: Segments,
    pub(crate) builder: Builder,
    pub(crate) summary: Summary,
    /// The number that the next checkpoint gets.
    pub(crate) next_checkpoint: u64,
    pub(crate) checkpoint_len: u64,
    /// Behind the last frame.
    pub(crate) end: Position,
    /// The last segment.
    pub(crate) file: Arc<dyn File>,
    pub(crate) report: Report,
}

/// Reads the log on a disk, or makes one. It blocks.
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    reserve: Option<u64>,
    open_max: usize,
) -> io::Result<Opened> {
    let names = disk.list()?;
    let mut report = Report::default();
    let (checkpoint, next_checkpoint) = read_checkpoint(&*disk, &names, &mut report)?;
    let present: BTreeSet<SegmentId> = names
        .iter()
        .filter_map(|name| segment::parse_name(name))
        .collect();
    let log = match &checkpoint {
        Some(checkpoint) => checkpoint.log,
        None => find_log(&*disk, &present)?,
    };
    let checkpoint_len = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.len);
    report.from_checkpoint = checkpoint.is_some();
    let (summary, streams) = checkpoint.map_or_else(Default::default, |checkpoint| {
        (checkpoint.summary, checkpoint.streams)
    });
    let mut opening = Opening {
        segments: Segments::new(Arc::clone(&disk), log, reserve, open_max),
        disk,
        builder: Builder::new(streams, summary.tombstones.clone()),
        summary,
        report,
    };
    opening.old_segments(&present)?;
    let (end, file) = opening.tail(&present)?;
    Ok(Opened {
        segments: opening.segments,
        builder: opening.builder,
        summary: opening.summary,
        next_checkpoint,
        checkpoint_len,
        end,
        file,
        report: opening.report,
    })
}

/// The latest checkpoint that is whole, and the number for the next one. Unfinished ones go.
fn read_checkpoint(
    disk: &dyn Disk,
    names: &[String],
    report: &mut Report,
) -> io::Result<(Option<Checkpoint>, u64)> {
    for name in names.iter().filter(|name| checkpoint::is_temporary(name)) {
        disk.remove(name)?;
    }
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| checkpoint::parse_name(name))
        .collect();
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last + 1);
    let Some(last) = numbers.pop() else {
        return Ok((None, next));
    };
    match checkpoint::read(disk, &checkpoint::name(last)) {
        Ok(checkpoint) => Ok((Some(checkpoint), next)),
        Err(what) => {
            // Older ones speak of segments that may be gone, so that the segments are read.
            report
                .problems
                .push(format!("{}: {what}", checkpoint::name(last)));
            Ok((None, next))
        }
    }
}

/// The number of the log that the segments belong to, or a new one.
fn find_log(disk: &dyn Disk, present: &BTreeSet<SegmentId>) -> io::Result<u64> {
    for segment in present {
        let file = disk.open(&segment::name(*segment))?;
        if let Some(log) = segment::read_header(&*file, *segment)? {
            return Ok(log);
        }
    }
    Ok(std::hash::RandomState::new().build_hasher().finish())
}

/// The state of opening.
struct Opening {
    disk: Arc<dyn Disk>,
    segments: Segments,
    builder: Builder,
    summary: Summary,
    report: Report,
}

impl Opening {
    fn problem(&mut self, segment: SegmentId, what: &str) {
        self.report
            .problems
            .push(format!("{}: {what}", segment::name(segment)));
    }

    /// Takes up the segments that the checkpoint knows, and removes those that compaction left.
    fn old_segments(&mut self, present: &BTreeSet<SegmentId>) -> io::Result<()> {
        let tail = self.summary.at.segment();
        let known: BTreeMap<SegmentId, (u64, u64)> = self
            .summary
            .segments
            .iter()
            .map(|(id, len, live)| (*id, (*len, *live)))
            .collect();
        for (id, (len, live)) in &known {
            if !present.contains(id) {
                self.problem(*id, "the segment is missing");
            } else if *id < tail {
                self.segments.add(Segment::new(*id, *len, *live));
            }
        }
        let left: Vec<SegmentId> = present.range(..tail).copied().collect();
        for id in left {
            if !known.contains_key(&id) {
                self.disk.remove(&segment::name(id))?;
            }
        }
        Ok(())
    }

    /// Reads what is behind the checkpoint, and makes the first segment if there is none.
    fn tail(&mut self, present: &BTreeSet<SegmentId>) -> io::Result<(Position, Arc<dyn File>)> {
        let first = self.summary.at.segment();
        let mut tail: Vec<SegmentId> = present.range(first..).copied().collect();
        while let Some(last) = tail.pop() {
            for segment in std::mem::take(&mut tail) {
                self.inner_segment(segment)?;
            }
            if let Some(end) = self.last_segment(last)? {
                // Its name may be known to the page cache alone, as its last bytes may.
                self.disk.sync_names()?;
                let file = self.segments.file(last)?;
                return Ok((end, file));
            }
            // It was being made when the power went, and holds nothing.
            self.disk.remove(&segment::name(last))?;
            self.disk.sync_names()?;
        }
        let last = self.segments.all().last().map_or(0, |segment| segment.id);
        let next = last.max(first) + 1;
        let file = self.segments.create(next)?;
        Ok((Position::new(next, HEADER_LEN), file))
    }

    /// Where reading of a segment begins.
    fn start(&self, segment: SegmentId) -> u64 {
        if segment == self.summary.at.segment() {
            u64::from(self.summary.at.offset().max(HEADER_LEN))
        } else {
            u64::from(HEADER_LEN)
        }
    }

    /// What the checkpoint counts as needed of a segment.
    fn live(&self, segment: SegmentId) -> u64 {
        let known = self.summary.segments.iter().find(|(id, ..)| *id == segment);
        known.map_or(0, |(.., live)| *live)
    }

    /// Reads a segment that was ended: all of it is on disk.
    fn inner_segment(&mut self, segment: SegmentId) -> io::Result<()> {
        if self.segments.get(segment).is_some() {
            return Ok(());
        }
        let file = self.disk.open(&segment::name(segment))?;
        self.check_header(segment, &*file)?;
        let len = file.size()?;
        self.segments
            .add(Segment::new(segment, len, self.live(segment)));
        self.apply(segment, &*file, self.start(segment), len, len)?;
        Ok(())
    }

    fn check_header(&mut self, segment: SegmentId, file: &dyn File) -> io::Result<()> {
        match segment::read_header(file, segment)? {
            Some(log) if log == self.segments.log() => {}
            Some(_) => self.problem(segment, "it belongs to another log"),
            None => self.problem(segment, "byte 0: the header is damaged"),
        }
        Ok(())
    }

    /// Reads the last segment to its last whole frame, and cuts off what follows. `None`: it was
    /// not finished being made.
    fn last_segment(&mut self, segment: SegmentId) -> io::Result<Option<Position>> {
        let file = self.disk.open(&segment::name(segment))?;
        let len = file.size()?;
        let start = self.start(segment);
        if start > len.max(u64::from(HEADER_LEN)) {
            let what = format!("it ends at byte {len} instead of {start} or later");
            self.problem(segment, &what);
        }
        let synced = synced(&*file, segment, start, len)?;
        let has_frames = synced.has_frames || start > u64::from(HEADER_LEN);
        if segment::read_header(&*file, segment)? != Some(self.segments.log()) {
            if !has_frames {
                return Ok(None);
            }
            self.check_header(segment, &*file)?;
        }
        self.segments
            .add(Segment::new(segment, len, self.live(segment)));
        let end = self.apply(segment, &*file, start, len, synced.len.max(start))?;
        let end = self.cut(segment, &*file, end, len)?;
        // The header is in doubt as well, unless something says that it was on disk.
        let is_known = start > u64::from(HEADER_LEN) || synced.len > 0;
        let known = if is_known { synced.len.max(start) } else { 0 };
        rewrite(&*file, known..end)?;
        file.sync()?;
        self.segments
            .add(Segment::new(segment, end, self.live_now(segment)));
        let offset = u32::try_from(end).map_err(io::Error::other)?;
        Ok(Some(Position::new(segment, offset)))
    }

    fn live_now(&self, segment: SegmentId) -> u64 {
        self.segments
            .get(segment)
            .map_or(0, |segment| segment.live())
    }

    /// Cuts off what is behind the last whole frame, and fills its padding.
    fn cut(&mut self, segment: SegmentId, file: &dyn File, end: u64, len: u64) -> io::Result<u64> {
        if end < len && !is_zero(file, end, len)? {
            self.report.truncated += len - end;
            tracing::warn!(
                segment = segment::name(segment),
                offset = end,
                bytes = len - end,
                "cut off what was being written when the log was last closed"
            );
        }
        let alignment = u64::try_from(ALIGNMENT).map_err(io::Error::other)?;
        let aligned = end.next_multiple_of(alignment);
        file.set_len(end.min(len))?;
        file.set_len(aligned)?;
        Ok(aligned)
    }

    /// Takes up the frames from `start` on and says where they end: at `len`, or at the first
    /// one behind `synced` that is not whole.
    fn apply(
        &mut self,
        segment: SegmentId,
        file: &dyn File,
        start: u64,
        len: u64,
        synced: u64,
    ) -> io::Result<u64> {
        let mut scan = Scan::new(file, segment, start, len);
        let mut end = start;
        loop {
            match scan.next()? {
                Found::End => return Ok(end),
                Found::Damage(range) if range.start >= synced => return Ok(end),
                Found::Damage(mut range) => {
                    // With nothing whole behind it, how far it goes is known from the last sync.
                    if range.end == len {
                        range.end = synced;
                    }
                    self.damage(segment, &range);
                    end = range.end;
                }
                Found::Frame(frame) if frame.offset >= synced && !is_whole(&frame) => {
                    return Ok(end);
                }
                Found::Frame(frame) => {
                    end = frame.offset
                        + u64::try_from(frame.fixed.frame_len()).map_err(io::Error::other)?;
                    self.frame(segment, &frame)?;
                }
            }
        }
    }

    fn damage(&mut self, segment: SegmentId, range: &Range<u64>) {
        if let Some(segment) = self.segments.get(segment) {
            segment.set_damaged();
        }
        let what = format!("bytes {} to {} are damaged", range.start, range.end);
        self.problem(segment, &what);
    }

    fn frame(&mut self, segment: SegmentId, frame: &Frame<'_>) -> io::Result<()> {
        let offset = u32::try_from(frame.offset).map_err(io::Error::other)?;
        let placed = Placed {
            position: Position::new(segment, offset),
            len: u32::try_from(frame.fixed.frame_len()).map_err(io::Error::other)?,
        };
        self.report.frames += 1;
        self.report.bytes += u64::from(placed.len);
        self.segments.add_live(segment, u64::from(placed.len));
        let understood = self.builder.apply(frame.fixed.kind, frame.head, placed);
        if !understood {
            let what = format!(
                "byte {offset}: the frame cannot be understood, and may be of a newer version"
            );
            self.problem(segment, &what);
        }
        Ok(())
    }
}

/// How much of a segment is known to have been synced, and whether anything is in it.
struct Synced {
    len: u64,
    has_frames: bool,
}

fn synced(file: &dyn File, segment: SegmentId, start: u64, len: u64) -> io::Result<Synced> {
    let mut scan = Scan::new(file, segment, start, len);
    let mut synced = Synced {
        len: 0,
        has_frames: false,
    };
    loop {
        match scan.next()? {
            Found::Frame(frame) => {
                synced.has_frames = true;
                synced.len = synced.len.max(u64::from(frame.fixed.synced)).min(len);
            }
            Found::Damage(_) => {}
            Found::End => return Ok(synced),
        }
    }
}

/// Whether the data of a frame is as it was written.
fn is_whole(frame: &Frame<'_>) -> bool {
    let Some(records) = head::records(frame.fixed.kind, frame.head) else {
        // What cannot be understood was written by a newer version, whole as the head is.
        return true;
    };
    let mut end = 0;
    let parts_are_whole = records.iter().all(|(record, from)| {
        end = from + record.stored_len;
        let part = frame.data.get(*from..end);
        part.is_some_and(|part| super::frame::checksum(part) == record.checksum)
    });
    parts_are_whole && (end == frame.data.len() || records.is_empty())
}

fn is_zero(file: &dyn File, from: u64, to: u64) -> io::Result<bool> {
    let mut at = from;
    // Ends because `at` grows by at least a byte a round.
    while at < to {
        let mut buffer =
            vec![0; usize::try_from((to - at).min(1 << 20)).map_err(io::Error::other)?];
        let len = file.read_at(&mut buffer, at)?;
        if len == 0 {
            return Ok(true);
        }
        if buffer[..len].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += u64::try_from(len).map_err(io::Error::other)?;
    }
    Ok(true)
}

/// Writes again what may be in the page cache alone: after a sync that failed, the kernel shows
/// data that it will never write by itself.
fn rewrite(file: &dyn File, range: Range<u64>) -> io::Result<()> {
    let mut at = range.start;
    // Ends because `at` grows by at least a byte a round.
    while at < range.end {
        let len = (range.end - at).min(1 << 20);
        let mut buffer = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        read_exact_at(file, &mut buffer, at)?;
        file.write_at(&mut [IoSlice::new(&Bytes::from(buffer))], at)?;
        at += len;
    }
    Ok(())
}
