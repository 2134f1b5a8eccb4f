//! What all parts of the service have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dialtone_client::Client;
use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Durability, Fault, FaultKind};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::quota::Usages;
use super::registry::{self, Registry};
use super::reply::Reply;
use super::timers::Timers;
use crate::backend::memory::Memory;
use crate::backend::{Backend, Error};
use crate::config::Config;
use crate::counters::{self, Counters};
use crate::latency::Latency;
use crate::placement::Placement;
use crate::stream::{Finished, Stream};

/// How many epochs can begin in a millisecond.
const EPOCHS_PER_MS: u64 = 1 << 12;

/// See the module.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) client: Client,
    /// Where streams are kept.
    pub(crate) store: Arc<dyn Backend>,
    /// Where ephemeral streams are kept.
    pub(crate) memory: Arc<Memory>,
    pub(crate) placement: Arc<dyn Placement>,
    pub(crate) counters: Counters,
    pub(crate) latency: Latency,
    pub(crate) usages: Usages,
    pub(crate) registry: Registry,
    pub(crate) timers: Timers,
    /// Requests that are worked on.
    pub(crate) tracker: TaskTracker,
    /// What runs as long as the service.
    pub(crate) background: TaskTracker,
    /// The node takes no more requests, and nobody waits for anything any more.
    pub(crate) stopping: CancellationToken,
    /// The store accepts nothing more.
    pub(crate) failed: CancellationToken,
    /// Every answer was given.
    pub(crate) stopped: CancellationToken,
    pub(crate) reads: Semaphore,
    /// Requests that are worked on in tasks of their own.
    pub(crate) under_way: AtomicUsize,
    pub(crate) waiting: AtomicUsize,
    pub(crate) started: Instant,
    epochs: AtomicU64,
    completions: Arc<Completions>,
    finished: Arc<dyn Finished>,
}

/// A stream whose commit is over, and how.
type Completion = (Arc<Stream>, Result<Durability, Error>);

/// Commits that are stored or failed, and whose answers are due.
#[derive(Default)]
struct Completions {
    queue: Mutex<Vec<Completion>>,
    came: Notify,
}

