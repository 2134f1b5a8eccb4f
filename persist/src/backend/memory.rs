//! Streams in memory: ephemeral ones, and all of them in tests.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Blob, Durability, StoredRecord};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;

use super::{
    Backend, Batch, Done, Entry, Error, Loaded, Logged, MessageId, Status, StreamId, Sum, Verified,
};
use crate::core::commit::{Append, Change, Commit, ConsumerWhat, Meta, Totals};
use crate::core::ids::IDS_MAX;
use crate::core::records::{RecordMeta, Records};

/// See the module. Whatever durability is asked for, it obtains [`Durability::Memory`].
#[derive(Debug, Default)]
pub struct Memory {
    streams: Mutex<Streams>,
    commits: AtomicU64,
}

#[derive(Debug, Default)]
struct Streams {
    by_name: BTreeMap<StreamName, StreamId>,
    by_id: HashMap<StreamId, Kept, ahash::RandomState>,
    last: u64,
    closed: bool,
}

#[derive(Debug)]
struct Kept {
    name: StreamName,
    meta: Meta,
    totals: Totals,
    fence: u64,
    records: BTreeMap<u64, (u64, Append)>,
    horizon: (u64, u64),
    log: VecDeque<Logged>,
    ids: VecDeque<MessageId>,
    consumers: BTreeMap<Arc<str>, Vec<Bytes>>,
}

impl Memory {
    /// Without any stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes up again after [`close`](Backend::close), with everything that was there.
    pub fn reopen(&self) {
        self.streams.lock().closed = false;
    }

    fn with<T>(
        &self,
        stream: StreamId,
        f: impl FnOnce(&mut Kept) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut streams = self.streams.lock();
        if streams.closed {
            return Err(Error::Closed);
        }
        f(streams.by_id.get_mut(&stream).ok_or(Error::NotFound)?)
    }

    fn create_now(&self, stream: &StreamName, meta: &Meta) -> Result<StreamId, Error> {
        let mut streams = self.streams.lock();
        if streams.closed {
            return Err(Error::Closed);
        }
        if streams.by_name.contains_key(stream) {
            return Err(Error::Exists);
        }
        streams.last += 1;
        let id = StreamId(streams.last);
        streams.by_name.insert(stream.clone(), id);
        let kept = Kept {
            name: stream.clone(),
            meta: meta.clone(),
            totals: Totals::default(),
            fence: 0,
            records: BTreeMap::new(),
            horizon: (0, 0),
            log: VecDeque::new(),
            ids: VecDeque::new(),
            consumers: BTreeMap::new(),
        };
        streams.by_id.insert(id, kept);
        Ok(id)
    }

    fn load_now(&self, stream: &StreamName, now: u64) -> Result<Option<Loaded>, Error> {
        let streams = self.streams.lock();
        if streams.closed {
            return Err(Error::Closed);
        }
        let Some(id) = streams.by_name.get(stream) else {
            return Ok(None);
        };
        let kept = streams.by_id.get(id).ok_or(Error::NotFound)?;
        Ok(Some(kept.load(*id, now)))
    }
}

impl Kept {
    fn load(&self, id: StreamId, now: u64) -> Loaded {
        let mut records = Records::new();
        for (_, append) in self.records.values() {
            records.push(RecordMeta {
                seq: append.seq,
                time: append.time,
                size: u32::try_from(append.size()).unwrap_or(u32::MAX),
                key: append.key.clone(),
                expires: append.ttl.map(|ttl| append.time.saturating_add(ttl)),
            });
        }
        let window = self.meta.config.duplicate_window;
        let is_fresh = |entry: &&MessageId| entry.time.saturating_add(window) > now;
        let consumers = self.consumers.iter();
        Loaded {
            id,
            meta: self.meta.clone(),
            totals: self.totals,
            records,
            horizon: self.horizon,
            log: self.log.iter().cloned().collect(),
            ids: self.ids.iter().filter(is_fresh).cloned().collect(),
            consumers: consumers
                .map(|(name, parts)| (Arc::clone(name), parts.clone()))
                .collect(),
        }
    }

