//! What a transaction stores, worked out from commits and what the database says of their streams. No I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use dialtone_client::persist::wire::RemovalCause;
use serde::{Deserialize, Serialize};

use super::checksum;
use super::connect::to_sql;
use crate::backend::Error;
use crate::core::commit::{Append, Change, Commit, ConsumerWhat, Meta, Remove};

/// After so many numbers, message ids beyond the window are freed.
const IDS_FREED_EACH: u64 = 256;

/// A stream as the database has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Head {
    pub(super) revision: u64,
    pub(super) last_seq: u64,
    pub(super) horizon: (u64, u64),
    pub(super) fence: u64,
    pub(super) duplicate_window: u64,
}

impl Head {
    /// Whether a commit may follow.
    pub(super) fn admits(&self, commit: &Commit) -> Result<(), Error> {
        if commit.fence < self.fence {
            return Err(Error::Fenced);
        }
        if commit.revision != self.revision + 1 {
            let Self { revision, .. } = self;
            let next = commit.revision;
            return Err(Error::Unavailable(format!(
                "the stream is at revision {revision} in the database, so that {next} does not follow; it must be loaded again"
            )));
        }
        Ok(())
    }

    /// Up to which revision entries of the log go with this commit.
    pub(super) fn cut(&self, commit: &Commit) -> u64 {
        let mut last_seq = self.last_seq;
        let mut cut = commit.horizon.max(self.horizon.0);
        for (change, revision) in commit.changes.iter().zip(commit.revision..) {
            if let Change::Append(append) = change {
                if append.seq != last_seq + 1 {
                    cut = cut.max(revision);
                }
                last_seq = append.seq;
            }
        }
        if commit.totals.last_seq != last_seq {
            cut = cut.max(commit.totals.revision);
        }
        cut
    }

    /// The horizon after a commit. `cut` is what [`cut`](Self::cut) said; `freed` is the newest entry of the stored log
    /// that goes: its revision, and the last number before it.
    ///
    /// Between two entries of the log each revision gave one number, unless numbers were left out; then nobody can go
    /// on from before.
    pub(super) fn horizon(
        &self,
        commit: &Commit,
        cut: u64,
        freed: Option<(u64, u64)>,
    ) -> (u64, u64) {
        let mut horizon = freed.map_or(self.horizon, |freed| freed.max(self.horizon));
        let mut last_seq = self.last_seq;
        for (change, revision) in commit.changes.iter().zip(commit.revision..) {
            match change {
                Change::Append(append) => {
                    if append.seq != last_seq + 1 {
                        horizon = (revision, append.seq);
                    }
                    last_seq = append.seq;
                }
                Change::Remove(_) | Change::Meta(_) if revision <= cut => {
                    horizon = (revision, last_seq);
                }
                Change::Remove(_) | Change::Meta(_) => {}
            }
        }
        if commit.totals.last_seq != last_seq {
            horizon = (commit.totals.revision, commit.totals.last_seq);
        }
        let (revision, seq) = horizon;
        if cut > revision {
            (cut, seq + (cut - revision))
        } else {
            horizon
        }
    }
}

/// Columns of rows to insert, one entry per row and column.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    pub(super) heads: Heads,
    pub(super) records: Records<'a>,
    pub(super) gone: Gone,
    pub(super) removals: Removals,
    pub(super) ids: Ids<'a>,
    pub(super) ids_freed: (Vec<i64>, Vec<i64>),
    pub(super) consumers_gone: (Vec<i64>, Vec<&'a [u8]>),
    pub(super) consumers: (Vec<i64>, Vec<&'a [u8]>, Vec<&'a [u8]>),
}

#[derive(Debug, Default)]
pub(super) struct Heads {
    pub(super) stream: Vec<i64>,
    pub(super) epoch: Vec<Option<i64>>,
    pub(super) restoring: Vec<Option<bool>>,
    pub(super) config: Vec<Option<String>>,
    pub(super) duplicate_window: Vec<Option<i64>>,
    pub(super) messages: Vec<i64>,
    pub(super) bytes: Vec<i64>,
    pub(super) last_seq: Vec<i64>,
    pub(super) last_time: Vec<i64>,
    pub(super) revision: Vec<i64>,
    pub(super) horizon: Vec<i64>,
    pub(super) horizon_seq: Vec<i64>,
    pub(super) fence: Vec<i64>,
    pub(super) due: Vec<Option<i64>>,
}