impl Finished for Completions {
    fn finished(&self, stream: Arc<Stream>, result: Result<Durability, Error>) {
        let mut queue = self.queue.lock();
        queue.push((stream, result));
        let is_first = queue.len() == 1;
        drop(queue);
        if is_first {
            self.came.notify_one();
        }
    }
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        client: Client,
        store: Arc<dyn Backend>,
        memory: Arc<Memory>,
        placement: Arc<dyn Placement>,
    ) -> Self {
        let completions = Arc::new(Completions::default());
        let finished: Arc<dyn Finished> = Arc::<Completions>::clone(&completions);
        Self {
            reads: Semaphore::new(config.reads_max.max(1)),
            usages: Usages::new(config.quotas.clone()),
            config,
            client,
            store,
            memory,
            placement,
            counters: Counters::default(),
            latency: Latency::default(),
            registry: Registry::default(),
            timers: Timers::default(),
            tracker: TaskTracker::new(),
            background: TaskTracker::new(),
            stopping: CancellationToken::new(),
            failed: CancellationToken::new(),
            stopped: CancellationToken::new(),
            under_way: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            started: Instant::now(),
            epochs: AtomicU64::new(0),
            finished,
            completions,
        }
    }

    /// The time, in milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.config.clock.now()
    }

    /// Hands what a stream has decided to its backend, and tells the timers when to look at it.
    pub(crate) fn flush(&self, stream: &Arc<Stream>) {
        stream.flush(&self.finished, self.now());
        self.arm(stream);
    }

    /// Tells the timers when to look at a stream.
    pub(crate) fn arm(&self, stream: &Arc<Stream>) {
        if let Some(due) = stream.next_due() {
            self.timers.add(due, stream);
        }
    }

    /// Lets what is over leave a stream.
    pub(crate) fn expire(&self, stream: &Arc<Stream>) {
        stream.expire(&self.finished, self.now());
        self.arm(stream);
    }

    /// Decides something, and waits until everything up to it is durable.
    pub(crate) async fn decide<T: Send + 'static>(
        &self,
        stream: &Arc<Stream>,
        decide: impl FnOnce(&mut crate::core::state::State, u64) -> Result<T, Fault> + Send,
    ) -> Result<(T, Durability), Fault> {
        let now = self.now();
        let decided = stream.decide_durably(&self.finished, now, |state| decide(state, now));
        let result = decided.await;
        self.arm(stream);
        result
    }

    /// Gives answers as commits are stored, until the service has stopped.
    pub(crate) async fn complete_commits(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.completions.came.notified() => self.complete_waiting(),
                () = self.stopped.cancelled() => return,
            }
        }
    }

    fn complete_waiting(self: &Arc<Self>) {
        let finished = std::mem::take(&mut *self.completions.queue.lock());
        for (stream, result) in finished {
            match stream.complete(result, &self.finished, self.now()) {
                Ok(stored) => {
                    counters::add(&self.counters.commits, 1);
                    self.latency.add(stored.took);
                    counters::add(&self.counters.records_appended, stored.records);
                    counters::add(&self.counters.bytes_appended, stored.bytes);
                }
                Err(fault) => self.commit_failed(&stream, &fault),
            }
        }
    }

    fn commit_failed(self: &Arc<Self>, stream: &Arc<Stream>, fault: &Fault) {
        counters::add(&self.counters.commits_failed, 1);
        tracing::error!(stream = %stream.name, error = %fault.text, "a commit failed; the stream is closed");
        if self.registry.seize(stream) {
            self.unload(stream);
        }
        self.look_at_store();
    }

    /// Ends the service when its store has failed.
    pub(crate) fn look_at_store(&self) {
        if self.store.failure().is_some() {
            self.failed.cancel();
        }
    }

    /// Takes a stream out of memory that one has for oneself; the next request opens it again.
    pub(crate) fn unload(self: &Arc<Self>, stream: &Arc<Stream>) {
        stream.backend.unload(stream.id);
        counters::add(&self.counters.unloads, 1);
        registry::let_go(self, &stream.name);
    }

    /// Closes a stream that this node may not have any longer.
    pub(crate) async fn release(self: &Arc<Self>, name: &StreamName) {
        let Some(stream) = self.registry.get(name.as_str()) else {
            return;
        };
        if !self.registry.seize(&stream) {
            return;
        }
        self.close(&stream).await;
        registry::let_go(self, &stream.name);
    }

    /// Ends a stream that one has for oneself, after what is being stored is, and takes it out of memory.
    pub(crate) async fn close(&self, stream: &Stream) {
        let text = format!("another node takes the stream {} over", stream.name);
        stream.close(&Fault::new(FaultKind::Unavailable, text).retry_after(100));
        stream.settled().await;
        stream.backend.unload(stream.id);
        counters::add(&self.counters.unloads, 1);
    }

    /// An epoch that no stream had before on this node: the time and a counter, below 2⁵³.
    pub(crate) fn next_epoch(&self, now: u64) -> u64 {
        let count = self.epochs.fetch_add(1, Ordering::Relaxed) % EPOCHS_PER_MS;
        (now % (1 << 41)) * EPOCHS_PER_MS + count
    }

    /// Works on a request in a task of its own; answers `busy` when too many are worked on.
    pub(crate) fn spawn<F>(self: &Arc<Self>, reply: Reply, work: impl FnOnce(Reply) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(count) = Count::up(self, |shared| &shared.under_way, self.config.requests_max)
        else {
            reply.fault(&busy("the node works on as many requests as it may"));
            return;
        };
        let work = work(reply);
        drop(self.tracker.spawn(async move {
            work.await;
            drop(count);
        }));
    }
}

/// Something that is counted while it lives.
pub(crate) struct Count<T> {
    of: Arc<T>,
    counter: fn(&T) -> &AtomicUsize,
}

impl<T> Count<T> {
    /// Counts one more, unless there are `max` already.
    pub(crate) fn up(of: &Arc<T>, counter: fn(&T) -> &AtomicUsize, max: usize) -> Option<Self> {
        let count = Self {
            of: Arc::clone(of),
            counter,
        };
        let before = counter(of).fetch_add(1, Ordering::Relaxed);
        (before < max).then_some(count)
    }
}

impl<T> Drop for Count<T> {
    fn drop(&mut self) {
        (self.counter)(&self.of).fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request is not worked on now.
pub(crate) fn busy(text: &str) -> Fault {
    Fault::new(FaultKind::Busy, text).retry_after(100)
}

/// The node takes no more requests.
pub(crate) fn stopping() -> Fault {
    Fault::new(FaultKind::Unavailable, "the node stops").retry_after(500)
}
