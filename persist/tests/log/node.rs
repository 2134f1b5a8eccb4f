//! A backend and how tests talk to it, without a runtime of their own.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Durability, StoredRecord};
use dialtone_persist::backend::log::{Config, Log};
use dialtone_persist::backend::{Backend, Error, Logged, MessageId, StreamId};
use dialtone_persist::core::commit::{Commit, Meta, Totals};
use dialtone_persist::core::records::RecordMeta;
use dialtone_persist::disk::{Disk, Simulated};

/// Small segments, so that a short history has many, and no thread that does things by itself.
pub(crate) fn config() -> Config {
    Config {
        segment_len_max: 4 << 10,
        free_bytes_min: 0,
        compress_len_min: 200,
        maintenance: false,
        compact_live_percent: 70,
        compact_bytes_per_second: 1 << 40,
        workers: 1,
        ..Config::default()
    }
}

pub(crate) fn open(disk: &Simulated) -> Result<Log, Error> {
    open_with(disk, config())
}

pub(crate) fn open_with(disk: &Simulated, config: Config) -> Result<Log, Error> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Log::open(disk, config)
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

/// Commits and waits.
pub(crate) fn commit(
    backend: &dyn Backend,
    stream: StreamId,
    commit: Commit,
) -> Result<Durability, Error> {
    let heard = begin(backend, stream, commit).recv();
    heard.unwrap_or(Err(Error::Closed))
}

/// Commits and says where to wait.
pub(crate) fn begin(
    backend: &dyn Backend,
    stream: StreamId,
    commit: Commit,
) -> mpsc::Receiver<Result<Durability, Error>> {
    let (sender, receiver) = mpsc::channel();
    backend.commit(
        stream,
        commit,
        Box::new(move |result| sender.send(result).unwrap()),
    );
    receiver
}

/// Everything that a backend says of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) meta: Meta,
    pub(crate) totals: Totals,
    pub(crate) records: Vec<StoredRecord>,
    pub(crate) known: Vec<RecordMeta>,
    pub(crate) log: Vec<Logged>,
    pub(crate) ids: Vec<MessageId>,
    pub(crate) consumers: BTreeMap<Arc<str>, Vec<Bytes>>,
}

/// Everything that a backend says of all streams. Reading must succeed.
pub(crate) fn view(backend: &dyn Backend, now: u64) -> BTreeMap<StreamName, View> {
    let listed = block_on(backend.list("", None, 1000)).unwrap();
    let mut views = BTreeMap::new();
    for entry in listed {
        let view = view_of(backend, &entry.name, now).unwrap();
        assert_eq!(
            entry.totals, view.totals,
            "the list and the stream {}",
            entry.name
        );
        assert_eq!(
            entry.meta, view.meta,
            "the list and the stream {}",
            entry.name
        );
        views.insert(entry.name, view);
    }
    let sum = block_on(backend.sum("")).unwrap();
    assert_eq!(sum.streams, views.len() as u64);
    assert_eq!(
        sum.messages,
        views.values().map(|view| view.totals.messages).sum::<u64>()
    );
    views
}

pub(crate) fn view_of(backend: &dyn Backend, name: &StreamName, now: u64) -> Option<View> {
    let loaded = block_on(backend.load(name, now)).unwrap()?;
    let known = loaded.records.iter_from(0);
    let known = known.map(|(seq, size, time)| {
        let meta = loaded.records.get(seq).unwrap();
        assert_eq!((meta.size, meta.time), (size, time));
        meta
    });
    Some(View {
        known: known.collect(),
        records: read_all(backend, loaded.id),
        meta: loaded.meta,
        totals: loaded.totals,
        log: loaded.log,
        ids: loaded.ids,
        consumers: loaded.consumers.into_iter().collect(),
    })
}

/// All records, in batches of an awkward size.
pub(crate) fn read_all(backend: &dyn Backend, stream: StreamId) -> Vec<StoredRecord> {
    let mut records = Vec::new();
    let mut from = Some(1);
    while let Some(first) = from {
        let batch = block_on(backend.read(stream, &[(first, u64::MAX)], 300)).unwrap();
        assert_eq!(batch.damaged, None);
        assert!(batch.next.is_none() || !batch.records.is_empty());
        records.extend(batch.records);
        from = batch.next;
    }
    records
}
