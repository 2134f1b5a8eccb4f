//! The thread on which a log looks after itself: snapshots, checkpoints, compaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Inner;
use super::checkpoint::{self, Summary};
use super::config::Config;
use super::frame::Kind;
use super::load::{self, Found};
use super::position::Position;
use super::queue::Placed;
use super::snapshot;
use super::streams::{State, Stream};
use crate::backend::Error;

/// A stream that is used gets a snapshot when so many frames were written since the last one, or
/// half as many as it has records, if that is more: then a snapshot costs little for each frame.
/// Loading so many frames, each from another place, takes some ten milliseconds.
const TAIL_MAX_USED: usize = 4096;

/// One that is not used, so that it takes little memory and is loaded quickly.
const TAIL_MAX_UNUSED: usize = 4;

/// Snapshots that are written before waiting for the disk.
const SNAPSHOTS_AT_ONCE: usize = 256;

/// How often the thread looks whether something can be compacted.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// The state of the thread, and what it has done since the start.
#[derive(Debug)]
pub(crate) struct Maintenance {
    state: Mutex<Signals>,
    woken: Condvar,
    /// Held while a checkpoint is written or something is compacted.
    pub(crate) work: Mutex<Work>,
    /// Bytes written since the last checkpoint.
    pub(crate) since: AtomicU64,
    checkpoint_len: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    pub(crate) compacted: AtomicU64,
    pub(crate) moved_bytes: AtomicU64,
    pub(crate) freed_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Signals {
    stop: bool,
    due: bool,
}

/// What only the one who does the work needs.
#[derive(Debug)]
pub(crate) struct Work {
    next_checkpoint: u64,
    /// Where the last checkpoint was written.
    at: Position,
    /// Segments that are not needed once a checkpoint says so.
    pub(crate) retired: Vec<u32>,
    /// How much of each segment is needed is known.
    pub(crate) is_counted: bool,
    pub(crate) pace: Pace,
}

impl Maintenance {
    pub(crate) fn new(
        next_checkpoint: u64,
        at: Position,
        checkpoint_len: u64,
        is_counted: bool,
    ) -> Self {
        Self {
            state: Mutex::default(),
            woken: Condvar::new(),
            work: Mutex::new(Work {
                next_checkpoint,
                at,
                retired: Vec::new(),
                is_counted,
                pace: Pace::new(),
            }),
            since: AtomicU64::new(0),
            checkpoint_len: AtomicU64::new(checkpoint_len),
            checkpoints: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            compacted: AtomicU64::new(0),
            moved_bytes: AtomicU64::new(0),
            freed_bytes: AtomicU64::new(0),
        }
    }

    /// Counts bytes that were written, and wakes the thread when a checkpoint is due: after so
    /// many bytes, or four times as many as the last checkpoint had.
    pub(crate) fn written(&self, len: u64, config: &Config) {
        let before = self.since.fetch_add(len, Ordering::Relaxed);
        let least = 4 * self.checkpoint_len.load(Ordering::Relaxed);
        let due = config.checkpoint_bytes.max(least);
        if before < due && before + len >= due {
            self.state.lock().due = true;
            self.woken.notify_all();
        }
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.woken.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.state.lock().stop
    }

    /// Waits until something is due, at most so long. `None`: it is to stop.
    fn wait(&self, interval: Duration) -> Option<bool> {
        let mut state = self.state.lock();
        if !state.stop && !state.due {
            self.woken.wait_for(&mut state, interval);
        }
        if state.stop {
            return None;
        }
        Some(std::mem::take(&mut state.due))
    }

    /// Sleeps, unless it is to stop.
    fn sleep(&self, time: Duration) {
        let mut state = self.state.lock();
        if !state.stop {
            self.woken.wait_for(&mut state, time);
        }
    }
}

impl Inner {
    /// Looks after the log until it is closed or fails.
    pub(super) fn maintain(&self) {
        while let Some(due) = self.maintenance.wait(LOOK_INTERVAL) {
            let result = self.turn(due);
            if self.failed().is_some() || self.maintenance.is_stopping() {
                return;
            }
            if let Err(error) = result {
                tracing::error!(%error, "failed to look after the log");
                self.maintenance.sleep(LOOK_INTERVAL);
            }
        }
    }

    /// Forgets where the records of streams are that nobody uses: they were read once, or looked
    /// into by compaction.
    pub(super) fn forget_unused(&self) {
        for stream in self.streams.all() {
            let mut state = stream.state.lock();
            if !state.used {
                state.positions = None;
            }
        }
    }