#[derive(Debug, Default)]
pub(super) struct Records<'a> {
    pub(super) stream: Vec<i64>,
    pub(super) seq: Vec<i64>,
    pub(super) revision: Vec<i64>,
    pub(super) time: Vec<i64>,
    pub(super) size: Vec<i64>,
    pub(super) encoding: Vec<i16>,
    pub(super) ttl: Vec<Option<i64>>,
    pub(super) key: Vec<Option<&'a [u8]>>,
    pub(super) id: Vec<Option<&'a [u8]>>,
    pub(super) headers: Vec<Option<&'a [u8]>>,
    pub(super) payload: Vec<&'a [u8]>,
    pub(super) checksum: Vec<i64>,
}

/// Numbers that are not there any more, both ends included.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) stream: Vec<i64>,
    pub(super) first: Vec<i64>,
    pub(super) last: Vec<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Removals {
    pub(super) stream: Vec<i64>,
    pub(super) revision: Vec<i64>,
    pub(super) last_seq: Vec<i64>,
    pub(super) removed: Vec<Option<Vec<u8>>>,
}

#[derive(Debug, Default)]
pub(super) struct Ids<'a> {
    pub(super) stream: Vec<i64>,
    pub(super) seq: Vec<i64>,
    pub(super) revision: Vec<i64>,
    pub(super) time: Vec<i64>,
    pub(super) id: Vec<&'a [u8]>,
}

impl<'a> Plan<'a> {
    /// Adds a commit that its head admits.
    ///
    /// # Errors
    /// When a part of it cannot be written as text or bytes.
    pub(super) fn add(
        &mut self,
        stream: i64,
        head: &Head,
        commit: &'a Commit,
        cut: u64,
        freed: Option<(u64, u64)>,
    ) -> Result<(), Error> {
        let mut last_seq = head.last_seq;
        let mut meta = None;
        for (change, revision) in commit.changes.iter().zip(commit.revision..) {
            match change {
                Change::Append(append) => {
                    last_seq = append.seq;
                    self.append(stream, revision, append);
                }
                Change::Remove(remove) => {
                    self.remove(stream, last_seq, remove);
                    if revision > cut {
                        let stored = StoredRemove::from(remove);
                        let bytes = rmp_serde::to_vec_named(&stored)
                            .map_err(|error| cannot_write(&error))?;
                        self.log(stream, revision, last_seq, Some(bytes));
                    }
                }
                Change::Meta(changed) => {
                    meta = Some(&**changed);
                    if revision > cut {
                        self.log(stream, revision, last_seq, None);
                    }
                }
            }
        }
        self.free_ids(stream, head, commit);
        self.consumers(stream, commit);
        self.head(stream, commit, meta, head.horizon(commit, cut, freed))
    }

    fn append(&mut self, stream: i64, revision: u64, append: &'a Append) {
        let records = &mut self.records;
        records.stream.push(stream);
        records.seq.push(to_sql(append.seq));
        records.revision.push(to_sql(revision));
        records.time.push(to_sql(append.time));
        records.size.push(to_sql(append.size()));
        records.encoding.push(i16::from(append.encoding));
        records.ttl.push(append.ttl.map(to_sql));
        records.key.push(append.key.as_deref().map(str::as_bytes));
        records.id.push(append.id.as_deref().map(str::as_bytes));
        records.headers.push(append.headers.as_deref());
        records.payload.push(&append.payload);
        records.checksum.push(checksum::of_append(revision, append));
        for seq in &append.replaced {
            self.gone.push(stream, *seq, *seq);
        }
        if let Some(id) = &append.id {
            self.ids.stream.push(stream);
            self.ids.seq.push(to_sql(append.seq));
            self.ids.revision.push(to_sql(revision));
            self.ids.time.push(to_sql(append.time));
            self.ids.id.push(id.as_bytes());
        }
    }

    /// Rows are inserted before others are deleted, so that a range must not reach records that come after it.
    fn remove(&mut self, stream: i64, last_seq: u64, remove: &Remove) {
        for (first, last) in &remove.ranges {
            self.gone.push(stream, *first, (*last).min(last_seq));
        }
    }