    fn apply(&mut self, commit: Commit) -> Result<Durability, Error> {
        if commit.fence < self.fence || commit.revision != self.totals.revision + 1 {
            return Err(Error::Fenced);
        }
        self.fence = commit.fence;
        for (revision, change) in (commit.revision..).zip(commit.changes) {
            self.change(revision, change);
        }
        while let Some(oldest) = self.log.front()
            && oldest.revision <= commit.horizon
        {
            self.horizon = (oldest.revision, oldest.last_seq);
            self.log.pop_front();
        }
        for change in commit.consumers {
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
        self.totals = commit.totals;
        if commit.horizon == commit.totals.revision {
            self.horizon = (commit.horizon, commit.totals.last_seq);
        }
        self.forget_ids(commit.time);
        Ok(Durability::Memory)
    }

    fn change(&mut self, revision: u64, change: Change) {
        let last_seq = self.totals.last_seq;
        let logged = |remove| Logged {
            revision,
            last_seq,
            remove,
        };
        match change {
            Change::Append(append) => self.append(revision, append),
            Change::Remove(remove) => {
                for (from, to) in remove.ranges.iter().copied() {
                    let gone: Vec<u64> =
                        self.records.range(from..=to).map(|(seq, _)| *seq).collect();
                    for seq in gone {
                        self.records.remove(&seq);
                    }
                }
                self.log.push_back(logged(Some(remove)));
            }
            Change::Meta(meta) => {
                self.meta = *meta;
                self.log.push_back(logged(None));
            }
        }
    }

    fn append(&mut self, revision: u64, mut append: Append) {
        for seq in &append.replaced {
            self.records.remove(seq);
        }
        // A slice would keep the whole request alive.
        append.payload = Bytes::copy_from_slice(&append.payload);
        append.headers = append.headers.map(|bytes| Bytes::copy_from_slice(&bytes));
        self.totals.last_seq = append.seq;
        if let Some(id) = append.id.clone() {
            self.ids.push_back(MessageId {
                id,
                seq: append.seq,
                time: append.time,
                revision,
            });
        }
        self.records.insert(append.seq, (revision, append));
    }

    fn forget_ids(&mut self, now: u64) {
        let window = self.meta.config.duplicate_window;
        while let Some(oldest) = self.ids.front()
            && (oldest.time.saturating_add(window) <= now || self.ids.len() > IDS_MAX)
        {
            self.ids.pop_front();
        }
    }

    fn read(&self, ranges: &[(u64, u64)], bytes: u64) -> Batch {
        let mut batch = Batch::default();
        let mut len = 0;
        for (from, to) in ranges.iter().copied() {
            for (seq, (revision, append)) in self.records.range(from..=to) {
                if len >= bytes && !batch.records.is_empty() {
                    batch.next = Some(*seq);
                    return batch;
                }
                len += append.size();
                batch.records.push(stored(*revision, append));
            }
        }
        batch
    }
}

fn stored(revision: u64, append: &Append) -> StoredRecord {
    StoredRecord {
        seq: append.seq,
        time: append.time,
        revision,
        key: append.key.as_deref().map(str::to_owned),
        encoding: append.encoding,
        headers: append.headers.clone().map(Blob),
        ttl: append.ttl,
        id: append.id.as_deref().map(str::to_owned),
        payload: Blob(append.payload.clone()),
    }
}

impl Backend for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn create<'a>(
        &'a self,
        stream: &'a StreamName,
        meta: &'a Meta,
    ) -> BoxFuture<'a, Result<StreamId, Error>> {
        ready(self.create_now(stream, meta)).boxed()
    }

    fn load<'a>(
        &'a self,
        stream: &'a StreamName,
        now: u64,
    ) -> BoxFuture<'a, Result<Option<Loaded>, Error>> {
        ready(self.load_now(stream, now)).boxed()
    }

    fn unload(&self, _stream: StreamId) {}

    fn commit(&self, stream: StreamId, commit: Commit, done: Done) {
        let result = self.with(stream, |kept| kept.apply(commit));
        self.commits.fetch_add(1, Ordering::Relaxed);
        done(result);
    }

    fn read<'a>(
        &'a self,
        stream: StreamId,
        ranges: &'a [(u64, u64)],
        bytes: u64,
    ) -> BoxFuture<'a, Result<Batch, Error>> {
        ready(self.with(stream, |kept| Ok(kept.read(ranges, bytes)))).boxed()
    }

    fn delete(&self, stream: StreamId) -> BoxFuture<'_, Result<(), Error>> {
        let mut streams = self.streams.lock();
        let deleted = streams.by_id.remove(&stream).map(|kept| {
            streams.by_name.remove(&kept.name);
        });
        ready(deleted.ok_or(Error::NotFound)).boxed()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, Error>> {
        let streams = self.streams.lock();
        let start = after.filter(|after| *after >= prefix);
        let from = start.unwrap_or(prefix);
        let names = streams
            .by_name
            .range::<str, _>((Bound::Included(from), Bound::Unbounded))
            .skip_while(|(name, _)| start == Some(name.as_str()))
            .take_while(|(name, _)| name.as_str().starts_with(prefix))
            .take(limit);
        let entries = names.filter_map(|(name, id)| {
            let kept = streams.by_id.get(id)?;
            Some(Entry {
                name: name.clone(),
                meta: kept.meta.clone(),
                totals: kept.totals,
            })
        });
        ready(Ok(entries.collect())).boxed()
    }

    fn sum<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Sum, Error>> {
        ready(Ok(self.sum_now(prefix))).boxed()
    }

    fn verify(
        &self,
        stream: StreamId,
        from: u64,
        _bytes: u64,
    ) -> BoxFuture<'_, Result<Verified, Error>> {
        let verified = self.with(stream, |kept| {
            let records = kept.records.range(from..).map(|(_, (_, append))| append);
            let sizes: Vec<u64> = records.map(Append::size).collect();
            Ok(Verified {
                records: sizes.len() as u64,
                bytes: sizes.iter().sum(),
                ..Verified::default()
            })
        });
        ready(verified).boxed()
    }

    fn status(&self) -> Status {
        Status {
            sum: self.sum_now(""),
            counters: vec![("store_commits", self.commits.load(Ordering::Relaxed))],
            ..Status::default()
        }
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.streams.lock().closed = true;
        ready(Ok(())).boxed()
    }
}

impl Memory {
    fn sum_now(&self, prefix: &str) -> Sum {
        let streams = self.streams.lock();
        let mut sum = Sum::default();
        let names = streams
            .by_name
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        for (_, id) in names.take_while(|(name, _)| name.as_str().starts_with(prefix)) {
            if let Some(kept) = streams.by_id.get(id) {
                sum.streams += 1;
                sum.messages += kept.totals.messages;
                sum.bytes += kept.totals.bytes;
            }
        }
        sum
    }
}
