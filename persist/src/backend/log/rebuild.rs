//! A stream whose snapshot is damaged, from everything in the log that is about it.
//!
//! Records stay where they are whatever becomes of a snapshot. What only the snapshot knew may be
//! lost: states of consumers, and that a record was removed, where the frame that said so is
//! gone. So what comes out is compared with what is known of the stream.

use std::collections::BTreeMap;

use super::fold::{Folded, id_of, meta_of, run};
use super::frame::Kind;
use super::frames::Frames;
use super::head::{self, ReadChange};
use super::position::Position;
use super::positions::Run;
use super::queue::Placed;
use super::record::Record;
use super::scan::{Found, Frame, Scan};
use super::segment::{self, HEADER_LEN};
use super::segments::Segment;
use super::streams::Stream;
use crate::backend::MessageId;
use crate::core::commit::{ConsumerChange, ConsumerWhat};
use crate::core::records::RecordMeta;

/// A stream that was put together again.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    pub(crate) folded: Folded,
    /// It has as many records and bytes as the stream had.
    pub(crate) is_complete: bool,
    /// What is wrong, in words.
    pub(crate) problems: Vec<String>,
}

/// What was found. Numbers are never given twice, so that the order in which records came and
/// went does not matter.
#[derive(Default)]
struct Gathered {
    records: BTreeMap<u64, (RecordMeta, Run)>,
    removed: Vec<(u64, u64)>,
    ids: BTreeMap<u64, MessageId>,
    consumers: Vec<ConsumerChange>,
    problems: Vec<String>,
}

/// Reads the whole log for one stream. It blocks, for long.
pub(crate) fn rebuild(frames: &Frames, stream: &Stream, why: String) -> Rebuilt {
    let mut gathered = Gathered::default();
    for segment in frames.segments.all() {
        if let Err(error) = gathered.read(frames, stream, &segment) {
            let name = segment::name(segment.id);
            let problem = format!("{name}: it cannot be read: {error}");
            gathered.problems.push(problem);
        }
    }
    let mut problems = vec![why];
    problems.append(&mut gathered.problems);
    let mut folded = gathered.fold();
    let state = stream.state.lock();
    folded.meta = state.meta.to_meta();
    folded.totals = state.totals;
    folded.fence = state.fence;
    drop(state);
    // Nobody goes on from before, because not every removal is known.
    folded.horizon = (folded.totals.revision, folded.totals.last_seq);
    folded.time = folded.totals.last_time;
    let expected = (folded.totals.messages, folded.totals.bytes);
    let counted = (folded.records.messages(), folded.records.bytes());
    if counted != expected {
        problems.push(format!(
            "stream {}: put together again with {} records of {} bytes instead of {} of {}",
            stream.name, counted.0, counted.1, expected.0, expected.1
        ));
    }
    Rebuilt {
        folded,
        is_complete: counted == expected,
        problems,
    }
}

impl Gathered {
    fn read(&mut self, frames: &Frames, stream: &Stream, segment: &Segment) -> std::io::Result<()> {
        let file = frames.segments.file(segment.id)?;
        let mut scan = Scan::new(&*file, segment.id, u64::from(HEADER_LEN), segment.len());
        loop {
            match scan.next()? {
                Found::End => return Ok(()),
                // It may have been of any stream; what is missing is seen by counting.
                Found::Damage(_) => {}
                Found::Frame(frame) => self.frame(stream, segment, &frame)?,
            }
        }
    }

    fn frame(
        &mut self,
        stream: &Stream,
        segment: &Segment,
        frame: &Frame<'_>,
    ) -> std::io::Result<()> {
        if head::stream(frame.head).is_none_or(|(id, _)| id != stream.id) {
            return Ok(());
        }
        let offset = u32::try_from(frame.offset).map_err(std::io::Error::other)?;
        let placed = Placed {
            position: Position::new(segment.id, offset),
            len: u32::try_from(frame.fixed.frame_len()).map_err(std::io::Error::other)?,
        };
        let understood = match frame.fixed.kind {
            Kind::Commit => self.commit(frame.head, placed),
            Kind::Moved => self.moved(frame.head, placed),
            Kind::Create | Kind::Snapshot | Kind::Delete => Some(()),
        };
        if understood.is_none() {
            let name = segment::name(segment.id);
            let problem = format!("{name}, byte {offset}: it cannot be understood");
            self.problems.push(problem);
        }
        Ok(())
    }

    fn commit(&mut self, head: &[u8], placed: Placed) -> Option<()> {
        let (_, mut cursor) = head::stream(head)?;
        let start = head::read_commit_start(&mut cursor)?;
        let (changes, consumers) = head::read_commit(&mut cursor, &start)?;
        let appends = |change: &&ReadChange<'_>| matches!(change, ReadChange::Append { .. });
        let count = changes.iter().filter(appends).count() as u64;
        // A range may go beyond what was given by then.
        let mut last_seq = start.totals.last_seq;
        for change in changes.into_iter().rev() {
            match change {
                ReadChange::Append { record, replaced } => {
                    self.record(&record, placed, count);
                    let replaced = replaced.into_iter().map(|seq| (seq, seq));
                    self.removed.extend(replaced);
                    last_seq = record.seq.saturating_sub(1);
                }
                ReadChange::Remove(remove) => {
                    let ranges = remove.ranges.into_iter();
                    let given = ranges.filter(|(first, _)| *first <= last_seq);
                    let given = given.map(|(first, last)| (first, last.min(last_seq)));
                    self.removed.extend(given);
                }
                ReadChange::Meta(_) => {}
            }
        }
        self.consumers.extend(consumers);
        Some(())
    }

    fn moved(&mut self, head: &[u8], placed: Placed) -> Option<()> {
        let (_, mut cursor) = head::stream(head)?;
        let records = head::read_moved(&mut cursor)?;
        let count = records.len() as u64;
        for record in &records {
            self.record(record, placed, count);
        }
        Some(())
    }

    /// The last place of a record is the one that compaction leaves.
    fn record(&mut self, record: &Record<'_>, placed: Placed, count: u64) {
        let place = run(record.seq, count, placed);
        self.records.insert(record.seq, (meta_of(record), place));
        self.ids.extend(id_of(record).map(|id| (id.revision, id)));
    }

    fn fold(mut self) -> Folded {
        for (first, last) in &self.removed {
            let gone: Vec<u64> = self
                .records
                .range(first..=last)
                .map(|(seq, _)| *seq)
                .collect();
            for seq in gone {
                self.records.remove(&seq);
            }
        }
        let mut folded = Folded::default();
        for (meta, run) in self.records.into_values() {
            folded.records.push(meta);
            folded.positions.push(run);
        }
        folded.ids.extend(self.ids.into_values());
        for change in self.consumers {
            // A change of a state that is not known is of no use.
            let is_delta = matches!(change.what, ConsumerWhat::Delta(_));
            if !is_delta || folded.consumers.contains_key(&change.name) {
                folded.consumer(change);
            }
        }
        folded
    }
}
