//! The log: all streams of a node in one sequence of segments.
//!
//! ```text
//!   commit ──▶ head, checksum, compression (on the caller's thread, or a worker's if large)
//!                 │
//!                 ▼
//!               Queue: copies the frame, says where it will stand
//!                 │ everything that waits
//!                 ▼
//!               Writer: one thread; one write, one sync, then all are told
//!                 │
//!                 ▼
//!   segment-0000000001.log  segment-0000000002.log …        checkpoint-0000000007
//!                 ▲                    │                            ▲
//!                 │ snapshots, records that are still needed        │
//!                 └──────────── Maintenance: one thread ────────────┘
//! ```
//!
//! `fold` says what frames mean for a stream, `open` what is found after a crash, `compact` how
//! space is freed. The format is described in `docs/persist-log.md`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;

use dialtone_client::persist::StreamName;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Backend, Batch, Done, Entry, Error, Loaded, Status, StreamId, Sum, Verified};
use crate::core::commit::{Commit, Meta};
use crate::core::limits::due;
use crate::disk::Disk;

mod builder;
mod bytes;
mod checkpoint;
mod commit;
mod compact;
mod config;
mod done;
mod expiries;
mod fold;
mod frame;
mod frames;
mod head;
mod load;
mod maintain;
mod open;
mod position;
mod positions;
mod queue;
mod read;
mod rebuild;
mod record;
mod scan;
pub(crate) mod segment;
mod segments;
mod snapshot;
mod streams;
mod workers;
mod writer;

pub use config::Config;
pub use open::Report;

use checkpoint::Tombstone;
use done::{Failure, heard};
use expiries::Expiries;
use frames::Frames;
use maintain::Maintenance;
use queue::Queue;
use segments::Segments;
use streams::Streams;
use workers::Workers;
use writer::{Counters, Writer};

/// The file that marks a folder into which a log is being restored, which is none before that has ended.
pub(crate) const RESTORING: &str = "restoring";

/// Streams in a log on one disk.
#[derive(Debug)]
pub struct Log {
    inner: Arc<Inner>,
    report: Report,
}

/// What the threads of a log share.
#[derive(Debug)]
struct Inner {
    config: Config,
    streams: Streams,
    segments: Arc<Segments>,
    queue: Arc<Queue>,
    frames: Frames,
    workers: Workers,
    counters: Arc<Counters>,
    tombstones: Mutex<BTreeMap<StreamId, Tombstone>>,
    expiries: Expiries,
    /// Bytes that may be written before looking at how much space is left.
    budget: AtomicI64,
    closed: AtomicBool,
    maintenance: Maintenance,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Log {
    /// Opens the log on a disk, or makes one. It blocks.
    ///
    /// # Errors
    /// When the disk cannot be read or written, or a log was being restored into it. Damage is no error: see [`report`](Self::report).
    pub fn open(disk: Arc<dyn Disk>, config: Config) -> Result<Self, Error> {
        let config = config.bounded();
        let failed =
            |error: std::io::Error| Error::Failed(format!("failed to open the log: {error}"));
        refuse_unrestored(&*disk)?;
        let reserve = config.reserve.then_some(config.segment_len_max);
        let opened = open::open(disk, reserve, config.open_segments_max).map_err(failed)?;
        let streams = Streams::default();
        streams.reserve_ids(opened.summary.next_stream);
        let (tombstones, problems) = opened.builder.finish(&streams);
        let mut report = opened.report;
        report.problems.extend(problems);
        for problem in &report.problems {
            tracing::error!("the log is damaged: {problem}");
        }
        let expiries = expiries_of(&streams);
        let segments = Arc::new(opened.segments);
        let queue = Arc::new(Queue::new(
            opened.end,
            config.segment_len_max,
            config.waiting_bytes_max,
        ));
        let frames = Frames {
            segments: Arc::clone(&segments),
            queue: Arc::clone(&queue),
        };
        let counters = Arc::new(Counters::default());
        let writer = Writer::new(
            Arc::clone(&queue),
            Arc::clone(&segments),
            Arc::clone(&counters),
            opened.end,
            opened.file,
        );
        let workers = Workers::start(config.workers).map_err(failed)?;
        let maintenance = Maintenance::new(
            opened.next_checkpoint,
            opened.summary.at,
            opened.checkpoint_len,
            report.frames == 0,
        );
        let inner = Arc::new(Inner {
            config,
            streams,
            segments,
            queue,
            frames,
            workers,
            counters,
            tombstones: Mutex::new(tombstones),
            expiries,
            budget: AtomicI64::new(0),
            closed: AtomicBool::new(false),
            maintenance,
            threads: Mutex::default(),
        });
        let log = Self { inner, report };
        log.start("log-writer", move || writer.run())
            .map_err(failed)?;
        if log.inner.config.maintenance {
            let inner = Arc::clone(&log.inner);
            log.start("log-maintenance", move || inner.maintain())
                .map_err(failed)?;
        }
        Ok(log)
    }

    fn start(&self, name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)?;
        self.inner.threads.lock().push(thread);
        Ok(())
    }

