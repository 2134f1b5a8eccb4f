//! A log in a folder with a few streams, and what they hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Record, What};
use dialtone_persist::archive::{
    Archive, Archiver, Config, Point, RestoreError, Restored, restore,
};
use dialtone_persist::backend::log::{Config as LogConfig, Log};
use dialtone_persist::backend::{Backend as _, StreamId};
use dialtone_persist::core::commit::Meta;
use dialtone_persist::core::state::State;
use dialtone_persist::disk::Folder;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Streams by name, their records by number.
pub(crate) type Contents = BTreeMap<String, BTreeMap<u64, Vec<u8>>>;

/// A segment of a few records.
const SMALL: u64 = 4_096;

pub(crate) struct Site {
    pub(crate) log: Arc<Log>,
    _folder: TempDir,
    streams: BTreeMap<String, (StreamId, State)>,
}

fn open(folder: &TempDir, segment_len_max: u64) -> Arc<Log> {
    let config = LogConfig {
        segment_len_max,
        free_bytes_min: 0,
        maintenance: false,
        compact_live_percent: 90,
        ..LogConfig::default()
    };
    let disk = Folder::open(folder.path()).unwrap();
    Arc::new(Log::open(Arc::new(disk), config).unwrap())
}

pub(crate) fn archiver(archive: &Archive, log: &Arc<Log>) -> Archiver<Log> {
    let config = Config {
        node: "n1".to_owned(),
        ..Config::default()
    };
    Archiver::new(archive.clone(), Arc::clone(log), config)
}

pub(crate) fn name(stream: &str) -> StreamName {
    StreamName::new(stream).unwrap()
}

/// What a store holds.
pub(crate) async fn contents(log: &Log) -> Contents {
    let mut contents = Contents::new();
    for entry in log.list("", None, 1_000).await.unwrap() {
        let loaded = log.load(&entry.name, 1).await.unwrap().unwrap();
        let mut records = BTreeMap::new();
        let mut next = Some(1);
        while let Some(from) = next {
            let batch = log
                .read(loaded.id, &[(from, u64::MAX >> 12)], 1 << 20)
                .await
                .unwrap();
            assert_eq!(batch.damaged, None);
            next = batch.next;
            records.extend(
                batch
                    .records
                    .into_iter()
                    .map(|record| (record.seq, record.payload.to_vec())),
            );
        }
        assert_eq!(loaded.totals.messages, records.len() as u64);
        contents.insert(entry.name.to_string(), records);
    }
    contents
}

impl Site {
    /// With small segments.
    pub(crate) fn new() -> Self {
        Self::with(SMALL)
    }

    /// With one large segment.
    pub(crate) fn large() -> Self {
        Self::with(1 << 24)
    }

    fn with(segment_len_max: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            log: open(&folder, segment_len_max),
            _folder: folder,
            streams: BTreeMap::new(),
        }
    }

    /// A log that is restored from an archive.
    pub(crate) async fn restored(
        archive: &Archive,
        at: Option<u64>,
    ) -> Result<(Self, Restored), RestoreError> {
        let folder = tempfile::tempdir().unwrap();
        let disk = Folder::open(folder.path()).unwrap();
        let restored = restore(
            archive,
            Arc::new(disk),
            at.map_or(Point::Newest, Point::Time),
            |_, _| {},
        )
        .await?;
        let log = open(&folder, SMALL);
        assert!(log.report().problems.is_empty(), "{:?}", log.report());
        let mut streams = BTreeMap::new();
        for entry in log.list("", None, 1_000).await.unwrap() {
            let loaded = log.load(&entry.name, 1).await.unwrap().unwrap();
            streams.insert(
                entry.name.to_string(),
                (loaded.id, State::load(loaded).unwrap()),
            );
        }
        Ok((
            Self {
                log,
                _folder: folder,
                streams,
            },
            restored,
        ))
    }

    pub(crate) async fn contents(&self) -> Contents {
        contents(&self.log).await
    }

    pub(crate) async fn append(&mut self, stream: &str, key: Option<&str>, payload: Vec<u8>) {
        if !self.streams.contains_key(stream) {
            let meta = Meta {
                epoch: 1,
                ..Meta::default()
            };
            let id = self.log.create(&name(stream), &meta).await.unwrap();
            self.streams
                .insert(stream.to_owned(), (id, State::new(meta)));
        }
        let record = Record {
            key: key.map(str::to_owned),
            ..Record::new(payload)
        };
        self.decide(stream, |state| {
            drop(state.append(1, vec![record], true, None).unwrap());
        })
        .await;
    }

    pub(crate) async fn remove(&mut self, stream: &str, what: &What) {
        if self.streams.contains_key(stream) {
            self.decide(stream, |state| {
                drop(state.remove(1, what, None, None).unwrap());
            })
            .await;
        }
    }

    pub(crate) async fn delete(&mut self, stream: &str) {
        if let Some((id, _)) = self.streams.remove(stream) {
            self.log.delete(id).await.unwrap();
        }
    }

    async fn decide(&mut self, stream: &str, decide: impl FnOnce(&mut State)) {
        let (id, state) = self.streams.get_mut(stream).unwrap();
        decide(state);
        let Some(commit) = state.take_commit(1, 0) else {
            return;
        };
        let (done, stored) = oneshot::channel();
        self.log.commit(
            *id,
            commit,
            Box::new(move |result| done.send(result).unwrap()),
        );
        stored.await.unwrap().unwrap();
    }

    /// Frees what is not needed.
    pub(crate) async fn compact(&self) {
        let log = Arc::clone(&self.log);
        let compacted = tokio::task::spawn_blocking(move || {
            log.compact().unwrap();
            log.checkpoint().unwrap();
        });
        compacted.await.unwrap();
    }
}
