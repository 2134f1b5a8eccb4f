//! A snapshot: all that is known of a stream, so that what was written before need not be read.
//! `docs/persist-log.md` §5.
//!
//! It is one sequence of bytes, compressed, and cut into parts that are frames of their own, so
//! that a large stream does not hold up the small ones.

use std::sync::Arc;

use bytes::Bytes;
use dialtone_client::persist::StreamName;

use super::bytes::{Cursor, len_number, put_bytes, put_number, unzigzag, zigzag};
use super::fold::Folded;
use super::frame::{self};
use super::head;
use super::position::Position;
use super::positions::Run;
use crate::backend::{Logged, MessageId, StreamId};
use crate::core::records::RecordMeta;

/// Bytes of a part.
const PART_LEN: usize = 1 << 20;

/// Longest snapshot before compression; a stream of 200 million records stays below.
const LEN_MAX: usize = 4 << 30;

const COMPRESSION_LEVEL: i32 = 1;

/// What the head of a part says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartHead<'a> {
    pub(crate) revision: u64,
    /// Frames of the stream before this place are in the snapshot.
    pub(crate) cut: Position,
    pub(crate) index: u64,
    pub(crate) count: u64,
    pub(crate) bytes: &'a [u8],
}

/// The heads of the frames of a snapshot. Frames of the stream before `cut` are in it.
pub(crate) fn parts(
    stream: StreamId,
    name: &StreamName,
    folded: &Folded,
    cut: Position,
) -> std::io::Result<Vec<Vec<u8>>> {
    let raw = encode(name, folded);
    let compressed = zstd::bulk::compress(&raw, COMPRESSION_LEVEL)?;
    let mut bytes = Vec::with_capacity(compressed.len() + 10);
    put_number(&mut bytes, len_number(raw.len()));
    bytes.extend_from_slice(&compressed);
    let chunks: Vec<&[u8]> = bytes.chunks(PART_LEN).collect();
    let head_of = |(index, chunk): (usize, &&[u8])| {
        let mut head = Vec::with_capacity(chunk.len() + 64);
        frame::begin(&mut head);
        let numbers = [
            stream.0,
            folded.totals.revision,
            cut.number(),
            len_number(index),
            len_number(chunks.len()),
        ];
        for number in numbers {
            put_number(&mut head, number);
        }
        head.extend_from_slice(chunk);
        head
    };
    Ok(chunks.iter().enumerate().map(head_of).collect())
}

/// Reads what a part says behind the stream.
pub(crate) fn read_part<'a>(cursor: &mut Cursor<'a>) -> Option<PartHead<'a>> {
    Some(PartHead {
        revision: cursor.number()?,
        cut: Position::from_number(cursor.number()?),
        index: cursor.number()?,
        count: cursor.number()?,
        bytes: cursor.rest(),
    })
}

/// The stream that the parts, joined in their order, describe.
pub(crate) fn read(joined: &[u8]) -> Option<(StreamName, Folded)> {
    let mut cursor = Cursor::new(joined);
    let len = cursor.len().filter(|len| *len <= LEN_MAX)?;
    let raw = zstd::bulk::decompress(cursor.rest(), len).ok()?;
    decode(&mut Cursor::new(&raw))
}

fn encode(name: &StreamName, folded: &Folded) -> Vec<u8> {
    let mut raw = Vec::new();
    put_bytes(&mut raw, name.as_str().as_bytes());
    head::put_meta(&mut raw, &folded.meta);
    put_number(&mut raw, folded.totals.revision);
    put_number(&mut raw, folded.time);
    head::put_totals(&mut raw, &folded.totals, folded.time);
    put_number(&mut raw, folded.fence);
    put_records(&mut raw, folded);
    put_number(&mut raw, folded.horizon.0);
    put_number(&mut raw, folded.horizon.1);
    put_number(&mut raw, len_number(folded.log.len()));
    for entry in &folded.log {
        put_logged(&mut raw, entry);
    }
    put_number(&mut raw, len_number(folded.ids.len()));
    let mut before = (0, 0, 0);
    for id in &folded.ids {
        put_bytes(&mut raw, id.id.as_bytes());
        put_number(&mut raw, zigzag(before.0, id.seq));
        put_number(&mut raw, zigzag(before.1, id.time));
        put_number(&mut raw, zigzag(before.2, id.revision));
        before = (id.seq, id.time, id.revision);
    }
    put_number(&mut raw, len_number(folded.consumers.len()));
    for (name, states) in &folded.consumers {
        put_bytes(&mut raw, name.as_bytes());
        put_number(&mut raw, len_number(states.len()));
        for state in states {
            put_bytes(&mut raw, state);
        }
    }
    raw
}

