//! What the heads of frames say: a stream that is made, a commit, records at a new place, a
//! stream that is deleted. `docs/persist-log.md` §3. Snapshots have a file of their own.

use std::sync::Arc;

use bytes::Bytes;
use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Config, RemovalCause};

use super::bytes::{Cursor, len_number, put_bytes, put_number, unzigzag, zigzag};
use super::frame::{self, FIXED_LEN};
use super::record::{Expected, Record};
use crate::backend::StreamId;
use crate::core::commit::{Change, Commit, ConsumerChange, ConsumerWhat, Meta, Remove, Totals};

const APPEND: u8 = 1;
const APPEND_REPLACING: u8 = 2;
const REMOVE: u8 = 3;
const META: u8 = 4;

const SNAPSHOT: u8 = 1;
const DELTA: u8 = 2;
const DELETE: u8 = 3;

/// The head of a frame of kind `Create`.
pub(crate) fn create(stream: StreamId, name: &StreamName, meta: &Meta) -> Vec<u8> {
    let mut head = begin(stream);
    put_bytes(&mut head, name.as_str().as_bytes());
    put_meta(&mut head, meta);
    head
}

/// The head of a frame of kind `Delete`. `first` is the segment from which on nothing of the
/// stream is known to be gone already: the frame is needed as long as there is an older one.
pub(crate) fn delete(stream: StreamId, first: u32) -> Vec<u8> {
    let mut head = begin(stream);
    put_number(&mut head, u64::from(first));
    head
}

/// The head of a frame of kind `Commit`, and the data that goes with it.
pub(crate) fn commit(
    stream: StreamId,
    commit: &Commit,
    compress_len_min: usize,
    data: &mut Vec<Bytes>,
) -> Vec<u8> {
    let mut head = begin(stream);
    for number in [commit.revision, commit.time, commit.horizon, commit.fence] {
        put_number(&mut head, number);
    }
    put_totals(&mut head, &commit.totals, commit.time);
    put_number(&mut head, len_number(commit.changes.len()));
    let mut expected = Expected {
        seq: 0,
        revision: commit.revision,
        time: commit.time,
    };
    for (change, revision) in commit.changes.iter().zip(commit.revision..) {
        put_change(
            &mut head,
            change,
            revision,
            &mut expected,
            compress_len_min,
            data,
        );
    }
    put_number(&mut head, len_number(commit.consumers.len()));
    for consumer in &commit.consumers {
        put_consumer(&mut head, consumer);
    }
    head
}

/// Begins the head of a frame of kind `Moved`; records follow, with what `moved_expected` says
/// as the first that is expected.
pub(crate) fn moved(stream: StreamId, records: usize) -> Vec<u8> {
    let mut head = begin(stream);
    put_number(&mut head, len_number(records));
    head
}

/// See [`moved`].
pub(crate) const MOVED_EXPECTED: Expected = Expected {
    seq: 0,
    revision: 0,
    time: 0,
};

fn begin(stream: StreamId) -> Vec<u8> {
    let mut head = Vec::with_capacity(FIXED_LEN + 40);
    frame::begin(&mut head);
    put_number(&mut head, stream.0);
    head
}

fn put_change(
    head: &mut Vec<u8>,
    change: &Change,
    revision: u64,
    expected: &mut Expected,
    compress_len_min: usize,
    data: &mut Vec<Bytes>,
) {
    // A record's revision is its place in the commit, whatever stands before it.
    expected.revision = revision;
    match change {
        Change::Append(append) => {
            if append.replaced.is_empty() {
                head.push(APPEND);
            } else {
                head.push(APPEND_REPLACING);
                put_number(head, len_number(append.replaced.len()));
                for seq in &append.replaced {
                    put_number(head, append.seq.wrapping_sub(*seq));
                }
            }
            Record::of(append, revision, compress_len_min, data).put(head, expected);
        }
        Change::Remove(remove) => {
            head.push(REMOVE);
            put_remove(head, remove);
        }
        Change::Meta(meta) => {
            head.push(META);
            put_meta(head, meta);
        }
    }
}

pub(crate) fn put_totals(head: &mut Vec<u8>, totals: &Totals, time: u64) {
    put_number(head, totals.messages);
    put_number(head, totals.bytes);
    put_number(head, totals.last_seq);
    put_number(head, zigzag(time, totals.last_time));
}

