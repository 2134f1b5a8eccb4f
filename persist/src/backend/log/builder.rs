//! The streams of a log as they appear while it is read: a frame at a time, in the order in which
//! they were written.

use std::collections::BTreeMap;

use dialtone_client::persist::StreamName;
use parking_lot::Mutex;

use super::bytes::Cursor;
use super::checkpoint::Tombstone;
use super::frame::Kind;
use super::head::{self, ReadChange};
use super::queue::Placed;
use super::record::Record;
use super::snapshot::{self, PartHead};
use super::streams::{State, Stream, Streams};
use crate::backend::StreamId;
use crate::core::commit::{Meta, Totals};
use crate::core::limits::due;

/// Streams, and what is known of each.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    streams: BTreeMap<StreamId, Building>,
    tombstones: BTreeMap<StreamId, Tombstone>,
}

#[derive(Debug, Default)]
struct Building {
    /// Unknown while only frames were seen that do not say it.
    name: Option<StreamName>,
    meta: Meta,
    totals: Totals,
    fence: u64,
    frames: Vec<Placed>,
    parts: u32,
    /// When something of it is over next, or before that.
    due: Option<u64>,
    /// The parts of a snapshot that is not complete.
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    revision: u64,
    placed: Vec<Placed>,
    bytes: Vec<u8>,
}

impl Builder {
    /// Begins with what a checkpoint says.
    pub(crate) fn new(streams: Vec<Stream>, tombstones: BTreeMap<StreamId, Tombstone>) -> Self {
        let streams = streams.into_iter().map(|stream| {
            let state = stream.state.into_inner();
            let building = Building {
                name: Some(stream.name),
                meta: state.meta.to_meta(),
                totals: state.totals,
                fence: state.fence,
                frames: state.frames.into_vec(),
                parts: state.parts,
                due: state.due,
                pending: None,
            };
            (stream.id, building)
        });
        Self {
            streams: streams.collect(),
            tombstones,
        }
    }

    /// Takes up a frame. Whether it can be understood.
    pub(crate) fn apply(&mut self, kind: Kind, head: &[u8], placed: Placed) -> bool {
        let Some((id, mut cursor)) = head::stream(head) else {
            return false;
        };
        if kind == Kind::Delete {
            return self.delete(id, &mut cursor, placed).is_some();
        }
        if self.tombstones.contains_key(&id) {
            return true;
        }
        let stream = self.streams.entry(id).or_default();
        let applied = match kind {
            Kind::Create => stream.create(&mut cursor, placed),
            Kind::Commit => stream.commit(&mut cursor, placed),
            Kind::Moved => {
                stream.frames.push(placed);
                Some(())
            }
            Kind::Snapshot => stream.snapshot_part(&mut cursor, placed),
            Kind::Delete => None,
        };
        applied.is_some()
    }

    fn delete(&mut self, id: StreamId, cursor: &mut Cursor<'_>, placed: Placed) -> Option<()> {
        let first = head::read_delete(cursor)?;
        self.streams.remove(&id);
        self.tombstones.insert(id, Tombstone { first, placed });
        Some(())
    }

    /// The streams, what is wrong with them, and those that were deleted.
    pub(crate) fn finish(self, streams: &Streams) -> (BTreeMap<StreamId, Tombstone>, Vec<String>) {
        let mut problems = Vec::new();
        let deleted = self.tombstones.last_key_value();
        streams.reserve_ids(deleted.map_or(1, |(id, _)| id.0 + 1));
        for (id, building) in self.streams {
            streams.reserve_ids(id.0 + 1);
            if let Err(problem) = building.finish(id, streams) {
                problems.push(problem);
            }
        }
        (self.tombstones, problems)
    }
}

impl Building {
    fn create(&mut self, cursor: &mut Cursor<'_>, placed: Placed) -> Option<()> {
        let (name, meta) = head::read_create(cursor)?;
        self.name = Some(name);
        self.meta = meta;
        self.frames.push(placed);
        Some(())
    }

    fn commit(&mut self, cursor: &mut Cursor<'_>, placed: Placed) -> Option<()> {
        self.frames.push(placed);
        let start = head::read_commit_start(cursor)?;
        let (changes, _) = head::read_commit(cursor, &start)?;
        self.totals = start.totals;
        self.fence = self.fence.max(start.fence);
        for change in changes {
            match change {
                ReadChange::Append { record, .. } => self.due_at(due_of(&self.meta, &record)),
                ReadChange::Meta(meta) => {
                    self.meta = *meta;
                    // What it means for the records that are there is found out by loading them.
                    self.due_at(Some(0));
                }
                ReadChange::Remove(_) => {}
            }
        }
        Some(())
    }

    fn due_at(&mut self, due: Option<u64>) {
        self.due = self.due.into_iter().chain(due).min();
    }

    fn snapshot_part(&mut self, cursor: &mut Cursor<'_>, placed: Placed) -> Option<()> {
        let part = snapshot::read_part(cursor)?;
        let pending = self.pending.take().filter(|pending| {
            pending.revision == part.revision && pending.placed.len() as u64 == part.index
        });
        let mut pending = match pending {
            Some(pending) => pending,
            None if part.index == 0 => Pending {
                revision: part.revision,
                placed: Vec::new(),
                bytes: Vec::new(),
            },
            // The beginning is not there: it was never finished, or is damaged.
            None => return Some(()),
        };
        pending.placed.push(placed);
        pending.bytes.extend_from_slice(part.bytes);
        if pending.placed.len() as u64 == part.count {
            return self.snapshot(&part, &pending);
        }
        self.pending = Some(pending);
        Some(())
    }

    fn snapshot(&mut self, part: &PartHead<'_>, pending: &Pending) -> Option<()> {
        let (name, folded) = snapshot::read(&pending.bytes)?;
        self.name = Some(name);
        self.due_at(due(&folded.meta, &folded.records));
        if part.revision >= self.totals.revision {
            self.meta = folded.meta;
            self.totals = folded.totals;
            self.fence = self.fence.max(folded.fence);
        }
        let tail = self.frames[self.parts as usize..].iter().copied();
        let tail: Vec<Placed> = tail.filter(|tail| tail.position >= part.cut).collect();
        self.parts = u32::try_from(pending.placed.len()).ok()?;
        self.frames = [&pending.placed[..], &tail].concat();
        Some(())
    }

    fn finish(self, id: StreamId, streams: &Streams) -> Result<(), String> {
        let Some(name) = self.name else {
            return Err(format!(
                "stream {}: it is not known what it is called; {} frames of it are of no use",
                id.0,
                self.frames.len()
            ));
        };
        let state = State {
            totals: self.totals,
            fence: self.fence,
            parts: self.parts,
            due: self.due,
            ..State::new(streams.share(&self.meta), &self.frames)
        };
        let stream = Stream {
            id,
            name,
            state: Mutex::new(state),
        };
        let added = streams.add(stream);
        added.map(drop).map_err(|stream| {
            format!(
                "stream {}: there is another one with the name {}",
                id.0, stream.name
            )
        })
    }
}

/// When a record is over by its lifetime.
fn due_of(meta: &Meta, record: &Record<'_>) -> Option<u64> {
    let config = &meta.config;
    let ttl = record.ttl.filter(|_| config.allow_ttl);
    let age = Some(config.max_age).filter(|age| *age > 0);
    let life = ttl.into_iter().chain(age).min()?;
    Some(record.time.saturating_add(life))
}
