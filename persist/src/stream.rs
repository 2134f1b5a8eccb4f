//! One open stream: its single writer, and who waits for what it decided.
//!
//! Requests decide under a short lock, one after the other; nothing is awaited under it. What was decided gathers in a
//! commit while the one before is being stored, and the answers wait with it:
//!
//! ```text
//!   decide ─▶ gathering ──flush──▶ in flight ──done──▶ answers, next flush
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Durability, Fault, FaultKind};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::backend::{Backend, Error, StreamId};
use crate::core::state::State;
use crate::placement::Placement;
use crate::service::quota::Usage;

/// Called when everything that was decided up to a moment is as durable as was asked for, or will never be.
pub(crate) type Then = Box<dyn FnOnce(&Result<Durability, Fault>) + Send>;

/// Receives what became of a commit; see [`Stream::flush`].
pub(crate) trait Finished: Send + Sync + 'static {
    /// The commit of a stream that was in flight is stored, or failed.
    fn finished(&self, stream: Arc<Stream>, result: Result<Durability, Error>);
}

/// See the module.
pub(crate) struct Stream {
    pub(crate) name: StreamName,
    pub(crate) id: StreamId,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) usage: Arc<Usage>,
    lease: Lease,
    /// Wakes those who wait for a change.
    pub(crate) changed: Notify,
    /// How many watches and fetches wait.
    pub(crate) waiting: AtomicUsize,
    inner: Mutex<Inner>,
}

/// By what right a stream is used.
#[derive(Debug)]
pub(crate) struct Lease {
    placement: Arc<dyn Placement>,
    fence: u64,
}

impl Lease {
    pub(crate) fn new(placement: &Arc<dyn Placement>, fence: u64) -> Self {
        Self {
            placement: Arc::clone(placement),
            fence,
        }
    }
}

struct Inner {
    state: State,
    /// They wait for what gathers.
    gathering: Vec<Then>,
    /// They wait for the commit that is being stored.
    flight: Option<Flight>,
    /// Why the stream can do nothing more; it is to be loaded again.
    broken: Option<Fault>,
    /// What the records counted for after the last commit that was stored.
    stored_bytes: u64,
    last_used: Instant,
    /// When the timers were told to look at the stream next.
    due: Option<u64>,
}

/// The commit that is being stored.
struct Flight {
    waiting: Vec<Then>,
    records: u64,
    bytes: u64,
    began: Instant,
    /// What the records count for when it is stored.
    bytes_after: u64,
    has_changes: bool,
}