pub(crate) fn read_totals(cursor: &mut Cursor<'_>, revision: u64, time: u64) -> Option<Totals> {
    Some(Totals {
        messages: cursor.number()?,
        bytes: cursor.number()?,
        last_seq: cursor.number()?,
        last_time: unzigzag(time, cursor.number()?),
        revision,
    })
}

pub(crate) fn put_remove(head: &mut Vec<u8>, remove: &Remove) {
    put_number(head, remove.time);
    head.push(match remove.cause {
        RemovalCause::Request => 0,
        RemovalCause::Limit => 1,
        RemovalCause::Expiry => 2,
    });
    put_number(head, len_number(remove.ranges.len()));
    let mut before = 0;
    for (first, last) in &remove.ranges {
        put_number(head, zigzag(before, *first));
        put_number(head, zigzag(*first, *last));
        before = *last;
    }
    put_number(head, len_number(remove.keys.len()));
    let mut before = 0;
    for (seq, key) in &remove.keys {
        put_number(head, zigzag(before, *seq));
        put_bytes(head, key.as_bytes());
        before = *seq;
    }
}

pub(crate) fn read_remove(cursor: &mut Cursor<'_>) -> Option<Remove> {
    let time = cursor.number()?;
    let cause = match cursor.byte()? {
        0 => RemovalCause::Request,
        1 => RemovalCause::Limit,
        2 => RemovalCause::Expiry,
        _ => return None,
    };
    let mut remove = Remove {
        time,
        cause,
        ranges: Vec::new(),
        keys: Vec::new(),
    };
    let mut before = 0;
    for _ in 0..cursor.number()? {
        let first = unzigzag(before, cursor.number()?);
        before = unzigzag(first, cursor.number()?);
        remove.ranges.push((first, before));
    }
    let mut before = 0;
    for _ in 0..cursor.number()? {
        before = unzigzag(before, cursor.number()?);
        remove.keys.push((before, Arc::from(cursor.text()?)));
    }
    Some(remove)
}

pub(crate) fn put_meta(head: &mut Vec<u8>, meta: &Meta) {
    put_number(head, meta.epoch);
    put_number(head, meta.created);
    head.push(u8::from(meta.restoring));
    put_bytes(head, &config_bytes(&meta.config));
}

/// A map with names, so that settings can be added.
pub(crate) fn config_bytes(config: &Config) -> Vec<u8> {
    rmp_serde::to_vec_named(config).expect("numbers and texts can be written to memory")
}

pub(crate) fn read_meta(cursor: &mut Cursor<'_>) -> Option<Meta> {
    Some(Meta {
        epoch: cursor.number()?,
        created: cursor.number()?,
        restoring: cursor.byte()? != 0,
        config: rmp_serde::from_slice(cursor.bytes()?).ok()?,
    })
}

fn put_consumer(head: &mut Vec<u8>, consumer: &ConsumerChange) {
    put_bytes(head, consumer.name.as_bytes());
    match &consumer.what {
        ConsumerWhat::Snapshot(bytes) => {
            head.push(SNAPSHOT);
            put_bytes(head, bytes);
        }
        ConsumerWhat::Delta(bytes) => {
            head.push(DELTA);
            put_bytes(head, bytes);
        }
        ConsumerWhat::Delete => head.push(DELETE),
    }
}

fn read_consumer(cursor: &mut Cursor<'_>) -> Option<ConsumerChange> {
    let name = Arc::from(cursor.text()?);
    let what = match cursor.byte()? {
        SNAPSHOT => ConsumerWhat::Snapshot(Bytes::copy_from_slice(cursor.bytes()?)),
        DELTA => ConsumerWhat::Delta(Bytes::copy_from_slice(cursor.bytes()?)),
        DELETE => ConsumerWhat::Delete,
        _ => return None,
    };
    Some(ConsumerChange { name, what })
}

/// The stream that a head is about, and what else it says.
pub(crate) fn stream(head: &[u8]) -> Option<(StreamId, Cursor<'_>)> {
    let mut cursor = Cursor::new(head.get(FIXED_LEN..)?);
    Some((StreamId(cursor.number()?), cursor))
}

/// What a frame of kind `Create` says behind the stream.
pub(crate) fn read_create(cursor: &mut Cursor<'_>) -> Option<(StreamName, Meta)> {
    let name = StreamName::new(cursor.text()?).ok()?;
    Some((name, read_meta(cursor)?))
}

