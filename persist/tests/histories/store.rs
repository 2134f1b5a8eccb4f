//! A store that all nodes share, and its leases, as each node reaches them: late, after it stood still, or not at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::Durability;
use dialtone_persist::backend::memory::Memory;
use dialtone_persist::backend::{
    Backend, Batch, Done, Entry, Error, Loaded, Status, StreamId, Sum, Verified,
};
use dialtone_persist::core::commit::{Commit, Meta};
use dialtone_persist::placement::{LeaseError, Leases, Renew, Renewed};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, pending, ready};
use parking_lot::Mutex;
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::{oneshot, watch};

use crate::leases::Model;

/// How long a question or an answer is under way, at most, in milliseconds.
const DELAY_MS_MAX: u64 = 30;

/// What all nodes share: streams, with the highest fencing number that each has seen.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    memory: Memory,
    fences: Mutex<Fences>,
}

#[derive(Debug, Default)]
struct Fences {
    names: HashMap<StreamId, StreamName>,
    seen: HashMap<StreamName, u64>,
}

impl Fences {
    fn claim(&mut self, stream: &StreamName, fence: u64) -> Result<(), Error> {
        let seen = self.seen.entry(stream.clone()).or_default();
        if fence < *seen {
            return Err(Error::Fenced);
        }
        *seen = fence;
        Ok(())
    }
}

impl Shared {
    fn commit(&self, stream: StreamId, commit: Commit) -> Result<Durability, Error> {
        let mut fences = self.fences.lock();
        let name = fences.names.get(&stream).cloned().ok_or(Error::NotFound)?;
        fences.claim(&name, commit.fence)?;
        let (told, mut result) = oneshot::channel();
        let done = Box::new(move |result| drop(told.send(result)));
        self.memory.commit(stream, commit, done);
        // Memory stores while it is asked to.
        result.try_recv().unwrap_or(Err(Error::Closed))
    }
}

/// What lies between a node and what it shares with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Nothing gets through for a while, neither there nor back.
    Held,
    /// Questions are refused.
    Away,
    /// The node was killed: nothing it asks arrives any more.
    Dead,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reached {
    shared: Arc<Shared>,
    leases: Arc<Model>,
    way: watch::Sender<Way>,
    random: Mutex<StdRng>,
}

impl Reached {
    pub(crate) fn new(shared: &Arc<Shared>, leases: &Arc<Model>, random: StdRng) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            leases: Arc::clone(leases),
            way: watch::Sender::new(Way::Open),
            random: Mutex::new(random),
        })
    }

    /// Changes the way for good.
    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Changes the way for a while, unless it is changed otherwise meanwhile.
    pub(crate) async fn set_for(&self, way: Way, time: Duration) {
        self.set(way);
        tokio::time::sleep(time).await;
        self.way.send_if_modified(|now| {
            let is_it = *now == way;
            if is_it {
                *now = Way::Open;
            }
            is_it
        });
    }

    /// The way of a question or an answer.
    async fn pass(&self) -> Result<(), Error> {
        let ms = self.random.lock().random_range(0..DELAY_MS_MAX);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let mut way = self.way.subscribe();
        let now = *way.wait_for(|way| *way != Way::Held).await.unwrap();
        match now {
            Way::Dead => pending().await,
            Way::Away => Err(Error::Unavailable("away".to_owned())),
            Way::Open | Way::Held => Ok(()),
        }
    }

    /// What became of a commit is looked up until it is known.
    async fn heard(&self) {
        let mut way = self.way.subscribe();
        while self.pass().await.is_err() {
            drop(way.wait_for(|way| *way != Way::Away).await.unwrap());
        }
    }

    async fn commit_late(&self, stream: StreamId, commit: Commit) -> Result<Durability, Error> {
        self.pass().await?;
        let result = self.shared.commit(stream, commit);
        self.heard().await;
        result
    }

    fn named(&self, stream: &StreamName, id: StreamId) {
        let mut fences = self.shared.fences.lock();
        fences.names.insert(id, stream.clone());
    }
}

/// The store as one node has it.
#[derive(Debug, Clone)]
pub(crate) struct Store(pub(crate) Arc<Reached>);

impl Store {
    fn memory(&self) -> &Memory {
        &self.0.shared.memory
    }
}

impl Backend for Store {
    fn name(&self) -> &'static str {
        "shared"
    }

    fn create<'a>(
        &'a self,
        stream: &'a StreamName,
        meta: &'a Meta,
    ) -> BoxFuture<'a, Result<StreamId, Error>> {
        async move {
            self.0.pass().await?;
            let id = self.memory().create(stream, meta).await?;
            self.0.named(stream, id);
            Ok(id)
        }
        .boxed()
    }

    fn load<'a>(
        &'a self,
        stream: &'a StreamName,
        now: u64,
    ) -> BoxFuture<'a, Result<Option<Loaded>, Error>> {
        async move {
            self.0.pass().await?;
            let loaded = self.memory().load(stream, now).await;
            self.0.pass().await?;
            loaded
        }
        .boxed()
    }

    fn claim<'a>(&'a self, stream: &'a StreamName, fence: u64) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            self.0.pass().await?;
            self.0.shared.fences.lock().claim(stream, fence)
        }
        .boxed()
    }

    fn unload(&self, _stream: StreamId) {}

    fn commit(&self, stream: StreamId, commit: Commit, done: Done) {
        let reached = Arc::clone(&self.0);
        tokio::task::spawn(async move { done(reached.commit_late(stream, commit).await) });
    }

    fn read<'a>(
        &'a self,
        stream: StreamId,
        ranges: &'a [(u64, u64)],
        bytes: u64,
    ) -> BoxFuture<'a, Result<Batch, Error>> {
        async move {
            self.0.pass().await?;
            self.memory().read(stream, ranges, bytes).await
        }
        .boxed()
    }

    fn delete(&self, stream: StreamId) -> BoxFuture<'_, Result<(), Error>> {
        self.memory().delete(stream)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, Error>> {
        self.memory().list(prefix, after, limit)
    }

    fn sum<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Sum, Error>> {
        self.memory().sum(prefix)
    }

    fn verify(
        &self,
        stream: StreamId,
        from: u64,
        bytes: u64,
    ) -> BoxFuture<'_, Result<Verified, Error>> {
        self.memory().verify(stream, from, bytes)
    }

    fn status(&self) -> Status {
        self.memory().status()
    }

    /// The others go on to use it.
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        ready(Ok(())).boxed()
    }
}

impl Leases for Reached {
    fn renew(&self, renew: Renew) -> BoxFuture<'_, Result<Renewed, LeaseError>> {
        async move {
            self.pass().await.map_err(LeaseError::Store)?;
            let renewed = self.leases.renew(renew).await?;
            self.pass().await.map_err(LeaseError::Store)?;
            Ok(renewed)
        }
        .boxed()
    }

    fn leave<'a>(&'a self, node: &'a str, session: u64) -> BoxFuture<'a, Result<(), LeaseError>> {
        async move {
            self.pass().await.map_err(LeaseError::Store)?;
            self.leases.leave(node, session).await
        }
        .boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.leases.changed()
    }
}