    fn log(&mut self, stream: i64, revision: u64, last_seq: u64, removed: Option<Vec<u8>>) {
        self.removals.stream.push(stream);
        self.removals.revision.push(to_sql(revision));
        self.removals.last_seq.push(to_sql(last_seq));
        self.removals.removed.push(removed);
    }

    fn free_ids(&mut self, stream: i64, head: &Head, commit: &Commit) {
        if head.last_seq / IDS_FREED_EACH != commit.totals.last_seq / IDS_FREED_EACH {
            let (streams, before) = &mut self.ids_freed;
            streams.push(stream);
            before.push(to_sql(commit.time.saturating_sub(head.duplicate_window)));
        }
    }

    fn consumers(&mut self, stream: i64, commit: &'a Commit) {
        let mut changed: BTreeMap<&Arc<str>, (bool, Vec<&'a [u8]>)> = BTreeMap::new();
        for change in &commit.consumers {
            let (anew, parts) = changed.entry(&change.name).or_default();
            match &change.what {
                ConsumerWhat::Snapshot(state) => (*anew, *parts) = (true, vec![state.as_ref()]),
                ConsumerWhat::Delta(state) => parts.push(state),
                ConsumerWhat::Delete => (*anew, *parts) = (true, Vec::new()),
            }
        }
        for (name, (anew, parts)) in changed {
            if anew {
                self.consumers_gone.0.push(stream);
                self.consumers_gone.1.push(name.as_bytes());
            }
            for part in parts {
                self.consumers.0.push(stream);
                self.consumers.1.push(name.as_bytes());
                self.consumers.2.push(part);
            }
        }
    }

    fn head(
        &mut self,
        stream: i64,
        commit: &Commit,
        meta: Option<&Meta>,
        horizon: (u64, u64),
    ) -> Result<(), Error> {
        let config = meta.map(|meta| serde_json::to_string(&meta.config));
        let config = config.transpose().map_err(|error| cannot_write(&error))?;
        let heads = &mut self.heads;
        heads.stream.push(stream);
        heads.epoch.push(meta.map(|meta| to_sql(meta.epoch)));
        heads.restoring.push(meta.map(|meta| meta.restoring));
        heads.config.push(config);
        heads
            .duplicate_window
            .push(meta.map(|meta| to_sql(meta.config.duplicate_window)));
        heads.messages.push(to_sql(commit.totals.messages));
        heads.bytes.push(to_sql(commit.totals.bytes));
        heads.last_seq.push(to_sql(commit.totals.last_seq));
        heads.last_time.push(to_sql(commit.totals.last_time));
        heads.revision.push(to_sql(commit.totals.revision));
        heads.horizon.push(to_sql(horizon.0));
        heads.horizon_seq.push(to_sql(horizon.1));
        heads.fence.push(to_sql(commit.fence));
        heads.due.push(commit.due.map(to_sql));
        Ok(())
    }
}

impl Gone {
    fn push(&mut self, stream: i64, first: u64, last: u64) {
        if first <= last {
            self.stream.push(stream);
            self.first.push(to_sql(first));
            self.last.push(to_sql(last));
        }
    }
}

/// A removal as it is stored, with names, so that it can grow.
#[derive(Serialize, Deserialize)]
struct StoredRemove {
    time: u64,
    cause: RemovalCause,
    ranges: Vec<(u64, u64)>,
    keys: Vec<(u64, String)>,
}

impl From<&Remove> for StoredRemove {
    fn from(remove: &Remove) -> Self {
        let keys = remove
            .keys
            .iter()
            .map(|(seq, key)| (*seq, (**key).to_owned()));
        Self {
            time: remove.time,
            cause: remove.cause,
            ranges: remove.ranges.clone(),
            keys: keys.collect(),
        }
    }
}

/// A removal as it was stored.
pub(super) fn read_remove(bytes: &[u8]) -> Result<Remove, Error> {
    let stored: StoredRemove = rmp_serde::from_slice(bytes).map_err(|error| {
        Error::Corrupt(format!("a removal in the database cannot be read: {error}"))
    })?;
    let StoredRemove {
        time,
        cause,
        ranges,
        keys,
    } = stored;
    let keys = keys
        .into_iter()
        .map(|(seq, key)| (seq, key.into()))
        .collect();
    Ok(Remove {
        time,
        cause,
        ranges,
        keys,
    })
}

fn cannot_write(error: &dyn std::error::Error) -> Error {
    Error::Unavailable(format!("a commit cannot be written: {error}"))
}
