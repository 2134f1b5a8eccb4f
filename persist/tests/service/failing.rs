//! A store that refuses a commit and then goes on: the stream is what the store says, for those who wrote and for those
//! who wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dialtone_client::Encoding;
use dialtone_client::persist::wire::{
    Config, Cursor, FaultKind, Record, Request, Select, Watch, Watched,
};
use dialtone_client::persist::{Owner, StreamName};
use dialtone_persist::Store;
use dialtone_persist::backend::memory::Memory;
use dialtone_persist::backend::{
    Backend, Batch, Done, Entry, Error, Loaded, Status, StreamId, Sum, Verified,
};
use dialtone_persist::core::commit::{Commit, Meta};
use futures_util::future::BoxFuture;

use crate::scene::{Scene, ask, kind};

/// Memory that has no room for the next commit when it is told so.
#[derive(Debug)]
struct Tight {
    memory: Memory,
    is_full: AtomicBool,
}

impl Backend for Tight {
    fn name(&self) -> &'static str {
        "tight"
    }

    fn create<'a>(
        &'a self,
        stream: &'a StreamName,
        meta: &'a Meta,
    ) -> BoxFuture<'a, Result<StreamId, Error>> {
        self.memory.create(stream, meta)
    }

    fn load<'a>(
        &'a self,
        stream: &'a StreamName,
        now: u64,
    ) -> BoxFuture<'a, Result<Option<Loaded>, Error>> {
        self.memory.load(stream, now)
    }

    fn unload(&self, stream: StreamId) {
        self.memory.unload(stream);
    }

    fn commit(&self, stream: StreamId, commit: Commit, done: Done) {
        if self.is_full.swap(false, Ordering::Relaxed) {
            done(Err(Error::Full("there is no room".to_owned())));
        } else {
            self.memory.commit(stream, commit, done);
        }
    }

    fn read<'a>(
        &'a self,
        stream: StreamId,
        ranges: &'a [(u64, u64)],
        bytes: u64,
    ) -> BoxFuture<'a, Result<Batch, Error>> {
        self.memory.read(stream, ranges, bytes)
    }

    fn delete(&self, stream: StreamId) -> BoxFuture<'_, Result<(), Error>> {
        self.memory.delete(stream)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, Error>> {
        self.memory.list(prefix, after, limit)
    }

    fn sum<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Sum, Error>> {
        self.memory.sum(prefix)
    }

    fn verify(
        &self,
        stream: StreamId,
        from: u64,
        bytes: u64,
    ) -> BoxFuture<'_, Result<Verified, Error>> {
        self.memory.verify(stream, from, bytes)
    }

    fn status(&self) -> Status {
        self.memory.status()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.memory.close()
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_leaves_nothing_behind() {
    let store = Arc::new(Tight {
        memory: Memory::new(),
        is_full: AtomicBool::new(false),
    });
    let own: Arc<dyn Backend> = Arc::<Tight>::clone(&store);
    let scene = Scene::with(|config| config.store = Store::Open(own)).await;
    scene.create("s", Config::default()).await;
    scene.append("s", Record::new("kept")).await.unwrap();
    // Somebody waits for what happens next, and has looked at the stream.
    let client = scene.client.clone();
    let waiting = tokio::task::spawn(async move {
        let watch = Request::Watch(Watch {
            stream: "s".to_owned(),
            cursor: Cursor::Now,
            prefix: None,
            max_bytes: None,
            wait: 60_000,
        });
        ask::<Watched>(&client, &Owner::Hub, watch, Encoding::MessagePack).await
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.is_full.store(true, Ordering::Relaxed);
    let refused = scene.append("s", Record::new("refused").id("a")).await;
    assert_eq!(kind(refused), FaultKind::StoreFailed);
    // It is not told of a change that never was, nor of a place behind it.
    assert_eq!(kind(waiting.await.unwrap()), FaultKind::StoreFailed);
    assert_eq!(scene.get("s", Select::Seq(2)).await, None);
    let written = scene.append("s", Record::new("again").id("a")).await;
    let written = written.unwrap();
    assert_eq!((written.seq, written.duplicate), (2, false));
    let payloads = scene.read_all("s").await;
    let payloads = payloads.iter().map(|record| record.payload.to_vec());
    assert_eq!(
        payloads.collect::<Vec<_>>(),
        [b"kept".to_vec(), b"again".to_vec()]
    );
}
