//! What a stream is, made from what was written of it: the latest snapshot, then what followed.
//!
//! This is the definition. Loading a stream, writing a snapshot and verifying all do it, and no
//! other code says what a frame means for a stream.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::frame::Kind;
use super::head::{self, CommitStart, ReadChange};
use super::positions::{Positions, Run};
use super::queue::Placed;
use super::record::Record;
use crate::backend::{Logged, MessageId};
use crate::core::commit::{ConsumerChange, ConsumerWhat, Meta, Totals};
use crate::core::ids::IDS_MAX;
use crate::core::records::{RecordMeta, Records};

/// A stream at a revision.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    pub(crate) meta: Meta,
    pub(crate) totals: Totals,
    pub(crate) fence: u64,
    pub(crate) records: Records,
    pub(crate) positions: Positions,
    /// From where on `log` is complete: the revision, and the last number given by then.
    pub(crate) horizon: (u64, u64),
    pub(crate) log: VecDeque<Logged>,
    pub(crate) ids: VecDeque<MessageId>,
    pub(crate) consumers: BTreeMap<Arc<str>, Vec<Bytes>>,
    /// When the last commit was decided, in milliseconds since 1970.
    pub(crate) time: u64,
}

impl Folded {
    /// Does what a frame says. Whether it says anything that can be understood, and whether it
    /// holds records.
    pub(crate) fn apply(&mut self, kind: Kind, head: &[u8], placed: Placed) -> Option<bool> {
        let (_, mut cursor) = head::stream(head)?;
        match kind {
            Kind::Create => {
                let (_, meta) = head::read_create(&mut cursor)?;
                if self.totals.revision == 0 {
                    self.meta = meta;
                }
                Some(false)
            }
            Kind::Commit => {
                let start = head::read_commit_start(&mut cursor)?;
                if start.totals.revision < self.totals.revision {
                    return Some(true);
                }
                let (changes, consumers) = head::read_commit(&mut cursor, &start)?;
                Some(self.commit(&start, changes, consumers, placed))
            }
            Kind::Moved => {
                let records = head::read_moved(&mut cursor)?;
                let count = records.len() as u64;
                for record in records {
                    self.positions
                        .place(record.seq, run(record.seq, count, placed));
                }
                Some(true)
            }
            // Snapshots are where folding begins, and deleted streams are not folded.
            Kind::Snapshot | Kind::Delete => Some(false),
        }
    }

    fn commit(
        &mut self,
        start: &CommitStart,
        changes: Vec<ReadChange<'_>>,
        consumers: Vec<ConsumerChange>,
        placed: Placed,
    ) -> bool {
        let appends = |change: &&ReadChange<'_>| matches!(change, ReadChange::Append { .. });
        let records = changes.iter().filter(appends).count() as u64;
        for (change, revision) in changes.into_iter().zip(start.revision..) {
            match change {
                ReadChange::Append { record, replaced } => {
                    self.append(&record, placed, records);
                    for seq in replaced {
                        self.remove(seq, seq);
                    }
                }
                ReadChange::Remove(remove) => {
                    for (first, last) in &remove.ranges {
                        self.remove(*first, *last);
                    }
                    self.log(revision, Some(remove));
                }
                ReadChange::Meta(meta) => {
                    self.meta = *meta;
                    self.log(revision, None);
                }
            }
        }
        for change in consumers {
            self.consumer(change);
        }
        if start.totals.last_seq != self.totals.last_seq {
            self.jump(start.totals.revision, start.totals.last_seq);
        }
        self.totals = start.totals;
        self.fence = self.fence.max(start.fence);
        self.time = start.time;
        self.forget(start.horizon);
        records > 0
    }

    fn append(&mut self, record: &Record<'_>, placed: Placed, records: u64) {
        if record.seq != self.totals.last_seq + 1 {
            self.jump(record.revision, record.seq);
        }
        self.totals.last_seq = record.seq;
        self.positions.push(run(record.seq, records, placed));
        self.records.push(meta_of(record));
        self.ids.extend(id_of(record));
    }

    /// Numbers were left out, so that revisions before this one no longer tell which number was
    /// the last: nobody can go on from there.
    fn jump(&mut self, revision: u64, last_seq: u64) {
        self.forget(revision);
        self.horizon = (revision, last_seq);
    }

    fn remove(&mut self, first: u64, last: u64) {
        let mut gone = Vec::new();
        self.positions.remove(first, last, |run| gone.push(run));
        for run in gone {
            for seq in run.seq..run.end() {
                self.records.remove(seq);
            }
        }
    }

    fn log(&mut self, revision: u64, remove: Option<crate::core::commit::Remove>) {
        self.log.push_back(Logged {
            revision,
            last_seq: self.totals.last_seq,
            remove,
        });
    }

    /// Drops what nobody may ask for any more. Between two entries of the log each revision gave
    /// one number, which is how the last number at the horizon is known.
    fn forget(&mut self, horizon: u64) {
        while let Some(entry) = self.log.pop_front_if(|entry| entry.revision <= horizon) {
            self.horizon = (entry.revision, entry.last_seq);
        }
        let (revision, last_seq) = self.horizon;
        if horizon > revision {
            self.horizon = (horizon, last_seq + (horizon - revision));
        }
    }

    pub(crate) fn consumer(&mut self, change: ConsumerChange) {
        match change.what {
            ConsumerWhat::Snapshot(bytes) => {
                self.consumers.insert(change.name, vec![bytes]);
            }
            ConsumerWhat::Delta(bytes) => {
                self.consumers.entry(change.name).or_default().push(bytes);
            }
            ConsumerWhat::Delete => {
                self.consumers.remove(&change.name);
            }
        }
    }

    /// Drops message ids that are not within the window of the stream at `now`.
    pub(crate) fn forget_ids(&mut self, now: u64) {
        let window = self.meta.config.duplicate_window;
        self.ids.retain(|id| id.time.saturating_add(window) > now);
        let more = self.ids.len().saturating_sub(IDS_MAX);
        self.ids.drain(..more);
    }

    /// Counts what is really there, which is not what the last commit said when a frame was
    /// damaged.
    pub(crate) fn settle(&mut self) {
        self.totals.messages = self.records.messages();
        self.totals.bytes = self.records.bytes();
    }
}

/// What the core knows of a record.
pub(crate) fn meta_of(record: &Record<'_>) -> RecordMeta {
    RecordMeta {
        seq: record.seq,
        time: record.time,
        size: u32::try_from(record.size()).unwrap_or(u32::MAX),
        key: record.key.map(Arc::from),
        expires: record.ttl.map(|ttl| record.time.saturating_add(ttl)),
    }
}

/// The message id of a record, if it has one.
pub(crate) fn id_of(record: &Record<'_>) -> Option<MessageId> {
    record.id.map(|id| MessageId {
        id: Arc::from(id),
        seq: record.seq,
        time: record.time,
        revision: record.revision,
    })
}

pub(crate) fn run(seq: u64, records: u64, placed: Placed) -> Run {
    Run {
        seq,
        count: 1,
        position: placed.position,
        len: placed.len,
        records,
    }
}