/// What a commit was that has been stored.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stored {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// From when it was handed to the backend.
    pub(crate) took: Duration,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("name", &self.name)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Stream {
    pub(crate) fn new(
        name: StreamName,
        id: StreamId,
        backend: Arc<dyn Backend>,
        usage: Arc<Usage>,
        lease: Lease,
        state: State,
    ) -> Self {
        let stored_bytes = state.records().bytes();
        Self {
            name,
            id,
            backend,
            usage,
            lease,
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
            inner: Mutex::new(Inner {
                state,
                gathering: Vec::new(),
                flight: None,
                broken: None,
                stored_bytes,
                last_used: Instant::now(),
                due: None,
            }),
        }
    }

    /// Decides something. What `decide` returns is of the moment; the answer of [`decide_then`](Self::decide_then) waits
    /// until it is durable.
    ///
    /// # Errors
    /// Those of `decide`, and why the stream is closed.
    pub(crate) fn decide<T>(
        &self,
        decide: impl FnOnce(&mut State) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.lock(|inner| {
            self.check(inner)?;
            decide(&mut inner.state)
        })
    }

    /// Whether something may be decided. What is decided counts as of this moment, at which no other node can have the
    /// stream.
    fn check(&self, inner: &Inner) -> Result<(), Fault> {
        if let Some(fault) = &inner.broken {
            return Err(fault.clone());
        }
        if self.lease.placement.holds(&self.name) {
            return Ok(());
        }
        let text = format!("this node has lost the stream {}", self.name);
        Err(Fault::new(FaultKind::Unavailable, text).retry_after(100))
    }

    /// Decides something, and calls `then`, once: when everything up to the decision is durable, which may be at once,
    /// or with why it is not, or why it was not decided.
    pub(crate) fn decide_then<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut State) -> Result<T, Fault>,
        then: impl FnOnce(Result<(T, Durability), Fault>) + Send + 'static,
    ) {
        let mut then = Some(then);
        let now = self.lock(|inner| {
            if let Err(fault) = self.check(inner) {
                return Some(Err(fault));
            }
            let value = match decide(&mut inner.state) {
                Ok(value) => value,
                Err(fault) => return Some(Err(fault)),
            };
            let waiting = match &mut inner.flight {
                _ if inner.state.has_commit() => &mut inner.gathering,
                Some(flight) => &mut flight.waiting,
                None => return Some(Ok((value, inner.state.config().durability))),
            };
            let then = then.take()?;
            waiting.push(Box::new(move |result| {
                then(result.clone().map(|durability| (value, durability)));
            }));
            None
        });
        if let (Some(result), Some(then)) = (now, then) {
            then(result);
        }
    }

    /// Decides something, and waits until everything up to it is durable.
    ///
    /// # Errors
    /// Those of `decide`, why the stream is closed, and why the commit failed.
    pub(crate) async fn decide_durably<T: Send + 'static>(
        self: &Arc<Self>,
        finished: &Arc<dyn Finished>,
        now: u64,
        decide: impl FnOnce(&mut State) -> Result<T, Fault>,
    ) -> Result<(T, Durability), Fault> {
        let (done, waiting) = oneshot::channel();
        // A caller that has gone needs no answer.
        self.decide_then(decide, move |result| drop(done.send(result)));
        self.flush(finished, now);
        waiting.await.unwrap_or_else(|_| {
            Err(Fault::new(
                FaultKind::Unavailable,
                "the stream was closed meanwhile",
            ))
        })
    }

    /// Keeps the owner's usage true over a change of the state.
    fn lock<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock();
        let before = inner.state.records().bytes();
        let result = f(&mut inner);
        let after = inner.state.records().bytes();
        if before != after {
            self.usage.bytes_changed(before, after);
        }
        result
    }

    /// Hands what gathered to the backend, unless a commit is being stored: then that happens when it is done.
    pub(crate) fn flush(self: &Arc<Self>, finished: &Arc<dyn Finished>, now: u64) {
        let mut inner = self.inner.lock();
        inner.last_used = Instant::now();
        if inner.flight.is_some() || inner.broken.is_some() {
            return;
        }
        let (bytes, _) = inner.state.open_len();
        let Some(commit) = inner.state.take_commit(now, self.lease.fence) else {
            return;
        };
        let is_append = |change: &&crate::core::commit::Change| {
            matches!(change, crate::core::commit::Change::Append(_))
        };
        inner.flight = Some(Flight {
            waiting: std::mem::take(&mut inner.gathering),
            records: commit.changes.iter().filter(is_append).count() as u64,
            bytes,
            began: inner.last_used,
            bytes_after: commit.totals.bytes,
            has_changes: !commit.changes.is_empty(),
        });
        drop(inner);
        let (stream, finished) = (Arc::clone(self), Arc::clone(finished));
        let done = Box::new(move |result| finished.finished(stream, result));
        self.backend.commit(self.id, commit, done);
    }

    /// What was in flight is stored or failed: answers, wakes, and hands over the next commit. With an error the stream
    /// is closed for good.
    pub(crate) fn complete(
        self: &Arc<Self>,
        result: Result<Durability, Error>,
        finished: &Arc<dyn Finished>,
        now: u64,
    ) -> Result<Stored, Fault> {
        let result = result.map_err(|error| fault_of(&error));
        let mut inner = self.inner.lock();
        let Some(flight) = inner.flight.take() else {
            return Ok(Stored::default());
        };
        let mut waiting = flight.waiting;
        match &result {
            Ok(_) => inner.stored_bytes = flight.bytes_after,
            Err(fault) => {
                inner.broken.get_or_insert_with(|| fault.clone());
                waiting.append(&mut inner.gathering);
                // What was decided and not stored is not the owner's.
                let decided = inner.state.records().bytes();
                self.usage.bytes_changed(decided, inner.stored_bytes);
            }
        }
        drop(inner);
        // Before the answers, so that the disk has something to do while they are written.
        self.flush(finished, now);
        for then in waiting {
            then(&result);
        }
        if flight.has_changes || result.is_err() {
            self.changed.notify_waiters();
        }
        result.map(|_| Stored {
            records: flight.records,
            bytes: flight.bytes,
            took: flight.began.elapsed(),
        })
    }

    /// Closes the stream: nothing more is decided, and those who wait are told why.
    pub(crate) fn close(&self, fault: &Fault) {
        let mut inner = self.inner.lock();
        let waiting = std::mem::take(&mut inner.gathering);
        inner.broken.get_or_insert_with(|| fault.clone());
        drop(inner);
        for then in waiting {
            then(&Err(fault.clone()));
        }
        self.changed.notify_waiters();
    }

    /// Waits until no commit is being stored and none gathers.
    pub(crate) async fn settled(&self) {
        loop {
            let (done, waiting) = oneshot::channel();
            {
                let mut inner = self.inner.lock();
                let is_open = inner.broken.is_none() && inner.state.has_commit();
                let then: Then = Box::new(move |_| {
                    // Somebody who waits no longer needs not be told.
                    let _is_gone = done.send(()).is_err();
                });
                match &mut inner.flight {
                    Some(flight) => flight.waiting.push(then),
                    None if is_open => inner.gathering.push(then),
                    None => return,
                }
            }
            if waiting.await.is_err() {
                return;
            }
        }
    }

    /// Whether it can be unloaded: it was not used since `before`, and nobody and nothing waits.
    pub(crate) fn is_idle(&self, before: Instant) -> bool {
        let inner = self.inner.lock();
        inner.flight.is_none()
            && !inner.state.has_commit()
            && inner.last_used <= before
            && self.waiting.load(Ordering::Relaxed) == 0
    }

    /// What its records count for.
    pub(crate) fn bytes(&self) -> u64 {
        self.inner.lock().state.records().bytes()
    }

    /// Whether it can do nothing more.
    pub(crate) fn is_broken(&self) -> bool {
        self.inner.lock().broken.is_some()
    }

    /// When the stream is to be looked at next because something is over then; `None` when the timers know already, or
    /// nothing can be done about it.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let mut inner = self.inner.lock();
        // What is over stays in a stream that can do nothing more, so that the timers would never be done with it.
        if inner.broken.is_some() {
            return None;
        }
        let due = inner.state.next_due()?;
        if inner.due.is_some_and(|known| known <= due) {
            return None;
        }
        inner.due = Some(due);
        Some(due)
    }

    /// The timers look at the stream: what is over leaves it.
    pub(crate) fn expire(self: &Arc<Self>, finished: &Arc<dyn Finished>, now: u64) {
        self.lock(|inner| {
            inner.due = None;
            if inner.broken.is_none() {
                inner.state.expire(now);
            }
        });
        self.flush(finished, now);
    }
}

/// What a user is told about an error of a backend.
pub(crate) fn fault_of(error: &Error) -> Fault {
    let kind = match error {
        Error::Exists => FaultKind::Exists,
        Error::NotFound => FaultKind::NotFound,
        Error::Fenced | Error::Unavailable(_) | Error::Closed => FaultKind::Unavailable,
        Error::Full(_) | Error::Failed(_) => FaultKind::StoreFailed,
        Error::Corrupt(_) => FaultKind::Corrupt,
    };
    Fault::new(kind, error.to_string())
}