    fn turn(&self, due: bool) -> Result<(), Error> {
        self.forget_unused();
        if due {
            self.checkpoint()?;
        }
        // One segment at a time, so that checkpoints are not late.
        if self.compact()? {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Writes a checkpoint, after snapshots of the streams that have a long tail, and removes
    /// the segments that are not needed any more.
    pub(super) fn checkpoint(&self) -> Result<(), Error> {
        let mut work = self.maintenance.work.lock();
        if self.queue.next() == work.at && work.retired.is_empty() {
            return Ok(());
        }
        self.maintenance.since.store(0, Ordering::Relaxed);
        let long: Vec<Arc<Stream>> = self
            .streams
            .all()
            .into_iter()
            .filter(|stream| is_long(&stream.state.lock()))
            .collect();
        self.snapshot_all(&long, &mut work.pace)?;
        self.write_checkpoint(&mut work)
    }

    fn write_checkpoint(&self, work: &mut Work) -> Result<(), Error> {
        let at = self.queue.next();
        self.flush()?;
        let retired = std::mem::take(&mut work.retired);
        let segments = self.segments.all();
        let kept = segments
            .iter()
            .filter(|segment| !retired.contains(&segment.id) && segment.id <= at.segment());
        let mut summary = Summary {
            at,
            next_stream: self.streams.next_id(),
            segments: kept
                .map(|segment| (segment.id, segment.len(), segment.live()))
                .collect(),
            tombstones: self.tombstones.lock().clone(),
        };
        summary
            .tombstones
            .retain(|_, tombstone| tombstone.placed.position < at);
        let disk = &**self.segments.disk();
        let number = work.next_checkpoint;
        work.next_checkpoint += 1;
        let written = checkpoint::write(
            disk,
            self.segments.log(),
            number,
            &summary,
            &self.streams.all(),
        );
        let len = match written {
            Ok(len) => len,
            Err(error) => {
                work.retired = retired;
                return Err(Error::Unavailable(format!(
                    "failed to write a checkpoint: {error}"
                )));
            }
        };
        work.at = at;
        self.maintenance
            .checkpoint_len
            .store(len, Ordering::Relaxed);
        self.maintenance.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.remove_old(number, &retired)
            .map_err(|error| Error::Unavailable(format!("failed to remove files: {error}")))
    }

    /// Removes checkpoints before this one, and segments.
    fn remove_old(&self, number: u64, retired: &[u32]) -> std::io::Result<()> {
        let freed = retired.iter().filter_map(|id| self.segments.get(*id));
        let freed: u64 = freed.map(|segment| segment.len()).sum();
        self.segments.remove(retired)?;
        self.maintenance
            .freed_bytes
            .fetch_add(freed, Ordering::Relaxed);
        let disk = self.segments.disk();
        for name in disk.list()? {
            if checkpoint::parse_name(&name).is_some_and(|other| other < number) {
                disk.remove(&name)?;
            }
        }
        disk.sync_names()
    }

    /// Writes snapshots of streams, several at once.
    pub(super) fn snapshot_all(
        &self,
        streams: &[Arc<Stream>],
        pace: &mut Pace,
    ) -> Result<(), Error> {
        for streams in streams.chunks(SNAPSHOTS_AT_ONCE) {
            let mut written = Vec::new();
            for stream in streams {
                if let Some(snapshot) = self.push_snapshot(stream)? {
                    let len = snapshot.parts.iter().map(|part| u64::from(part.len)).sum();
                    pace.spend(len, self.config.compact_bytes_per_second, &self.maintenance);
                    written.push((stream, snapshot));
                }
            }
            if written.is_empty() {
                continue;
            }
            self.flush()?;
            for (stream, snapshot) in written {
                self.take_up(stream, &snapshot);
            }
        }
        Ok(())
    }

    /// Puts the snapshot of a stream in line. `None`: it cannot be read wholly, so that what is
    /// left of it stays as it is.
    fn push_snapshot(&self, stream: &Stream) -> Result<Option<Pushed>, Error> {
        let mut found = match load::read(&self.frames, stream) {
            Ok(found) if found.is_complete => found,
            Ok(_) | Err(Error::NotFound) => return Ok(None),
            Err(error) => {
                tracing::error!(stream = %stream.name, %error, "a stream cannot be read");
                return Ok(None);
            }
        };
        let time = found.folded.time;
        found.folded.forget_ids(time);
        let cut = found.cut();
        let heads = snapshot::parts(stream.id, &stream.name, &found.folded, cut)
            .map_err(|error| Error::Unavailable(format!("failed to write a snapshot: {error}")))?;
        let mut parts = Vec::with_capacity(heads.len());
        for mut head in heads {
            self.queue.room_blocking();
            let placed = self.queue.push(Kind::Snapshot, &mut head, &[], &mut None)?;
            self.count(placed);
            parts.push(placed);
        }
        Ok(Some(Pushed { parts, cut, found }))
    }

    /// The snapshot is on disk: what it holds is not needed any more.
    fn take_up(&self, stream: &Stream, snapshot: &Pushed) {
        self.maintenance.snapshots.fetch_add(1, Ordering::Relaxed);
        let mut state = stream.state.lock();
        if state.deleted {
            drop(state);
            self.bury(&snapshot.parts);
            return;
        }
        let before = state.snapshot().to_vec();
        state.snapshotted(&snapshot.parts, snapshot.cut);
        drop(state);
        self.bury(&before);
        self.bury(&snapshot.found.without_records);
    }

    /// Counts frames that are not needed any more.
    pub(super) fn bury(&self, frames: &[Placed]) {
        for placed in frames {
            self.segments
                .bury(placed.position.segment(), u64::from(placed.len));
        }
    }
}

/// A snapshot that was put in line.
struct Pushed {
    parts: Vec<Placed>,
    cut: Position,
    found: Found,
}

fn is_long(state: &State) -> bool {
    let tail = state.tail().len();
    if state.used {
        let half = usize::try_from(state.totals.messages / 2).unwrap_or(usize::MAX);
        tail > TAIL_MAX_USED.max(half)
    } else {
        tail > TAIL_MAX_UNUSED
    }
}

/// Holds work to a rate, by sleeping.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When everything so far will have been paid for.
    paid: Instant,
}

/// What may be done at once after a pause.
const BURST: Duration = Duration::from_millis(100);

impl Pace {
    fn new() -> Self {
        Self {
            paid: Instant::now(),
        }
    }

    /// Sleeps as long as so many bytes take at the rate, less what there is in hand.
    pub(crate) fn spend(&mut self, bytes: u64, per_second: u64, maintenance: &Maintenance) {
        let now = Instant::now();
        let micros = bytes.saturating_mul(1_000_000) / per_second.max(1);
        self.paid = self.paid.max(now) + Duration::from_micros(micros);
        let ahead = self.paid.saturating_duration_since(now);
        if let Some(time) = ahead.checked_sub(BURST) {
            maintenance.sleep(time);
        }
    }
}