fn decode(cursor: &mut Cursor<'_>) -> Option<(StreamName, Folded)> {
    let name = StreamName::new(cursor.text()?).ok()?;
    let meta = head::read_meta(cursor)?;
    let revision = cursor.number()?;
    let time = cursor.number()?;
    let mut folded = Folded {
        meta,
        totals: head::read_totals(cursor, revision, time)?,
        fence: cursor.number()?,
        time,
        ..Folded::default()
    };
    read_records(cursor, &mut folded)?;
    folded.horizon = (cursor.number()?, cursor.number()?);
    for _ in 0..cursor.number()? {
        folded.log.push_back(read_logged(cursor)?);
    }
    let mut before = (0, 0, 0);
    for _ in 0..cursor.number()? {
        let id = Arc::from(cursor.text()?);
        before = (
            unzigzag(before.0, cursor.number()?),
            unzigzag(before.1, cursor.number()?),
            unzigzag(before.2, cursor.number()?),
        );
        let (seq, time, revision) = before;
        folded.ids.push_back(MessageId {
            id,
            seq,
            time,
            revision,
        });
    }
    for _ in 0..cursor.number()? {
        let name: Arc<str> = Arc::from(cursor.text()?);
        let mut states = Vec::new();
        for _ in 0..cursor.number()? {
            states.push(Bytes::copy_from_slice(cursor.bytes()?));
        }
        folded.consumers.insert(name, states);
    }
    cursor.is_empty().then_some((name, folded))
}

const KEY: u64 = 1;
const EXPIRES: u64 = 2;

/// Each run with where it is, then its records.
fn put_records(raw: &mut Vec<u8>, folded: &Folded) {
    let runs = folded.positions.from(0);
    put_number(raw, len_number(runs.count()));
    let (mut before, mut time) = (Position::ZERO, 0);
    let mut end = 0;
    let mut records = folded.records.iter_from(0);
    for run in folded.positions.from(0) {
        put_number(raw, run.seq - end);
        put_number(raw, run.count);
        put_number(raw, zigzag(before.number(), run.position.number()));
        put_number(raw, u64::from(run.len));
        put_number(raw, run.records);
        (before, end) = (run.position, run.end());
        for (seq, size, at) in records
            .by_ref()
            .take(usize::try_from(run.count).unwrap_or(0))
        {
            let known = folded.records.get(seq);
            let (key, expires) = known.map_or((None, None), |known| (known.key, known.expires));
            let flags =
                if key.is_some() { KEY } else { 0 } | if expires.is_some() { EXPIRES } else { 0 };
            put_number(raw, u64::from(size) << 2 | flags);
            put_number(raw, zigzag(time, at));
            time = at;
            if let Some(key) = key {
                put_bytes(raw, key.as_bytes());
            }
            if let Some(expires) = expires {
                put_number(raw, zigzag(at, expires));
            }
        }
    }
}

fn read_records(cursor: &mut Cursor<'_>, folded: &mut Folded) -> Option<()> {
    let (mut before, mut time) = (Position::ZERO, 0);
    let mut end = 0_u64;
    for _ in 0..cursor.number()? {
        let seq = end.checked_add(cursor.number()?)?;
        let count = cursor.number()?;
        let position = unzigzag(before.number(), cursor.number()?);
        let run = Run {
            seq,
            count,
            position: Position::from_number(position),
            len: u32::try_from(cursor.number()?).ok()?,
            records: cursor.number()?,
        };
        end = seq.checked_add(count)?;
        before = run.position;
        folded.positions.push(run);
        for seq in seq..end {
            let number = cursor.number()?;
            time = unzigzag(time, cursor.number()?);
            let has = |flag: u64| number & flag != 0;
            let key = if has(KEY) {
                Some(Arc::from(cursor.text()?))
            } else {
                None
            };
            let expires = if has(EXPIRES) {
                Some(unzigzag(time, cursor.number()?))
            } else {
                None
            };
            folded.records.push(RecordMeta {
                seq,
                time,
                size: u32::try_from(number >> 2).ok()?,
                key,
                expires,
            });
        }
    }
    Some(())
}

fn put_logged(raw: &mut Vec<u8>, entry: &Logged) {
    put_number(raw, entry.revision);
    put_number(raw, entry.last_seq);
    match &entry.remove {
        None => raw.push(0),
        Some(remove) => {
            raw.push(1);
            head::put_remove(raw, remove);
        }
    }
}

fn read_logged(cursor: &mut Cursor<'_>) -> Option<Logged> {
    Some(Logged {
        revision: cursor.number()?,
        last_seq: cursor.number()?,
        remove: match cursor.byte()? {
            0 => None,
            1 => Some(head::read_remove(cursor)?),
            _ => return None,
        },
    })
}
