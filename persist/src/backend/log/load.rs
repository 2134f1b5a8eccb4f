//! Loads a stream: reads its snapshot and what was written since.

use std::sync::Arc;

use super::fold::Folded;
use super::frame::Kind;
use super::frames::{Frames, ReadFrame, Unreadable, problem_at};
use super::head;
use super::position::Position;
use super::queue::Placed;
use super::rebuild::rebuild;
use super::snapshot;
use super::streams::Stream;
use crate::backend::{Error, Loaded};

/// Times that a stream is read again because it changed meanwhile. What changes it is compaction,
/// which comes by once in a long while.
const TRIES_MAX: u32 = 8;

/// A stream as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) folded: Folded,
    /// The frames that were read, and which generation of them.
    pub(crate) frames: Vec<Placed>,
    pub(crate) generation: u32,
    /// Of those that were read, the frames without records.
    pub(crate) without_records: Vec<Placed>,
    /// What could not be read.
    pub(crate) problems: Vec<String>,
    /// Nothing is missing, whatever could not be read.
    pub(crate) is_complete: bool,
}

impl Found {
    /// Behind everything that was read.
    pub(crate) fn cut(&self) -> Position {
        let last = self.frames.iter().map(|placed| placed.position).max();
        Position::from_number(last.map_or(0, |last| last.number() + 1))
    }
}

/// Reads a stream. It blocks.
pub(crate) fn read(frames: &Frames, stream: &Stream) -> Result<Found, Error> {
    let mut last = None;
    for _ in 0..TRIES_MAX {
        let state = stream.state.lock();
        if state.deleted {
            return Err(Error::NotFound);
        }
        let (snapshot, tail) = (state.snapshot().to_vec(), state.tail().to_vec());
        let generation = state.generation;
        drop(state);
        match read_frames(frames, stream, &snapshot, &tail, generation) {
            Ok(found) => return Ok(found),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or(Error::NotFound))
}

fn read_frames(
    frames: &Frames,
    stream: &Stream,
    snapshot: &[Placed],
    tail: &[Placed],
    generation: u32,
) -> Result<Found, Error> {
    let mut found = Found {
        folded: Folded::default(),
        frames: [snapshot, tail].concat(),
        generation,
        without_records: Vec::new(),
        problems: Vec::new(),
        is_complete: true,
    };
    match read_snapshot(frames, stream, snapshot) {
        Ok(folded) => found.folded = folded,
        Err(Error::Corrupt(why)) => {
            let rebuilt = rebuild(frames, stream, why);
            found.folded = rebuilt.folded;
            found.problems = rebuilt.problems;
            found.is_complete = rebuilt.is_complete;
            return Ok(found);
        }
        Err(error) => return Err(error),
    }
    let mut gone = None;
    frames.each_head(tail, |read| match read {
        Ok(read) => found.apply(stream, &read),
        Err(unreadable) if unreadable.is_gone => gone = Some(unreadable),
        Err(unreadable) => found.problem(unreadable.text),
    });
    match gone {
        Some(unreadable) => Err(unavailable(&unreadable)),
        None => Ok(found),
    }
}

impl Found {
    fn apply(&mut self, stream: &Stream, read: &ReadFrame) {
        let ours = head::stream(&read.head).is_some_and(|(id, _)| id == stream.id);
        let applied = ours
            .then(|| self.folded.apply(read.kind, &read.head, read.placed))
            .flatten();
        match applied {
            Some(true) => {}
            Some(false) => self.without_records.push(read.placed),
            None => {
                let what = "it cannot be understood, and may be of a newer version";
                self.problem(problem_at(read.placed, what));
            }
        }
    }

    fn problem(&mut self, text: String) {
        self.problems.push(text);
        self.is_complete = false;
    }
}

fn unavailable(unreadable: &Unreadable) -> Error {
    Error::Unavailable(unreadable.text.clone())
}

/// The snapshot of a stream; without parts an empty stream.
fn read_snapshot(frames: &Frames, stream: &Stream, parts: &[Placed]) -> Result<Folded, Error> {
    let mut joined = Vec::new();
    let mut wrong = None;
    let count = parts.len() as u64;
    let mut index = 0;
    frames.each(parts, |read| {
        let bytes = read
            .as_ref()
            .ok()
            .and_then(|read| part_of(read, stream, index, count));
        index += 1;
        match (bytes, read) {
            (Some(bytes), _) => joined.extend_from_slice(&bytes),
            (None, Err(unreadable)) => wrong = Some(unreadable),
            (None, Ok(read)) => {
                wrong = Some(Unreadable {
                    placed: read.placed,
                    text: problem_at(read.placed, "it is not the part of a snapshot"),
                    is_gone: false,
                });
            }
        }
    });
    if let Some(unreadable) = wrong {
        return Err(if unreadable.is_gone {
            unavailable(&unreadable)
        } else {
            Error::Corrupt(unreadable.text)
        });
    }
    let Some(first) = parts.first() else {
        return Ok(Folded::default());
    };
    let read = snapshot::read(&joined).filter(|(name, _)| *name == stream.name);
    let (_, folded) = read
        .ok_or_else(|| Error::Corrupt(problem_at(*first, "the snapshot cannot be understood")))?;
    Ok(folded)
}

fn part_of(read: &ReadFrame, stream: &Stream, index: u64, count: u64) -> Option<Vec<u8>> {
    let (id, mut cursor) = head::stream(&read.head)?;
    let part = snapshot::read_part(&mut cursor)?;
    let fits = read.kind == Kind::Snapshot
        && id == stream.id
        && (part.index, part.count) == (index, count);
    fits.then(|| part.bytes.to_vec())
}

/// Loads a stream for the core, and keeps where its records are.
pub(crate) fn load(frames: &Frames, stream: &Arc<Stream>, now: u64) -> Result<Loaded, Error> {
    for _ in 0..TRIES_MAX {
        let mut found = read(frames, stream)?;
        for problem in &found.problems {
            tracing::error!(stream = %stream.name, "damaged: {problem}");
        }
        found.folded.settle();
        found.folded.forget_ids(now);
        let mut state = stream.state.lock();
        if state.generation != found.generation {
            continue;
        }
        let folded = found.folded;
        state.positions = Some(Box::new(folded.positions));
        state.used = true;
        let mut totals = folded.totals;
        totals.revision = state.totals.revision;
        totals.last_seq = state.totals.last_seq;
        totals.last_time = state.totals.last_time;
        drop(state);
        return Ok(Loaded {
            id: stream.id,
            meta: folded.meta,
            totals,
            records: folded.records,
            horizon: folded.horizon,
            log: folded.log.into(),
            ids: folded.ids.into(),
            consumers: folded.consumers.into_iter().collect(),
        });
    }
    Err(Error::Unavailable(
        "the stream moved each time that it was loaded".to_owned(),
    ))
}

/// Has where the records of a stream are, if it is not known.
pub(crate) fn find(frames: &Frames, stream: &Stream) -> Result<(), Error> {
    for _ in 0..TRIES_MAX {
        if stream.state.lock().positions.is_some() {
            return Ok(());
        }
        let found = read(frames, stream)?;
        let mut state = stream.state.lock();
        // Nothing was added either: there are no commits while it is not loaded.
        if state.generation == found.generation && state.frames.len() == found.frames.len() {
            state.positions = Some(Box::new(found.folded.positions));
            return Ok(());
        }
    }
    Err(Error::Unavailable(
        "the stream moved each time that it was read".to_owned(),
    ))
}
