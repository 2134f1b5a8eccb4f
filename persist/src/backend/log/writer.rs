//! The one thread that writes to the log.
//!
//! A group is written with one vectored write and one sync for each segment that it touches,
//! which is one nearly always. What fails is not tried again: see [`Failure`].

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dialtone_client::persist::wire::Durability;

use super::done::{Failure, Waiter};
use super::position::{Position, SegmentId};
use super::queue::{self, Group, Queue, Run};
use super::segment;
use super::segments::Segments;
use crate::disk::File;

/// What the writer has done since it started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) groups: AtomicU64,
    pub(crate) frames: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) sync_micros: AtomicU64,
}

/// The state of the thread.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Arc<Queue>,
    segments: Arc<Segments>,
    counters: Arc<Counters>,
    /// The last segment.
    segment: SegmentId,
    /// Behind everything that was written.
    end: Position,
    file: Arc<dyn File>,
    /// Whether something was written to it that was not synced.
    unsynced: bool,
}

impl Writer {
    pub(crate) fn new(
        queue: Arc<Queue>,
        segments: Arc<Segments>,
        counters: Arc<Counters>,
        end: Position,
        file: Arc<dyn File>,
    ) -> Self {
        Self {
            queue,
            segments,
            counters,
            segment: end.segment(),
            end,
            file,
            unsynced: false,
        }
    }

    /// Writes until the queue is closed and empty, or the disk fails.
    pub(crate) fn run(mut self) {
        while let Some(mut group) = self.queue.take() {
            if let Err((doing, error)) = self.write(&mut group) {
                self.fail(group.waiters, doing, &error);
                return;
            }
            self.queue.recycle(group);
        }
        if let Err(error) = self.sync() {
            self.fail(Vec::new(), "sync", &error);
        }
    }

    fn fail(&self, waiters: Vec<Waiter>, doing: &str, error: &io::Error) {
        let name = segment::name(self.segment);
        let failure = Failure(format!("failed to {doing} {name}: {error}").into());
        tracing::error!(segment = name, %error, "the log stopped: failed to {doing}");
        self.queue.fail(&failure);
        queue::tell(waiters, &failure);
    }

    fn write(&mut self, group: &mut Group) -> Result<(), (&'static str, io::Error)> {
        tell(group, Durability::Memory);
        for run in &group.runs {
            if run.segment != self.segment {
                self.rotate(run.segment)?;
            }
            self.unsynced = true;
            write_run(&*self.file, run).map_err(|error| ("write", error))?;
            let run_len =
                u32::try_from(run.len).map_err(|error| ("write", io::Error::other(error)))?;
            self.end = Position::new(run.segment, run.offset + run_len);
            self.segments
                .grown(run.segment, u64::from(self.end.offset()));
        }
        self.counters.groups.fetch_add(1, Ordering::Relaxed);
        self.counters
            .frames
            .fetch_add(group.frames, Ordering::Relaxed);
        let bytes = u64::try_from(group.len).unwrap_or(u64::MAX);
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.queue.advance(self.end, Durability::Os);
        // Those who wait for less are told before the long part.
        tell(group, Durability::Os);
        if group.sync {
            self.sync().map_err(|error| ("sync", error))?;
            self.queue.advance(self.end, Durability::Fsync);
            tell(group, Durability::Fsync);
        }
        Ok(())
    }

    /// Ends the segment and begins another. Everything in the one that ends is on disk before a
    /// frame is written to the next, so that only the last segment can have a torn end.
    fn rotate(&mut self, next: SegmentId) -> Result<(), (&'static str, io::Error)> {
        self.segments
            .seal(self.segment, &*self.file)
            .and_then(|()| self.sync())
            .map_err(|error| ("sync", error))?;
        let created = self.segments.create(next);
        self.segment = next;
        self.file = created.map_err(|error| ("create", error))?;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if !self.unsynced {
            return Ok(());
        }
        let began = Instant::now();
        self.file.sync()?;
        self.unsynced = false;
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.counters.sync_micros.fetch_add(took, Ordering::Relaxed);
        Ok(())
    }
}

/// Tells those who wait for no more than this.
fn tell(group: &mut Group, reached: Durability) {
    let told = group
        .waiters
        .extract_if(.., |waiter| waiter.until <= reached);
    told.for_each(|waiter| waiter.tell(Ok(())));
}

fn write_run(file: &dyn File, run: &Run) -> io::Result<()> {
    let offset = u64::from(run.offset);
    if run.shared.is_empty() {
        return file.write_at(&mut [IoSlice::new(&run.bytes)], offset);
    }
    let mut parts = Vec::with_capacity(2 * run.shared.len() + 1);
    let mut copied = 0;
    for (before, shared) in &run.shared {
        parts.push(IoSlice::new(&run.bytes[copied..*before]));
        parts.push(IoSlice::new(shared));
        copied = *before;
    }
    parts.push(IoSlice::new(&run.bytes[copied..]));
    file.write_at(&mut parts, offset)
}
