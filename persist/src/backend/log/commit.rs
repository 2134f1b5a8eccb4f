//! Writes what the core decided: streams that are made, commits, streams that are deleted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use dialtone_client::persist::StreamName;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Inner;
use super::checkpoint::Tombstone;
use super::done::{Failure, Told, Waiter, heard};
use super::frame::{DATA_LEN_MAX, HEAD_LEN_MAX, Kind};
use super::head;
use super::load;
use super::positions::Run;
use super::queue::{Placed, Refused};
use super::streams::{State, Stream};
use crate::backend::{Done, Error, StreamId};
use crate::core::commit::{Change, Commit, Meta};

/// Commits with more bytes than this are encoded by a worker: compressing them takes
/// milliseconds, which whoever commits does not have.
const INLINE_LEN_MAX: usize = 64 << 10;

/// Bytes after which the space that is left is looked at again.
const BUDGET_MAX: u64 = 64 << 20;

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Failed(failure) => failure.into(),
            Refused::Closed => Self::Closed,
            Refused::Busy => Self::Unavailable("too much waits to be written".to_owned()),
        }
    }
}

/// Hears when something is on disk.
type Synced = oneshot::Receiver<Result<(), Failure>>;

/// A commit that is ready to be written.
struct Encoded {
    head: Vec<u8>,
    data: Vec<Bytes>,
}

impl Inner {
    pub(super) async fn create(&self, name: &StreamName, meta: &Meta) -> Result<StreamId, Error> {
        let (id, receiver) = self.create_now(name, meta)?;
        heard(receiver.await)?;
        Ok(id)
    }

    fn create_now(&self, name: &StreamName, meta: &Meta) -> Result<(StreamId, Synced), Error> {
        self.unless_closed(())?;
        self.has_space(0)?;
        let id = self.streams.new_id();
        let mut state = State::new(self.streams.share(meta), &[]);
        state.positions = Some(Box::default());
        let stream = Stream {
            id,
            name: name.clone(),
            state: Mutex::new(state),
        };
        let stream = self.streams.add(stream).or(Err(Error::Exists))?;
        let mut head = head::create(id, name, meta);
        let (waiter, receiver) = Waiter::for_sync();
        let mut state = stream.state.lock();
        let pushed = self
            .queue
            .push(Kind::Create, &mut head, &[], &mut Some(waiter));
        match pushed {
            Ok(placed) => {
                state.frames.push(placed);
                drop(state);
                self.count(placed);
            }
            Err(refused) => {
                drop(state);
                self.streams.remove(&stream);
                return Err(refused.into());
            }
        }
        Ok((id, receiver))
    }

    pub(super) fn commit(self: &Arc<Self>, stream: StreamId, commit: Commit, done: Done) {
        let Some(stream) = self.streams.by_id(stream) else {
            let error = if self.is_closed() {
                Error::Closed
            } else {
                Error::NotFound
            };
            return done(Err(error));
        };
        let is_large = payload_len(&commit) > INLINE_LEN_MAX;
        if !is_large && stream.state.lock().positions.is_some() {
            return self.commit_now(&stream, &commit, done);
        }
        let done = Arc::new(Mutex::new(Some(done)));
        let (inner, later) = (Arc::clone(self), Arc::clone(&done));
        let run = self.workers.run(move || {
            let Some(done) = later.lock().take() else {
                return;
            };
            match load::find(&inner.frames, &stream) {
                Ok(()) => inner.commit_now(&stream, &commit, done),
                Err(error) => done(Err(error)),
            }
        });
        if run.is_none()
            && let Some(done) = done.lock().take()
        {
            done(Err(Error::Closed));
        }
    }

    fn commit_now(&self, stream: &Stream, commit: &Commit, done: Done) {
        let mut waiter = Some(Waiter {
            until: commit.durability,
            told: Told::Call(done),
        });
        let written = self
            .encode(stream.id, commit)
            .and_then(|encoded| self.write(stream, commit, encoded, &mut waiter));
        if let (Err(error), Some(waiter)) = (written, waiter) {
            waiter.refuse(error);
        }
    }

    fn encode(&self, stream: StreamId, commit: &Commit) -> Result<Encoded, Error> {
        let mut data = Vec::new();
        let head = head::commit(stream, commit, self.config.compress_len_min, &mut data);
        let data_len: usize = data.iter().map(Bytes::len).sum();
        if head.len() > HEAD_LEN_MAX || data_len > DATA_LEN_MAX {
            let text = format!("a commit of {} bytes is too large", head.len() + data_len);
            return Err(Error::Full(text));
        }
        let appends = commit
            .changes
            .iter()
            .any(|change| matches!(change, Change::Append(_)));
        if appends {
            self.has_space(head.len() + data_len)?;
        }
        Ok(Encoded { head, data })
    }