    /// What opening found.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The number of the log, which no other log has.
    pub fn number(&self) -> u64 {
        self.inner.segments.log()
    }

    /// Where it is.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        self.inner.segments.disk()
    }

    /// The segments as they are at this moment, in the order of their numbers: number, name of the file, and how many
    /// bytes are written. All but the last are complete.
    pub fn files(&self) -> Vec<(u64, String, u64)> {
        let segments = self.inner.segments.all();
        let file = |segment: &Arc<segments::Segment>| {
            let number = u64::from(segment.id);
            (number, segment::name(segment.id), segment.len())
        };
        segments.iter().map(file).collect()
    }

    /// Writes a checkpoint now. It blocks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.inner.checkpoint()
    }

    /// Compacts the segment of which the least is needed, if that is little enough, and says
    /// whether there was one. Its space is freed by the next [`checkpoint`](Self::checkpoint). It
    /// blocks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn compact(&self) -> Result<bool, Error> {
        self.inner.compact()
    }
}

impl Inner {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends everything. It blocks.
    fn close(&self) -> Result<(), Error> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(Error::Closed);
        }
        self.maintenance.stop();
        let checkpoint = self.checkpoint();
        self.end();
        match self.queue.failure() {
            Some(failure) => Err(failure.into()),
            None => checkpoint,
        }
    }

    /// Writes what waits and ends the threads.
    fn end(&self) {
        self.closed.store(true, Ordering::Release);
        self.maintenance.stop();
        self.queue.close();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
        self.workers.stop();
    }
}

/// When streams that nobody has loaded are to be looked at.
fn expiries_of(streams: &Streams) -> Expiries {
    let expiries = Expiries::default();
    for stream in streams.all() {
        let due = stream.state.lock().due;
        if let Some(due) = due {
            expiries.add(due, stream.id);
        }
    }
    expiries
}

/// A log that was not restored to its end is none.
fn refuse_unrestored(disk: &dyn Disk) -> Result<(), Error> {
    let names = disk
        .list()
        .map_err(|error| Error::Failed(format!("failed to open the log: {error}")))?;
    if names.iter().any(|name| name == RESTORING) {
        let text =
            "a log was being restored into the folder, which was interrupted: restore it once more";
        return Err(Error::Failed(text.to_owned()));
    }
    Ok(())
}

impl Drop for Log {
    fn drop(&mut self) {
        self.inner.end();
    }
}