/// What a frame of kind `Delete` says behind the stream.
pub(crate) fn read_delete(cursor: &mut Cursor<'_>) -> Option<u32> {
    u32::try_from(cursor.number()?).ok()
}

/// What a frame of kind `Commit` says before its changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitStart {
    pub(crate) revision: u64,
    pub(crate) time: u64,
    pub(crate) horizon: u64,
    pub(crate) fence: u64,
    /// The stream after the commit.
    pub(crate) totals: Totals,
    changes: u64,
}

/// A change that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadChange<'a> {
    Append {
        record: Record<'a>,
        replaced: Vec<u64>,
    },
    Remove(Remove),
    Meta(Box<Meta>),
}

/// Reads the start of a commit.
pub(crate) fn read_commit_start(cursor: &mut Cursor<'_>) -> Option<CommitStart> {
    let revision = cursor.number()?;
    let time = cursor.number()?;
    let horizon = cursor.number()?;
    let fence = cursor.number()?;
    let mut totals = read_totals(cursor, 0, time)?;
    let changes = cursor.number()?;
    totals.revision = revision.checked_add(changes)?.checked_sub(1)?;
    Some(CommitStart {
        revision,
        time,
        horizon,
        fence,
        totals,
        changes,
    })
}

/// Reads what follows the start of a commit.
pub(crate) fn read_commit<'a>(
    cursor: &mut Cursor<'a>,
    start: &CommitStart,
) -> Option<(Vec<ReadChange<'a>>, Vec<ConsumerChange>)> {
    let mut expected = Expected {
        seq: 0,
        revision: start.revision,
        time: start.time,
    };
    let mut changes = Vec::new();
    for revision in start.revision..start.revision + start.changes {
        expected.revision = revision;
        changes.push(read_change(cursor, &mut expected)?);
    }
    let mut consumers = Vec::new();
    for _ in 0..cursor.number()? {
        consumers.push(read_consumer(cursor)?);
    }
    Some((changes, consumers))
}

fn read_change<'a>(cursor: &mut Cursor<'a>, expected: &mut Expected) -> Option<ReadChange<'a>> {
    let tag = cursor.byte()?;
    match tag {
        APPEND | APPEND_REPLACING => {
            let mut distances = Vec::new();
            if tag == APPEND_REPLACING {
                for _ in 0..cursor.number()? {
                    distances.push(cursor.number()?);
                }
            }
            let record = Record::read(cursor, expected)?;
            let replaced = distances.iter();
            let replaced = replaced.map(|distance| record.seq.wrapping_sub(*distance));
            Some(ReadChange::Append {
                record,
                replaced: replaced.collect(),
            })
        }
        REMOVE => Some(ReadChange::Remove(read_remove(cursor)?)),
        META => Some(ReadChange::Meta(Box::new(read_meta(cursor)?))),
        _ => None,
    }
}

/// Reads the records of a frame of kind `Moved`.
pub(crate) fn read_moved<'a>(cursor: &mut Cursor<'a>) -> Option<Vec<Record<'a>>> {
    let mut expected = MOVED_EXPECTED;
    let mut records = Vec::new();
    for _ in 0..cursor.number()? {
        records.push(Record::read(cursor, &mut expected)?);
    }
    Some(records)
}