    fn write(
        &self,
        stream: &Stream,
        commit: &Commit,
        mut encoded: Encoded,
        waiter: &mut Option<Waiter>,
    ) -> Result<(), Error> {
        let mut state = stream.state.lock();
        check(&state, commit)?;
        let placed = self
            .queue
            .push(Kind::Commit, &mut encoded.head, &encoded.data, waiter)?;
        state.frames.push(placed);
        state.due = commit.due;
        let gone = apply(&mut state, commit, placed);
        for change in &commit.changes {
            if let Change::Meta(meta) = change {
                state.meta = self.streams.share(meta);
            }
        }
        drop(state);
        self.count(placed);
        for run in gone {
            self.segments
                .bury(run.position.segment(), run.share(run.count));
        }
        Ok(())
    }

    /// Counts a frame that was pushed.
    pub(super) fn count(&self, placed: Placed) {
        self.segments
            .add_live(placed.position.segment(), u64::from(placed.len));
        self.maintenance
            .written(u64::from(placed.len), &self.config);
    }

    /// Whether there is room on the disk for appending so much. What frees space is written
    /// without asking.
    fn has_space(&self, len: usize) -> Result<(), Error> {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        if self.budget.fetch_sub(len, Ordering::Relaxed) > len {
            return Ok(());
        }
        let free = match self.segments.disk().free_bytes() {
            Ok(free) => free,
            Err(error) => {
                // Whether there is room shows when it is written.
                tracing::debug!(%error, "it is not known how much space is left");
                u64::MAX
            }
        };
        let keep = self.config.free_bytes_min;
        let Some(usable) = free.checked_sub(keep).filter(|usable| *usable > 0) else {
            self.budget.store(0, Ordering::Relaxed);
            return Err(Error::Full(format!(
                "the disk has {free} bytes left, and the last {keep} are kept free"
            )));
        };
        let budget = i64::try_from((usable / 2).min(BUDGET_MAX)).unwrap_or(0);
        self.budget.store(budget, Ordering::Relaxed);
        Ok(())
    }

    pub(super) async fn delete(self: &Arc<Self>, id: StreamId) -> Result<(), Error> {
        self.unless_closed(())?;
        let stream = self.streams.by_id(id).ok_or(Error::NotFound)?;
        let inner = Arc::clone(self);
        let receiver = self.workers.ask(move || inner.delete_now(&stream)).await?;
        heard(receiver.await)
    }

    fn delete_now(&self, stream: &Stream) -> Result<Synced, Error> {
        // Only to know what becomes free: a stream that cannot be read can be deleted.
        if let Err(error) = load::find(&self.frames, stream) {
            tracing::warn!(stream = %stream.name, %error, "deleted a stream that cannot be read");
        }
        let (waiter, receiver) = Waiter::for_sync();
        let mut state = stream.state.lock();
        if state.deleted {
            return Err(Error::NotFound);
        }
        let first = self.queue.next().segment();
        let mut head = head::delete(stream.id, first);
        let placed = self
            .queue
            .push(Kind::Delete, &mut head, &[], &mut Some(waiter))?;
        state.deleted = true;
        self.tombstones
            .lock()
            .insert(stream.id, Tombstone { first, placed });
        self.streams.remove(stream);
        let positions = state.positions.take().unwrap_or_default();
        let snapshot = state.snapshot().to_vec();
        drop(state);
        self.count(placed);
        for run in positions.from(0) {
            self.segments
                .bury(run.position.segment(), run.share(run.count));
        }
        for part in snapshot {
            self.segments
                .bury(part.position.segment(), u64::from(part.len));
        }
        Ok(receiver)
    }
}

fn payload_len(commit: &Commit) -> usize {
    let len = |change: &Change| match change {
        Change::Append(append) => append.payload.len(),
        Change::Remove(_) | Change::Meta(_) => 0,
    };
    commit.changes.iter().map(len).sum()
}

fn check(state: &State, commit: &Commit) -> Result<(), Error> {
    if state.deleted {
        return Err(Error::NotFound);
    }
    if commit.fence < state.fence {
        return Err(Error::Fenced);
    }
    if commit.revision != state.totals.revision + 1 {
        return Err(Error::Fenced);
    }
    Ok(())
}

/// Does to what is in memory what the commit does, and says which records are not needed any
/// more.
fn apply(state: &mut State, commit: &Commit, placed: Placed) -> Vec<Run> {
    state.totals = commit.totals;
    state.totals.revision = commit.last_revision();
    state.fence = commit.fence;
    let mut gone = Vec::new();
    let Some(positions) = &mut state.positions else {
        return gone;
    };
    let appends = |change: &&Change| matches!(change, Change::Append(_));
    let records = commit.changes.iter().filter(appends).count() as u64;
    for change in &commit.changes {
        match change {
            Change::Append(append) => {
                positions.push(Run {
                    seq: append.seq,
                    count: 1,
                    position: placed.position,
                    len: placed.len,
                    records,
                });
                for seq in &append.replaced {
                    positions.remove(*seq, *seq, |run| gone.push(run));
                }
            }
            Change::Remove(remove) => {
                for (first, last) in &remove.ranges {
                    positions.remove(*first, *last, |run| gone.push(run));
                }
            }
            Change::Meta(_) => {}
        }
    }
    gone
}