impl Backend for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn failure(&self) -> Option<String> {
        let failure = self.inner.queue.failure();
        failure.map(|failure| failure.to_string())
    }

    fn due(&self, now: u64, limit: usize) -> BoxFuture<'_, Result<Vec<StreamName>, Error>> {
        let due = self.inner.expiries.take(now, limit);
        let names = due.into_iter().filter_map(|id| {
            let stream = self.inner.streams.by_id(id)?;
            Some(stream.name.clone())
        });
        std::future::ready(self.inner.unless_closed(names.collect())).boxed()
    }

    fn create<'a>(
        &'a self,
        stream: &'a StreamName,
        meta: &'a Meta,
    ) -> BoxFuture<'a, Result<StreamId, Error>> {
        self.inner.create(stream, meta).boxed()
    }

    fn load<'a>(
        &'a self,
        stream: &'a StreamName,
        now: u64,
    ) -> BoxFuture<'a, Result<Option<Loaded>, Error>> {
        async move {
            let Some(stream) = self.inner.streams.by_name(stream) else {
                return if self.inner.is_closed() {
                    Err(Error::Closed)
                } else {
                    Ok(None)
                };
            };
            let frames = self.inner.frames.clone();
            let asked = self.inner.workers.ask(move || {
                let loaded = load::load(&frames, &stream, now)?;
                stream.state.lock().due = due(&loaded.meta, &loaded.records);
                Ok(loaded)
            });
            match asked.await {
                Err(Error::NotFound) => Ok(None),
                result => result.map(Some),
            }
        }
        .boxed()
    }

    fn unload(&self, stream: StreamId) {
        if let Some(stream) = self.inner.streams.by_id(stream) {
            let mut state = stream.state.lock();
            state.used = false;
            state.positions = None;
            state.frames.shrink_to_fit();
            let due = state.due.filter(|_| !state.deleted);
            drop(state);
            if let Some(due) = due {
                self.inner.expiries.add(due, stream.id);
            }
        }
    }

    fn commit(&self, stream: StreamId, commit: Commit, done: Done) {
        self.inner.commit(stream, commit, done);
    }

    fn read<'a>(
        &'a self,
        stream: StreamId,
        ranges: &'a [(u64, u64)],
        bytes: u64,
    ) -> BoxFuture<'a, Result<Batch, Error>> {
        let inner = Arc::clone(&self.inner);
        let ranges = ranges.to_vec();
        async move {
            let reader = Arc::clone(&inner);
            inner
                .workers
                .ask(move || reader.read(stream, &ranges, bytes))
                .await
        }
        .boxed()
    }

    fn delete(&self, stream: StreamId) -> BoxFuture<'_, Result<(), Error>> {
        self.inner.delete(stream).boxed()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, Error>> {
        let listed = self.inner.streams.list(prefix, after, limit);
        std::future::ready(self.inner.unless_closed(listed)).boxed()
    }

    fn sum<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Sum, Error>> {
        let sum = self.inner.streams.sum(prefix);
        std::future::ready(self.inner.unless_closed(sum)).boxed()
    }

    fn verify(
        &self,
        stream: StreamId,
        from: u64,
        bytes: u64,
    ) -> BoxFuture<'_, Result<Verified, Error>> {
        let inner = Arc::clone(&self.inner);
        async move {
            let reader = Arc::clone(&inner);
            inner
                .workers
                .ask(move || reader.verify(stream, from, bytes))
                .await
        }
        .boxed()
    }

    fn status(&self) -> Status {
        let counters = &self.inner.counters;
        let counter = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let segments = self.inner.segments.all();
        let live = segments.iter().map(|segment| segment.live()).sum();
        Status {
            failure: self.failure(),
            sum: self.inner.streams.sum(""),
            disk_bytes: segments.iter().map(|segment| segment.len()).sum(),
            counters: vec![
                ("segments", segments.len() as u64),
                ("live_bytes", live),
                ("groups", counter(&counters.groups)),
                ("frames", counter(&counters.frames)),
                ("written_bytes", counter(&counters.bytes)),
                ("syncs", counter(&counters.syncs)),
                ("sync_us", counter(&counters.sync_micros)),
                ("checkpoints", counter(&self.inner.maintenance.checkpoints)),
                ("snapshots", counter(&self.inner.maintenance.snapshots)),
                (
                    "segments_compacted",
                    counter(&self.inner.maintenance.compacted),
                ),
                ("moved_bytes", counter(&self.inner.maintenance.moved_bytes)),
                ("freed_bytes", counter(&self.inner.maintenance.freed_bytes)),
            ],
        }
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        let inner = Arc::clone(&self.inner);
        async move {
            let (sender, receiver) = oneshot::channel();
            let close = move || {
                let closed = inner.close();
                // The disk is let go of before anybody hears of it.
                drop(inner);
                // Whoever asked may not wait any more.
                drop(sender.send(closed));
            };
            // Not on a worker, because those end as well.
            std::thread::Builder::new()
                .name("log-close".to_owned())
                .spawn(close)
                .map_err(|error| {
                    Error::Unavailable(format!("failed to start a thread: {error}"))
                })?;
            receiver.await.unwrap_or(Err(Error::Closed))
        }
        .boxed()
    }
}

impl Inner {
    fn unless_closed<T>(&self, value: T) -> Result<T, Error> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        Ok(value)
    }

    /// Waits until everything that was pushed before is on disk. It blocks.
    fn flush(&self) -> Result<(), Error> {
        let (waiter, receiver) = done::Waiter::for_sync();
        self.queue.flush(waiter).map_err(Error::from)?;
        heard(receiver.blocking_recv())
    }

    fn failed(&self) -> Option<Failure> {
        self.queue.failure()
    }
}