/// All records in a frame, of whichever kind, each with where its part of the data begins.
pub(crate) fn records(kind: frame::Kind, head: &[u8]) -> Option<Vec<(Record<'_>, usize)>> {
    let (_, mut cursor) = stream(head)?;
    let records = match kind {
        frame::Kind::Commit => {
            let start = read_commit_start(&mut cursor)?;
            let (changes, _) = read_commit(&mut cursor, &start)?;
            let records = changes.into_iter().filter_map(|change| match change {
                ReadChange::Append { record, .. } => Some(record),
                ReadChange::Remove(_) | ReadChange::Meta(_) => None,
            });
            records.collect()
        }
        frame::Kind::Moved => read_moved(&mut cursor)?,
        frame::Kind::Create | frame::Kind::Delete | frame::Kind::Snapshot => Vec::new(),
    };
    let mut at = 0_usize;
    let placed = records.into_iter().map(|record| {
        let from = at;
        at = at.checked_add(record.stored_len)?;
        Some((record, from))
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use dialtone_client::persist::wire::Durability;
    use proptest::prelude::*;

    use super::*;
    use crate::core::commit::Append;

    fn example() -> Commit {
        let append = |seq, replaced: &[u64]| {
            Change::Append(Append {
                seq,
                time: 1_700_000_000_500,
                key: Some(Arc::from("k")),
                encoding: 1,
                headers: Some(Bytes::from_static(b"{}")),
                ttl: None,
                id: Some(Arc::from("id")),
                payload: Bytes::from_static(b"payload"),
                replaced: replaced.to_vec(),
            })
        };
        Commit {
            revision: 20,
            changes: vec![
                append(10, &[]),
                Change::Remove(Remove {
                    time: 5,
                    cause: RemovalCause::Expiry,
                    ranges: vec![(1, 3), (7, 7)],
                    keys: vec![(2, Arc::from("a")), (7, Arc::from("b"))],
                }),
                Change::Meta(Box::new(Meta {
                    epoch: 3,
                    created: 4,
                    restoring: true,
                    config: Config::default(),
                })),
                append(11, &[10, 4]),
            ],
            consumers: vec![
                ConsumerChange {
                    name: Arc::from("c"),
                    what: ConsumerWhat::Snapshot(Bytes::from_static(b"state")),
                },
                ConsumerChange {
                    name: Arc::from("d"),
                    what: ConsumerWhat::Delete,
                },
            ],
            horizon: 12,
            totals: Totals {
                messages: 6,
                bytes: 60,
                last_seq: 11,
                last_time: 1_700_000_000_500,
                revision: 23,
            },
            durability: Durability::Fsync,
            fence: 9,
            time: 1_700_000_000_500,
            due: None,
        }
    }

    #[test]
    fn commits_come_back() {
        let given = example();
        let mut data = Vec::new();
        let head = commit(StreamId(77), &given, 1024, &mut data);
        let (id, mut cursor) = stream(&head).unwrap();
        assert_eq!(id, StreamId(77));
        let start = read_commit_start(&mut cursor).unwrap();
        assert_eq!(start.totals, given.totals);
        assert_eq!((start.revision, start.time), (given.revision, given.time));
        assert_eq!((start.horizon, start.fence), (given.horizon, given.fence));
        let (changes, consumers) = read_commit(&mut cursor, &start).unwrap();
        assert!(cursor.is_empty());
        assert_eq!(consumers, given.consumers);
        assert_eq!(changes.len(), given.changes.len());
        for ((read, given), revision) in changes.iter().zip(&given.changes).zip(20..) {
            match (read, given) {
                (ReadChange::Append { record, replaced }, Change::Append(append)) => {
                    assert_eq!((record.seq, record.revision), (append.seq, revision));
                    assert_eq!(replaced, &append.replaced);
                }
                (ReadChange::Remove(read), Change::Remove(given)) => assert_eq!(read, given),
                (ReadChange::Meta(read), Change::Meta(given)) => assert_eq!(read, given),
                (read, given) => panic!("{read:?} is not {given:?}"),
            }
        }
        let placed = records(frame::Kind::Commit, &head).unwrap();
        let at: Vec<usize> = placed.iter().map(|(_, at)| *at).collect();
        assert_eq!(at, [0, 9]);
    }

    #[test]
    fn streams_come_and_go() {
        let name = StreamName::new("hub/notes").unwrap();
        let meta = Meta::default();
        let head = create(StreamId(5), &name, &meta);
        let (id, mut cursor) = stream(&head).unwrap();
        assert_eq!(id, StreamId(5));
        assert_eq!(read_create(&mut cursor), Some((name, meta)));
        let head = delete(StreamId(5), 12);
        let (_, mut cursor) = stream(&head).unwrap();
        assert_eq!(read_delete(&mut cursor), Some(12));
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 24..200)) {
            for kind in [frame::Kind::Commit, frame::Kind::Moved] {
                drop(records(kind, &bytes));
            }
            if let Some((_, mut cursor)) = stream(&bytes) {
                drop(read_create(&mut cursor));
            }
        }

        #[test]
        fn no_changed_byte_makes_reading_panic(at in 24..140_usize, byte: u8) {
            let mut head = commit(StreamId(7), &example(), 1024, &mut Vec::new());
            let len = head.len();
            head[at % len] = byte;
            drop(records(frame::Kind::Commit, &head));
        }
    }
}
